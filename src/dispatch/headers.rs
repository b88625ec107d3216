//! Which headers of a call and of an answer are kept.

use actix_web::http::header::HeaderMap;

use crate::model::Headers;

/// Of this hop alone (RFC 9110 section 7.6.1), or of the wire's framing.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Secrets: the call is made in the caller's name, not with the caller's credentials.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// What would make the stored answer depend on the submission's connection: a part of it, an encoding, a 304.
const SHAPING: [&str; 8] = [
    "accept-encoding",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

/// Of an answer: the server's own to say when it is read.
const NOT_KEPT: [&str; 2] = ["date", "set-cookie"];

/// The headers of a call that are stored with it.
#[must_use]
pub fn of_call(headers: &HeaderMap) -> Headers {
    let named = named_by_connection(headers);
    keep(headers, |name| {
        !HOP_BY_HOP.contains(&name)
            && !SECRET.contains(&name)
            && !SHAPING.contains(&name)
            && !named.iter().any(|n| n == name)
    })
}

/// The headers of an answer that are stored with it.
#[must_use]
pub fn of_answer(headers: &HeaderMap) -> Headers {
    let named = named_by_connection(headers);
    keep(headers, |name| !HOP_BY_HOP.contains(&name) && !NOT_KEPT.contains(&name) && !named.iter().any(|n| n == name))
}

fn keep(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Headers {
    headers
        .iter()
        .filter(|(name, _)| wanted(name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

/// The fields that `Connection` names are of this hop too.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all("connection")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn what_is_of_this_hop_secret_or_shaping_is_not_stored_with_a_call() {
        let sent = map(&[
            ("host", "api"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("authorization", "Basic eA=="),
            ("cookie", "a=b"),
            ("accept-encoding", "gzip"),
            ("range", "bytes=0-1"),
            ("if-none-match", "*"),
            ("accept", "a/b"),
            ("accept", "c/d"),
        ]);
        let mut kept: Vec<_> = of_call(&sent).iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
        kept.sort();
        let expected: Vec<(String, Vec<u8>)> =
            [("accept", "a/b"), ("accept", "c/d"), ("host", "api")].map(|(n, v)| (n.into(), v.into())).into();
        assert_eq!(kept, expected);
    }

    #[test]
    fn cookies_and_the_date_of_an_answer_are_not_stored() {
        let sent = map(&[("set-cookie", "a=b"), ("date", "x"), ("etag", "\"1\""), ("content-length", "3")]);
        let kept = of_answer(&sent);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [("etag", b"\"1\"".as_slice())]);
    }
}
