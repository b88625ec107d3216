//! `/users`: who may sign in.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::accounts::{self, Accounts, Draft};
use crate::api::fields::{Fields, path_id};
use crate::api::format::{Format, Object};
use crate::api::page::Page;
use crate::http::{Error, resource};
use crate::model::Caller;
use crate::store::{Change, User};

/// Fields that nobody writes.
const READ_ONLY: [&str; 2] = ["id", "created_dt"];

/// A user as it is shown: never with the password.
#[derive(Serialize)]
struct Shown {
    id: i64,
    login: String,
    display_name: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
    is_admin: bool,
    created_dt: String,
}

impl Object for Shown {
    const COLUMNS: &'static [&'static str] =
        &["id", "login", "display_name", "first_name", "last_name", "email", "is_admin", "created_dt"];
}

impl From<User> for Shown {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            login: user.login,
            display_name: user.display_name,
            first_name: user.first_name,
            last_name: user.last_name,
            email: user.email,
            is_admin: user.is_admin,
            created_dt: user.created,
        }
    }
}

pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    cfg.service(resource(&format!("{prefix}/users/me")).get(me).build())
        .service(resource(&format!("{prefix}/users")).get(list).post(add).build())
        .service(resource(&format!("{prefix}/users/{{id}}")).get(get).put(change).delete(remove).build());
}

async fn me(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    format.object(&Shown::from(accounts.get(caller.user_id).await?))
}

async fn list(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    let (format, page) = (Format::of(&req)?, Page::of(&req)?);
    let mut users = if caller.is_admin {
        // One more than asked for tells whether there is a next page.
        accounts.list(page.after, page.limit + 1).await?
    } else {
        vec![accounts.get(caller.user_id).await?]
    };
    users.retain(|user| user.id > page.after);
    let next = page.cut(&req, &mut users, |one| one.id);
    let shown: Vec<Shown> = users.into_iter().map(Shown::from).collect();
    format.list(&shown, next)
}

async fn get(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let id = visible(&req, &caller)?;
    format.object(&Shown::from(accounts.get(id).await?))
}

async fn add(
    req: HttpRequest,
    caller: Caller,
    accounts: web::Data<Accounts>,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    administrators_only(&caller)?;
    let mut fields = Fields::read(&req, payload).await?;
    let draft = draft(&mut fields)?;
    fields.finish(&READ_ONLY)?;
    format.object(&Shown::from(accounts.add(draft).await?))
}

async fn change(
    req: HttpRequest,
    caller: Caller,
    accounts: web::Data<Accounts>,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let id = visible(&req, &caller)?;
    // An unknown id is 404, whatever the body.
    accounts.get(id).await?;
    let mut fields = Fields::read(&req, payload).await?;
    fields.same_id(id)?;
    let draft = draft(&mut fields)?;
    fields.finish(&READ_ONLY)?;
    if draft.change.is_admin.is_some() && !caller.is_admin {
        return Err(Error::forbidden("Only administrators may write the field is_admin."));
    }
    format.object(&Shown::from(accounts.change(id, draft).await?))
}

async fn remove(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    Format::of(&req)?;
    administrators_only(&caller)?;
    accounts.remove(visible(&req, &caller)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn draft(fields: &mut Fields) -> Result<Draft, Error> {
    Ok(Draft {
        change: Change {
            login: fields.text("login")?,
            password: None,
            display_name: fields.nullable_text("display_name")?,
            first_name: fields.nullable_text("first_name")?,
            last_name: fields.nullable_text("last_name")?,
            email: fields.nullable_text("email")?,
            is_admin: fields.boolean("is_admin")?,
        },
        password: fields.text("password")?.map(Zeroizing::new),
    })
}

/// The id in the path, if it is one that the caller may see: what one may not see is not there.
fn visible(req: &HttpRequest, caller: &Caller) -> Result<i64, Error> {
    let id = path_id(req).ok_or_else(unknown)?;
    if caller.is_admin || id == caller.user_id { Ok(id) } else { Err(unknown()) }
}

fn administrators_only(caller: &Caller) -> Result<(), Error> {
    if caller.is_admin { Ok(()) } else { Err(Error::forbidden("Only administrators may do this; ask one.")) }
}

fn unknown() -> Error {
    Error::not_found("There is no such user; check the id.")
}

impl From<accounts::Error> for Error {
    fn from(error: accounts::Error) -> Self {
        match error {
            accounts::Error::Invalid { field, what } => Self::bad_request(format!("The field {field} {what}.")),
            accounts::Error::Taken => Self::conflict("This login is taken; choose another."),
            accounts::Error::Unknown => unknown(),
            accounts::Error::LastAdministrator => {
                Self::conflict("This is the last administrator; make another one first.")
            }
            accounts::Error::OwnsCampaign => {
                Self::conflict("This user owns a campaign; remove it or give it to another user first.")
            }
            accounts::Error::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Too many passwords are being hashed; try again.")
                    .retry_after(1)
            }
            accounts::Error::Store(error) => error.into(),
        }
    }
}
