//! Background requests for any HTTP API: a call with `?bgrs=yes` is answered at once with an id, run later, and its
//! status, log and result are read under that id.
//!
//! # Embedding
//!
//! An API written with actix-web gets all of it by handing its routes over:
//!
//! ```no_run
//! use actix_web::{HttpResponse, Responder};
//! use bgrs::{Builder, Caller, Config, resource};
//!
//! async fn report(caller: Caller) -> impl Responder {
//!     HttpResponse::Ok().json(serde_json::json!({"for": caller.user_id}))
//! }
//!
//! #[actix_web::main]
//! async fn main() -> anyhow::Result<()> {
//!     let config = Config::load(None, std::env::vars_os())?;
//!     let builder = Builder::new(config).api(|cfg| {
//!         cfg.service(resource("/report").get(report).build());
//!     });
//!     Ok(bgrs::serve(builder).await?)
//! }
//! ```
//!
//! Who has an `HttpServer` already starts a [`Bgrs`] and puts its [`Mount`] around the App instead: see [`Mount`].
//!
//! # The four flows
//!
//! | flow | the way of the data | modules |
//! | --- | --- | --- |
//! | submit | call → who is it? → body to media → row committed → workers woken → 202 | [`http`], [`auth`], [`media`], [`store`], [`scheduler`] |
//! | run | turn → claim → the API in process → answer to media → row finished | [`worker`], [`dispatch`] |
//! | read | rid → one row → JSON, or the stored head and the bytes | [`http`], [`watch`] |
//! | recover | leases that ran out, rows past their time, files without rows | [`worker`] |
//!
//! The invariant: a file may exist without a row; a row never points to a file that is not durable, or carries
//! its bytes until it is. Files first, rows second; deletes the other way round.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod accounts;
pub mod api;
pub mod app;
pub mod auth;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod failpoint;
pub mod http;
mod limits;
mod listen;
pub mod media;
pub mod model;
mod post;
mod priority;
pub mod progress;
pub mod routing;
pub mod scheduler;
mod server;
pub mod stats;
pub mod store;
pub mod vault;
pub mod view;
pub mod watch;
pub mod webhooks;
pub mod worker;

pub use app::{Bgrs, Builder, Mount};
pub use config::Config;
pub use dispatch::Background;
pub use http::{Error, resource};
pub use model::Caller;
pub use progress::Progress;
pub use server::serve;
