//! Version 2.5.

mod campaigns;
mod scans;
mod users;

use actix_web::web;
use utoipa::OpenApi;

use super::description::Common;

/// What this version says of itself; its paths begin behind the version.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "BEAR API",
        version = "2.5",
        description = "Users, their campaigns, and the scans of the campaigns' pictures. Lists are arrays, with a link \
                       to the next page; single objects are objects. A user sees and changes what is theirs, an \
                       administrator everything: what one may not see is not there."
    ),
    paths(
        users::me,
        users::list,
        users::add,
        users::change_many,
        users::remove_many,
        users::get,
        users::change,
        users::remove,
        campaigns::list,
        campaigns::add,
        campaigns::change_many,
        campaigns::remove_many,
        campaigns::get,
        campaigns::change,
        campaigns::remove,
        scans::list,
        scans::add,
        scans::export,
        scans::statistics
    ),
    tags(
        (name = "users", description = "Who may sign in."),
        (name = "campaigns", description = "Whose picture is scanned."),
        (name = "scans", description = "Recognitions of campaigns' pictures: one by one, all at once, and counted.")
    ),
    modifiers(&Common)
)]
pub struct Description;

/// Registers the routes behind `prefix`.
pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    users::configure(cfg, prefix);
    campaigns::configure(cfg, prefix);
    scans::configure(cfg, prefix);
}
