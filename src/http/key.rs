//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a call that is sent again is not made again.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName};

use super::Error;
use crate::store::{Fingerprint, Key};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Characters of a key at most.
const LONGEST: usize = 255;

/// The key that a submission carries, if it does.
///
/// # Errors
/// 400 for one that is none, or two that differ.
pub fn of(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut key: Option<&[u8]> = None;
    for value in headers.get_all(&KEY).map(|value| value.as_bytes()) {
        let is_key = (1..=LONGEST).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        if !is_key || key.is_some_and(|key| key != value) {
            return Err(Error::bad_request(
                "Idempotency-Key takes 1 to 255 visible ASCII characters, such as a UUID; send it once.",
            ));
        }
        key = Some(value);
    }
    Ok(key.map(|key| String::from_utf8_lossy(key).into_owned()))
}

/// The key with the call that it comes with; `target` less what is the server's, `body` a digest of the bytes.
pub fn of_call(text: String, method: &str, target: &str, body: &blake3::Hash) -> Key {
    // Neither a method nor a target holds a line's end.
    let whole = [method.as_bytes(), b"\n", target.as_bytes(), b"\n", body.as_bytes()].concat();
    let mut fingerprint = Fingerprint::default();
    let length = fingerprint.len();
    fingerprint.copy_from_slice(&blake3::hash(&whole).as_bytes()[..length]);
    Key { text, fingerprint }
}

/// The digest of a body without a byte.
pub fn of_nothing() -> &'static blake3::Hash {
    static NOTHING: LazyLock<blake3::Hash> = LazyLock::new(|| blake3::hash(&[]));
    &NOTHING
}

/// The answer to a key that was used for another call.
pub fn taken() -> Error {
    Error::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "This Idempotency-Key was used for another call; send each call with a key of its own.",
    )
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn key(values: &[&str]) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        for value in values {
            let name = HeaderName::from_static("idempotency-key");
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        of(&headers).ok()
    }

    #[test]
    fn a_key_is_visible_ascii_and_there_is_one() {
        let longest = "k".repeat(255);
        assert_eq!(key(&[]), Some(None));
        for good in ["a", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "~!", &longest] {
            assert_eq!(key(&[good]), Some(Some(good.to_owned())), "{good}");
        }
        for bad in [&["" as &str][..], &["a b"], &["ü"], &[&format!("{longest}k")], &["a", "b"]] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
        assert_eq!(key(&["a", "a"]), Some(Some("a".to_owned())));
    }

    #[test]
    fn a_fingerprint_is_of_method_target_and_body() {
        let of = |method, target, body: &str| of_call("k".to_owned(), method, target, &blake3::hash(body.as_bytes()));
        let all = [of("PUT", "/a", ""), of("POST", "/a", ""), of("PUT", "/b", ""), of("PUT", "/a", "x")];
        assert!(all.iter().enumerate().all(|(at, one)| all[..at].iter().all(|other| one != other)));
        assert_eq!(all[0], of("PUT", "/a", ""));
    }
}
