//! What the command line says of a call, checked before anything is sent.

use std::path::PathBuf;

use bgrs::model::Rid;
use clap::Args;
use ureq::http::Method;
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::data::Data;
use super::{Failure, credentials};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Values of `bgrs` that ask for the background.
const YES: [&str; 3] = ["yes", "1", "true"];

/// What is said of the exit code.
const CODES: &str = "Exit code: 0 for a result of success (2xx), 1 for another result or a failed request, 2 for wrong \
                     usage, 3 where the server is out of reach or refuses, 130 where it was interrupted.";

/// The call.
#[derive(Args)]
#[command(after_help = CODES)]
pub struct Arguments {
    /// The method; without it GET, or POST with data.
    #[arg(short = 'X', long = "request", value_name = "METHOD", conflicts_with = "attach")]
    method: Option<String>,
    /// A header; as many as are needed.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Who calls; the password comes from BGRS_PASSWORD, .netrc or a prompt.
    #[arg(short = 'u', long = "user", value_name = "LOGIN")]
    login: Option<String>,
    /// The body: the data itself, a file's, or with @- standard input.
    #[arg(
        short = 'd',
        long = "data",
        value_name = "DATA|@FILE|@-",
        allow_hyphen_values = true,
        conflicts_with = "attach"
    )]
    data: Option<String>,
    /// The same, which has to be JSON; the answer is asked for as JSON too.
    #[arg(
        long,
        value_name = "DATA|@FILE|@-",
        allow_hyphen_values = true,
        conflicts_with_all = ["data", "attach"]
    )]
    json: Option<String>,
    /// Where a result of success goes, replaced whole.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Come back to an earlier request on the URL's server.
    #[arg(long, value_name = "RID")]
    attach: Option<Rid>,
    /// What to call.
    url: String,
}

/// The same, checked.
pub struct Options {
    /// What to call, in the background; or the server to come back to.
    pub url: Url,
    /// The headers of the call.
    pub headers: HeaderMap,
    /// The login, where one was named.
    pub login: Option<String>,
    /// Where the result goes; `None`: to standard output.
    pub file: Option<PathBuf>,
    /// What to do.
    pub task: Task,
}

/// What to do.
pub enum Task {
    /// Submit a call.
    Submit(Submission),
    /// Come back to a request.
    Attach(Rid),
}

/// A call as it is sent.
pub struct Submission {
    /// Its method.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub data: Option<Data>,
}

impl Submission {
    /// Whether it may be sent again where nobody knows what became of it.
    pub fn is_repeatable(&self) -> bool {
        self.headers.contains_key(IDEMPOTENCY_KEY)
    }
}

impl Options {
    /// Checks them, and asks for a password where one is needed.
    pub fn read(arguments: Arguments) -> Result<Self, Failure> {
        let mut url = address(&arguments.url)?;
        let mut headers = headers(&arguments.headers)?;
        let data = match (arguments.data, arguments.json) {
            (Some(data), _) => Some(body("-d", data, &mut headers)?),
            (None, Some(json)) => Some(body("--json", json, &mut headers)?),
            (None, None) => None,
        };
        let method = method(arguments.method.as_deref(), data.is_some())?;
        if arguments.attach.is_none() {
            url = in_background(url)?;
        }
        sign_in(arguments.login.as_deref(), &url, &mut headers)?;
        let task = match arguments.attach {
            Some(rid) => Task::Attach(rid),
            None => Task::Submit(Submission { headers: of_submission(&headers, &method, &data)?, method, data }),
        };
        Ok(Self { url, headers, login: arguments.login, file: arguments.file, task })
    }
}

