//! The middleware on every call: who is it, is it for the background, and how did it go.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::{Ready, ready};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::{HttpMessage, HttpResponse, ResponseError};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use lru::LruCache;

use super::place::{self, Place};
use super::{Error, Shared, batch, log_line, submit};
use crate::auth;
use crate::model::target::{self, Asked};

/// Counts the calls under way, answers included, so that a shutdown can wait for them.
#[derive(Clone, Default)]
pub struct UnderWay(Arc<AtomicUsize>);

/// One call under way.
pub struct OneUnderWay(UnderWay);

impl UnderWay {
    fn enter(&self) -> OneUnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        OneUnderWay(self.clone())
    }

    /// How many calls are under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for OneUnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The middleware. Wrap the App with it, outside of everything else.
#[derive(Clone)]
pub struct Accept {
    shared: Arc<Shared>,
}

impl Accept {
    /// The middleware of a running server.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Accept
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Transform = AcceptService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(AcceptService {
            inner: Rc::new(Inner { shared: self.shared.clone(), service, matched: Matched::new() }),
        }))
    }
}

/// [`Accept`] around one App.
pub struct AcceptService<S> {
    inner: Rc<Inner<S>>,
}

struct Inner<S> {
    shared: Arc<Shared>,
    service: S,
    matched: Matched,
}

/// Paths of this App that a route matched a moment ago: to find that out takes a tenth of a submission's time.
struct Matched(RefCell<LruCache<String, ()>>);

impl Matched {
    /// How many are remembered, and how long one may be.
    const MOST: NonZeroUsize = NonZeroUsize::new(256).unwrap();
    const LONGEST: usize = 128;

    fn new() -> Self {
        Self(RefCell::new(LruCache::sparse(Self::MOST)))
    }

    /// Whether a route matches the request's path.
    fn matches(&self, req: &ServiceRequest) -> bool {
        let path = req.match_info().as_str();
        if self.0.borrow_mut().get(path).is_some() {
            return true;
        }
        let matches = req.match_pattern().is_some();
        if matches && path.len() <= Self::LONGEST {
            self.0.borrow_mut().put(path.to_owned(), ());
        }
        matches
    }
}

impl<S, B> Service<ServiceRequest> for AcceptService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.service.poll_ready(cx)
    }

    fn call(&self, req: ServiceRequest) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            let shared = &inner.shared;
            let begun = Instant::now();
            let under_way = shared.under_way.enter();
            let line = log_line::Line::of(&req);
            let mut response = match answer(&inner, req).await {
                Ok(response) => response,
                Err(error) => {
                    line.write(error.error_response().status().as_u16(), begun);
                    return Err(error);
                }
            };
            if shared.scheduler.is_closed() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let line = line.with(response.response());
            Ok(response.map_body(move |head, body| {
                BoxBody::new(log_line::Logged::new(body.boxed(), line, head.status.as_u16(), begun, under_way))
            }))
        })
    }
}

async fn answer<S, B>(inner: &Inner<S>, mut req: ServiceRequest) -> Result<ServiceResponse, actix_web::Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    match accept(&inner.shared, &inner.matched, &mut req).await {
        Ok(Some(accepted)) => Ok(req.into_response(accepted)),
        Ok(None) => forward(&inner.service, req).await,
        Err(error) => Ok(req.into_response(error.error_response())),
    }
}

/// Lets a call pass (`None`), or answers it here.
async fn accept(
    shared: &Arc<Shared>,
    matched: &Matched,
    req: &mut ServiceRequest,
) -> Result<Option<HttpResponse>, Error> {
    let place = place::of(req.match_info().as_str());
    if place == Place::Open {
        return Ok(None);
    }
    if shared.scheduler.is_closed() {
        return Err(shutting_down());
    }
    let name = target_of(req);
    let asked = asked(req, &name);
    if place == Place::Api
        && matches!(asked, Ok(Asked::Background))
        && let Some(accepted) = accept_remembered(shared, matched, req, &name).await
    {
        return accepted.map(Some);
    }
    let caller = authenticate(shared, req).await?;
    req.extensions_mut().insert(caller.clone());
    if place == Place::Own {
        return Ok(None);
    }
    (shared.precheck)(req.method().as_str(), &name)?;
    let asked = asked?;
    if asked == Asked::Background && !matched.matches(req) {
        return Err(place::not_found(req.match_info().as_str(), shared.versions));
    }
    submit::bound_body(req, shared.bounds)?;
    let batch = batch::is_batch(req, shared.bounds.max_body).await?;
    match asked {
        Asked::Background => submit::submit(shared, req, &caller, name, batch).await.map(Some),
        Asked::Nothing if batch => submit::submit(shared, req, &caller, name, batch).await.map(Some),
        Asked::Foreground if batch => batch::perform(shared, req, caller, name).await.map(Some),
        Asked::Nothing | Asked::Foreground => {
            hide_parameter(req, &name);
            Ok(None)
        }
    }
}

