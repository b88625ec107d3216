//! `/campaigns`: whose picture is scanned.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use crate::accounts::{self, Accounts};
use crate::api::fields::{self, Fields, path_id};
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
#[derive(Serialize)]
struct Shown {
    id: i64,
    user_id: i64,
    r#type: i64,
    name: String,
    description: Option<String>,
    active: bool,
    created_dt: String,
    updated_dt: String,
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
    cfg.service(resource(&format!("{prefix}/campaigns")).get(list).post(add).build())
        .service(resource(&format!("{prefix}/campaigns/{{id}}")).get(get).put(change).delete(remove).build());
}

async fn list(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    let (format, page) = (Format::of(&req)?, Page::of(&req)?);
    let owner = (!caller.is_admin).then_some(caller.user_id);
    // One more than asked for tells whether there is a next page.
    let mut campaigns = store.campaigns(owner, page.after, page.limit + 1).await?;
    let next = page.cut(&req, &mut campaigns, |one| one.id);
    let shown: Vec<Shown> = campaigns.into_iter().map(Shown::from).collect();
    format.list(&shown, next)
}

async fn get(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    format.object(&Shown::from(visible(&store, &caller, path_id(&req)).await?))
}

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

async fn remove(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    Format::of(&req)?;
    let id = visible(&store, &caller, path_id(&req)).await?.id;
    while !store.remove_campaign(id, STEP).await? {}
    Ok(HttpResponse::NoContent().finish())
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
