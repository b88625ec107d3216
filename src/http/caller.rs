//! The caller as an extractor for handlers.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::Error;
use crate::model::Caller;

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    /// The caller that the middleware, or the worker, has put beside the request.
    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = req.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Error::new(StatusCode::UNAUTHORIZED, "Sign in with HTTP Basic credentials.")))
    }
}
