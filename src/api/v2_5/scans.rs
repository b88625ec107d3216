//! `/scans`: recognitions of campaigns' pictures, one by one, all at once, and counted.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::campaigns::{unknown, visible};
use crate::api::fields::{self, Fields, TIMES, path_id};
use crate::api::format::{Format, Object};
use crate::api::page::{Page, parameters};
use crate::clock::Clock;
use crate::http::{Error, resource};
use crate::model::{Caller, time};
use crate::progress::Progress;
use crate::store::{By, Campaigns, Count, NewScan, Scan, ScanFilter};

/// Fields that nobody writes.
const READ_ONLY: [&str; 1] = ["id"];

/// Characters of a device or a country at most.
const LONGEST_TEXT: usize = 1000;

/// Rows after which a statistic leaves a detail.
const MILLION: u64 = 1_000_000;

/// A scan as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Scan, examples(json!({
    "id": 90210, "campaign_id": 1603, "dt": "2017-12-26 18:21:52", "device": "Pixel 9", "country": "AT", "matched": true
})))]
struct Shown {
    id: i64,
    campaign_id: i64,
    /// When, in UTC.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    dt: String,
    /// The phone.
    #[schema(required = true)]
    device: Option<String>,
    #[schema(required = true)]
    country: Option<String>,
    /// Whether the picture was found.
    matched: bool,
}

/// What makes a scan.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewScan, examples(json!({"campaign_id": 1603, "device": "Pixel 9", "country": "AT"})))]
#[allow(dead_code, reason = "bodies are read field by field; this is for the API's description")]
struct Sent {
    /// Of a campaign that the caller sees.
    campaign_id: i64,
    /// When, as RFC 3339 has it, or as `2017-12-26 18:21:52` in UTC; by default now.
    #[schema(required = false, format = DateTime)]
    dt: String,
    #[schema(max_length = 1000)]
    device: Option<String>,
    #[schema(max_length = 1000)]
    country: Option<String>,
    #[schema(required = false, default = true)]
    matched: bool,
}

impl Object for Shown {
    const COLUMNS: &'static [&'static str] = &["id", "campaign_id", "dt", "device", "country", "matched"];
}

impl From<Scan> for Shown {
    fn from(scan: Scan) -> Self {
        Self {
            id: scan.id,
            campaign_id: scan.campaign_id,
            dt: scan.dt,
            device: scan.device,
            country: scan.country,
            matched: scan.matched,
        }
    }
}

/// A line of a statistic; its first column is named after what is counted by.
macro_rules! line {
    ($name:ident, $key:ident) => {
        #[derive(Serialize)]
        struct $name {
            $key: Option<String>,
            scans: i64,
            matched: i64,
        }

        impl Object for $name {
            const COLUMNS: &'static [&'static str] = &[stringify!($key), "scans", "matched"];
        }

        impl From<Count> for $name {
            fn from(count: Count) -> Self {
                Self { $key: count.key, scans: count.scans, matched: count.matched }
            }
        }
    };
}

line!(OfDay, day);
line!(OfDevice, device);
line!(OfCountry, country);

/// A line of a statistic: one of `day`, `device` and `country`, whichever is counted by.
#[derive(ToSchema)]
#[schema(as = ScanCount, examples(json!({"day": "2017-12-26", "scans": 1200, "matched": 1100})))]
#[allow(dead_code, reason = "one for all of the lines above, for the API's description")]
struct Line {
    day: Option<String>,
    device: Option<String>,
    country: Option<String>,
    /// How many there are.
    scans: i64,
    /// In how many of them the picture was found.
    matched: i64,
}

/// A time from which on, and one before which.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Span {
    /// Only what is of this time or later: as RFC 3339 has it, or as `2017-12-26 18:21:52` in UTC.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Only what is of an earlier time than this one.
    #[param(format = DateTime)]
    until: Option<String>,
}

type Store = web::Data<dyn Campaigns>;

pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    cfg.service(resource(&format!("{prefix}/scans")).get(list).post(add).build())
        .service(resource(&format!("{prefix}/scans/export")).get(export).build())
        .service(resource(&format!("{prefix}/campaigns/{{id}}/statistics")).get(statistics).build());
}

