//! Whether an upstream's answer is none yet, and when it wants to be asked again.

use std::time::Duration;

use jiff::Timestamp;

use crate::dispatch::Response;
use crate::model::Headers;
use crate::routing::Retry;

/// The longest rest that an upstream may ask for.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether an answer is none yet: the upstream says when to come back, or the policy says that it is none.
pub fn asks_to_come_back(response: &Response, retry: &Retry) -> bool {
    retry.on.contains(&response.status)
        || matches!(response.status, 429 | 503) && response.headers.get("retry-after").is_some()
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
pub fn retry_after(headers: &Headers, now: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(headers.get("retry-after")?).ok()?.trim();
    let rest = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            let at = Timestamp::try_from(at).ok()?;
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(rest.min(LONGEST_REST))
}
