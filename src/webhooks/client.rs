//! The client that sends callbacks: each over a connection of its own, no redirects, no proxy, and to no address that
//! they may not go to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower_service::Service;

use super::address::{Allow, Callback};
use super::secret::Secret;

/// The longest that a delivery may take, from the name's look-up to the answer's end.
const LONGEST: Duration = Duration::from_secs(15);

/// The longest that its connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Bytes of an answer's head, and of its body, that are read.
const MOST: usize = 64 * 1024;

/// Fields of an answer's head.
const MOST_FIELDS: usize = 256;

type Plain = legacy::Client<HttpConnector<Guard>, Full<Bytes>>;

type Secure = legacy::Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>;

/// What a receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its HTTP status.
    pub status: u16,
    /// How long it asks to be left alone (RFC 9110 section 10.2.3).
    pub retry_after: Option<Duration>,
}

/// Signs callbacks and sends them. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    signer: Webhook,
    allow: Arc<Allow>,
    plain: Plain,
    /// Made for the first delivery over https: the system's certificates are many.
    secure: OnceCell<Secure>,
}

impl Client {
    /// A client that signs with this secret.
    ///
    /// # Errors
    /// When the secret cannot sign.
    pub fn new(secret: &Secret, allow: Allow) -> Result<Self, String> {
        let (signer, allow) = (secret.signer()?, Arc::new(allow));
        let plain = builder().build(connector(&allow, true));
        Ok(Self(Arc::new(Inner { signer, allow, plain, secure: OnceCell::new() })))
    }

    /// The client for https. Without certificates on the system no receiver is trusted.
    async fn secure(&self) -> Result<&Secure, String> {
        let Inner { allow, secure, .. } = &*self.0;
        let make = async || {
            let tls = tokio::task::spawn_blocking(tls).await.map_err(|error| error.to_string())??;
            let secure = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
            Ok(builder().build(secure.wrap_connector(connector(allow, false))))
        };
        secure.get_or_try_init(make).await
    }

    /// POSTs JSON to a callback's URL, signed as message `id` of this moment (Standard Webhooks).
    ///
    /// # Errors
    /// Why there was no answer, in words for whoever named the URL.
    pub async fn post(&self, url: &str, id: &str, now: Timestamp, body: String) -> Result<Answer, String> {
        let Inner { allow, plain, .. } = &*self.0;
        // What is allowed may have changed since, and the connector does not ask about an address in a URL.
        let callback = Callback::parse(url, allow).map_err(|refused| refused.to_string())?;
        let request = self.request(&callback, id, now, body)?;
        let end = Instant::now() + LONGEST;
        let answer = if callback.is_plain() { plain.request(request) } else { self.secure().await?.request(request) };
        let answer = match tokio::time::timeout_at(end, answer).await {
            Ok(answer) => answer.map_err(|error| failed(&error))?,
            Err(_) => return Err(format!("No answer came within {} s.", LONGEST.as_secs())),
        };
        let (status, retry_after) = (answer.status().as_u16(), retry_after(answer.headers(), now));
        // The receiver is to see its answer taken; what becomes of it has no bearing.
        let _ = tokio::time::timeout_at(end, drain(answer.into_body())).await;
        Ok(Answer { status, retry_after })
    }

    fn request(
        &self,
        callback: &Callback,
        id: &str,
        now: Timestamp,
        body: String,
    ) -> Result<Request<Full<Bytes>>, String> {
        let at = now.as_second();
        let signature = self.0.signer.sign(id, at, body.as_bytes()).map_err(|error| error.to_string())?;
        Request::post(callback.uri().clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("bgrs-server/", env!("CARGO_PKG_VERSION")))
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, at)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())
    }
}

fn builder() -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    // Nothing is kept for another delivery: it looks its receiver's name up anew.
    builder.pool_max_idle_per_host(0).http1_max_buf_size(MOST).http1_max_headers(MOST_FIELDS);
    builder
}

fn tls() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // Some of the system's certificates are always of a kind that is not understood.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn connector(allow: &Arc<Allow>, plain: bool) -> HttpConnector<Guard> {
    let mut http = HttpConnector::new_with_resolver(Guard { allow: allow.clone(), plain });
    http.enforce_http(plain);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http
}

/// Looks names up and leaves out the addresses that callbacks may not go to. What it gives is what is connected to: a
/// name that means something else a moment later gains nothing.
#[derive(Clone)]
struct Guard {
    allow: Arc<Allow>,
    plain: bool,
}

/// Why a name led nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NoAddress {
    #[error("The host's name cannot be found.")]
    Unknown,
    #[error("The host's name leads to an address that callbacks may not go to; webhooks.allow can name its network.")]
    Refused,
}

impl Guard {
    async fn resolve(self, name: Name) -> Result<std::vec::IntoIter<SocketAddr>, NoAddress> {
        let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| NoAddress::Unknown)?;
        let taken: Vec<_> = found.filter(|address| self.allow.takes(address.ip(), self.plain)).collect();
        if taken.is_empty() { Err(NoAddress::Refused) } else { Ok(taken.into_iter()) }
    }
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAddress>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().resolve(name))
    }
}

async fn drain(mut body: Incoming) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// Why there was no answer, as far as it is the receiver's: nothing of this machine.
fn failed(error: &legacy::Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<NoAddress>() {
            return error.to_string();
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return broken(error);
        }
        source = error.source();
    }
    let why = if error.is_connect() { "No connection came about." } else { "The receiver did not answer in HTTP." };
    why.to_owned()
}

fn broken(error: &io::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.get_ref() {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return format!("TLS did not come about: {tls}.");
        }
        match inner.downcast_ref::<io::Error>() {
            Some(inner) => error = inner,
            None => break,
        }
    }
    format!("The receiver cannot be reached: {}.", error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_those_of_its_addresses_that_callbacks_may_go_to() {
        let resolve = async |networks: &[&str], plain: bool| {
            let allow: Vec<_> = networks.iter().map(|text| text.parse().unwrap()).collect();
            let guard = Guard { allow: Arc::new(Allow::from(allow)), plain };
            let found = guard.resolve("localhost".parse().unwrap()).await;
            found.map(|addresses| addresses.map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        for plain in [true, false] {
            assert_eq!(resolve(&[], plain).await, Err(NoAddress::Refused));
            assert_eq!(resolve(&["10.0.0.0/8"], plain).await, Err(NoAddress::Refused));
            let found = resolve(&["127.0.0.0/8"], plain).await.unwrap();
            assert!(!found.is_empty() && found.iter().all(|address| address == "127.0.0.1"), "{found:?}");
        }
    }

    #[test]
    fn a_rest_is_asked_for_in_seconds_or_by_a_date() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sat, 31 Jan 2026 10:00:30 GMT", Some(30)),
            ("Sat, 31 Jan 2026 09:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
