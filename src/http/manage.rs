//! `DELETE /bgrs/{rid}`: cancels what has not ended, removes what has.

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};

use super::who::Who;
use super::{Error, Shared, information, wait};
use crate::media::{self, File};
use crate::model::{Owner, Rid, State};
use crate::store::{Cancelled, Leftover, Request};

/// The route.
#[utoipa::path(
    delete,
    path = "/bgrs/{rid}",
    tag = "background requests",
    operation_id = "deleteRequest",
    summary = "Cancels a request, or removes it",
    description = "One that has not ended is cancelled: its call is dropped, a connection to an upstream closed. One \
                   that has ended is removed, with its log and its result. For its owner and administrators.",
    params(super::openapi::InPath, ("verbose" = Option<String>, Query, example = "1", description = "`1` shows more.")),
    responses(
        (status = 200, description = "It is cancelled.", body = Vec<crate::view::Information>),
        (status = 204, description = "It had ended, and is removed."),
        (status = 403, description = "Only its owner and administrators may do that; ask one of them."),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id.")
    )
)]
pub async fn delete(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let request = owned(&req, &shared).await?;
    let shared = shared.into_inner();
    // In a task of its own: a client that hangs up must not leave half of it done.
    let done = actix_web::rt::spawn(async move { cancel_or_remove(&shared, request).await });
    match done.await.map_err(|_| Error::internal())?? {
        Some(cancelled) => Ok(information::answer(&cancelled, HttpResponse::Ok(), information::is_verbose(&req))),
        None => Ok(HttpResponse::NoContent().finish()),
    }
}

/// The request that the path names, for its owner and for administrators.
pub async fn owned(req: &HttpRequest, shared: &Shared) -> Result<Request, Error> {
    let request = shared.find(wait::rid(req)?).await?.ok_or_else(wait::unknown)?;
    let who = who(req)?;
    if *who.owner == request.owner || is_admin(&who) {
        return Ok(request);
    }
    Err(Error::forbidden("Only its owner and administrators may do that; ask one of them."))
}

/// Who calls one of the server's own routes.
pub fn who(req: &HttpRequest) -> Result<Who, Error> {
    req.extensions().get::<Who>().cloned().ok_or_else(Error::internal)
}

/// Whether it is an administrator.
pub fn is_admin(who: &Who) -> bool {
    who.caller.as_ref().is_some_and(|caller| caller.is_admin)
}

/// The request as it was cancelled; `None`: it had ended, and is removed.
async fn cancel_or_remove(shared: &Shared, request: Request) -> Result<Option<Request>, Error> {
    let (rid, now) = (request.rid, shared.clock.now());
    let withdrawn = request.state == State::Queued && shared.scheduler.withdraw(request.owner.clone());
    let cancelled = shared.store.cancel(rid, now, shared.keep.expiry(now)).await;
    if withdrawn && !matches!(cancelled, Ok(Some(Cancelled::Queued))) {
        // It was another's turn: a worker has this one, or the store refused.
        shared.scheduler.enqueue(request.owner);
    }
    let cancelled = cancelled?.ok_or_else(wait::unknown)?;
    if cancelled == Cancelled::Ended {
        remove(shared, rid).await?;
        return Ok(None);
    }
    // A worker drops the call, and closes the connection to the upstream.
    (shared.drop_cancelled)(rid, &cancelled);
    shared.stats.cancelled();
    log::info!("{rid}: cancelled");
    (shared.deliver)();
    let request = shared.store.get(rid).await?;
    shared.watchers.ended(rid, request.clone());
    let standing = shared.store.standings(vec![rid]).await?;
    if standing.get(&rid).is_some_and(|standing| standing.confidential) {
        remove_file(shared, File::Body(rid)).await;
    }
    request.map(Some).ok_or_else(wait::unknown)
}

/// The row first, then the files.
async fn remove(shared: &Shared, rid: Rid) -> Result<(), Error> {
    let Some(Leftover { rid, result, body }) = shared.store.forget(rid).await? else { return Err(wait::unknown()) };
    for file in media::files_of(rid, result, body) {
        remove_file(shared, file).await;
    }
    shared.watchers.ended(rid, None);
    Ok(())
}

/// Its row says nothing of it any more: what cannot be removed now is the sweep's.
async fn remove_file(shared: &Shared, file: File) {
    if let Err(error) = shared.media.remove(file).await {
        log::warn!("a file is left over for the sweep: {error}");
    }
}

/// Owners that show as this user's id, in all sources that there are.
pub fn owners_with(shared: &Shared, id: &str) -> Vec<Owner> {
    let upstreams = shared.upstreams.iter().map(|upstream| upstream.source());
    let mut sources: Vec<String> = std::iter::once(Owner::LOCAL.to_owned()).chain(upstreams).collect();
    sources.sort_unstable();
    sources.dedup();
    sources.into_iter().map(|source| Owner { source, id: id.to_owned() }).collect()
}
