//! `/campaigns`: whose picture is scanned.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::{self, Accounts};
use crate::api::fields::{self, Fields, only_arrays, path_id};
use crate::api::format::{Format, Object};
use crate::api::page::Page;
use crate::clock::Clock;
use crate::http::{Error, resource};
use crate::model::Caller;
use crate::store::{Campaign, CampaignChange, Campaigns};

/// Fields that nobody writes.
const READ_ONLY: [&str; 3] = ["id", "created_dt", "updated_dt"];

/// Characters of a name at most.
const LONGEST_NAME: usize = 1000;

/// Characters of a description at most.
const LONGEST_DESCRIPTION: usize = 10_000;

/// Scans removed in one step with their campaign.
const STEP: usize = 5000;

/// A campaign as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Campaign, examples(json!({
    "id": 1603, "user_id": 5, "type": 1, "name": "spring", "description": null, "active": true,
    "created_dt": "2017-12-26 18:21:52", "updated_dt": "2017-12-26 18:21:52"
})))]
struct Shown {
    id: i64,
    /// Whose it is.
    user_id: i64,
    /// Its kind, a number of the API's users.
    r#type: i64,
    name: String,
    #[schema(required = true)]
    description: Option<String>,
    active: bool,
    /// UTC.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    created_dt: String,
    /// UTC.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    updated_dt: String,
}

/// What makes a campaign.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"name": "spring", "description": "Posters in spring"})))]
#[allow(dead_code, reason = "bodies are read field by field; this is for the API's description")]
struct NewCampaign {
    #[schema(min_length = 1, max_length = 1000)]
    name: String,
    #[schema(max_length = 10000)]
    description: Option<String>,
    #[schema(required = false, default = 1)]
    r#type: i64,
    #[schema(required = false, default = true)]
    active: bool,
    /// Whose it is to be, if not the caller's; administrators write it.
    #[schema(required = false)]
    user_id: i64,
}

/// What changes of a campaign; what is not there stays as it is. The id may be sent along.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CampaignChange, examples(json!({"name": "summer", "active": false})))]
#[allow(dead_code, reason = "bodies are read field by field; this is for the API's description")]
struct Sent {
    #[schema(min_length = 1, max_length = 1000, required = false)]
    name: String,
    #[schema(max_length = 10000)]
    description: Option<String>,
    #[schema(required = false)]
    r#type: i64,
    #[schema(required = false)]
    active: bool,
    /// Another owner; administrators write it.
    #[schema(required = false)]
    user_id: i64,
}

impl Object for Shown {
    const COLUMNS: &'static [&'static str] =
        &["id", "user_id", "type", "name", "description", "active", "created_dt", "updated_dt"];
}

impl From<Campaign> for Shown {
    fn from(campaign: Campaign) -> Self {
        Self {
            id: campaign.id,
            user_id: campaign.user_id,
            r#type: campaign.kind,
            name: campaign.name,
            description: campaign.description,
            active: campaign.active,
            created_dt: campaign.created,
            updated_dt: campaign.updated,
        }
    }
}

type Store = web::Data<dyn Campaigns>;

pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    let all = resource(&format!("{prefix}/campaigns")).get(list).post(add).put(change_many).delete(remove_many).build();
    let one = resource(&format!("{prefix}/campaigns/{{id}}")).get(get).put(change).delete(remove).build();
    cfg.service(all).service(one);
}

/// Campaigns
///
/// All of them for an administrator; for others, their own.
#[utoipa::path(
    get,
    path = "/campaigns",
    operation_id = "listCampaigns",
    params(Page),
    responses((
        status = 200,
        description = "Campaigns, by their ids.",
        body = Vec<Shown>,
        headers(("Link" = String, description = "Where there is more, with rel=\"next\": the next page."))
    ))
)]
async fn list(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    let (format, page) = (Format::of(&req)?, Page::of(&req)?);
    let owner = (!caller.is_admin).then_some(caller.user_id);
    // One more than asked for tells whether there is a next page.
    let mut campaigns = store.campaigns(owner, page.after, page.limit + 1).await?;
    let next = page.cut(&req, &mut campaigns, |one| one.id);
    let shown: Vec<Shown> = campaigns.into_iter().map(Shown::from).collect();
    format.list(&shown, next)
}

