//! Version 2.5.

mod users;

use actix_web::web;

/// Registers the routes behind `prefix`.
pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    users::configure(cfg, prefix);
}
