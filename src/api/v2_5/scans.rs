//! `/scans`: recognitions of campaigns' pictures, one by one, all at once, and counted.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

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
#[derive(Serialize)]
struct Shown {
    id: i64,
    campaign_id: i64,
    dt: String,
    device: Option<String>,
    country: Option<String>,
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

type Store = web::Data<dyn Campaigns>;

pub fn configure(cfg: &mut web::ServiceConfig, prefix: &str) {
    cfg.service(resource(&format!("{prefix}/scans")).get(list).post(add).build())
        .service(resource(&format!("{prefix}/scans/export")).get(export).build())
        .service(resource(&format!("{prefix}/campaigns/{{id}}/statistics")).get(statistics).build());
}

async fn list(req: HttpRequest, caller: Caller, store: Store) -> Result<HttpResponse, Error> {
    let (format, page) = (Format::of(&req)?, Page::of(&req)?);
    let filter = filter(&req, &caller, &store).await?;
    let mut scans = store.scans(filter, page.after, page.limit + 1).await?;
    let next = page.cut(&req, &mut scans, |one| one.id);
    let shown: Vec<Shown> = scans.into_iter().map(Shown::from).collect();
    format.list(&shown, next)
}

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

/// All that match, streamed, with the progress of the rows that went out.
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

async fn statistics(req: HttpRequest, caller: Caller, store: Store, progress: Progress) -> Result<HttpResponse, Error> {
    let format = Format::of(&req)?;
    let campaign = visible(&store, &caller, path_id(&req)).await?;
    let by = match parameter(&req, "by").as_deref() {
        Some("day") => By::Day,
        Some("device") => By::Device,
        Some("country") => By::Country,
        _ => return Err(Error::bad_request("by takes day, device or country.")),
    };
    let (since, until) = span(&req)?;
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
    let (since, until) = span(req)?;
    let user_id = (!caller.is_admin && campaign_id.is_none()).then_some(caller.user_id);
    Ok(ScanFilter { user_id, campaign_id, since, until })
}

/// `since` and `until`.
fn span(req: &HttpRequest) -> Result<(Option<String>, Option<String>), Error> {
    let moment = |name: &str| match parameter(req, name) {
        None => Ok(None),
        Some(text) => match time::parse(&text) {
            Some(moment) => Ok(Some(time::format(moment))),
            None => Err(Error::bad_request(format!("{name} {TIMES}."))),
        },
    };
    Ok((moment("since")?, moment("until")?))
}

fn parameter(req: &HttpRequest, name: &str) -> Option<String> {
    parameters(req.query_string()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
