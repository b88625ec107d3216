//! A foreground call that is slow becomes a background request, before the CDN in front gives up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServiceRequest;
use actix_web::{HttpResponse, ResponseError};
use futures_util::FutureExt;

use super::gateway::{self, Limit, Sent, Way};
use super::submit::{self, Terms};
use super::who::Who;
use super::{Error, Shared};
use crate::dispatch::{UnderWay, headers, upstream};
use crate::model::{Call, Owner, is_idempotent};
use crate::routing::Upstream;
use crate::scheduler::Turn;
use crate::store::{Claimed, NewRequest};

/// Goes on with a call that was a foreground call until now.
pub type Adopt = Arc<dyn Fn(Claimed, Turn, UnderWay) + Send + Sync>;

/// A call that may be rescued.
pub struct Slow<'a> {
    /// Where it goes.
    pub upstream: &'a Upstream,
    /// Path and query as sent.
    pub name: String,
    /// Whose it is.
    pub who: &'a Who,
    /// After how long.
    pub after: Duration,
    /// What holds for it.
    pub terms: Terms,
}

/// Passes a call on as [`gateway::pass`] does. Where there is no answer in time, it becomes a background request.
pub async fn pass(shared: &Arc<Shared>, req: &mut ServiceRequest, slow: Slow<'_>) -> Result<HttpResponse, Error> {
    let way = Way { shared, upstream: slow.upstream, name: &slow.name };
    let limit = Limit::from_now(slow.terms.limit);
    let has_body = submit::has_body(req);
    let mut sent = gateway::send(way, req, limit.begun)?;
    if let Some(answer) = gateway::answer(way, req, &mut sent, Some(slow.after), limit).await? {
        return gateway::back(req, &sent, answer, limit).await;
    }
    match Box::pin(adopt(shared, req, sent, &slow, limit.begun, has_body)).await {
        Ok(accepted) => Ok(accepted),
        // It stays what it was: a slow call in the foreground.
        Err(given_back) => Box::pin(gateway::finish(way, req, given_back, limit)).await,
    }
}

async fn adopt(
    shared: &Arc<Shared>,
    req: &ServiceRequest,
    sent: Sent,
    slow: &Slow<'_>,
    begun: Instant,
    has_body: bool,
) -> Result<HttpResponse, Sent> {
    let refused = |why: &dyn std::fmt::Display| log::warn!("a slow call stays in the foreground: {why}");
    let Ok(place) = submit::reserve(shared, &slow.who.owner) else {
        refused(&"there is no room for it");
        return Err(sent);
    };
    let Ok(rid) = submit::new_rid(shared) else { return Err(sent) };
    let (plain, secrets) = headers::split_secrets(&gateway::outgoing_headers(shared, req, slow.upstream));
    let Ok(secrets) = submit::seal(shared, rid, &secrets) else { return Err(sent) };
    let method = req.method().to_string();
    // Only what has no body can be made again: the body was streamed, not stored.
    let may_repeat = slow.terms.repeat.unwrap_or_else(|| is_idempotent(&method, &plain));
    let call = Call {
        method: method.clone(),
        name: slow.name.clone(),
        headers: plain,
        // Streamed, not stored: there is no file, and it cannot be run again.
        body: has_body.then_some(0),
        confidential: false,
        upstream: Some(slow.upstream.prefix.to_string()),
        secrets,
        timeout: slow.terms.asked,
        repeatable: may_repeat && !has_body,
        batch: None,
        callback: slow.terms.callback.clone(),
    };
    let detail = detail(slow.after, has_body, call.repeatable, &method);
    let owner = Owner::clone(&slow.who.owner);
    let now = shared.clock.now();
    let new = NewRequest { rid, owner: owner.clone(), vouched: None, call: call.clone(), key: None, created: now };
    // In a task of its own: a client that hangs up here must not leave a running row that nobody runs.
    let (shared_too, caller) = (shared.clone(), slow.who.caller.clone());
    let Sent { answer, upgrade, again, .. } = sent;
    let is_head = method == "HEAD";
    let kept = actix_web::rt::spawn(async move {
        let lease = (shared_too.lease)(now);
        match shared_too.store.adopt(new, lease, &detail).await {
            Ok(Some(claim)) => {
                let Some(turn) = place.run() else { return Err(answer) };
                shared_too.stats.submitted(now);
                let answer = async move { answer.await.map(|answer| upstream::response(*answer, is_head)) }.boxed();
                let claimed = Claimed { claim, owner, caller, tries: 0, call };
                (shared_too.adopt)(claimed, turn, UnderWay { answer, begun, has_body });
                Ok(())
            }
            Ok(None) => Err(answer),
            Err(error) => {
                log::warn!("a slow call stays in the foreground: {error}");
                Err(answer)
            }
        }
    });
    match kept.await {
        Ok(Ok(())) => Ok(submit::accepted(shared, rid)),
        Ok(Err(answer)) => Err(Sent { answer, upload: None, upgrade, again }),
        // The task died: so has the call.
        Err(_) => Ok(Error::internal().error_response()),
    }
}

/// What can be promised of such a request.
fn detail(after: Duration, has_body: bool, repeatable: bool, method: &str) -> String {
    let after = humantime::format_duration(after);
    let promise = if repeatable {
        "it is made again after a crash".to_owned()
    } else if has_body {
        "its body was streamed, not stored: it is not repeated after a crash".to_owned()
    } else {
        format!("{method} is not repeated after a crash")
    };
    format!("had no answer after {after} and became a background request; {promise}")
}
