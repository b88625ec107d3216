//! Version 2.5.

mod campaigns;
mod scans;
mod users;

use actix_web::web;

/// Registers the routes behind `prefix`.
pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    users::configure(cfg, prefix);
    campaigns::configure(cfg, prefix);
    scans::configure(cfg, prefix);
}
