//! `/ui/session`: signing in on the dashboard, and what its cookie counts for on every route.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Error, JSON, NO_STORE, Shared, batch, manage, origin, submit, who};
use crate::auth::{self, basic};
use crate::model::{Owner, Rid};
use crate::routing::{Auth, Upstream};
use crate::store::{Session, Sessions};
use crate::vault::Key;

/// What the cookie's pair begins with.
const PAIR: &[u8] = b"bgrs_session=";

/// Seconds that a session lasts.
const LIFE: i64 = 12 * 60 * 60;

/// Bytes of a body that signs in at most: login and password, each of their bytes written as `\u0000`.
const MOST: usize = 8 * 1024;

/// Sessions that are remembered; the one used longest ago is looked up again.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// The sessions, most of them in memory.
pub struct SignedIn {
    store: Arc<dyn Sessions>,
    /// By digests of their secrets; `None`: it has been signed out of.
    remembered: Mutex<LruCache<[u8; 32], Option<Arc<Live>>>>,
}

/// A session as it is used.
struct Live {
    /// Where its user is known.
    source: String,
    /// The `Authorization` that it stands for.
    value: HeaderValue,
    expires: Timestamp,
}

impl SignedIn {
    /// Those of this store.
    #[must_use]
    pub fn new(store: Arc<dyn Sessions>) -> Self {
        Self { store, remembered: Mutex::new(LruCache::sparse(REMEMBERED)) }
    }

    /// Begins a session and gives its secret.
    async fn begin(&self, key: &Key, value: &HeaderValue, owner: Owner, now: Timestamp) -> Result<Rid, Error> {
        let failed = |why: &dyn std::fmt::Display| {
            log::error!("a session cannot begin: {why}");
            Error::internal()
        };
        // Not a new rid: some of its bits are a number.
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
        let secret: Rid = hex::encode(bytes).parse().map_err(|error| failed(&error))?;
        let sealed = key.seal(secret, value.as_bytes()).map_err(|error| failed(&error))?;
        let expires = now.checked_add(SignedDuration::from_secs(LIFE)).map_err(|error| failed(&error))?;
        let id = digest(secret).to_hex().to_string();
        self.store.add(Session { id, owner, sealed, expires }).await?;
        Ok(secret)
    }

    /// The session of this secret, if it is one.
    async fn look(&self, key: &Key, secret: Rid, now: Timestamp) -> Result<Option<Arc<Live>>, Error> {
        let id = digest(secret);
        let known = self.lock().get(id.as_bytes()).cloned();
        let live = match known {
            Some(live) => live,
            None => self.read(key, secret, now).await?,
        };
        Ok(live.filter(|live| live.expires > now))
    }

    async fn read(&self, key: &Key, secret: Rid, now: Timestamp) -> Result<Option<Arc<Live>>, Error> {
        let id = digest(secret);
        let Some(row) = self.store.find(&id.to_hex(), now).await? else { return Ok(None) };
        let Ok(clear) = key.open(secret, &row.sealed) else {
            log::warn!("a session was sealed with another key file; its user has to sign in again");
            return Ok(None);
        };
        let Ok(mut value) = HeaderValue::from_bytes(&clear) else { return Ok(None) };
        value.set_sensitive(true);
        let live = Some(Arc::new(Live { source: row.owner.source, value, expires: row.expires }));
        let mut remembered = self.lock();
        // Who signs out meanwhile has the last word.
        if let Some(known) = remembered.get(id.as_bytes()) {
            return Ok(known.clone());
        }
        remembered.put(*id.as_bytes(), live.clone());
        Ok(live)
    }

    async fn end(&self, key: &Key, secret: Rid, now: Timestamp) -> Result<(), Error> {
        // A secret that somebody has made up costs no write.
        if self.look(key, secret, now).await?.is_none() {
            return Ok(());
        }
        let id = digest(secret);
        self.lock().put(*id.as_bytes(), None);
        Ok(self.store.remove(&id.to_hex()).await?)
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<[u8; 32], Option<Arc<Live>>>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store knows a session by. A secret is too long to be found by trying.
fn digest(secret: Rid) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}

/// The session whose credentials a call has been given.
struct Adopted(Arc<Live>);

/// The cookie of a call to [`post`] or [`delete`].
struct Held(Rid);

/// Whether a call has the cookie.
pub fn is_sent(req: &ServiceRequest) -> bool {
    req.headers().get_all(header::COOKIE).any(|value| memmem::find(value.as_bytes(), PAIR).is_some())
}

/// Whether a `Set-Cookie` sets the cookie, by what browsers make of it (RFC 6265 section 5.2): blanks around a name do not
/// count, and of a cookie without a name they send the value alone.
pub fn is_set_by(value: &[u8]) -> bool {
    let name = &PAIR[..PAIR.len() - 1];
    let pair = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair);
    pair.split(|byte| *byte == b'=').next().is_some_and(|own| own.trim_ascii() == name)
}

