//! What pages of other origins may do (Fetch, CORS protocol): call as anybody may, and read every header.
//!
//! Not actix-cors: it grants credentials and headers also to origins that are not among those allowed, knows only the
//! methods that HTTP itself defines, and refuses in plain text.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, ResponseError};

use super::Error;

/// Whose pages may call. Cheap to clone.
#[derive(Clone)]
pub struct Cors(Arc<Rules>);

struct Rules {
    /// `None`: any.
    origins: Option<Vec<HeaderValue>>,
    credentials: bool,
    /// Seconds for which a browser may remember the answer to a preflight.
    max_age: u64,
}

/// What of an answer says whose pages may read what of it.
const GRANTS: [header::HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

impl Cors {
    /// Pages of these origins may call, with cookies where `credentials` says so; `*` is any origin.
    #[must_use]
    pub fn new(origins: &[String], credentials: bool, max_age: Duration) -> Self {
        let any = origins.iter().any(|origin| origin == "*");
        let named = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        let origins = (!any).then(|| named.collect());
        Self(Arc::new(Rules { origins, credentials, max_age: max_age.as_secs() }))
    }

    /// The middleware. Outermost: a preflight carries no credentials.
    ///
    /// # Errors
    /// Those of what is within.
    pub async fn apply(
        self,
        req: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let rules = &*self.0;
        let origin = req.headers().get(header::ORIGIN).cloned();
        if let (Some(origin), true) = (&origin, is_preflight(&req)) {
            let answer = rules.preflight(origin, req.headers());
            return Ok(req.into_response(answer));
        }
        let mut response = next.call(req).await?;
        rules.mark(origin.as_ref(), response.headers_mut());
        Ok(response)
    }
}

/// Whether it is a browser's question whether a page may call.
pub fn is_preflight(req: &ServiceRequest) -> bool {
    *req.method() == Method::OPTIONS
        && req.headers().contains_key(header::ORIGIN)
        && req.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Rules {
    /// What an answer grants to a page of this origin, or to whoever reads it without one; `None`: nothing.
    fn grant(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            // The same to all, also where no page of another origin asks: a cache may give it to one that does.
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => origin.filter(|origin| origins.contains(origin)).cloned(),
        }
    }

    fn preflight(&self, origin: &HeaderValue, asked: &HeaderMap) -> HttpResponse {
        let vary = HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        let Some(granted) = self.grant(Some(origin)) else {
            let refusal =
                "Pages of this origin may not call this server: name it in cors.origins, or call from another.";
            return Error::new(StatusCode::FORBIDDEN, refusal).with(header::VARY, vary).error_response();
        };
        let mut response = HttpResponse::Ok().finish();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, granted);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        // Said again as they were asked for: `*` is not one to a call with credentials, and leaves Authorization out.
        for (request, allowed) in [
            (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
        ] {
            for value in asked.get_all(request) {
                headers.append(allowed.clone(), value.clone());
            }
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age));
        headers.insert(header::VARY, vary);
        response
    }

    /// Says in an answer who may read it. An upstream's own word gives way: to say whose pages may call is the server's.
    fn mark(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for grant in GRANTS {
            headers.remove(grant);
        }
        if self.origins.is_some() {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(granted) = self.grant(origin) else { return };
        // By name: `*` is none of them to a call with credentials.
        let names: Vec<&str> = headers.keys().map(header::HeaderName::as_str).collect();
        let exposed = HeaderValue::try_from(names.join(", "));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, granted);
        if let Ok(exposed) = exposed {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}