/// The short way of what comes most often: a submission without a body by a caller who is remembered. `None`: it has left
/// nothing, and goes the long way from its start.
async fn accept_remembered(
    shared: &Arc<Shared>,
    matched: &Matched,
    req: &ServiceRequest,
    name: &str,
) -> Option<Result<HttpResponse, Error>> {
    let short =
        !submit::has_body(req) && matched.matches(req) && (shared.precheck)(req.method().as_str(), name).is_ok();
    let known = if short { shared.auth.recall(authorization(req))? } else { return None };
    submit::submit_remembered(shared, req, known, name.to_owned()).await
}

fn target_of(req: &ServiceRequest) -> String {
    req.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned()
}

fn authorization(req: &ServiceRequest) -> impl Iterator<Item = &[u8]> {
    req.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes)
}

async fn authenticate(shared: &Shared, req: &ServiceRequest) -> Result<crate::model::Caller, Error> {
    let address = req.peer_addr().map(|peer| peer.ip());
    shared.auth.authenticate(authorization(req), address).await.map_err(refused)
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
        auth::Error::Store(error) => error.into(),
        other => challenge(other.to_string()),
    }
}

/// The refusal of who is not let in.
pub fn challenge(description: impl Into<Cow<'static, str>>) -> Error {
    let challenge = HeaderValue::from_static("Basic realm=\"BEAR API\", charset=\"UTF-8\"");
    Error::new(StatusCode::UNAUTHORIZED, description).with(header::WWW_AUTHENTICATE, challenge)
}

/// What the call asks for. A CORS preflight carries the parameter too and asks for nothing.
fn asked(req: &ServiceRequest, name: &str) -> Result<Asked, Error> {
    if req.method() == Method::OPTIONS {
        return Ok(Asked::Foreground);
    }
    let asked = target::asked(name).map_err(|error| Error::bad_request(format!("{error}.")))?;
    let odd =
        req.method() == Method::TRACE || req.method() == Method::CONNECT || req.headers().contains_key(header::UPGRADE);
    if asked == Asked::Background && odd {
        return Err(Error::bad_request(
            "TRACE, CONNECT and an Upgrade cannot run in the background; send the call without bgrs.",
        ));
    }
    Ok(asked)
}

/// Takes the parameter out before the API sees the call.
fn hide_parameter(req: &mut ServiceRequest, name: &str) {
    let stripped = target::strip(name);
    if stripped == name {
        return;
    }
    // Bytes taken out of a target that parsed leave one that parses.
    if let Ok(uri) = stripped.parse::<Uri>() {
        req.match_info_mut().get_mut().update(&uri);
        req.head_mut().uri = uri;
    }
}

/// Lets the App answer. A handler that panics is one failed call, not a lost connection. No clone of the request may
/// be alive here: routing takes it for its own.
async fn forward<S, B>(service: &S, req: ServiceRequest) -> Result<ServiceResponse, actix_web::Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    match AssertUnwindSafe(service.call(req)).catch_unwind().await {
        Ok(answered) => answered.map(ServiceResponse::map_into_boxed_body),
        Err(_) => Err(Error::internal().into()),
    }
}

/// The answer to whatever comes while the server is shutting down.
pub fn shutting_down() -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down; try again in a few seconds.")
        .retry_after(5)
}

/// The answer to a path that no route matches.
pub async fn nowhere(req: actix_web::HttpRequest, shared: actix_web::web::Data<Shared>) -> HttpResponse {
    place::not_found(req.match_info().as_str(), shared.versions).error_response()
}
