//! Whether an upstream's answer is none yet, and when it wants to be asked again.

use std::time::{Duration, UNIX_EPOCH};

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
    let rest = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are more than the longest rest too.
        text.parse().map_or(LONGEST_REST, Duration::from_secs)
    } else {
        // Not as a `Timestamp`: the last of those is before the last date that can stand here.
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        at.saturating_sub(Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or_default()))
    };
    Some(rest.min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_seconds_or_a_date_and_a_day_at_most() {
        let now = "2026-01-31T10:00:00Z".parse().unwrap();
        let asked = |text: &str| retry_after(&[("retry-after", text)].into_iter().collect(), now);
        for (text, seconds) in [
            ("5", 5),
            ("0", 0),
            ("86401", 86_400),
            ("99999999999999999999", 86_400),
            ("Sat, 31 Jan 2026 10:00:07 GMT", 7),
            ("Sat, 31 Jan 2026 09:00:00 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ] {
            assert_eq!(asked(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1", "1.5", "soon"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
