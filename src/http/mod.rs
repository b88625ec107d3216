//! The server's own routes, and the middleware that turns a call into a background request.
//!
//! | route | file |
//! | --- | --- |
//! | any API route with `?bgrs=yes` | `accept.rs`, `submit.rs` |
//! | an array on a collection | `accept.rs`, `batch.rs` |
//! | `GET /bgrs/{rid}` | `information.rs` |
//! | `GET /bgrs/{rid}/details` | `details.rs` |
//! | `GET /bgrs/{rid}/result` | `result.rs` |
//! | `POST /bgrs/{rid}/report` | `report.rs` |
//! | any route of an upstream | `gateway.rs`, `rescue.rs` |
//! | `GET /media/{name}` | `media.rs` |
//! | `GET /healthz`, `GET /readyz` | `health.rs` |

pub mod accept;
mod batch;
mod caller;
mod details;
pub mod error;
mod file;
mod gateway;
mod health;
mod hold;
mod information;
mod log_line;
mod media;
mod origin;
pub mod place;
mod report;
mod rescue;
pub mod resource;
mod result;
mod submit;
mod wait;
mod who;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::web;
use jiff::Timestamp;

use crate::auth::Authenticator;
use crate::auth::forward::Forward;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::dispatch::upstream::Connectors;
use crate::media::Media;
use crate::routing::{Policies, Proxy, Upstreams};
use crate::scheduler::Scheduler;
use crate::store::Store;
use crate::vault::Key;
use crate::watch::Watchers;
pub use batch::is_json;
pub use error::Error;
pub use rescue::Adopt;
pub use resource::resource;
pub use submit::Bounds;

/// What the routes and the middleware share.
pub struct Shared {
    /// The rows.
    pub store: Arc<dyn Store>,
    /// The bytes.
    pub media: Arc<dyn Media>,
    /// What performs a batch in the foreground.
    pub dispatch: Arc<dyn Dispatch>,
    /// Who is calling.
    pub auth: Arc<Authenticator>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who may submit.
    pub scheduler: Scheduler,
    /// Who waits for ends.
    pub watchers: Watchers,
    /// Bounds of what comes from the network.
    pub bounds: Bounds,
    /// The versions of the API, the newest last.
    pub versions: &'static [&'static str],
    /// Whether the API that has them is there; the server's own routes are under its versions in any case.
    pub hosts: bool,
    /// The API's own refusal of a call, before anything is stored.
    pub precheck: Precheck,
    /// The APIs behind the server.
    pub upstreams: Upstreams,
    /// What connects to them.
    pub connectors: Connectors,
    /// What holds for which calls.
    pub policies: Policies,
    /// Callers whom only an upstream knows.
    pub forward: Forward,
    /// Proxies in front that are believed.
    pub trusted_proxies: Vec<Proxy>,
    /// What encrypts the secrets of stored calls.
    pub key: Key,
    /// What stands before the server's own routes.
    pub mount: String,
    /// How long the answer to a call that goes to the background by itself is held.
    pub auto_wait: Duration,
    /// Until when a running request that is taken on now is held.
    pub lease: fn(Timestamp) -> Timestamp,
    /// Goes on with a rescued call.
    pub adopt: Adopt,
    /// Calls under way, for a graceful end.
    pub under_way: accept::UnderWay,
}

impl Shared {
    /// The answer to a path that leads nowhere.
    fn not_found(&self, path: &str) -> Error {
        place::not_found(path, if self.hosts { self.versions } else { &[] })
    }
}

/// Looks at method and target of an API call and may refuse it, in the foreground and before it is stored.
pub type Precheck = fn(method: &str, target: &str) -> Result<(), Error>;

/// `Content-Type` of the server's own JSON.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Seconds after which to ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A CDN stands in front.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Registers the server's own routes: below `/bgrs` the same under each version of the API.
pub fn configure(cfg: &mut web::ServiceConfig, shared: &Arc<Shared>) {
    cfg.app_data(web::Data::from(shared.clone()))
        .service(resource(&format!("{}/healthz", shared.mount)).get(health::alive).build())
        .service(resource(&format!("{}/readyz", shared.mount)).get(health::ready).build())
        .service(resource(&format!("{}/media/{{name}}", shared.mount)).get(media::get).build());
    let mount = &shared.mount;
    for prefix in std::iter::once(mount.clone()).chain(shared.versions.iter().map(|v| format!("{mount}/v{v}"))) {
        cfg.service(resource(&format!("{prefix}/bgrs/{{rid}}/report")).post(report::post).build());
        cfg.service(resource(&format!("{prefix}/bgrs/{{rid}}")).get(information::get).build())
            .service(resource(&format!("{prefix}/bgrs/{{rid}}/details")).get(details::get).build())
            .service(resource(&format!("{prefix}/bgrs/{{rid}}/result")).get(result::get).build());
    }
}
