//! Which headers of a call and of an answer are kept.

use std::borrow::Cow;
use std::net::IpAddr;

use actix_web::http::header::{self, HeaderMap, HeaderName as Name};
use http::{HeaderName, HeaderValue};

use crate::model::Headers;

/// Of this hop alone (RFC 9110 section 7.6.1), or of the wire's framing.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Secrets: the call is made in the caller's name, not with the caller's credentials.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// What would make the stored answer depend on the submission's connection: a part of it, an encoding, a 304.
const SHAPING: [&str; 8] = [
    "accept-encoding",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

/// Of an answer: the server's own to say when it is read.
const NOT_KEPT: [&str; 2] = ["date", "set-cookie"];

/// Begins the names of the fields that the server and an upstream talk in; nobody else may.
const OURS: &str = "bgrs-";

/// The name under which the server stands in `Via` (RFC 9110 section 7.6.3).
const VIA: &str = "1.1 bgrs-server";

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Of a call, what says where it came from: written anew for an upstream.
const ORIGIN: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// Header fields of either side: actix's of the server's, hyper's of an upstream's.
pub trait Fields {
    /// Names, in lower case, with their values.
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])>;
    /// The values of `Connection`, which most have not.
    fn connection(&self) -> impl Iterator<Item = &[u8]>;
}

impl Fields for HeaderMap {
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn connection(&self) -> impl Iterator<Item = &[u8]> {
        self.get_all(header::CONNECTION).map(|value| value.as_bytes())
    }
}

impl Fields for http::HeaderMap {
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn connection(&self) -> impl Iterator<Item = &[u8]> {
        self.get_all(http::header::CONNECTION).iter().map(HeaderValue::as_bytes)
    }
}

/// Header fields that are being gathered: to be stored, or to be sent at once.
pub trait Gather {
    /// Adds a field behind those that are there; its name is in lower case.
    fn append(&mut self, name: &str, value: &[u8]);
    /// The same for a field that is the server's own.
    fn add(&mut self, name: HeaderName, value: Cow<'static, str>);
}

impl Gather for Headers {
    fn append(&mut self, name: &str, value: &[u8]) {
        self.append(name, value);
    }

    fn add(&mut self, name: HeaderName, value: Cow<'static, str>) {
        self.append(name.as_str(), value.as_bytes());
    }
}

impl Gather for http::HeaderMap {
    fn append(&mut self, name: &str, value: &[u8]) {
        // What one side's library has let in, the other's takes: both know no more than RFC 9110 section 5 allows.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            self.append(name, value);
        }
    }

    fn add(&mut self, name: HeaderName, value: Cow<'static, str>) {
        let value = match value {
            Cow::Borrowed(text) => Ok(HeaderValue::from_static(text)),
            Cow::Owned(text) => HeaderValue::try_from(text),
        };
        if let Ok(value) = value {
            self.append(name, value);
        }
    }
}

/// Where a call came from, as an upstream is told.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The address of whoever connected; `None`: over a Unix socket.
    pub peer: Option<IpAddr>,
    /// The `Host` that was asked for.
    pub host: Option<&'a str>,
    /// Whether it is a proxy that is believed what it says.
    pub trusted: bool,
}

/// The headers of a call to the hosted API that are stored with it.
#[must_use]
pub fn of_call(headers: &HeaderMap) -> Headers {
    let named = named_by_connection(headers);
    keep(headers.fields(), |name| {
        !HOP_BY_HOP.contains(&name)
            && !SECRET.contains(&name)
            && !SHAPING.contains(&name)
            && !named.iter().any(|n| n == name)
    })
}

