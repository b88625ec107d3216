//! A background request whose answer is held for a while: a caller whose call is fast enough gets the result itself.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderValue;
use actix_web::{HttpResponse, ResponseError};

use super::asked::{Preferred, Wish};
use super::submit::{Accepted, PREFERENCE_APPLIED};
use super::{Error, Shared, result, wait};

/// The result, where it is there in time; else the 202.
pub async fn answer(
    shared: &Arc<Shared>,
    req: &ServiceRequest,
    accepted: Accepted,
    wish: &Wish,
) -> Result<HttpResponse, Error> {
    let request = wait::ended(shared, accepted.rid, wish.hold).await?;
    let Some(request) = request.filter(|request| request.state.has_ended()) else {
        return Ok(accepted.answer(shared, wish));
    };
    // A failed request is an answer too: it says whose.
    let mut response = match result::of(req.request(), shared, &request).await {
        Ok(response) => response,
        Err(error) => error.error_response(),
    };
    if let Some(Preferred::Wait(seconds)) = wish.preferred
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={seconds}"))
    {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    accepted.mark(&mut response);
    Ok(response)
}
