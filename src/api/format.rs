//! How an answer is written: JSON, or CSV with `?t=csv`.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use serde_json::Value;

use super::page::parameters;
use crate::http::Error;

/// The formats there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json; charset=utf-8`.
    Json,
    /// `text/csv; charset=utf-8` (RFC 4180).
    Csv,
}

/// An object of the API: its JSON keys are its CSV columns.
pub trait Object: Serialize {
    /// The columns, in the keys' order.
    const COLUMNS: &'static [&'static str];
}

impl Format {
    /// The format that `?t=` asks for.
    ///
    /// # Errors
    /// 400 for any other.
    pub fn of(req: &HttpRequest) -> Result<Self, Error> {
        let mut asked = parameters(req.query_string()).filter(|(name, _)| name == "t").map(|(_, value)| value);
        match (asked.next().as_deref(), asked.next()) {
            (None | Some("json"), None) => Ok(Self::Json),
            (Some("csv"), None) => Ok(Self::Csv),
            _ => Err(Error::bad_request("t takes json or csv.")),
        }
    }

    /// Answers with one object.
    ///
    /// # Errors
    /// 500 if it cannot be written.
    pub fn object<T: Object>(self, object: &T) -> Result<HttpResponse, Error> {
        match self {
            Self::Json => Ok(json(HttpResponse::Ok(), object)),
            Self::Csv => csv(HttpResponse::Ok(), std::slice::from_ref(object)),
        }
    }

    /// Answers with a list; `next` leads to the next page.
    ///
    /// # Errors
    /// 500 if it cannot be written.
    pub fn list<T: Object>(self, objects: &[T], next: Option<String>) -> Result<HttpResponse, Error> {
        let mut response = HttpResponse::build(StatusCode::OK);
        if let Some(next) = next {
            response.insert_header((header::LINK, format!("<{next}>; rel=\"next\"")));
        }
        match self {
            Self::Json => Ok(json(response, &objects)),
            Self::Csv => csv(response, objects),
        }
    }
}

fn json<T: Serialize>(mut response: HttpResponseBuilder, value: &T) -> HttpResponse {
    response.insert_header((header::CONTENT_TYPE, "application/json; charset=utf-8")).json(value)
}

fn csv<T: Object>(mut response: HttpResponseBuilder, objects: &[T]) -> Result<HttpResponse, Error> {
    let text = to_csv(objects).map_err(|error| {
        log::error!("a CSV could not be written: {error}");
        Error::internal()
    })?;
    Ok(response.insert_header((header::CONTENT_TYPE, "text/csv; charset=utf-8")).body(text))
}

fn to_csv<T: Object>(objects: &[T]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(T::COLUMNS)?;
    for object in objects {
        let value = serde_json::to_value(object)?;
        writer.write_record(T::COLUMNS.iter().map(|column| cell(value.get(column))))?;
    }
    Ok(writer.into_inner()?)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => harmless(text),
        Some(other) => other.to_string(),
    }
}

/// SECURITY: a spreadsheet runs text that begins with one of these as a formula; an apostrophe makes it text again.
fn harmless(text: &str) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if runs && text.parse::<f64>().is_err() { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        id: i64,
        name: Option<&'static str>,
    }

    impl Object for Row {
        const COLUMNS: &'static [&'static str] = &["id", "name"];
    }

    #[test]
    fn a_csv_has_a_header_and_quotes_what_needs_it() {
        let rows = [Row { id: 1, name: Some("a,\"b\"\r\nc") }, Row { id: -2, name: None }];
        let text = String::from_utf8(to_csv(&rows).unwrap()).unwrap();
        assert_eq!(text, "id,name\r\n1,\"a,\"\"b\"\"\r\nc\"\r\n-2,\r\n");
        assert_eq!(to_csv::<Row>(&[]).unwrap(), b"id,name\r\n");
    }

    #[test]
    fn formulas_become_text_and_numbers_stay() {
        for (text, cell) in
            [("=1+1", "'=1+1"), ("@x", "'@x"), ("-x", "'-x"), ("-5", "-5"), ("+1.5", "+1.5"), ("a=b", "a=b")]
        {
            assert_eq!(harmless(text), cell);
        }
    }
}
