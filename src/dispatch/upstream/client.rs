//! The HTTP client of the upstreams: no redirects, no proxy, nothing decompressed, a pool for each.
//!
//! hyper, not reqwest: a `Url` is normalised, and an upstream is to see the path byte for byte.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::pool::{Answer, Over, Pool};
use crate::dispatch::Error;
use crate::model::{Headers, target};
use crate::routing::{Upstream, Upstreams, path};

/// The longest that a connection may take to come about.
pub const CONNECT: Duration = Duration::from_secs(10);

/// What a call carries.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A call as it goes to an upstream.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query as the caller sent them, less what is the server's.
    pub target: &'a str,
    /// The headers, with the caller's `Host`.
    pub headers: HeaderMap,
    /// The body's length, where it is known.
    pub length: Option<u64>,
    /// Whether the body goes in chunks. It has to be said: hyper takes a GET of unknown length for one without a body.
    pub chunked: bool,
    /// Asks for another protocol.
    pub upgrade: Option<&'a [u8]>,
    /// Which connection it goes over.
    pub over: Over,
}

impl<'a> Outgoing<'a> {
    /// A call without a body, sent now over whatever connection there is.
    #[must_use]
    pub fn new(method: &'a str, target: &'a str, headers: HeaderMap) -> Self {
        Self { method, target, headers, length: None, chunked: false, upgrade: None, over: Over::Any(Instant::now()) }
    }
}

/// All upstreams, each with the way to connect to it. Cheap to clone.
#[derive(Clone)]
pub struct Connectors(Arc<[To<HttpsConnector<HttpConnector>>]>);

/// An upstream.
#[derive(Clone)]
struct To<W> {
    upstream: Arc<Upstream>,
    /// What it is called by its own name with.
    host: HeaderValue,
    /// The way to it.
    way: W,
}

impl Connectors {
    /// Reads the certificates that are to be trusted. Blocks.
    ///
    /// # Errors
    /// Which upstream's certificates cannot be read.
    pub fn new(upstreams: &Upstreams) -> Result<Self, String> {
        let all = upstreams.iter().map(|upstream| {
            let of_this = |why: &dyn std::fmt::Display| format!("{}: {why}", upstream.prefix);
            let way = connector(upstream).map_err(|why| of_this(&why))?;
            let host = HeaderValue::from_str(upstream.url.authority.as_str()).map_err(|error| of_this(&error))?;
            Ok(To { upstream: upstream.clone(), host, way })
        });
        all.collect::<Result<Vec<_>, String>>().map(|all| Self(all.into()))
    }
}

/// Calls upstreams over a pool of its own for each. Cheap to clone; clones share the pools.
#[derive(Clone)]
pub struct Client(Arc<[To<Pool>]>);

impl Client {
    /// A client with nothing in its pool.
    #[must_use]
    pub fn new(connectors: &Connectors) -> Self {
        let all = connectors.0.iter().cloned().map(|To { upstream, host, way }| {
            let way = Pool::new(way, address(&upstream));
            To { upstream, host, way }
        });
        Self(all.collect())
    }

    /// Sends a call; the future returns when the answer's head is there, [`Error::Unreachable`], [`Error::Stale`]
    /// or [`Error::Unanswered`]. Dropping it, or the answer's body before its end, closes the connection.
    ///
    /// # Errors
    /// [`Error::Malformed`], and [`Error::Gone`] for an upstream that is none of this client's.
    pub fn send(
        &self,
        upstream: &Upstream,
        call: Outgoing<'_>,
        body: Body,
    ) -> Result<impl Future<Output = Result<Answer, Error>> + Send + 'static, Error> {
        let target = target_at(upstream, call.target)?;
        self.send_to(upstream, target, call, body)
    }

    /// [`Client::send`], for a target that is the upstream's own and not a caller's: it goes behind the base as it is.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send_bare(
        &self,
        upstream: &Upstream,
        call: Outgoing<'_>,
        body: Body,
    ) -> Result<impl Future<Output = Result<Answer, Error>> + Send + 'static, Error> {
        let target = path_and_query(format!("{}{}", upstream.url.path, call.target))?;
        self.send_to(upstream, target, call, body)
    }

    fn send_to(
        &self,
        upstream: &Upstream,
        target: PathAndQuery,
        call: Outgoing<'_>,
        body: Body,
    ) -> Result<impl Future<Output = Result<Answer, Error>> + Send + 'static, Error> {
        let found = self.0.iter().find(|to| to.upstream.prefix == upstream.prefix);
        let to = found.ok_or_else(|| Error::Gone(upstream.prefix.to_string()))?;
        let (over, may_switch) = (call.over, call.upgrade.is_some());
        let call = request(to, target, call, body)?;
        Ok(to.way.clone().send(call, over, move |answer| check(answer, may_switch)))
    }
}

/// Refuses an answer that nobody can pass back.
fn check(answer: &Response<Incoming>, may_switch: bool) -> Result<(), Error> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch {
        return Err(Error::Unanswered("it changes the protocol unasked".to_owned()));
    }
    if !is_framed_once(answer.headers()) {
        return Err(Error::Unanswered("its answer is framed in more than one way".to_owned()));
    }
    Ok(())
}

