//! Asking an upstream who somebody is.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use super::client::{Client, Connectors, Outgoing, header_map, nothing};
use crate::model::Headers;
use crate::routing::{Auth, Upstreams};

/// Bytes of an answer at most.
const MOST: usize = 256 * 1024;

/// How long an upstream may take for it.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the upstreams with `auth = "forward"`.
pub struct Asker {
    upstreams: Upstreams,
    client: Client,
}

impl Asker {
    /// With a pool of its own.
    #[must_use]
    pub fn new(upstreams: Upstreams, connectors: &Connectors) -> Self {
        Self { upstreams, client: Client::new(connectors) }
    }

    /// The id of whoever has these credentials at the upstream of this source; `None`: it does not know them.
    ///
    /// # Errors
    /// Why there was no answer that says so.
    pub async fn ask(&self, source: &str, credentials: &Headers) -> Result<Option<String>, String> {
        let found = self.upstreams.iter().find(|upstream| upstream.source() == source);
        let upstream = found.ok_or_else(|| format!("there is no {source}"))?;
        let Auth::Forward { check, user, .. } = &upstream.auth else {
            return Err(format!("{source} does not know users"));
        };
        let mut headers = credentials.clone();
        headers.append("accept", b"application/json");
        let headers = header_map(&headers).map_err(|error| error.to_string())?;
        let call = Outgoing::new("GET", check, headers);
        let answer = self.client.send_bare(upstream, call, nothing()).map_err(|error| error.to_string())?;
        let asked = async {
            let answer = answer.await.map_err(|error| error.to_string())?;
            let status = answer.status();
            if status.is_client_error() && status != http::StatusCode::TOO_MANY_REQUESTS {
                return Ok(None);
            }
            if !status.is_success() {
                return Err(format!("{check} answered {status}"));
            }
            let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| error.to_string())?;
            id(&body.to_bytes(), user).map(Some).ok_or_else(|| format!("{check} answered without an id at {user:?}"))
        };
        tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(format!("{check} did not answer in time")))
    }
}

/// The id at a JSON pointer: a text that is not empty, or a number.
fn id(body: &[u8], pointer: &str) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    match answer.pointer(pointer)? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_text_or_a_number_where_the_pointer_says() {
        let answer = br#"{"user": {"id": 5, "name": "kim", "none": null, "empty": ""}, "list": ["a"]}"#;
        for (pointer, found) in [("/user/id", "5"), ("/user/name", "kim"), ("/list/0", "a")] {
            assert_eq!(id(answer, pointer).as_deref(), Some(found));
        }
        for pointer in ["", "/user", "/user/none", "/user/empty", "/no"] {
            assert_eq!(id(answer, pointer), None, "{pointer}");
        }
        assert_eq!(id(b"5", "").as_deref(), Some("5"));
        assert_eq!(id(b"<html>", "/id"), None);
    }
}
