//! The middleware on every call: who is it, is it for the background, and how did it go.

use std::future::{Ready, ready};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, Uri, Version};
use actix_web::{HttpMessage, HttpResponse, ResponseError};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::asked::{self, Wish};
use super::chunks::Chunks;
use super::gateway::{Limit, Way};
use super::matched::Matched;
use super::place::{self, Place};
use super::rescue::{self, Slow};
use super::submit::{Accepted, Submission};
use super::under_way::Own;
use super::who::Who;
use super::{Error, Shared, batch, cors, gateway, hold, log_line, session, submit, wait, who};
use crate::model::Owner;
use crate::model::target::{self, Asked, Given};
use crate::priority;
use crate::routing::Auth;

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
        let (shared, under_way) = (self.shared.clone(), self.shared.under_way.join());
        ready(Ok(AcceptService { inner: Rc::new(Inner { shared, service, matched: Matched::new(), under_way }) }))
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
    under_way: Own,
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
            let now = Instant::now();
            priority::answering(now);
            let mut line = log_line::Line::of(&req, inner.under_way.enter(), now);
            let mut response = match answer(&inner, req).await {
                Ok(response) => response,
                Err(error) => {
                    line.answered(error.error_response().status());
                    return Err(error);
                }
            };
            if shared.scheduler.is_closed() {
                response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            let mut response = end_visibly(response);
            session::quiet(&mut response);
            line.answered_with(response.response());
            Ok(response.map_body(move |_, body| BoxBody::new(log_line::Logged::new(body.boxed(), line))))
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

/// Lets a call pass to the App (`None`), or answers it here.
async fn accept(
    shared: &Arc<Shared>,
    matched: &Matched,
    req: &mut ServiceRequest,
) -> Result<Option<HttpResponse>, Error> {
    check_target(req)?;
    let place = place::of(req.match_info().as_str(), &shared.mount);
    if place == Place::Open {
        if session::is_route(req.match_info().as_str(), &shared.mount) {
            Box::pin(session::prepare(shared, req)).await?;
        }
        return Ok(None);
    }
    // What is running may still say how far it is.
    if shared.scheduler.is_closed() && place != Place::Report {
        return Err(shutting_down());
    }
    if session::is_sent(req) {
        Box::pin(session::adopt(shared, req)).await?;
    }
    match place {
        Place::Open => Ok(None),
        Place::Report => {
            submit::bound_body(req, shared.bounds)?;
            Ok(None)
        }
        Place::Own => {
            let who = match look_remembered(shared, req).await? {
                Some(who) => who,
                None => Box::pin(who::anybody(shared, req)).await?,
            };
            who::check_rights(req, &who, false)?;
            if wait::parameter(req.query_string(), "wait").is_some() {
                make_small(req);
            }
            Ok(None)
        }
        // In boxes of their own, gone when they are done: thousands may wait in what comes after them.
        Place::Api => Box::pin(call(shared, matched, req)).await,
    }
}

/// Refuses what the library lets through and HTTP forbids, or what is meant for a proxy of another kind (RFC 9112 section
/// 3.2): a target that is no path, a `Host` that is none, CONNECT.
fn check_target(req: &ServiceRequest) -> Result<(), Error> {
    let close =
        |why: &'static str| Err(Error::bad_request(why).with(header::CONNECTION, HeaderValue::from_static("close")));
    if *req.method() == Method::CONNECT {
        return close("This server opens no connections for others; call the API itself, not CONNECT.");
    }
    let is_path = req.uri().path_and_query().is_some_and(|target| target.as_str().starts_with('/'));
    let is_host = |host: &str| {
        // Most are a plain name: the rest is looked at as what it may be, an address or a name with a port.
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
            || !host.contains(['@', '/', '?', '#']) && host.parse::<http::uri::Authority>().is_ok()
    };
    let host = req.headers().get(header::HOST);
    if is_path && host.is_none_or(|host| host.to_str().is_ok_and(is_host)) {
        return Ok(());
    }
    close("The call has no path, or its Host is none; send a path, and the name of this server.")
}

/// An answer without a length goes in chunks, where the caller reads them. The library sends none where the call asked
/// for another protocol and did not get it; to HTTP/1.0 such an answer ends with the connection (RFC 9112 section 6.3).
fn end_visibly(mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    if response.response().body().size() != BodySize::Stream || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let request = response.request();
    let reads_chunks = request.version() >= Version::HTTP_11;
    if reads_chunks && !request.headers().contains_key(header::UPGRADE) {
        return response;
    }
    let head = response.response_mut().head_mut();
    head.no_chunking(true);
    head.set_connection_type(ConnectionType::Close);
    if !reads_chunks {
        return response;
    }
    head.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    response.map_body(|_, body| BoxBody::new(Chunks::of(body)))
}

/// A call to the API, hosted or behind the server. What seldom happens is in boxes: its future, which has room for the
/// largest that it waits for, is made and moved for each call.
async fn call(
    shared: &Arc<Shared>,
    matched: &Matched,
    req: &mut ServiceRequest,
) -> Result<Option<HttpResponse>, Error> {
    let name = target_of(req);
    // What the server hosts itself goes before what is behind it.
    let is_hosted = matched.matches(req);
    let upstream = shared.upstreams.of(target::path(&name)).filter(|_| !is_hosted).map(|upstream| &**upstream);
    let policy = shared.policies.of(req.method().as_str(), &name, is_hosted);
    let given = Given::of(&name);
    let wish = asked::wish(shared, req, &given, policy.mode);
    let terms = asked::terms(shared, req, &given, policy);
    drop(given);
    let submits = wish.as_ref().is_ok_and(|wish| matches!(wish.asked, Asked::Background | Asked::Auto));
    session::withhold(req, upstream, submits);
    if let (Ok(wish @ Wish { asked: Asked::Background, .. }), Ok(terms)) = (&wish, &terms)
        && (is_hosted || upstream.is_some())
    {
        let preferred = wish.preferred.is_some();
        let submission = Submission { name: &name, upstream, terms, preferred };
        if let Some(accepted) = submit_remembered(shared, req, submission).await {
            return accepted.map(|accepted| Some(accepted.answer(shared, wish)));
        }
    }
    if let Some(upstream) = upstream {
        gateway::check_path(&name)?;
        if cors::is_preflight(req) {
            let way = Way { shared, upstream, name: &name };
            return gateway::pass(way, req, Limit::from_now(policy.timeout)).await.map(Some);
        }
    }
    let who = match upstream {
        Some(upstream) => who::at(shared, req, upstream).await?,
        None => who::hosted(shared, req).await?,
    };
    if upstream.is_none() {
        (shared.precheck)(req.method().as_str(), &name)?;
    }
    let (wish, terms) = (wish?, terms?);
    let asked = wish.asked;
    let in_background = matches!(asked, Asked::Background | Asked::Auto);
    who::check_rights(req, &who, in_background)?;
    if in_background && upstream.is_none() && !is_hosted {
        return Err(shared.not_found(req.match_info().as_str()));
    }
    let bounded = in_background || upstream.is_none();
    if bounded {
        submit::bound_body(req, shared.bounds)?;
    }
    let may_be_batch = upstream.is_none() || policy.batch;
    let batch =
        may_be_batch && batch::may_be(req, upstream.is_some()) && Box::pin(batch::is_array(req, shared.bounds)).await?;
    // What passes through is not bound, but a batch is stored, also in the foreground.
    if batch && !bounded {
        submit::bound_body(req, shared.bounds)?;
    }
    let preferred = wish.preferred.is_some();
    let submission = Submission { name: &name, upstream, terms: &terms, preferred };
    match (asked, upstream) {
        (Asked::Foreground, _) if batch => {
            Box::pin(batch::perform(shared, req, who.caller, submission)).await.map(Some)
        }
        (Asked::Auto, _) => {
            let owner = Arc::unwrap_or_clone(who.owner);
            let accepted = Box::pin(submit::submit(shared, req, owner, submission, batch)).await?;
            Box::pin(hold::answer(shared, req, accepted, &wish)).await.map(Some)
        }
        (Asked::Background | Asked::Nothing, _) if batch || asked == Asked::Background => {
            let owner = Arc::unwrap_or_clone(who.owner);
            let accepted = Box::pin(submit::submit(shared, req, owner, submission, batch)).await?;
            Ok(Some(accepted.answer(shared, &wish)))
        }
        (_, Some(upstream)) => {
            let may =
                asked == Asked::Nothing && !gateway::switches(req) && !who.caller.as_ref().is_some_and(|c| c.read_only);
            // Whose time is over before it would be rescued is not.
            let after = policy.rescue_after.filter(|after| may && *after < terms.limit);
            match after {
                Some(after) => {
                    rescue::pass(shared, req, Slow { upstream, name, who: &who, after, terms }).await.map(Some)
                }
                None => {
                    let way = Way { shared, upstream, name: &name };
                    gateway::pass(way, req, Limit::from_now(terms.limit)).await.map(Some)
                }
            }
        }
        (_, None) => {
            hide_parameter(req, &name);
            Ok(None)
        }
    }
}

/// The short way of what comes most often: a submission without a body by a caller who is remembered. `None`: it has left
/// nothing, and goes the long way from its start.
async fn submit_remembered(
    shared: &Arc<Shared>,
    req: &ServiceRequest,
    submission: Submission<'_>,
) -> Option<Result<Accepted, Error>> {
    let allowed = match submission.upstream {
        Some(upstream) => upstream.auth == Auth::Local && gateway::check_path(submission.name).is_ok(),
        None => (shared.precheck)(req.method().as_str(), submission.name).is_ok(),
    };
    let known =
        if allowed && !submit::has_body(req) { shared.auth.recall(who::authorization(req))? } else { return None };
    // Who may only look is refused on the long way.
    if known.read_only {
        return None;
    }
    submit::submit_remembered(shared, req, known, submission).await
}

/// The short way of a status read by a caller who is remembered: one look at the row and at the caller's. `None`: it goes
/// the long way.
async fn look_remembered(shared: &Shared, req: &ServiceRequest) -> Result<Option<Who>, Error> {
    // A session of a user of an upstream's is nobody's of this server, also where login and password are alike.
    if session::source(req).is_some_and(|source| source != Owner::LOCAL) {
        return Ok(None);
    }
    let Some(rid) = place::rid(req.match_info().as_str(), &shared.mount) else { return Ok(None) };
    let Some(known) = shared.auth.recall(who::authorization(req)) else { return Ok(None) };
    let mark = shared.auth.mark();
    let request = if mark.is_some_and(|mark| known.is_current(mark)) {
        shared.find(rid).await?
    } else {
        let request = shared.store.get_for(rid, known.clone()).await?;
        if let Some(mark) = mark.filter(|_| request.is_some()) {
            known.see(mark);
        }
        request.filter(|request| shared.is_kept(request))
    };
    let Some(request) = request else { return Ok(None) };
    let who = who::known(req, Who::from(&*known));
    req.extensions_mut().insert(wait::Found(request));
    Ok(Some(who))
}

/// The library gives each request room for headers that it does not have, 7 KiB: too much for thousands who wait.
fn make_small(req: &mut ServiceRequest) {
    let mut headers = HeaderMap::with_capacity(req.headers().len());
    for (name, value) in req.headers() {
        headers.append(name.clone(), value.clone());
    }
    *req.headers_mut() = headers;
}

fn target_of(req: &ServiceRequest) -> String {
    req.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned()
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
    shared.not_found(req.match_info().as_str()).error_response()
}