/// Scans
///
/// Of all campaigns that the caller sees, or of one.
#[utoipa::path(
    get,
    path = "/scans",
    operation_id = "listScans",
    params(Page, ("campaign_id" = Option<i64>, Query, description = "Only this campaign's."), Span),
    responses(
        (
            status = 200,
            description = "Scans, by their ids.",
            body = Vec<Shown>,
            headers(("Link" = String, description = "Where there is more, with rel=\"next\": the next page."))
        ),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn list(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    let (format, page) = (Format::of(&req)?, Page::of(&req)?);
    let filter = filter(&req, &caller, &store).await?;
    let mut scans = store.scans(filter, page.after, page.limit + 1).await?;
    let next = page.cut(&req, &mut scans, |one| one.id);
    let shown: Vec<Shown> = scans.into_iter().map(Shown::from).collect();
    format.list(&shown, next)
}

/// Makes a scan
#[utoipa::path(
    post,
    path = "/scans",
    operation_id = "addScan",
    request_body = Sent,
    responses(
        (status = 200, description = "The new scan; of a batch with `bgrs=no`, the outcomes.", body = Shown),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn add(
    req: HttpRequest,
    caller: Caller,
    store: Store,
    clock: web::Data<dyn Clock>,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let mut fields = Fields::read(&req, payload).await?;
    let campaign_id = fields.integer("campaign_id")?;
    let new = NewScan {
        campaign_id: campaign_id.ok_or_else(|| fields::bad("campaign_id", "is required; send one"))?,
        dt: fields.moment("dt")?.unwrap_or_else(|| clock.now()),
        device: fields.short_text("device", LONGEST_TEXT)?.flatten(),
        country: fields.short_text("country", LONGEST_TEXT)?.flatten(),
        matched: fields.boolean("matched")?.unwrap_or(true),
    };
    fields.finish(&READ_ONLY)?;
    visible(&store, &caller, Some(new.campaign_id)).await?;
    // It may go between the look and the act.
    format.object(&Shown::from(store.add_scan(new).await?.ok_or_else(unknown)?))
}

/// All scans that match
///
/// As of the moment at which it begins, streamed, however many. In the background its progress is that of the rows that
/// went out.
#[utoipa::path(
    get,
    path = "/scans/export",
    operation_id = "exportScans",
    params(("campaign_id" = Option<i64>, Query, description = "Only this campaign's."), Span),
    responses(
        (status = 200, description = "Scans, by their ids.", body = Vec<Shown>),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn export(req: HttpRequest, caller: Caller, store: Store, progress: Progress) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let export = store.export(filter(&req, &caller, &store).await?).await?;
    let total = export.total;
    progress.detail(format!("{total} scans to export"));
    let (mut seen, mut tenths) = (0, 0);
    let batches = futures_util::stream::unfold(export.batches, |mut batches| async move {
        batches.recv().await.map(|batch| (batch, batches))
    });
    Ok(format.stream::<Shown, Scan, _>(batches, total, move |rows| {
        seen += rows;
        progress.set(seen as f64 * 100.0 / total as f64);
        if seen * 10 / total > tenths {
            tenths = seen * 10 / total;
            progress.detail(format!("{seen} of {total} scans exported"));
        }
    }))
}

/// Scans of a campaign, counted
#[utoipa::path(
    get,
    path = "/campaigns/{id}/statistics",
    operation_id = "countScans",
    params(
        ("id" = i64, Path, minimum = 1, description = "The campaign's id."),
        ("by" = String, Query, pattern = "^(day|device|country)$", example = "day", description = "What to count by."),
        Span
    ),
    responses(
        (status = 200, description = "A line for each, in order.", body = Vec<Line>),
        (status = 404, description = "There is no such campaign; check the id.")
    )
)]
async fn statistics(req: HttpRequest, caller: Caller, store: Store, progress: Progress) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let campaign = visible(&store, &caller, path_id(&req)).await?;
    let by = match parameter(&req, "by").as_deref() {
        Some("day") => By::Day,
        Some("device") => By::Device,
        Some("country") => By::Country,
        _ => return Err(Error::bad_request("by takes day, device or country.")),
    };
    let Span { since, until } = span(&req)?;
    let filter = ScanFilter { user_id: None, campaign_id: Some(campaign.id), since, until };
    let on_rows = move |seen: u64, total: u64| {
        progress.set(seen as f64 * 100.0 / total as f64);
        if seen.is_multiple_of(MILLION) {
            progress.detail(format!("{seen} of {total} scans counted"));
        }
    };
    let counts = store.statistics(filter, by, Box::new(on_rows)).await?;
    match by {
        By::Day => lines::<OfDay>(format, counts),
        By::Device => lines::<OfDevice>(format, counts),
        By::Country => lines::<OfCountry>(format, counts),
    }
}

fn lines<T: Object + From<Count>>(format: Format, counts: Vec<Count>) -> Result<HttpResponse, Error> {
    let lines: Vec<T> = counts.into_iter().map(T::from).collect();
    format.list(&lines, None)
}

/// What a call asks for among what its caller may see.
async fn filter(req: &HttpRequest, caller: &Caller, store: &Store) -> Result<ScanFilter, Error> {
    let campaign_id = match parameter(req, "campaign_id") {
        None => None,
        Some(text) => {
            let id = text.parse().map_err(|_| Error::bad_request("campaign_id takes a whole number."))?;
            Some(visible(store, caller, Some(id)).await?.id)
        }
    };
    let Span { since, until } = span(req)?;
    let user_id = (!caller.is_admin && campaign_id.is_none()).then_some(caller.user_id);
    Ok(ScanFilter { user_id, campaign_id, since, until })
}

/// `since` and `until`.
fn span(req: &HttpRequest) -> Result<Span, Error> {
    let moment = |name: &str| match parameter(req, name) {
        None => Ok(None),
        Some(text) => match time::parse_bound(&text) {
            Some(moment) => Ok(Some(time::format(moment))),
            None => Err(Error::bad_request(format!("{name} {TIMES}."))),
        },
    };
    Ok(Span { since: moment("since")?, until: moment("until")? })
}

fn parameter(req: &HttpRequest, name: &str) -> Option<String> {
    parameters(req.query_string()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
