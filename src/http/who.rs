//! Who is calling: a user of the server's own, or of an upstream that is asked.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpMessage, ResponseError};

use super::{Error, Shared, origin};
use crate::auth::{self, forward};
use crate::model::{Caller, Headers, Owner};
use crate::routing::{Auth, Upstream};

/// Whoever calls.
#[derive(Debug, Clone)]
pub struct Who {
    /// Whose the requests are that they submit.
    pub owner: Owner,
    /// As one of the server's own users.
    pub caller: Option<Caller>,
}

impl From<Caller> for Who {
    fn from(caller: Caller) -> Self {
        Self { owner: caller.owner(), caller: Some(caller) }
    }
}

/// Who calls the hosted API.
pub async fn hosted(shared: &Shared, req: &ServiceRequest) -> Result<Who, Error> {
    let address = origin::address(req, &shared.trusted_proxies);
    let caller = shared.auth.authenticate(authorization(req), address).await.map_err(refused)?;
    Ok(known(req, caller.into()))
}

/// Who calls an upstream.
pub async fn at(shared: &Shared, req: &ServiceRequest, upstream: &Upstream) -> Result<Who, Error> {
    match &upstream.auth {
        Auth::Local => hosted(shared, req).await,
        Auth::Forward { ttl, .. } => {
            let owner = ask(shared, req, upstream, *ttl).await.map_err(refused)?;
            Ok(known(req, owner))
        }
    }
}

/// Who calls one of the server's own routes: anybody whom the server or one of the upstreams knows.
pub async fn anybody(shared: &Shared, req: &ServiceRequest) -> Result<Who, Error> {
    let sent = credentials(req.headers());
    for upstream in shared.upstreams.iter().filter(|upstream| upstream.auth != Auth::Local) {
        if let Some(owner) = shared.forward.recall(&upstream.source(), &sent) {
            return Ok(known(req, Who { owner: (*owner).clone(), caller: None }));
        }
    }
    let local = match hosted(shared, req).await {
        Ok(who) => return Ok(who),
        Err(error) => error,
    };
    let mut unasked = None;
    for upstream in shared.upstreams.iter() {
        let Auth::Forward { ttl, .. } = &upstream.auth else { continue };
        match ask(shared, req, upstream, *ttl).await {
            Ok(who) => return Ok(known(req, who)),
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

async fn ask(shared: &Shared, req: &ServiceRequest, upstream: &Upstream, ttl: Duration) -> Result<Who, auth::Error> {
    let address = origin::address(req, &shared.trusted_proxies);
    let sent = credentials(req.headers());
    let owner = shared.forward.authenticate(&upstream.source(), &sent, address, ttl).await?;
    Ok(Who { owner: (*owner).clone(), caller: None })
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
