//! The server's own routes, and the middleware that turns a call into a background request.
//!
//! | route | file |
//! | --- | --- |
//! | any API route with `?bgrs=yes` | `accept.rs`, `submit.rs` |
//! | an array on a collection | `accept.rs`, `batch.rs` |
//! | `GET /bgrs/{rid}` | `information.rs` |
//! | `GET /bgrs/{rid}/details` | `details.rs` |
//! | `GET /bgrs/{rid}/result` | `result.rs` |
//! | `GET /media/{name}` | `media.rs` |
//! | `GET /healthz`, `GET /readyz` | `health.rs` |

pub mod accept;
mod batch;
mod caller;
mod details;
pub mod error;
mod file;
mod health;
mod information;
mod log_line;
mod media;
mod place;
pub mod resource;
mod result;
mod submit;
mod wait;

use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use actix_web::web;

use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::media::Media;
use crate::scheduler::Scheduler;
use crate::store::Store;
use crate::watch::Watchers;
pub use batch::is_json;
pub use error::Error;
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
    /// The API's own refusal of a call, before anything is stored.
    pub precheck: Precheck,
    /// Calls under way, for a graceful end.
    pub under_way: accept::UnderWay,
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
        .service(resource("/healthz").get(health::alive).build())
        .service(resource("/readyz").get(health::ready).build())
        .service(resource("/media/{name}").get(media::get).build());
    for prefix in std::iter::once(String::new()).chain(shared.versions.iter().map(|v| format!("/v{v}"))) {
        cfg.service(resource(&format!("{prefix}/bgrs/{{rid}}")).get(information::get).build())
            .service(resource(&format!("{prefix}/bgrs/{{rid}}/details")).get(details::get).build())
            .service(resource(&format!("{prefix}/bgrs/{{rid}}/result")).get(result::get).build());
    }
}
