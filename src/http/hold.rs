//! A background request whose answer is held for a while: a caller whose call is fast enough gets the result itself.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::dev::ServiceRequest;

use super::{Error, Shared, result, submit};
use crate::model::Rid;

/// The result, where it is there within `background.auto_wait`; else the 202.
pub async fn answer(shared: &Arc<Shared>, req: &ServiceRequest, rid: Rid) -> Result<HttpResponse, Error> {
    let mut wait = shared.watchers.wait(rid);
    let ended = async |wait: &mut crate::watch::Wait| {
        let request = shared.store.get(rid).await?;
        if request.is_none_or(|request| request.state.has_ended()) {
            return Ok(());
        }
        wait.end().await;
        Ok::<_, Error>(())
    };
    let _ = tokio::time::timeout(shared.auto_wait, ended(&mut wait)).await;
    match shared.store.get(rid).await? {
        Some(request) if request.state.has_ended() => result::of(req.request(), shared, &request).await,
        _ => Ok(submit::accepted(shared, rid)),
    }
}
