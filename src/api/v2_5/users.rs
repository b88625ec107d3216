//! `/users`: who may sign in.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::accounts::{self, Accounts, Draft};
use crate::api::fields::{Fields, only_arrays, path_id};
use crate::api::format::{Format, Object};
use crate::api::page::Page;
use crate::http::{Error, resource};
use crate::model::Caller;
use crate::store::{Change, User};

/// Fields that nobody writes.
const READ_ONLY: [&str; 2] = ["id", "created_dt"];

/// A user as it is shown: never with the password.
#[derive(Serialize, ToSchema)]
#[schema(as = User, examples(json!({
    "id": 5, "login": "kim", "display_name": "Kim", "first_name": "Kim", "last_name": null,
    "email": "kim@example.com", "is_admin": false, "created_dt": "2017-12-26 18:21:52"
})))]
struct Shown {
    id: i64,
    login: String,
    #[schema(required = true)]
    display_name: Option<String>,
    #[schema(required = true)]
    first_name: Option<String>,
    #[schema(required = true)]
    last_name: Option<String>,
    #[schema(required = true)]
    email: Option<String>,
    is_admin: bool,
    /// UTC.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    created_dt: String,
}

/// What makes a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"login": "kim", "password": "correct horse", "first_name": "Kim"})))]
#[allow(dead_code, reason = "bodies are read field by field; this is for the API's description")]
struct NewUser {
    /// At most 255 bytes in UTF-8; no other user has it.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\s:\x00-\x1f\x7f-\x9f]([^:\x00-\x1f\x7f-\x9f]*[^\s:\x00-\x1f\x7f-\x9f])?$"
    )]
    login: String,
    /// At most 1024 bytes in UTF-8.
    #[schema(min_length = 1, max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    password: String,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    display_name: Option<String>,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    first_name: Option<String>,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    last_name: Option<String>,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    email: Option<String>,
    #[schema(required = false, default = false)]
    is_admin: bool,
}

/// What changes of a user; what is not there stays as it is. The id may be sent along.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"first_name": "Kim", "email": null})))]
#[allow(dead_code, reason = "bodies are read field by field; this is for the API's description")]
struct UserChange {
    /// At most 255 bytes in UTF-8; no other user has it.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\s:\x00-\x1f\x7f-\x9f]([^:\x00-\x1f\x7f-\x9f]*[^\s:\x00-\x1f\x7f-\x9f])?$",
        required = false
    )]
    login: String,
    /// At most 1024 bytes in UTF-8.
    #[schema(min_length = 1, max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$", required = false)]
    password: String,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    display_name: Option<String>,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    first_name: Option<String>,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    last_name: Option<String>,
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    email: Option<String>,
    /// Administrators write it.
    #[schema(required = false)]
    is_admin: bool,
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
    let all = resource(&format!("{prefix}/users")).get(list).post(add).put(change_many).delete(remove_many).build();
    let one = resource(&format!("{prefix}/users/{{id}}")).get(get).put(change).delete(remove).build();
    cfg.service(resource(&format!("{prefix}/users/me")).get(me).build()).service(all).service(one);
}

/// The caller
#[utoipa::path(
    get,
    path = "/users/me",
    operation_id = "getCaller",
    responses((status = 200, description = "The user who calls.", body = Shown))
)]
async fn me(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    format.object(&Shown::from(accounts.get(caller.user_id).await?))
}

/// Users
///
/// All of them for an administrator; for others, themselves.
#[utoipa::path(
    get,
    path = "/users",
    operation_id = "listUsers",
    params(Page),
    responses((
        status = 200,
        description = "Users, by their ids.",
        body = Vec<Shown>,
        headers(("Link" = String, description = "Where there is more, with rel=\"next\": the next page."))
    ))
)]
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

/// A user
#[utoipa::path(
    get,
    path = "/users/{id}",
    operation_id = "getUser",
    params(("id" = i64, Path, minimum = 1, description = "The user's id.")),
    responses(
        (status = 200, description = "The user.", body = Shown),
        (status = 404, description = "There is no such user; check the id.")
    )
)]
async fn get(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let id = visible(&req, &caller)?;
    format.object(&Shown::from(accounts.get(id).await?))
}

/// Makes a user
///
/// For administrators.
#[utoipa::path(
    post,
    path = "/users",
    operation_id = "addUser",
    request_body = NewUser,
    responses(
        (status = 200, description = "The new user; of a batch with `bgrs=no`, the outcomes.", body = Shown),
        (status = 403, description = "Only administrators may do this; ask one."),
        (status = 409, description = "This login is taken; choose another.")
    )
)]
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

/// Changes a user
///
/// The fields may stand in the query instead of a body: `?first_name=Kim`. A password may not.
#[utoipa::path(
    put,
    path = "/users/{id}",
    operation_id = "changeUser",
    params(("id" = i64, Path, minimum = 1, description = "The user's id.")),
    request_body = UserChange,
    responses(
        (status = 200, description = "The user as it is now.", body = Shown),
        (status = 403, description = "Only administrators may write the field is_admin."),
        (status = 404, description = "There is no such user; check the id."),
        (status = 409, description = "This login is taken; choose another.")
    )
)]
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

/// Removes a user
///
/// With all background requests of theirs. For administrators.
#[utoipa::path(
    delete,
    path = "/users/{id}",
    operation_id = "removeUser",
    params(("id" = i64, Path, minimum = 1, description = "The user's id.")),
    responses(
        (status = 204, description = "The user is gone."),
        (status = 403, description = "Only administrators may do this; ask one."),
        (status = 404, description = "There is no such user; check the id."),
        (status = 409, description = "This user owns a campaign; remove it or give it to another user first.")
    )
)]
async fn remove(req: HttpRequest, caller: Caller, accounts: web::Data<Accounts>) -> Result<HttpResponse, Error> {
    Format::of(&req)?;
    administrators_only(&caller)?;
    accounts.remove(visible(&req, &caller)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Changes users
///
/// One call of PUT /users/{id} for each element, whose `id` names the user.
#[utoipa::path(
    put,
    path = "/users",
    operation_id = "changeUsers",
    request_body = ref("#/components/schemas/Batch"),
    responses(
        (
            status = 200,
            description = "With `bgrs=no`: what became of each element.",
            body = ref("#/components/schemas/Outcomes")
        ),
        (status = 405, description = "On a collection this method takes a JSON array; for one object, use its path.")
    )
)]
async fn change_many() -> Result<HttpResponse, Error> {
    Err(only_arrays())
}

/// Removes users
///
/// One call of DELETE /users/{id} for each element, whose `id` names the user.
#[utoipa::path(
    delete,
    path = "/users",
    operation_id = "removeUsers",
    request_body = ref("#/components/schemas/Batch"),
    responses(
        (
            status = 200,
            description = "With `bgrs=no`: what became of each element.",
            body = ref("#/components/schemas/Outcomes")
        ),
        (status = 405, description = "On a collection this method takes a JSON array; for one object, use its path.")
    )
)]
async fn remove_many() -> Result<HttpResponse, Error> {
    Err(only_arrays())
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
            read_only: None,
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