fn connector(upstream: &Upstream) -> Result<HttpsConnector<HttpConnector>, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    let roots = match &upstream.ca {
        _ if upstream.url.scheme != Scheme::HTTPS => RootCertStore::empty(),
        Some(path) => own_roots(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http))
}

fn own_roots(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("ca: {}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some of the system's certificates are always of a kind that is not understood.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("the system has no certificates to check an https url with; name some with ca".to_owned());
    }
    Ok(roots)
}

fn request(to: &To<Pool>, target: PathAndQuery, call: Outgoing<'_>, body: Body) -> Result<Request<Body>, Error> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(call.method.as_bytes()).map_err(|error| malformed(&error))?;
    *request.uri_mut() = target.into();
    *request.headers_mut() = headers(to, call)?;
    Ok(request)
}

/// Where a call goes, by its target as the caller sent it, less what is the server's. The parts are put together as
/// parts: no byte of a target can become one of the authority.
///
/// # Errors
/// [`Error::Malformed`].
pub fn uri(upstream: &Upstream, sent: &str) -> Result<Uri, Error> {
    let mut parts = address(upstream).into_parts();
    parts.path_and_query = Some(target_at(upstream, sent)?);
    Uri::from_parts(parts).map_err(|error| malformed(&error))
}

/// What of it the upstream is asked for.
fn target_at(upstream: &Upstream, sent: &str) -> Result<PathAndQuery, Error> {
    let (sent_path, query) = (target::path(sent), target::query(sent));
    let own = if upstream.strip_prefix { path::without(sent_path, upstream.prefix.pattern().len()) } else { sent_path };
    path_and_query([&upstream.url.path, own, query].concat())
}

fn path_and_query(whole: String) -> Result<PathAndQuery, Error> {
    PathAndQuery::try_from(whole).map_err(|error| malformed(&error))
}

/// The upstream's scheme and authority.
fn address(upstream: &Upstream) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = Some(upstream.url.scheme.clone());
    parts.authority = Some(upstream.url.authority.clone());
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    // All three parts are there: that is what there is to refuse.
    Uri::from_parts(parts).unwrap_or_default()
}

fn headers(to: &To<Pool>, call: Outgoing<'_>) -> Result<HeaderMap, Error> {
    let mut map = call.headers;
    if !to.upstream.preserve_host || !map.contains_key(HOST) {
        map.insert(HOST, to.host.clone());
    }
    if let Some(length) = call.length {
        map.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if call.chunked {
        map.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = call.upgrade {
        map.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        map.insert(UPGRADE, HeaderValue::from_bytes(protocol).map_err(|error| malformed(&error))?);
    }
    Ok(map)
}

/// Stored headers, as they are sent.
///
/// # Errors
/// [`Error::Malformed`] for what nobody could have sent.
pub fn header_map(headers: &Headers) -> Result<HeaderMap, Error> {
    let mut map = HeaderMap::with_capacity(16);
    for (name, value) in headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| malformed(&error))?;
        map.append(name, HeaderValue::from_bytes(value).map_err(|error| malformed(&error))?);
    }
    Ok(map)
}

/// Whether the end of an answer's body is told in one way, and one that is known here (RFC 9112 section 6.3): what else
/// there is, somebody on the way may read differently.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().eq_ignore_ascii_case(b"chunked") && !headers.contains_key(CONTENT_LENGTH),
        _ => false,
    }
}

/// No body.
#[must_use]
pub fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in pieces.
pub fn streamed(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn malformed(error: &dyn std::error::Error) -> Error {
    log::error!("a call cannot be passed on: {error}");
    Error::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Auth, BaseUrl, Prefix};

    fn upstream(prefix: &str, url: &str, strip_prefix: bool) -> Upstream {
        Upstream {
            prefix: Prefix::try_from(prefix.to_owned()).unwrap(),
            url: BaseUrl::try_from(url.to_owned()).unwrap(),
            auth: Auth::Local,
            preserve_host: false,
            strip_prefix,
            ca: None,
        }
    }

    #[test]
    fn a_target_goes_behind_the_base_byte_for_byte() {
        for (prefix, url, strip, sent, whole) in [
            ("/up", "http://a:1", false, "/up/x%2Fy//z/.?q=%20+&q", "http://a:1/up/x%2Fy//z/.?q=%20+&q"),
            ("/up", "http://a:1/base", false, "/up", "http://a:1/base/up"),
            ("/up", "http://a:1/base/", true, "/up/x?y", "http://a:1/base/x?y"),
            ("/up", "http://a:1", true, "/up", "http://a:1/"),
            ("/api", "http://a:1", true, "/api%2F@other-host/x", "http://a:1/x"),
            ("/", "http://a:1", true, "/@other:2/x", "http://a:1/@other:2/x"),
            ("/", "http://a:1", false, "//other/x", "http://a:1//other/x"),
        ] {
            let uri = uri(&upstream(prefix, url, strip), sent).unwrap();
            assert_eq!(uri.to_string(), whole);
            assert_eq!(uri.authority().unwrap(), "a:1");
        }
    }
}
