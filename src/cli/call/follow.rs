//! Following a request to its end.

use bgrs::model::Rid;
use serde::Deserialize;
use url::Url;

use super::client::Trouble;
use super::place::Place;
use super::session::Session;
use super::{Failure, no_success, refused};

/// Details read at once.
const PAGE: usize = 100;

/// After so many looks a second apart, the next ones are two apart.
const SHORT: u32 = 30;

/// What `GET /bgrs/{rid}` says, as far as it matters here.
#[derive(Deserialize)]
struct Information {
    rid: String,
    status_name: String,
    progress: String,
}

#[derive(Deserialize)]
struct Detail {
    id: String,
    details: String,
}

/// The latest detail.
#[derive(Default)]
struct Latest {
    id: u64,
    text: Option<String>,
}

/// Where on a URL's server an earlier request is.
pub fn find(session: &Session, url: &Url, rid: Rid) -> Result<Place, Failure> {
    let mut candidates = Place::candidates(rid, url);
    // There is one at least.
    let last = candidates.pop().ok_or_else(|| refused("the URL names no server"))?;
    let is_there = |place: &Place| information(session, place, 0);
    // The URL's path may as well be one of an API, which answers whatever it likes.
    if let Some(place) = candidates.into_iter().find(|place| is_there(place).is_ok()) {
        return Ok(place);
    }
    session.persist(&last, || is_there(&last))?;
    Ok(last)
}

/// Shows how far the request is until it has ended; an error where it has no result.
pub fn to_the_end(session: &Session, place: &Place) -> Result<(), Failure> {
    let mut latest = Latest::default();
    let mut looks = 0;
    loop {
        let wait = if looks < SHORT { 1 } else { 2 };
        let now = session.persist(place, || information(session, place, wait))?;
        session.persist(place, || catch_up(session, place, &mut latest))?;
        let text = latest.text.as_deref();
        match now.status_name.as_str() {
            "failed" => {
                return Err(no_success(format!("the request failed: {}", text.unwrap_or("it is not said why"))));
            }
            "cancelled" => return Err(no_success("the request was cancelled; it has no result")),
            name => session.progress.show(&now.progress, text.unwrap_or(name)),
        }
        if now.status_name == "finished" {
            return Ok(());
        }
        looks += 1;
    }
}

fn information(session: &Session, place: &Place, wait: u32) -> Result<Information, Trouble> {
    let [information]: [Information; 1] = session.client.read(&place.information(wait))?;
    if information.rid == place.rid.to_string() {
        return Ok(information);
    }
    Err(Trouble::Fatal(refused("the server answers with another request than the one that was asked for")))
}

/// Reads the details that have come since.
fn catch_up(session: &Session, place: &Place, latest: &mut Latest) -> Result<(), Trouble> {
    loop {
        let page: Vec<Detail> = session.client.read(&place.details(latest.id, PAGE))?;
        let is_last = page.len() < PAGE;
        if let Some(detail) = page.into_iter().next_back() {
            let id = detail.id.parse::<u64>().ok().filter(|id| *id > latest.id);
            let odd = || Trouble::Fatal(refused("the server's details are in no order"));
            *latest = Latest { id: id.ok_or_else(odd)?, text: Some(detail.details) };
        }
        if is_last {
            return Ok(());
        }
    }
}
