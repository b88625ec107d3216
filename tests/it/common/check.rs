//! Readers of answers: what an error, a 202, a date and an rid look like.

use serde_json::{Value, json};

use super::Response;

/// Asserts that this is an error of the server's own, and gives its description.
#[track_caller]
pub fn error_of(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "the body: {}", response.lossy());
    let content_type = response.header("Content-Type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{status} came as {content_type:?}: {}", response.lossy());
    let body = response.text();
    assert_eq!(keys_in_order(&body), ["error", "description"], "in {body}");
    let json = response.json();
    let phrase = json["error"].as_str().expect("error is a string");
    assert!(reason_phrases(status).contains(&phrase), "{phrase:?} is not the reason phrase of {status}");
    let description = json["description"].as_str().expect("a string").to_owned();
    assert!(!description.trim().is_empty(), "{status} without a word");
    for inside in ["\n", "SELECT ", "INSERT ", ".rs:", "panicked", "/tmp/"] {
        assert!(!description.contains(inside), "it shows {description:?}");
    }
    description
}

fn reason_phrases(status: u16) -> &'static [&'static str] {
    match status {
        400 => &["Bad Request"],
        401 => &["Unauthorized"],
        403 => &["Forbidden"],
        404 => &["Not Found"],
        405 => &["Method Not Allowed"],
        409 => &["Conflict"],
        410 => &["Gone"],
        413 => &["Payload Too Large", "Content Too Large"],
        415 => &["Unsupported Media Type"],
        422 => &["Unprocessable Entity", "Unprocessable Content"],
        416 => &["Range Not Satisfiable"],
        429 => &["Too Many Requests"],
        500 => &["Internal Server Error"],
        502 => &["Bad Gateway"],
        503 => &["Service Unavailable"],
        504 => &["Gateway Timeout"],
        507 => &["Insufficient Storage"],
        _ => panic!("no test expects {status}"),
    }
}

/// Asserts that this is the 202 of a submission, whole and with nothing amiss, and gives the rid.
#[track_caller]
pub fn assert_submitted(response: &Response) -> String {
    assert_eq!(response.status, 202, "the body: {}", response.lossy());
    let json = response.json();
    let rid = json["request"].as_str().expect("a string").to_owned();
    assert!(is_rid(&rid), "{rid:?} is no rid");
    assert_eq!(json, json!({ "request": rid }));
    let location = format!("/bgrs/{rid}");
    assert_eq!(response.header("Location"), Some(location.as_str()));
    assert_eq!(response.header("Retry-After"), Some("1"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    assert_eq!(response.header("Content-Type"), Some("application/json; charset=utf-8"));
    rid
}

pub fn is_rid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Is it `YYYY-MM-DD HH:MM:SS`?
pub fn is_date_time(value: &Value) -> bool {
    let shape = |text: &str| -> String {
        let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
        text.chars().map(digit).collect()
    };
    value.as_str().is_some_and(|text| shape(text) == "0000-00-00 00:00:00")
}

/// The keys of the first object in a JSON text, as they stand there, duplicates too.
pub fn keys_in_order(json: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut depth = 0;
    let mut rest = json.find('{').map_or("", |start| &json[start..]);
    while let Some(byte) = rest.bytes().next() {
        let mut length = 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                length = string_length(rest);
                let is_key = rest[length..].trim_start().starts_with(':');
                if depth == 1 && is_key {
                    keys.push(rest[1..length - 1].to_owned());
                }
            }
            _ => length = rest.chars().next().map_or(1, char::len_utf8),
        }
        rest = &rest[length..];
        if depth == 0 {
            break;
        }
    }
    keys
}

/// The length of the string literal that the text begins with, both quotes counted.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    panic!("a string without an end: {text}");
}