/// A campaign
#[utoipa::path(
    get,
    path = "/campaigns/{id}",
    operation_id = "getCampaign",
    params(("id" = i64, Path, minimum = 1, description = "The campaign's id.")),
    responses(
        (status = 200, description = "The campaign.", body = Shown),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn get(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    format.object(&Shown::from(visible(&store, &caller, path_id(&req)).await?))
}

/// Makes a campaign
#[utoipa::path(
    post,
    path = "/campaigns",
    operation_id = "addCampaign",
    request_body = NewCampaign,
    responses(
        (status = 200, description = "The new campaign; of a batch with `bgrs=no`, the outcomes.", body = Shown),
        (status = 403, description = "Only administrators may write the field user_id.")
    )
)]
async fn add(
    req: HttpRequest,
    caller: Caller,
    store: Store,
    accounts: web::Data<Accounts>,
    clock: web::Data<dyn Clock>,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let mut fields = Fields::read(&req, payload).await?;
    let written = written(&mut fields, &caller, &accounts).await?;
    fields.finish(&READ_ONLY)?;
    if written.name.is_none() {
        return Err(fields::bad("name", "is required; send one"));
    }
    format.object(&Shown::from(store.add_campaign(caller.user_id, written, clock.now()).await?))
}

/// Changes a campaign
///
/// The fields may stand in the query instead of a body: `?name=summer`.
#[utoipa::path(
    put,
    path = "/campaigns/{id}",
    operation_id = "changeCampaign",
    params(("id" = i64, Path, minimum = 1, description = "The campaign's id.")),
    request_body = Sent,
    responses(
        (status = 200, description = "The campaign as it is now.", body = Shown),
        (status = 403, description = "Only administrators may write the field user_id."),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn change(
    req: HttpRequest,
    caller: Caller,
    store: Store,
    accounts: web::Data<Accounts>,
    clock: web::Data<dyn Clock>,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let id = visible(&store, &caller, path_id(&req)).await?.id;
    let mut fields = Fields::read(&req, payload).await?;
    fields.same_id(id)?;
    let written = written(&mut fields, &caller, &accounts).await?;
    fields.finish(&READ_ONLY)?;
    let changed = store.change_campaign(id, written, clock.now()).await?;
    format.object(&Shown::from(changed.ok_or_else(unknown)?))
}

/// Removes a campaign
///
/// With its scans.
#[utoipa::path(
    delete,
    path = "/campaigns/{id}",
    operation_id = "removeCampaign",
    params(("id" = i64, Path, minimum = 1, description = "The campaign's id.")),
    responses(
        (status = 204, description = "The campaign is gone."),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn remove(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    Format::of(&req)?;
    let id = visible(&store, &caller, path_id(&req)).await?.id;
    while !store.remove_campaign(id, STEP).await? {}
    Ok(HttpResponse::NoContent().finish())
}

/// Changes campaigns
///
/// One call of PUT /campaigns/{id} for each element, whose `id` names the campaign.
#[utoipa::path(
    put,
    path = "/campaigns",
    operation_id = "changeCampaigns",
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

/// Removes campaigns
///
/// One call of DELETE /campaigns/{id} for each element, whose `id` names the campaign.
#[utoipa::path(
    delete,
    path = "/campaigns",
    operation_id = "removeCampaigns",
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

async fn written(fields: &mut Fields, caller: &Caller, accounts: &Accounts) -> Result<CampaignChange, Error> {
    let name = match fields.short_text("name", LONGEST_NAME)? {
        Some(None) => return Err(fields::bad("name", "takes a text")),
        Some(Some(name)) if name.is_empty() => return Err(fields::bad("name", "must not be empty")),
        name => name.flatten(),
    };
    let user_id = fields.integer("user_id")?;
    if let Some(user_id) = user_id {
        if !caller.is_admin {
            return Err(Error::forbidden("Only administrators may write the field user_id."));
        }
        accounts.get(user_id).await.map_err(|error| match error {
            accounts::Error::Unknown => fields::bad("user_id", "names no user; check the id"),
            other => other.into(),
        })?;
    }
    Ok(CampaignChange {
        user_id,
        kind: fields.integer("type")?,
        name,
        description: fields.short_text("description", LONGEST_DESCRIPTION)?,
        active: fields.boolean("active")?,
    })
}

/// A campaign that the caller may see: what one may not see is not there.
pub async fn visible(store: &Store, caller: &Caller, id: Option<i64>) -> Result<Campaign, Error> {
    let campaign = match id {
        Some(id) => store.campaign(id).await?,
        None => None,
    };
    campaign.filter(|campaign| caller.is_admin || campaign.user_id == caller.user_id).ok_or_else(unknown)
}

/// The answer to a campaign that is not there for the caller.
pub fn unknown() -> Error {
    Error::not_found("There is no such campaign; check the id.")
}
