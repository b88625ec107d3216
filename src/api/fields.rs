//! What a POST or PUT writes: fields from a JSON object, and for PUT from the query too.

use std::fmt;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web;
use futures_util::StreamExt;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::page::parameters;
use crate::http::{Error, is_json};
use crate::model::time;

/// Bytes of a JSON body at most.
const LONGEST_BODY: usize = 1 << 20;

/// Keys of a JSON body at most.
const MOST_KEYS: usize = 1000;

/// Fields that are not taken yet. What is left at the end is unknown, or not the caller's to write.
pub struct Fields(Vec<(String, Input)>);

/// A field's value.
enum Input {
    /// From a JSON body.
    Json(Value),
    /// From the query, where everything is text.
    Text(String),
}

impl Fields {
    /// Reads a call's fields.
    ///
    /// # Errors
    /// 400, 413 or 415, saying what to do.
    pub async fn read(req: &HttpRequest, payload: web::Payload) -> Result<Self, Error> {
        let mut fields = Self(Vec::new());
        let body = read_body(payload).await?;
        if !body.is_empty() {
            check_type(req)?;
            fields.0 = parse(&body)?;
        } else if req.method() == Method::POST {
            return Err(Error::bad_request("The body is empty; send a JSON object."));
        }
        if percent_decode_str(req.query_string()).decode_utf8().is_err() {
            return Err(Error::bad_request("The query is not UTF-8; encode its text as UTF-8."));
        }
        for (name, value) in parameters(req.query_string()).filter(|(name, _)| name != "t") {
            if req.method() == Method::POST {
                return Err(Error::bad_request(format!(
                    "The query parameter {name} is unknown here; send a JSON object."
                )));
            }
            fields.insert(name.into_owned(), Input::Text(value.into_owned()))?;
        }
        Ok(fields)
    }

    /// A text; `Some(None)` for null.
    ///
    /// # Errors
    /// 400 for anything else, naming the field.
    pub fn nullable_text(&mut self, name: &str) -> Result<Option<Option<String>>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Input::Json(Value::Null)) => Ok(Some(None)),
            Some(Input::Json(Value::String(text)) | Input::Text(text)) => Ok(Some(Some(text))),
            Some(Input::Json(_)) => Err(bad(name, "takes a text or null")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// 400 for anything else, naming the field.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.nullable_text(name)? {
            Some(None) => Err(bad(name, "takes a text")),
            Some(text) => Ok(text),
            None => Ok(None),
        }
    }

    /// A truth value; in a query `true`, `false`, `1` or `0`.
    ///
    /// # Errors
    /// 400 for anything else, naming the field.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Input::Json(Value::Bool(value))) => Ok(Some(value)),
            Some(Input::Text(text)) => match text.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(bad(name, "takes true or false")),
            },
            Some(Input::Json(_)) => Err(bad(name, "takes true or false")),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 for anything else, naming the field.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, Error> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Input::Json(value)) => value.as_i64().or_else(|| value.as_f64().and_then(whole)),
            Some(Input::Text(text)) => text.parse().ok(),
        };
        number.map(Some).ok_or_else(|| bad(name, "takes a whole number"))
    }

    /// A moment.
    ///
    /// # Errors
    /// 400 for anything else, naming the field.
    pub fn moment(&mut self, name: &str) -> Result<Option<Timestamp>, Error> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => time::parse_begun(&text).map(Some).ok_or_else(|| bad(name, TIMES)),
        }
    }

    /// A text of at most so many characters; `Some(None)` for null.
    ///
    /// # Errors
    /// 400 for anything else, naming the field.
    pub fn short_text(&mut self, name: &str, most: usize) -> Result<Option<Option<String>>, Error> {
        let text = self.nullable_text(name)?;
        match text.as_ref().and_then(Option::as_ref) {
            Some(long) if long.chars().count() > most => Err(bad(name, &format!("takes at most {most} characters"))),
            _ => Ok(text),
        }
    }

    /// The object's own id, which may be sent along but not changed.
    ///
    /// # Errors
    /// 400 for another id.
    pub fn same_id(&mut self, id: i64) -> Result<(), Error> {
        let same = match self.take("id") {
            None => true,
            Some(Input::Json(value)) => value.as_i64() == Some(id),
            Some(Input::Text(text)) => text.parse() == Ok(id),
        };
        if same { Ok(()) } else { Err(bad("id", "cannot be changed; it is the number in the path, or left out")) }
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// 400 for whatever is left, naming the first.
    pub fn finish(self, read_only: &[&str]) -> Result<(), Error> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) if read_only.contains(&name.as_str()) => Err(bad(name, "cannot be written; leave it out")),
            Some((name, _)) => Err(bad(name, "is unknown; leave it out")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Input> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn insert(&mut self, name: String, value: Input) -> Result<(), Error> {
        if self.0.iter().any(|(key, _)| *key == name) {
            return Err(bad(&name, "was sent twice; send it once"));
        }
        self.0.push((name, value));
        Ok(())
    }
}