/// Gives a call the credentials of its session, where it has none of its own. Nobody behind sees the cookie.
///
/// # Errors
/// When the sessions cannot be read.
pub async fn adopt(shared: &Shared, req: &mut ServiceRequest) -> Result<(), Error> {
    let Some(secret) = take(req) else { return Ok(()) };
    if req.headers().contains_key(header::AUTHORIZATION) || !counts(req) {
        return Ok(());
    }
    if let Some(live) = shared.signed_in.look(&shared.key, secret, shared.clock.now()).await? {
        req.headers_mut().insert(header::AUTHORIZATION, live.value.clone());
        req.extensions_mut().insert(Adopted(live));
    }
    Ok(())
}

/// SECURITY: a browser sends its cookie wherever it goes. One source's password is not shown to another.
pub fn withhold(req: &mut ServiceRequest, upstream: Option<&Upstream>, submits: bool) {
    let is_for = |source: &str| match upstream {
        Some(upstream) if upstream.auth != Auth::Local => source == upstream.source(),
        _ => source == Owner::LOCAL,
    };
    let elsewhere = req.extensions().get::<Adopted>().is_some_and(|adopted| !is_for(&adopted.0.source));
    // A GET that is submitted leaves something behind: a link that somebody follows must not be enough for it.
    let linked = submits && req.extensions().get::<Adopted>().is_some() && !is_from_page(req.headers());
    if elsewhere || linked {
        req.headers_mut().remove(header::AUTHORIZATION);
    }
}

/// Where the user of a call's session is known; `None`: it came without one that counts.
pub fn source(req: &ServiceRequest) -> Option<String> {
    req.extensions().get::<Adopted>().map(|adopted| adopted.0.source.clone())
}

/// Takes the cookie out of a call's headers.
fn take(req: &mut ServiceRequest) -> Option<Rid> {
    let (mut secret, mut others) = (None, Vec::new());
    for value in req.headers().get_all(header::COOKIE).map(HeaderValue::as_bytes) {
        let pairs: Vec<&[u8]> = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).collect();
        let mut own = pairs.iter().filter_map(|pair| pair.strip_prefix(PAIR)).peekable();
        if own.peek().is_none() {
            others.push(value.to_vec());
            continue;
        }
        let mut secrets = own.filter_map(|text| std::str::from_utf8(text).ok()?.parse::<Rid>().ok());
        secret = secret.or_else(|| secrets.next());
        let kept = pairs.iter().filter(|pair| !pair.is_empty() && !pair.starts_with(PAIR));
        let kept: Vec<&[u8]> = kept.copied().collect();
        if !kept.is_empty() {
            others.push(kept.join(&b"; "[..]));
        }
    }
    req.headers_mut().remove(header::COOKIE);
    for value in others.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        req.headers_mut().append(header::COOKIE, value);
    }
    secret
}

/// Whether the cookie counts for a call: not where another site may have had the browser make it.
fn counts(req: &ServiceRequest) -> bool {
    let from = req.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    // A page of another origin may open a WebSocket, and read it.
    let is_safe = matches!(*req.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && !req.headers().contains_key(header::UPGRADE);
    from.is_none_or(|from| from == b"same-origin" || from == b"none") && (is_safe || is_from_page(req.headers()))
}

/// Whether the dashboard's own script has made a call: no other site's can send this header.
fn is_from_page(headers: &HeaderMap) -> bool {
    headers.get("bgrs-ui").is_some_and(|value| value.as_bytes() == b"1")
}

/// Asks the dashboard's script for no credentials: the browser would ask in its place.
pub fn quiet<B>(response: &mut ServiceResponse<B>) {
    if response.status() == StatusCode::UNAUTHORIZED && is_from_page(response.request().headers()) {
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
}

/// Whether a path, as the router sees it, is the one of these routes.
pub fn is_route(path: &str, mount: &str) -> bool {
    path.strip_prefix(mount) == Some("/ui/session")
}

/// What the middleware does for these routes: who looks must be signed in, who signs in or out need not.
///
/// # Errors
/// Why the caller is not let in.
pub async fn prepare(shared: &Shared, req: &mut ServiceRequest) -> Result<(), Error> {
    if matches!(*req.method(), Method::GET | Method::HEAD) {
        adopt(shared, req).await?;
        who::anybody(shared, req).await.map_err(unchallenged)?;
    } else if let Some(secret) = take(req) {
        req.extensions_mut().insert(Held(secret));
    }
    Ok(())
}

fn unchallenged(error: Error) -> Error {
    let status = error.status_code();
    if status == StatusCode::UNAUTHORIZED { Error::new(status, error.to_string()) } else { error }
}

/// Whoever is signed in.
#[derive(Serialize)]
struct Shown<'a> {
    login: Option<String>,
    user_id: &'a str,
    source: &'a str,
    is_admin: bool,
    read_only: bool,
    versions: &'a [&'a str],
    mount: &'a str,
}