/// The headers of a call as an upstream gets them, added to `kept`: what is end-to-end as it was sent, and where it came
/// from. `Host` is the caller's; what is withheld is left out.
pub fn of_forwarded(
    headers: &HeaderMap,
    origin: Origin<'_>,
    is_withheld: impl Fn(&str) -> bool,
    kept: &mut impl Gather,
) {
    let named = named_by_connection(headers);
    let is_kept = |name: &str| {
        // CGI and its like know no difference between `-` and `_`: X_Forwarded_For would be X-Forwarded-For there.
        let read = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) };
        // The server has answered `Expect: 100-continue` itself: the body is on its way.
        !HOP_BY_HOP.contains(&&*read)
            && !ORIGIN.contains(&&*read)
            && read != "expect"
            && name != "host"
            && !is_withheld(name)
            && !read.starts_with(OURS)
            && !named.iter().any(|n| n == name)
    };
    headers.fields().filter(|(name, _)| is_kept(name)).for_each(|(name, value)| kept.append(name, value));
    let all = |name: &Name| {
        let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
        values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(", ")
    };
    let listed = |before: String, own: Cow<'static, str>| {
        if before.is_empty() { own } else { Cow::Owned(format!("{before}, {own}")) }
    };
    let believed = |name: &Name| if origin.trusted { all(name) } else { String::new() };
    let or = |said: String, own: Cow<'static, str>| if said.is_empty() { own } else { Cow::Owned(said) };
    let (peer, host) = (origin.peer.map(shown), origin.host);
    let element = forwarded(origin, peer.as_deref());
    if let Some(host) = host.filter(|_| !is_withheld("host")) {
        kept.append("host", host.as_bytes());
    }
    kept.add(http::header::VIA, listed(all(&header::VIA), Cow::Borrowed(VIA)));
    kept.add(http::header::FORWARDED, listed(believed(&header::FORWARDED), Cow::Owned(element)));
    if let Some(peer) = peer {
        kept.add(FORWARDED_FOR, listed(believed(&header::X_FORWARDED_FOR), Cow::Owned(peer)));
    } else if origin.trusted && headers.contains_key(header::X_FORWARDED_FOR) {
        kept.add(FORWARDED_FOR, Cow::Owned(all(&header::X_FORWARDED_FOR)));
    }
    if let Some(host) = host {
        kept.add(FORWARDED_HOST, or(believed(&header::X_FORWARDED_HOST), Cow::Owned(host.to_owned())));
    }
    kept.add(FORWARDED_PROTO, or(believed(&header::X_FORWARDED_PROTO), Cow::Borrowed("http")));
}

/// An address as text. The library's way takes ten times as long for one of four numbers, and each call has it.
fn shown(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (at, number) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        if number >= 100 {
            text.push(char::from(b'0' + number / 100));
        }
        if number >= 10 {
            text.push(char::from(b'0' + number / 10 % 10));
        }
        text.push(char::from(b'0' + number % 10));
    }
    text
}

/// One element of `Forwarded` (RFC 7239 section 4); `peer` is the origin's, as text.
fn forwarded(origin: Origin<'_>, peer: Option<&str>) -> String {
    let peer = peer.unwrap_or("unknown");
    let (before, after) = if origin.peer.is_some_and(|peer| peer.is_ipv6()) { ("\"[", "]\"") } else { ("", "") };
    match origin.host.filter(|host| !host.contains(['"', '\\'])) {
        Some(host) => ["for=", before, peer, after, ";host=\"", host, "\";proto=http"].concat(),
        None => ["for=", before, peer, after, ";proto=http"].concat(),
    }
}

/// Takes the secrets out of a call's headers: they are kept apart, encrypted.
#[must_use]
pub fn split_secrets(headers: &Headers) -> (Headers, Headers) {
    let is_secret = |name: &str| SECRET.contains(&name);
    (
        headers.iter().filter(|(name, _)| !is_secret(name)).collect(),
        headers.iter().filter(|(n, _)| is_secret(n)).collect(),
    )
}

/// The headers of an answer that are stored with it.
#[must_use]
pub fn of_answer(headers: &impl Fields) -> Headers {
    let named = named_by_connection(headers);
    keep(headers.fields(), |name| {
        !HOP_BY_HOP.contains(&name) && !NOT_KEPT.contains(&name) && !named.iter().any(|n| n == name)
    })
}

/// The headers of an upstream's answer that are passed on at once. The length is among them: whoever asks with `HEAD`
/// wants to know it.
pub fn of_passing(headers: &http::HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    let named = named_by_connection(headers);
    headers.fields().filter(move |(name, _)| {
        (*name == "content-length" || !HOP_BY_HOP.contains(name)) && !named.iter().any(|n| n == name)
    })
}

