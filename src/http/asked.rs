//! What a call asks of the server for itself: the background, a time, a callback.

use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName};

use super::submit::Terms;
use super::{Error, Shared};
use crate::model::prefer::Preferences;
use crate::model::target::{self, Asked, Given};
use crate::routing::{Mode, Policy};
use crate::webhooks::Callback;

/// Names that the library does not know are made here, once: a text would become one at each look.
const PREFER: HeaderName = HeaderName::from_static("prefer");
const TIMEOUT: HeaderName = HeaderName::from_static("bgrs-timeout");
const CALLBACK: HeaderName = HeaderName::from_static("bgrs-callback");

/// Where a call is to run, and how its answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Where it is to run.
    pub asked: Asked,
    /// How long an answer is held, where it may be.
    pub hold: Duration,
    /// Whether it was asked for with `Prefer`, and with `wait` in it.
    pub preferred: Option<Preferred>,
}

/// What of `Prefer` is honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preferred {
    /// `respond-async`.
    Async,
    /// `respond-async`, and so many seconds of `wait`.
    Wait(u64),
}

/// What the call asks for, and what its policy makes of it. A CORS preflight carries the parameter too and asks for
/// nothing.
///
/// # Errors
/// 400 for what cannot be understood, or cannot be.
pub fn wish(shared: &Shared, req: &ServiceRequest, given: &Given<'_>, mode: Mode) -> Result<Wish, Error> {
    let plain = |asked| Wish { asked, hold: shared.auto_wait, preferred: None };
    if req.method() == Method::OPTIONS {
        return Ok(plain(Asked::Foreground));
    }
    let asked = given.asked().map_err(|error| Error::bad_request(format!("{error}.")))?;
    let odd =
        req.method() == Method::TRACE || req.method() == Method::CONNECT || req.headers().contains_key(header::UPGRADE);
    // A preference that cannot be honoured is passed over (RFC 7240 section 2).
    let wish = match (asked, mode) {
        (Asked::Nothing, mode) if mode != Mode::Never && !odd => preferred(shared, req).unwrap_or_else(|| plain(asked)),
        _ => plain(asked),
    };
    let asked = match (wish.asked, mode) {
        (Asked::Background | Asked::Auto, _) if odd => Err(Error::bad_request(
            "TRACE, CONNECT and an Upgrade cannot run in the background; send the call without bgrs.",
        )),
        (Asked::Background | Asked::Auto, Mode::Never) => {
            Err(Error::bad_request("This call never runs in the background here; send it without bgrs."))
        }
        // Neither as a batch nor by a rescue.
        (Asked::Nothing, mode) if odd || mode == Mode::Never => Ok(Asked::Foreground),
        (Asked::Nothing, Mode::Always) => Ok(Asked::Background),
        (Asked::Nothing, Mode::Auto) => Ok(Asked::Auto),
        (asked, _) => Ok(asked),
    }?;
    Ok(Wish { asked, ..wish })
}

/// What `Prefer` asks for, where it asks for the background.
fn preferred(shared: &Shared, req: &ServiceRequest) -> Option<Wish> {
    let preferences = Preferences::read(fields(req));
    if !preferences.respond_async {
        return None;
    }
    Some(match preferences.wait {
        None => Wish { asked: Asked::Background, hold: Duration::ZERO, preferred: Some(Preferred::Async) },
        Some(wait) => {
            let hold = Duration::from_secs(wait).min(shared.max_wait);
            Wish { asked: Asked::Auto, hold, preferred: Some(Preferred::Wait(hold.as_secs())) }
        }
    })
}

/// The values of all `Prefer` fields.
pub fn fields(req: &ServiceRequest) -> impl Iterator<Item = &str> {
    req.headers().get_all(&PREFER).filter_map(|value| value.to_str().ok())
}

/// What caller and policy say of the call's time, and who is told of its end.
///
/// # Errors
/// 400 for what cannot be understood, or is given twice and differs.
pub fn terms(shared: &Shared, req: &ServiceRequest, given: &Given<'_>, policy: &Policy) -> Result<Terms, Error> {
    let is_preflight = *req.method() == Method::OPTIONS;
    let asked = if is_preflight { None } else { timeout(req, given)? };
    let callback = if is_preflight { None } else { callback(shared, req.headers(), given)? };
    let limit = asked.unwrap_or(policy.timeout).min(policy.timeout);
    Ok(Terms { limit, asked, repeat: policy.repeat_after_crash, callback })
}

fn timeout(req: &ServiceRequest, given: &Given<'_>) -> Result<Option<Duration>, Error> {
    let wrong = |error: target::Error| Error::bad_request(format!("{error}."));
    let mut asked = given.timeout().map_err(wrong)?;
    for value in req.headers().get_all(&TIMEOUT) {
        let header = value.to_str().ok().and_then(|text| target::parse_timeout(text).ok());
        let header = header.ok_or_else(|| wrong(target::Error::BadTimeout))?;
        if asked.is_some_and(|asked| asked != header) {
            return Err(wrong(target::Error::BadTimeout));
        }
        asked = Some(header);
    }
    Ok(asked)
}

/// The URL that is to be told of the end, from the parameter or the header.
///
/// # Errors
/// 400 for one that is none, or may not be, or two that differ.
pub fn callback(shared: &Shared, headers: &HeaderMap, given: &Given<'_>) -> Result<Option<String>, Error> {
    let headers = headers.get_all(&CALLBACK);
    // What is no text is no URL either.
    let headers = headers.map(|value| value.to_str().unwrap_or_default());
    let mut asked: Option<Callback> = None;
    for url in given.callbacks().chain(headers) {
        let url = Callback::parse(url, &shared.allow).map_err(|why| Error::bad_request(why.to_string()))?;
        if asked.as_ref().is_some_and(|asked| *asked != url) {
            return Err(Error::bad_request("A callback was given twice with different URLs: send it once."));
        }
        asked = Some(url);
    }
    Ok(asked.map(|callback| callback.as_str().to_owned()))
}