/// The id that a path names: written as ids are shown, and no other way.
pub fn path_id(req: &HttpRequest) -> Option<i64> {
    let text = req.match_info().query("id");
    text.parse().ok().filter(|id: &i64| id.to_string() == text)
}

/// How times are written.
pub const TIMES: &str = "takes a time as 2026-01-31 10:00:00 (UTC) or as RFC 3339 has it";

/// The refusal of a field.
pub fn bad(name: &str, what: &str) -> Error {
    Error::bad_request(format!("The field {name} {what}."))
}

/// The refusal of a PUT or DELETE on a collection that is no batch.
pub fn only_arrays() -> Error {
    Error::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "On a collection this method takes a JSON array, one element with its id for each object; for one object, use \
         its own path.",
    )
    .with(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE"))
}

async fn read_body(mut payload: web::Payload) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(broken)?;
        if body.len() + piece.len() > LONGEST_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn broken(error: PayloadError) -> Error {
    log::debug!("a body broke off: {error}");
    match error {
        PayloadError::Overflow => too_large(),
        PayloadError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Error::too_slow(),
        _ => Error::bad_request("The body broke off or was malformed; send it again."),
    }
}

fn too_large() -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large; a JSON object here has at most 1 MiB.")
}

fn check_type(req: &HttpRequest) -> Result<(), Error> {
    if is_json(req.headers()) {
        return Ok(());
    }
    Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send JSON, with Content-Type: application/json."))
}

/// Parses an object whose keys stand there once each. Nesting is bounded by the parser.
fn parse(body: &[u8]) -> Result<Vec<(String, Input)>, Error> {
    let mut parser = serde_json::Deserializer::from_slice(body);
    let pairs = parser.deserialize_map(Pairs).and_then(|pairs| parser.end().map(|()| pairs));
    let pairs = pairs.map_err(|error| not_an_object(&error))?;
    let mut fields = Fields(Vec::new());
    for (name, value) in pairs {
        fields.insert(name, Input::Json(value))?;
    }
    Ok(fields.0)
}

fn not_an_object(error: &serde_json::Error) -> Error {
    // Where the body is some other JSON the parser's words quote it, and it may be a secret.
    match error.classify() {
        Category::Data => Error::bad_request(format!("The body must be a JSON object of at most {MOST_KEYS} keys.")),
        _ => Error::bad_request(format!("The body is not the JSON object it must be: {error}.")),
    }
}

/// Keeps repeated keys, of which a JSON map would silently take the last.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
            if pairs.len() > MOST_KEYS {
                return Err(de::Error::custom("too many keys"));
            }
        }
        Ok(pairs)
    }
}

/// The whole number that is written with a fraction of nothing: to JSON Schema 41.0 is an integer. Beyond 2^53 it might be
/// another one than was meant.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        parse(body.as_bytes()).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn a_key_that_stands_there_twice_is_named() {
        assert!(message(r#"{"login":"a","login":"b"}"#).contains("login"));
        assert_eq!(message(r#"{"login":"a","email":"b"}"#), "");
    }

    #[test]
    fn what_is_no_object_or_nested_without_end_is_refused() {
        for body in ["[]", "1", "{", "{}x", "\"a\"", "null"] {
            assert!(!message(body).is_empty(), "{body}");
        }
        assert!(!message("\"hunter2\"").contains("hunter2"), "a body is quoted");
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(message(&deep).contains("recursion"));
    }
}
