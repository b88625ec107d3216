//! `POST /bgrs/{rid}/rerun`: the same call once more, by whoever asks.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;

use super::asked::{self, Wish};
use super::submit::{self, Accepted, Spooled};
use super::{Error, Shared, gateway, key, manage, wait};
use crate::dispatch::headers;
use crate::media;
use crate::model::target::{Asked, Given};
use crate::model::{Call, Headers, Owner, Rid, is_idempotent};
use crate::routing::{Auth, Upstream};
use crate::store::{Key, NewRequest, Request};

/// The route.
#[utoipa::path(
    post,
    path = "/bgrs/{rid}/rerun",
    tag = "background requests",
    operation_id = "rerunRequest",
    summary = "Makes a request's call once more",
    description = "As a new request, by the one who asks and with their credentials. For its owner and administrators.",
    params(
        super::openapi::InPath,
        (
            "Idempotency-Key" = Option<String>, Header, nullable = false,
            min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "The same key gives the same new request, however often it is sent."
        )
    ),
    responses(
        (
            status = 202,
            description = "The new request.",
            body = super::openapi::Accepted,
            headers(
                ("Location" = String, description = "Where the new request stands."),
                ("Retry-After" = i64, description = "Seconds after which to look at it."),
                ("Idempotency-Replayed" = String, description = "`true`: the key was used before, for this same call.")
            )
        ),
        (status = 403, description = "Only its owner and administrators may do that; ask one of them."),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id."),
        (status = 409, description = "Its body is no longer kept; submit the call again."),
        (
            status = 422,
            description = "This Idempotency-Key was used for another call; send each call with a key of its own."
        )
    )
)]
pub async fn post(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let (shared, owner) = (shared.into_inner(), Arc::unwrap_or_clone(manage::who(&req)?.owner));
    let target = format!("/bgrs/{}/rerun", wait::rid(&req)?);
    let key = key::of(req.headers())?.map(|key| key::of_call(key, "POST", &target, key::of_nothing()));
    // First: what was accepted stays so, whatever has become of the original since.
    let accepted = match known(&shared, &owner, key.as_ref()).await? {
        Some(accepted) => accepted,
        None => {
            let original = manage::owned(&req, &shared).await?;
            submit(&req, &shared, &original, owner, key).await?
        }
    };
    let wish = Wish { asked: Asked::Background, hold: shared.auto_wait, preferred: None };
    Ok(accepted.answer(&shared, &wish))
}

async fn submit(
    req: &HttpRequest,
    shared: &Arc<Shared>,
    original: &Request,
    owner: Owner,
    key: Option<Key>,
) -> Result<Accepted, Error> {
    let call = shared.store.call(original.rid).await?.ok_or_else(wait::unknown)?;
    let upstream = match &call.upstream {
        Some(prefix) => Some(upstream(shared, prefix, &owner)?),
        None => None,
    };
    let place = submit::reserve(shared, &owner)?;
    let rid = submit::new_rid(shared)?;
    let body = copy(shared, original.rid, rid, &call).await?;
    let mut call = again(shared, req, rid, call, upstream, key.as_ref())?;
    // Others than its owner may not send word to where the owner wanted it.
    let told = call.callback.filter(|_| owner == original.owner);
    let query = format!("?{}", req.query_string());
    call.callback = asked::callback(shared, req.headers(), &Given::of(&query))?.or(told);
    let new = Arc::new(NewRequest { rid, owner, vouched: None, call, key, created: shared.clock.now() });
    submit::keep(shared, new, body, place).await
}

/// The request that a key was used for before.
async fn known(shared: &Shared, owner: &Owner, key: Option<&Key>) -> Result<Option<Accepted>, Error> {
    let Some(key) = key else { return Ok(None) };
    match shared.store.keyed(owner, &key.text).await? {
        Some((rid, fingerprint)) if fingerprint == key.fingerprint => Ok(Some(Accepted { rid, replayed: true })),
        Some(_) => Err(key::taken()),
        None => Ok(None),
    }
}

fn upstream<'a>(shared: &'a Shared, prefix: &str, owner: &Owner) -> Result<&'a Upstream, Error> {
    let found = shared.upstreams.iter().find(|upstream| upstream.prefix.to_string() == prefix);
    let upstream = found.map(|upstream| &**upstream).ok_or_else(|| {
        Error::conflict(format!("The upstream {prefix} that this call was for is not there any more; submit another."))
    })?;
    // SECURITY: the password of one of this server's own users is not shown to an API that does not know them.
    if upstream.auth != Auth::Local && upstream.source() != owner.source {
        return Err(Error::forbidden("This call is for an API that knows its own users; sign in as one of them."));
    }
    Ok(upstream)
}

/// The call as the one who asks would make it: with their credentials, and no longer in the first one's place.
fn again(
    shared: &Shared,
    req: &HttpRequest,
    rid: Rid,
    call: Call,
    upstream: Option<&Upstream>,
    key: Option<&Key>,
) -> Result<Call, Error> {
    let mut kept = call.headers;
    // Whoever knows the first one's key would take this for the first call.
    kept.remove("idempotency-key");
    if let Some(key) = key {
        kept.append("idempotency-key", key.text.as_bytes());
    }
    let secrets = match upstream {
        None => None,
        Some(upstream) => {
            let (_, secrets) = headers::split_secrets(&credentials(req.headers(), upstream));
            submit::seal(shared, rid, &secrets)?
        }
    };
    let repeatable = shared
        .policies
        .of(&call.method, &call.name, call.upstream.is_none())
        .repeat_after_crash
        .unwrap_or_else(|| is_idempotent(&call.method, &kept));
    Ok(Call { headers: kept, secrets, repeatable, ..call })
}

/// What an upstream may know the caller by.
fn credentials(sent: &HeaderMap, upstream: &Upstream) -> Headers {
    let all = sent.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    all.filter(|(name, _)| gateway::withheld(upstream) != Some(name)).collect()
}

/// The stored body once more, for the new request.
async fn copy(shared: &Shared, from: Rid, to: Rid, call: &Call) -> Result<Spooled, Error> {
    if call.body.is_none() {
        return Ok(Spooled::default());
    }
    let mut body = shared.media.read_body(from).await.map_err(gone)?;
    let mut sink = shared.media.write_body(to);
    while let Some(piece) = body.next().await {
        sink.write(piece.map_err(gone)?).await?;
    }
    Ok(Spooled::copied(sink))
}

fn gone(error: media::Error) -> Error {
    match error {
        media::Error::Missing => Error::conflict("Its body is no longer kept; submit the call again."),
        media::Error::Sealed => Error::conflict("Its body was stored with another key; submit the call again."),
        error => error.into(),
    }
}