fn keep<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>, wanted: impl Fn(&str) -> bool) -> Headers {
    fields.filter(|(name, _)| wanted(name)).collect()
}

/// The fields that `Connection` names are of this hop too.
fn named_by_connection(headers: &impl Fields) -> Vec<String> {
    let values = headers.connection().filter_map(|value| std::str::from_utf8(value).ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn what_is_of_this_hop_secret_or_shaping_is_not_stored_with_a_call() {
        let sent = map(&[
            ("host", "api"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("authorization", "Basic eA=="),
            ("cookie", "a=b"),
            ("accept-encoding", "gzip"),
            ("range", "bytes=0-1"),
            ("if-none-match", "*"),
            ("accept", "a/b"),
            ("accept", "c/d"),
        ]);
        let mut kept: Vec<_> = of_call(&sent).iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
        kept.sort();
        let expected: Vec<(String, Vec<u8>)> =
            [("accept", "a/b"), ("accept", "c/d"), ("host", "api")].map(|(n, v)| (n.into(), v.into())).into();
        assert_eq!(kept, expected);
    }

    #[test]
    fn cookies_and_the_date_of_an_answer_are_not_stored() {
        let sent = map(&[("set-cookie", "a=b"), ("date", "x"), ("etag", "\"1\""), ("content-length", "3")]);
        let kept = of_answer(&sent);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [("etag", b"\"1\"".as_slice())]);
    }

    #[test]
    fn an_address_is_shown_as_the_library_shows_it() {
        for text in ["0.0.0.0", "1.10.100.255", "9.99.109.200", "127.0.0.1", "::1", "2001:db8::1"] {
            assert_eq!(shown(text.parse().unwrap()), text);
        }
    }

    const UNTRUSTED: Origin<'_> =
        Origin { peer: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))), host: Some("api:80"), trusted: false };

    fn forwarded_of(sent: &HeaderMap, origin: Origin<'_>) -> Headers {
        let (mut stored, mut at_once) = (Headers::default(), http::HeaderMap::new());
        of_forwarded(sent, origin, |_| false, &mut stored);
        of_forwarded(sent, origin, |_| false, &mut at_once);
        assert_eq!(sorted(&at_once.fields().collect()), sorted(&stored));
        stored
    }

    fn sorted(headers: &Headers) -> Vec<(String, String)> {
        let mut all: Vec<_> =
            headers.iter().map(|(n, v)| (n.to_owned(), String::from_utf8_lossy(v).into_owned())).collect();
        all.sort();
        all
    }

    #[test]
    fn an_upstream_gets_what_is_end_to_end_and_where_it_came_from() {
        let sent = map(&[
            ("host", "api:80"),
            ("connection", "X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("authorization", "Basic eA=="),
            ("range", "bytes=0-1"),
            ("bgrs-report-token", "guessed"),
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("via", "1.0 fred"),
        ]);
        let expected = [
            ("authorization", "Basic eA=="),
            ("forwarded", "for=192.0.2.1;host=\"api:80\";proto=http"),
            ("host", "api:80"),
            ("range", "bytes=0-1"),
            ("via", "1.0 fred, 1.1 bgrs-server"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "api:80"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(sorted(&forwarded_of(&sent, UNTRUSTED)), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added_to() {
        let sent = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-host", "www.example"),
            ("x-forwarded-proto", "https"),
        ]);
        let expected = [
            ("forwarded", "for=1.1.1.1, for=192.0.2.1;host=\"api:80\";proto=http"),
            ("host", "api:80"),
            ("via", "1.1 bgrs-server"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 192.0.2.1"),
            ("x-forwarded-host", "www.example"),
            ("x-forwarded-proto", "https"),
        ];
        let origin = Origin { trusted: true, ..UNTRUSTED };
        assert_eq!(sorted(&forwarded_of(&sent, origin)), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn an_address_of_version_six_is_quoted() {
        let origin = Origin { peer: Some("2001:db8::1".parse().unwrap()), host: None, trusted: false };
        assert_eq!(forwarded(origin, Some("2001:db8::1")), "for=\"[2001:db8::1]\";proto=http");
    }
}
