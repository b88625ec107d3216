//! Who is calling: a user of the server's own, or of an upstream that is asked.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, ResponseError};

use super::{Error, Shared, origin, session};
use crate::auth::{self, forward};
use crate::model::{Caller, Headers, Owner};
use crate::routing::{Auth, Upstream};
use crate::store::Known;

/// Whoever calls.
#[derive(Debug, Clone)]
pub struct Who {
    /// Whose the requests are that they submit.
    pub owner: Arc<Owner>,
    /// As one of the server's own users.
    pub caller: Option<Caller>,
}

impl From<&Known> for Who {
    fn from(known: &Known) -> Self {
        Self { owner: known.owner.clone(), caller: Some(known.caller()) }
    }
}

/// Who calls the hosted API.
pub async fn hosted(shared: &Shared, req: &ServiceRequest) -> Result<Who, Error> {
    let address = origin::address(req, &shared.trusted_proxies);
    own_user(shared, req.headers(), address).await.map(|who| known(req, who))
}

async fn own_user(shared: &Shared, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Who, Error> {
    let sent = headers.get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    shared.auth.authenticate(sent, address).await.map(|known| Who::from(&*known)).map_err(refused)
}

/// Who calls an upstream. No handler is left word: none comes.
pub async fn at(shared: &Shared, req: &ServiceRequest, upstream: &Upstream) -> Result<Who, Error> {
    let address = origin::address(req, &shared.trusted_proxies);
    match &upstream.auth {
        Auth::Local => own_user(shared, req.headers(), address).await,
        Auth::Forward { ttl, .. } => ask(shared, req.headers(), address, upstream, *ttl).await.map_err(refused),
    }
}

/// Who calls one of the server's own routes: anybody whom the server or one of the upstreams knows.
pub async fn anybody(shared: &Shared, req: &ServiceRequest) -> Result<Who, Error> {
    let address = origin::address(req, &shared.trusted_proxies);
    let only = session::source(req);
    of(shared, req.headers(), address, only.as_deref()).await.map(|who| known(req, who))
}

/// Whose credentials these are: of anybody whom the server or one of the upstreams knows, or the source `only`.
pub async fn of(
    shared: &Shared,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    only: Option<&str>,
) -> Result<Who, Error> {
    let is_asked = |source: &str| only.is_none_or(|only| only == source);
    let sent = credentials(headers);
    for upstream in shared.upstreams.iter().filter(|upstream| upstream.auth != Auth::Local) {
        let source = upstream.source();
        if is_asked(&source)
            && let Some(owner) = shared.forward.recall(&source, &sent)
        {
            return Ok(Who { owner, caller: None });
        }
    }
    let local = if is_asked(Owner::LOCAL) {
        match own_user(shared, headers, address).await {
            Ok(who) => return Ok(who),
            Err(error) => error,
        }
    } else {
        refused(auth::Error::Wrong)
    };
    let mut unasked = None;
    for upstream in shared.upstreams.iter() {
        let Auth::Forward { ttl, .. } = &upstream.auth else { continue };
        if !is_asked(&upstream.source()) {
            continue;
        }
        match ask(shared, headers, address, upstream, *ttl).await {
            Ok(who) => return Ok(who),
            Err(auth::Error::Unasked(why)) => unasked = Some(why),
            Err(_) => {}
        }
    }
    // Who might be known is not told that they are not.
    match unasked {
        Some(why) if local.status_code() == StatusCode::UNAUTHORIZED => Err(refused(auth::Error::Unasked(why))),
        _ => Err(local),
    }
}

async fn ask(
    shared: &Shared,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    upstream: &Upstream,
    ttl: Duration,
) -> Result<Who, auth::Error> {
    let sent = credentials(headers);
    let owner = shared.forward.authenticate(&upstream.source(), &sent, address, ttl).await?;
    Ok(Who { owner, caller: None })
}

/// The values of all `Authorization` headers.
pub fn authorization(req: &ServiceRequest) -> impl Iterator<Item = &[u8]> {
    req.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes)
}

/// What an upstream may know the caller by.
fn credentials(headers: &HeaderMap) -> Headers {
    let all = |name: &'static str| headers.get_all(name).map(move |value| (name, value.as_bytes()));
    forward::CREDENTIALS.into_iter().flat_map(all).collect()
}

/// Leaves word of the caller for the handlers.
pub fn known(req: &ServiceRequest, who: Who) -> Who {
    let mut extensions = req.extensions_mut();
    if let Some(caller) = &who.caller {
        extensions.insert(caller.clone());
    }
    extensions.insert(who.clone());
    who
}

/// Refuses what changes anything, a submission among it, to who may only look.
///
/// # Errors
/// 403.
pub fn check_rights(req: &ServiceRequest, who: &Who, submits: bool) -> Result<(), Error> {
    let looks = !submits && matches!(*req.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if looks || who.caller.as_ref().is_none_or(|caller| !caller.read_only) {
        return Ok(());
    }
    Err(Error::forbidden("You may only look here; ask an administrator for more rights."))
}

fn refused(error: auth::Error) -> Error {
    match error {
        auth::Error::TooMany { retry_after } => Error::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong passwords for this login from this address; wait before the next try.",
        )
        .retry_after(retry_after),
        auth::Error::Busy => {
            Error::new(StatusCode::SERVICE_UNAVAILABLE, "Too many passwords are being checked; try again.")
                .retry_after(1)
        }
        auth::Error::Unasked(why) => {
            log::warn!("nobody could say who is calling: {why}");
            let description =
                "The API behind this server cannot say now whether your credentials are valid; try again.";
            Error::new(StatusCode::BAD_GATEWAY, description).retry_after(1)
        }
        auth::Error::Store(error) => error.into(),
        other => challenge(other.to_string()),
    }
}

/// The refusal of who is not let in.
pub fn challenge(description: impl Into<Cow<'static, str>>) -> Error {
    let challenge = HeaderValue::from_static("Basic realm=\"BEAR API\", charset=\"UTF-8\"");
    Error::new(StatusCode::UNAUTHORIZED, description).with(header::WWW_AUTHENTICATE, challenge)
}