fn address(text: &str) -> Result<Url, Failure> {
    // It is not repeated: it may hold a password.
    let mut url = Url::parse(text).map_err(|error| Failure::usage(format!("the URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::usage("the URL does not begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage("the URL holds credentials: take them out, and name the login with -u"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The URL that asks for the background.
fn in_background(mut url: Url) -> Result<Url, Failure> {
    let asked = url.query_pairs().filter(|(name, _)| name == "bgrs").map(|(_, value)| value.into_owned());
    let asked: Vec<String> = asked.collect();
    if let Some(other) = asked.iter().find(|value| !YES.iter().any(|yes| value.eq_ignore_ascii_case(yes))) {
        return Err(Failure::usage(format!("bgrs={other}: a call is always made in the background; leave bgrs out")));
    }
    if asked.is_empty() {
        url.query_pairs_mut().append_pair("bgrs", "yes");
    }
    Ok(url)
}

fn headers(given: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for text in given {
        let (name, value) = text.split_once(':').and_then(|(name, value)| field(name, value)).ok_or_else(|| {
            // Without the value: it may be a secret.
            let name = text.split(':').next().unwrap_or_default();
            Failure::usage(format!("-H {name:?}: it is no header such as 'Accept: text/csv'"))
        })?;
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            return Err(Failure::usage(format!("-H {name}: it follows from the data; leave it out")));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?))
}

/// The body, and the headers that follow from it.
fn body(option: &str, argument: String, headers: &mut HeaderMap) -> Result<Data, Failure> {
    let mut data = Data::read(option, argument)?;
    let is_json = data.is_json().map_err(|error| Failure::usage(format!("{option}: {error}")))?;
    if option == "--json" {
        if !is_json {
            return Err(Failure::usage("--json: the data is no JSON"));
        }
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    }
    let content_type = if is_json { "application/json" } else { "application/octet-stream" };
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    Ok(data)
}

fn method(given: Option<&str>, has_data: bool) -> Result<Method, Failure> {
    let Some(given) = given else { return Ok(if has_data { Method::POST } else { Method::GET }) };
    let upper = given.to_ascii_uppercase();
    let method = Method::from_bytes(upper.as_bytes());
    let method = method.map_err(|_| Failure::usage(format!("-X {given:?}: it is no method such as GET")))?;
    if [Method::OPTIONS, Method::TRACE, Method::CONNECT].contains(&method) {
        return Err(Failure::usage(format!("-X {method}: such a call is never made in the background")));
    }
    Ok(method)
}

fn sign_in(login: Option<&str>, url: &Url, headers: &mut HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::AUTHORIZATION) {
        return match login {
            Some(_) => Err(Failure::usage("-u and -H 'Authorization: …' are both credentials; give one of them")),
            None => Ok(()),
        };
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if let Some(value) = credentials::find(login, host)? {
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(())
}

/// The headers of a submission. Where its answer is lost it is sent again, and the key makes one request of both. To a
/// call that is not idempotent none is added: with one, the server would also make the call itself again after a crash.
fn of_submission(headers: &HeaderMap, method: &Method, data: &Option<Data>) -> Result<HeaderMap, Failure> {
    let mut headers = headers.clone();
    if method.is_idempotent() && !headers.contains_key(IDEMPOTENCY_KEY) {
        headers.insert(IDEMPOTENCY_KEY, random()?);
    }
    let length = data.as_ref().map(Data::length);
    // A POST without a body says so.
    let length = length.or_else(|| (![Method::GET, Method::HEAD, Method::DELETE].contains(method)).then_some(0));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(headers)
}

fn random() -> Result<HeaderValue, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::refused(format!("no random numbers: {error}")))?;
    HeaderValue::from_str(&hex::encode(bytes)).map_err(Failure::refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<String, String> {
        let url = address(text).and_then(in_background).map_err(|failure| failure.message)?;
        Ok(url.to_string())
    }

    #[test]
    fn a_url_asks_for_the_background_once() {
        for (url, sent) in [
            ("http://a.example", "http://a.example/?bgrs=yes"),
            ("http://a.example/up?", "http://a.example/up?bgrs=yes"),
            ("http://a.example/up?x=%20+&y#z", "http://a.example/up?x=%20+&y&bgrs=yes"),
            ("https://a.example/up?BGRS=no", "https://a.example/up?BGRS=no&bgrs=yes"),
            ("http://a.example/up?%62grs=True&x", "http://a.example/up?%62grs=True&x"),
        ] {
            assert_eq!(asked(url).as_deref(), Ok(sent));
        }
        for url in
            ["up", "//a.example/", "a.example:80/", "ftp://a.example/", "http://a@a.example/", "http://:b@a.example/"]
        {
            assert!(asked(url).is_err(), "{url}");
        }
        for bgrs in ["bgrs=no", "bgrs=auto", "bgrs", "bgrs=yes&bgrs=0"] {
            assert!(asked(&format!("http://a.example/?{bgrs}")).is_err(), "{bgrs}");
        }
    }
}
