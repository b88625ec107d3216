//! Where a call goes and what holds for it: the configuration's upstreams and policies.

pub mod path;
mod pattern;
mod policy;
mod proxies;
mod upstream;

pub use pattern::Pattern;
pub use policy::{Mode, Policies, Policy, Retry, Route};
pub use proxies::Proxy;
pub use upstream::{Auth, BaseUrl, Prefix, Upstream, Upstreams};
