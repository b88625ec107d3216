//! Looking a request up, after a wait for its end where the caller asks for one.

use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};

use super::{Error, Shared};
use crate::model::Rid;
use crate::store::Request;

/// The longest wait, in seconds; who asks for more gets this.
const LONGEST: u64 = 60;

/// The request that the path names, where the middleware has looked it up with its caller.
pub struct Found(pub Request);

/// The request that the path names. With `?wait=N`, as it is when it has ended, or after N seconds.
pub async fn request(req: &HttpRequest, shared: &Shared) -> Result<Request, Error> {
    let rid = rid(req)?;
    let seconds = seconds(req.query_string())?;
    let found = req.extensions_mut().remove::<Found>().map(|Found(request)| request);
    if let Some(request) = found.filter(|request| seconds == 0 || request.state.has_ended()) {
        return Ok(request);
    }
    if seconds == 0 {
        return get(shared, rid).await;
    }
    ended(shared, rid, Duration::from_secs(seconds)).await?.ok_or_else(unknown)
}

/// A request as it is when it has ended, or after so long a time; `None`: there is none.
pub async fn ended(shared: &Shared, rid: Rid, longest: Duration) -> Result<Option<Request>, Error> {
    let mut watch = shared.watchers.watch(rid);
    let request = shared.find(rid).await?;
    if request.as_ref().is_none_or(|request| request.state.has_ended()) {
        return Ok(request);
    }
    match tokio::time::timeout(longest, watch.end()).await {
        Ok(Some(request)) => Ok(Some((*request).clone())),
        // Ended or not by then, it is looked at again.
        _ => Ok(shared.find(rid).await?),
    }
}

/// The rid in the path.
pub fn rid(req: &HttpRequest) -> Result<Rid, Error> {
    req.match_info().query("rid").parse().map_err(|_| unknown())
}

/// The answer to a rid that opens nothing.
pub fn unknown() -> Error {
    Error::not_found("There is no background request of that id, or it has expired; check the id.")
}

/// The decoded value of a query parameter; the first of several.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn get(shared: &Shared, rid: Rid) -> Result<Request, Error> {
    shared.find(rid).await?.ok_or_else(unknown)
}

fn seconds(query: &str) -> Result<u64, Error> {
    let Some(value) = parameter(query, "wait") else { return Ok(0) };
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::bad_request("wait takes a whole number of seconds, 0 to 60."));
    }
    // More digits than a number holds are more than the longest wait too.
    Ok(value.parse().unwrap_or(LONGEST).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_whole_seconds_and_at_most_sixty() {
        for (query, expected) in [("", 0), ("wait=5", 5), ("wait=61", 60), ("wait=99999999999999999999999", 60)] {
            assert_eq!(seconds(query).unwrap(), expected, "{query}");
        }
        for query in ["wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "wait=+1", "wait=1s"] {
            assert!(seconds(query).is_err(), "{query}");
        }
    }
}
