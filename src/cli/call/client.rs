//! The calls of a server: no redirect is followed, no proxy asked.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Error, SendBody, Timeout};
use url::Url;

use super::options::Submission;
use super::{Failure, refused, text};

/// The longest that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest silence. A body and a result as a whole may take as long as they do.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of an error that are read.
const ERROR: u64 = 64 << 10;

/// Bytes of a page of details at most, and of anything else that is read whole.
const WHOLE: u64 = 64 << 20;

/// What a result carries, and nothing else does.
const REQUEST: &str = "bgrs-request";

/// An answer, its body still to be read.
pub type Answer = Response<Body>;

/// Why a read gave no answer.
pub enum Trouble {
    /// It may pass.
    Passing(String),
    /// It will not.
    Fatal(Failure),
}

/// What calls the server.
pub struct Client {
    agent: Agent,
    /// What every call carries.
    headers: HeaderMap,
}

impl Client {
    /// A client of this URL's server; `headers` are those of the call itself.
    pub fn new(url: &Url, headers: &HeaderMap) -> Result<Self, Failure> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .allow_non_standard_methods(true)
            .user_agent(concat!("bgrs-server/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE));
        let config = if url.scheme() == "https" { config.tls_config(tls()?) } else { config };
        let kept = headers.iter().filter(|(name, _)| !is_of_one_call(name));
        let headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Self { agent: Agent::new_with_config(config.build()), headers })
    }

    /// Sends the call itself.
    pub fn submit(&self, url: &Url, submission: &mut Submission) -> Result<Answer, Error> {
        let request = request(submission.method.clone(), url.as_str(), submission.headers.clone())?;
        let Some(data) = &mut submission.data else { return self.agent.run(request) };
        let mut reader = data.reader()?;
        let (parts, ()) = request.into_parts();
        self.agent.run(Request::from_parts(parts, SendBody::from_reader(&mut reader)))
    }

    /// Reads what is at a URL: a success, or the result of a request, whatever its status.
    pub fn get(&self, url: &str, more: &[(HeaderName, HeaderValue)]) -> Result<Answer, Trouble> {
        let mut headers = self.headers.clone();
        headers.extend(more.iter().cloned());
        let asked = request(Method::GET, url, headers).and_then(|request| self.agent.run(request));
        judge(asked.map_err(|error| trouble(url, &error))?)
    }

    /// Reads JSON.
    pub fn read<T: DeserializeOwned>(&self, url: &str) -> Result<T, Trouble> {
        let mut answer = self.get(url, &[])?;
        let mut body = Vec::new();
        let read = answer.body_mut().as_reader().take(WHOLE).read_to_end(&mut body);
        read.map_err(|error| Trouble::Passing(format!("{url}: {error}")))?;
        serde_json::from_slice(&body).map_err(|_| {
            Trouble::Fatal(refused(format!(
                "{url}: the answer is none of a bgrs-server; is there another in front of it?"
            )))
        })
    }

    /// Deletes what is at a URL; the status, or what went wrong.
    pub fn delete(&self, url: &str) -> Result<StatusCode, String> {
        let asked = request(Method::DELETE, url, self.headers.clone()).and_then(|request| self.agent.run(request));
        let answer = asked.map_err(|error| explain(url, &error))?;
        if answer.status().is_success() { Ok(answer.status()) } else { Err(complaint(answer)) }
    }
}

/// Whether the answer is the result of a request, not the server's own.
pub fn is_result(answer: &Answer) -> bool {
    answer.headers().contains_key(REQUEST)
}

/// Whether nothing was sent: there was no connection.
pub fn out_of_reach(error: &Error) -> bool {
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::AddrNotAvailable
        ),
        _ => false,
    }
}

/// Whether a connection broke off: what was sent may have arrived.
pub fn broke_off(error: &Error) -> bool {
    match error {
        Error::Timeout(_) => !out_of_reach(error),
        Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::TimedOut
        ),
        _ => false,
    }
}

/// What went wrong at a URL.
pub fn explain(url: &str, error: &Error) -> String {
    let why = match error {
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    text::one_line(&format!("{url}: {why}"))
}

/// An answer that is none of success: its status, and what the server says to do.
pub fn complaint(mut answer: Answer) -> String {
    #[derive(Deserialize)]
    struct Complaint {
        description: String,
    }
    let mut line = status(answer.status());
    let mut body = Vec::new();
    // As much of it as comes.
    let _ = answer.body_mut().as_reader().take(ERROR).read_to_end(&mut body);
    if let Ok(Complaint { description }) = serde_json::from_slice(&body) {
        line = format!("{line}: {}", text::one_line(&description));
    }
    let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match after {
        Some(seconds) => format!("{line} (in {seconds} s)"),
        None => line,
    }
}

/// A status in words.
pub fn status(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()).trim_end().to_owned()
}

/// What of a call's headers says something of that call alone, and nothing of who calls and where.
fn is_of_one_call(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] =
        ["accept", "accept-encoding", "expect", "idempotency-key", "prefer", "range", "te", "trailer", "upgrade"];
    let name = name.as_str();
    NAMES.contains(&name) || ["bgrs-", "content-", "if-"].iter().any(|prefix| name.starts_with(prefix))
}

fn request(method: Method, url: &str, headers: HeaderMap) -> Result<Request<()>, Error> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse::<Uri>().map_err(|error| Error::BadUri(error.to_string()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn judge(answer: Answer) -> Result<Answer, Trouble> {
    let status = answer.status();
    if status.is_success() || is_result(&answer) {
        return Ok(answer);
    }
    let passes =
        status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    let why = format!("the server answers {}", complaint(answer));
    Err(if passes { Trouble::Passing(why) } else { Trouble::Fatal(refused(why)) })
}

fn trouble(url: &str, error: &Error) -> Trouble {
    let why = explain(url, error);
    match error {
        // A certificate that is not trusted.
        Error::Io(error) if error.kind() == ErrorKind::InvalidData => Trouble::Fatal(refused(why)),
        // The name of the host is looked up by the network too.
        Error::Io(_) | Error::Timeout(_) | Error::HostNotFound | Error::ConnectionFailed => Trouble::Passing(why),
        _ => Trouble::Fatal(refused(why)),
    }
}

/// The system's certificates, or those that `SSL_CERT_FILE` names.
fn tls() -> Result<TlsConfig, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(refused("there are no certificates to check an https URL with; SSL_CERT_FILE may name some"));
    }
    let roots: RootCerts = found.certs.iter().map(|root| Certificate::from_der(root).to_owned()).into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}
