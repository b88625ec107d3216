//! The hosted API, after the BEAR API. It stands on the library's public items, as anybody's API would.

mod description;
mod fields;
mod format;
mod page;
mod v2_5;

use actix_web::web;
use utoipa::OpenApi as _;
use utoipa::openapi::{OpenApi, Paths};

use crate::http::Error;
use crate::model::target;

/// The versions there are, the newest last.
pub const VERSIONS: &[&str] = &["2.5"];

/// Registers each version's routes, and the newest one's also without a version.
pub fn configure(cfg: &mut web::ServiceConfig) {
    v2_5::configure(cfg, "/v2.5");
    v2_5::configure(cfg, "");
}

/// What the API says of itself: each of its routes, under its version.
#[must_use]
pub fn openapi() -> OpenApi {
    let described = v2_5::Description::openapi();
    OpenApi::new(described.info.clone(), Paths::new()).nest("/v2.5", described)
}

/// Refuses a call before anything of it is stored: a password in a query would end in every log on its way.
///
/// # Errors
/// 400 for a query parameter `password`.
pub fn precheck(_method: &str, target: &str) -> Result<(), Error> {
    // Few parameters begin as it does, in any spelling: only those are decoded.
    let mut alike = target::parameters(target).filter(|(_, parameter)| parameter.starts_with(['p', '%']));
    if alike.any(|(_, parameter)| form_urlencoded::parse(parameter.as_bytes()).any(|(name, _)| name == "password")) {
        return Err(Error::bad_request("password must not stand in a query; send it in a JSON body."));
    }
    Ok(())
}
