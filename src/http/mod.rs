//! The server's own routes, and the middleware that turns a call into a background request.
//!
//! | route | file |
//! | --- | --- |
//! | any API route with `?bgrs=yes` | `accept.rs`, `submit.rs` |
//! | an array on a collection | `accept.rs`, `batch.rs` |
//! | `GET /bgrs` | `list.rs` |
//! | `GET /bgrs/{rid}` | `information.rs` |
//! | `DELETE /bgrs/{rid}` | `manage.rs` |
//! | `GET /bgrs/{rid}/details` | `details.rs` |
//! | `GET /bgrs/{rid}/result` | `result.rs` |
//! | `GET /bgrs/{rid}/events` | `events.rs` |
//! | `POST /bgrs/{rid}/rerun` | `rerun.rs` |
//! | `GET /bgrs/{rid}/callbacks`, `POST …/callbacks/{id}/resend` | `callbacks.rs` |
//! | `POST /bgrs/{rid}/report` | `report.rs` |
//! | any route of an upstream | `gateway.rs`, `rescue.rs` |
//! | `GET /media/{name}` | `media.rs` |
//! | `GET /healthz`, `GET /readyz` | `health.rs` |
//! | `GET /openapi.json` | `openapi.rs` |
//! | the dashboard: its files, its session, its data | `ui.rs`, `session.rs`, `live.rs`, `overview.rs` |

pub mod accept;
mod asked;
mod batch;
mod callbacks;
mod caller;
mod chunks;
pub mod cors;
mod details;
pub mod error;
mod event_stream;
mod events;
mod file;
mod gateway;
mod health;
mod hold;
mod information;
mod key;
mod list;
mod live;
mod log_line;
mod manage;
mod matched;
mod media;
pub mod openapi;
mod origin;
mod overview;
pub mod place;
mod report;
mod rerun;
mod rescue;
pub mod resource;
mod result;
mod secret;
mod session;
mod submit;
mod ui;
pub mod under_way;
mod upload;
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
use crate::dispatch::upstream::Client;
use crate::media::Media;
use crate::model::Rid;
use crate::model::time::{self, Keep};
use crate::routing::{Policies, Proxy, Upstreams};
use crate::scheduler::Scheduler;
use crate::stats::Stats;
use crate::store::{self, Callbacks, Cancelled, Request, Store};
use crate::vault::Key;
use crate::watch::Watchers;
use crate::webhooks::Allow;
pub use batch::is_json;
pub use error::Error;
pub use live::Live;
pub use rescue::Adopt;
pub use resource::resource;
pub use session::SignedIn;
pub use submit::{Begin, Bounds, Start};

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
    /// What calls them.
    pub client: Client,
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
    /// How long an answer is held for `bgrs=auto`.
    pub auto_wait: Duration,
    /// How long a caller may ask for it to be held.
    pub max_wait: Duration,
    /// How long what has ended is kept.
    pub keep: Keep,
    /// Until when a running request that is taken on now is held.
    pub lease: fn(Timestamp) -> Timestamp,
    /// Begins requests as they are stored.
    pub begin: Begin,
    /// Goes on with a rescued call.
    pub adopt: Adopt,
    /// Ends what runs or sleeps of a request that was cancelled.
    pub drop_cancelled: DropCancelled,
    /// Deliveries of callbacks.
    pub callbacks: Arc<dyn Callbacks>,
    /// Makes those that are due.
    pub deliver: Arc<dyn Fn() + Send + Sync>,
    /// Networks that callbacks may lead to, beside the public one.
    pub allow: Allow,
    /// What is counted.
    pub stats: Stats,
    /// The live list.
    pub live: Live,
    /// Who is signed in on the dashboard.
    pub signed_in: SignedIn,
    /// The description of all routes.
    pub document: openapi::Described,
    /// Calls under way, for a graceful end.
    pub under_way: under_way::UnderWay,
}

impl Shared {
    /// The answer to a path that leads nowhere.
    fn not_found(&self, path: &str) -> Error {
        place::not_found(path, if self.hosts { self.versions } else { &[] })
    }

    /// The request with this id, for whoever may still see it.
    async fn find(&self, rid: Rid) -> Result<Option<Request>, store::Error> {
        Ok(self.store.get(rid).await?.filter(|request| self.is_kept(request)))
    }

    /// Whether a request has not expired. The sweep takes the expired ones out, but not at once.
    fn is_kept(&self, request: &Request) -> bool {
        request.expires.as_deref().is_none_or(|expires| !time::is_past(expires, self.clock.now()))
    }
}

/// Ends what runs, or sleeps until its next attempt, of a request that was cancelled.
pub type DropCancelled = Arc<dyn Fn(Rid, &Cancelled) + Send + Sync>;

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
        .service(resource(&format!("{}/media/{{name}}", shared.mount)).get(media::get).build())
        .service(resource(&format!("{}/openapi.json", shared.mount)).get(openapi::get).build())
        .service(resource(&format!("{}/ui/api", shared.mount)).get(ui::api).build())
        .service(resource(&format!("{}/ui/api/", shared.mount)).get(ui::api).build())
        .service(resource(&[shared.mount.as_str(), "/ui"].concat()).get(ui::folder).build())
        .service(resource(&[shared.mount.as_str(), "/ui/requests"].concat()).get(live::get).build())
        .service(resource(&[shared.mount.as_str(), "/ui/overview"].concat()).get(overview::get).build())
        .service(
            resource(&[shared.mount.as_str(), "/ui/session"].concat())
                .get(session::get)
                .post(session::post)
                .delete(session::delete)
                .build(),
        );
    for file in &ui::FILES {
        let path = format!("{}/ui/{}", shared.mount, file.name);
        cfg.service(resource(&path).get(move || async move { ui::file(file) }).build());
    }
    let mount = &shared.mount;
    for prefix in std::iter::once(mount.clone()).chain(shared.versions.iter().map(|v| format!("{mount}/v{v}"))) {
        let below = |rest: &str| resource(&format!("{prefix}/bgrs{rest}"));
        cfg.service(below("").get(list::get).build())
            .service(below("/{rid}").get(information::get).delete(manage::delete).build())
            .service(below("/{rid}/details").get(details::get).build())
            .service(below("/{rid}/result").get(result::get).build())
            .service(below("/{rid}/events").get(events::get).build())
            .service(below("/{rid}/rerun").post(rerun::post).build())
            .service(below("/{rid}/callbacks").get(callbacks::get).build())
            .service(below("/{rid}/callbacks/{id}/resend").post(callbacks::resend).build())
            .service(below("/{rid}/report").post(report::post).build());
    }
}
