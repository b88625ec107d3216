//! Query parameters and keyset pages.

use std::borrow::Cow;

use actix_web::HttpRequest;
use utoipa::IntoParams;

use crate::http::Error;

/// Objects on a page that does not say how many.
const DEFAULT: usize = 100;

/// Objects on a page at most.
const MOST: usize = 1000;

/// Which page of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Only ids above this one.
    #[param(required = false, minimum = 0, default = 0)]
    pub after: i64,
    /// So many objects at most.
    #[param(required = false, minimum = 1, maximum = 1000, default = 100)]
    pub limit: usize,
}

impl Page {
    /// The page that `limit` and `after` ask for.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn of(req: &HttpRequest) -> Result<Self, Error> {
        let find = |name| parameters(req.query_string()).find(|(key, _)| key == name).map(|(_, value)| value);
        let limit = match find("limit") {
            None => DEFAULT,
            Some(text) => (text.parse().ok().filter(|limit| (1..=MOST).contains(limit)))
                .ok_or_else(|| Error::bad_request("limit takes a whole number from 1 to 1000."))?,
        };
        let after = match find("after") {
            None => 0,
            Some(text) => (text.parse().ok().filter(|after| *after >= 0))
                .ok_or_else(|| Error::bad_request("after takes the id of an object, a whole number."))?,
        };
        Ok(Self { after, limit })
    }
}

impl Page {
    /// Cuts a list that was read with one more than asked for, and links to the next page where there is one.
    pub fn cut<T>(self, req: &HttpRequest, rows: &mut Vec<T>, id: impl Fn(&T) -> i64) -> Option<String> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        rows.last().filter(|_| more).map(|last| next(req, id(last)))
    }
}

/// The link to the page after `last`, with everything else as it was asked.
fn next(req: &HttpRequest, last: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters(req.query_string()).filter(|(name, _)| name != "after"));
    query.append_pair("after", &last.to_string());
    format!("{}?{}", req.path(), query.finish())
}

/// The decoded parameters of a query.
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}