/// `GET /ui/session`: who is signed in.
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let who = manage::who(&req)?;
    let caller = who.caller.as_ref();
    let sent = req.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let credentials = caller.and_then(|_| basic::parse(basic::only(sent).ok()?).ok());
    let login = credentials.map(|credentials| credentials.login);
    let shown = Shown {
        login,
        user_id: &who.owner.id,
        source: &who.owner.source,
        is_admin: manage::is_admin(&who),
        read_only: caller.is_some_and(|caller| caller.read_only),
        versions: if shared.hosts { shared.versions } else { &[] },
        mount: &shared.mount,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, JSON))
        .json(shown))
}

/// `POST /ui/session`: signs in.
pub async fn post(req: HttpRequest, body: web::Payload, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    // A form of another site can send neither: it must not sign anybody in as somebody else.
    if !is_from_page(req.headers()) && !batch::is_json(req.headers()) {
        let description = "Send login and password with Content-Type: application/json.";
        return Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, description));
    }
    let value = authorization(&read(body, &shared).await?)?;
    let address = origin::address(&ServiceRequest::from_request(req.clone()), &shared.trusted_proxies);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value.clone());
    let who = who::of(&shared, &headers, address, None).await.map_err(unchallenged)?;
    let now = shared.clock.now();
    let owner = Arc::unwrap_or_clone(who.owner);
    let secret = shared.signed_in.begin(&shared.key, &value, owner, now).await?;
    if let Some(before) = held(&req) {
        shared.signed_in.end(&shared.key, before, now).await?;
    }
    Ok(with_cookie(&req, &shared, &secret.to_string(), LIFE))
}

/// `DELETE /ui/session`: signs out, also whom nobody knows any more.
pub async fn delete(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    if !is_from_page(req.headers()) {
        return Err(Error::new(StatusCode::UNAUTHORIZED, "Send the header Bgrs-Ui: 1 along with the cookie."));
    }
    if let Some(secret) = held(&req) {
        shared.signed_in.end(&shared.key, secret, shared.clock.now()).await?;
    }
    Ok(with_cookie(&req, &shared, "", 0))
}

fn held(req: &HttpRequest) -> Option<Rid> {
    req.extensions().get::<Held>().map(|held| held.0)
}

async fn read(mut payload: web::Payload, shared: &Shared) -> Result<Zeroizing<Vec<u8>>, Error> {
    // With all its room: a password is not left behind where it grows.
    let mut body = Zeroizing::new(Vec::with_capacity(MOST));
    let end = tokio::time::Instant::now() + shared.bounds.read_timeout;
    let broken = |error| submit::broken(error, MOST as u64);
    while let Some(piece) = tokio::time::timeout_at(end, payload.next()).await.map_err(|_| Error::too_slow())? {
        let piece = piece.map_err(broken)?;
        if body.len() + piece.len() > MOST {
            return Err(broken(PayloadError::Overflow));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Login and password as a call would carry them.
fn authorization(body: &[u8]) -> Result<HeaderValue, Error> {
    #[derive(Deserialize)]
    struct Sent {
        login: String,
        password: String,
    }
    let Sent { login, password } = serde_json::from_slice(body)
        .map_err(|_| Error::bad_request("Send a JSON object with login and password, both of them text."))?;
    let password = Zeroizing::new(password);
    // Basic credentials cannot carry others than these: they are nobody's.
    let fits = (1..=basic::LONGEST_LOGIN).contains(&login.len()) && !login.contains(':');
    if !fits || password.len() > basic::LONGEST_PASSWORD {
        return Err(Error::new(StatusCode::UNAUTHORIZED, auth::Error::Wrong.to_string()));
    }
    let pair = Zeroizing::new(format!("{login}:{}", password.as_str()));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).map_err(|_| Error::internal())?;
    value.set_sensitive(true);
    Ok(value)
}

fn with_cookie(req: &HttpRequest, shared: &Shared, value: &str, seconds: i64) -> HttpResponse {
    let secure = if is_behind_tls(req, shared) { "; Secure" } else { "" };
    let cookie = format!("bgrs_session={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HttpResponse::NoContent()
        .insert_header((header::SET_COOKIE, cookie))
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .finish()
}

/// Whether a proxy that is believed says that the browser speaks TLS to it.
fn is_behind_tls(req: &HttpRequest, shared: &Shared) -> bool {
    let said = req.headers().get("x-forwarded-proto").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = said.split(',').next().unwrap_or_default().trim();
    let call = ServiceRequest::from_request(req.clone());
    first.eq_ignore_ascii_case("https") && origin::of(&call, &shared.trusted_proxies).trusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_seen_in_whatever_sets_it() {
        for value in
            ["bgrs_session=x", " bgrs_session=x; Path=/", "bgrs_session =x", "bgrs_session\t= x", "=bgrs_session=x"]
        {
            assert!(is_set_by(value.as_bytes()), "{value}");
        }
        for value in
            ["a=bgrs_session=x", "xbgrs_session=x", "bgrs_sessions=x", "a=b; bgrs_session=x", "BGRS_SESSION=x", ""]
        {
            assert!(!is_set_by(value.as_bytes()), "{value}");
        }
    }
}
