//! How an answer is written: JSON, or CSV with `?t=csv`.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
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

impl Format {
    /// Answers with a list that comes in batches, `total` objects in all, and tells `on_rows` of each batch that went
    /// out. A list that breaks off breaks the answer off: it is never silently short.
    pub fn stream<T, R, E>(
        self,
        batches: impl Stream<Item = Result<Vec<R>, E>> + 'static,
        total: u64,
        on_rows: impl FnMut(u64) + 'static,
    ) -> HttpResponse
    where
        T: Object + From<R> + 'static,
        R: 'static,
        E: std::error::Error + 'static,
    {
        let writing = Writing { batches: Box::pin(batches), format: self, left: total, begun: false, on_rows };
        let pieces = futures_util::stream::try_unfold(Some(writing), |writing| async {
            match writing {
                Some(writing) => writing.next::<T>().await,
                None => Ok(None),
            }
        });
        let content_type = match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
        };
        HttpResponse::Ok().insert_header((header::CONTENT_TYPE, content_type)).streaming(pieces)
    }
}

/// A list that is being written.
struct Writing<B, F> {
    batches: B,
    format: Format,
    /// Objects that are still to come.
    left: u64,
    begun: bool,
    on_rows: F,
}

impl<B, F, R, E> Writing<B, F>
where
    B: Stream<Item = Result<Vec<R>, E>> + Unpin,
    F: FnMut(u64),
    E: std::error::Error,
{
    /// The next piece, and the rest; `None` for the rest once all is written.
    async fn next<T: Object + From<R>>(mut self) -> anyhow::Result<Option<(Bytes, Option<Self>)>> {
        let batch = match self.batches.next().await {
            Some(batch) => batch.map_err(|error| anyhow::anyhow!("the list broke off: {error}"))?,
            None if self.left == 0 => return self.end::<T>(),
            None => anyhow::bail!("the list broke off, {} before its end", self.left),
        };
        let count = batch.len() as u64;
        self.left = self.left.saturating_sub(count);
        let rows: Vec<T> = batch.into_iter().map(T::from).collect();
        let piece = match self.format {
            Format::Csv => to_csv_rows(&rows, !self.begun)?,
            Format::Json => to_json_rows(&rows, !self.begun)?,
        };
        self.begun = true;
        (self.on_rows)(count);
        Ok(Some((piece.into(), Some(self))))
    }

    fn end<T: Object>(self) -> anyhow::Result<Option<(Bytes, Option<Self>)>> {
        let piece = match (self.format, self.begun) {
            (Format::Csv, true) => return Ok(None),
            (Format::Csv, false) => to_csv::<T>(&[])?,
            (Format::Json, true) => b"]".to_vec(),
            (Format::Json, false) => b"[]".to_vec(),
        };
        Ok(Some((piece.into(), None)))
    }
}

/// Objects of an array that goes on, behind its bracket or a comma.
fn to_json_rows<T: Serialize>(rows: &[T], first: bool) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(rows.len() * 128);
    for (at, row) in rows.iter().enumerate() {
        text.push(if first && at == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut text, row)?;
    }
    Ok(text)
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
    to_csv_rows(objects, true)
}

/// Rows, behind the header if they are the first.
fn to_csv_rows<T: Object>(objects: &[T], header: bool) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    if header {
        writer.write_record(T::COLUMNS)?;
    }
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
    // Of letters a number has an exponent's: "-inf" is none to a spreadsheet.
    let number = text.parse::<f64>().is_ok_and(f64::is_finite);
    if runs && !number { format!("'{text}") } else { text.to_owned() }
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

    #[derive(Debug, Serialize)]
    struct Any {
        id: i64,
        name: Option<String>,
        active: bool,
    }

    impl Object for Any {
        const COLUMNS: &'static [&'static str] = &["id", "name", "active"];
    }

    /// What a reader of CSV takes a cell for, given what JSON says of it.
    fn read_back(cell: &str, json: &Value) -> bool {
        match json {
            Value::Null => cell.is_empty(),
            Value::String(text) => cell == text || cell.strip_prefix('\'') == Some(text),
            other => serde_json::from_str::<Value>(cell).is_ok_and(|cell| cell == *other),
        }
    }

    proptest::proptest! {
        #[test]
        fn csv_and_json_say_the_same(rows: Vec<(i64, Option<String>, bool)>) {
            let rows: Vec<Any> = rows.into_iter().map(|(id, name, active)| Any { id, name, active }).collect();
            let json = serde_json::to_value(&rows).unwrap();
            let csv = to_csv(&rows).unwrap();
            let mut reader = csv::Reader::from_reader(&*csv);
            let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
            proptest::prop_assert_eq!(&header, Any::COLUMNS);
            let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            proptest::prop_assert_eq!(records.len(), rows.len());
            for (record, object) in records.iter().zip(json.as_array().unwrap()) {
                for (column, cell) in header.iter().zip(record) {
                    proptest::prop_assert!(read_back(cell, &object[column]), "{cell:?} is not {}", object[column]);
                }
            }
        }
    }

    #[test]
    fn formulas_become_text_and_numbers_stay() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("-x", "'-x"),
            ("-5", "-5"),
            ("+1.5", "+1.5"),
            ("a=b", "a=b"),
            ("-inf", "'-inf"),
        ] {
            assert_eq!(harmless(text), cell);
        }
    }
}
