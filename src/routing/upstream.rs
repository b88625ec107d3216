//! The HTTP APIs behind the server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use serde::Deserialize;

use super::Pattern;

/// One API behind the server.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The paths that are its.
    pub prefix: Prefix,
    /// Where it is.
    pub url: BaseUrl,
    /// Who may call it.
    pub auth: Auth,
    /// Whether it sees the caller's `Host`.
    pub preserve_host: bool,
    /// Whether it sees paths without the prefix.
    pub strip_prefix: bool,
    /// Certificates to trust instead of the system's: a PEM file.
    pub ca: Option<PathBuf>,
}

/// Who may call an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The server's own users; `Authorization` ends here.
    Local,
    /// Whoever the upstream knows; credentials are passed on.
    Forward {
        /// The path, with its query, that answers 2xx to valid credentials.
        check: String,
        /// Where the user's id is in that answer: a JSON pointer (RFC 6901).
        user: String,
        /// How long a yes is remembered.
        ttl: Duration,
    },
}

impl Upstream {
    /// What tells this upstream's users from others.
    #[must_use]
    pub fn source(&self) -> String {
        format!("upstream:{}", self.prefix)
    }
}

/// A path without placeholders, of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(Pattern);

impl Prefix {
    /// The paths.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let pattern = Pattern::try_from(text)?;
        if pattern.has_placeholder() {
            return Err(format!("{pattern}: a prefix has no placeholders; [[route]] paths may"));
        }
        Ok(Self(pattern))
    }
}

/// Where an upstream is: scheme, authority, and a path that goes before each call's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BaseUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// Without a slash at its end; empty where there is none.
    pub path: String,
}

impl TryFrom<String> for BaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} {why}; \"http://127.0.0.1:9000\" is one");
        let parts = text.parse::<Uri>().map_err(|error| wrong(&format!("is no URL ({error})")))?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(wrong("is not the URL of a server"));
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong("is neither http nor https"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("has a user in it: credentials do not belong there"));
        }
        // The library lets any digits stand for a port, and then has none.
        if authority.port_u16().is_none_or(|port| port == 0) && authority.as_str().len() != authority.host().len() {
            return Err(wrong("has a port that is none: 1 to 65535"));
        }
        let path = parts.path_and_query.map(|target| target.to_string()).unwrap_or_default();
        if path.contains('?') {
            return Err(wrong("has a query"));
        }
        Ok(Self { scheme, authority, path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// The upstreams there are.
#[derive(Debug, Clone, Default)]
pub struct Upstreams(Arc<[Arc<Upstream>]>);

impl Upstreams {
    /// These upstreams.
    ///
    /// # Errors
    /// Two of them with the same prefix.
    pub fn new(upstreams: Vec<Upstream>) -> Result<Self, String> {
        let mut upstreams: Vec<_> = upstreams.into_iter().map(Arc::new).collect();
        // The longest prefix first: the first that matches is the one.
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix.0.len()));
        for (index, upstream) in upstreams.iter().enumerate() {
            if upstreams[..index].iter().any(|other| other.prefix.0.is_same(&upstream.prefix.0)) {
                return Err(format!("prefix {} is there twice", upstream.prefix));
            }
        }
        Ok(Self(upstreams.into()))
    }

    /// Whose a path, as sent, is: the longest prefix wins.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<&Arc<Upstream>> {
        self.0.iter().find(|upstream| upstream.prefix.0.matches(path))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(prefix: &str) -> Upstream {
        Upstream {
            prefix: Prefix::try_from(prefix.to_owned()).unwrap(),
            url: BaseUrl::try_from("http://127.0.0.1:9000".to_owned()).unwrap(),
            auth: Auth::Local,
            preserve_host: false,
            strip_prefix: false,
            ca: None,
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_a_prefix_is_there_once() {
        let upstreams = Upstreams::new(vec![upstream("/"), upstream("/a/b"), upstream("/a")]).unwrap();
        for (path, prefix) in [("/x", "/"), ("/a", "/a"), ("/a/bc", "/a"), ("/a/b/c", "/a/b"), ("/ab", "/")] {
            assert_eq!(upstreams.of(path).unwrap().prefix.to_string(), prefix, "{path}");
        }
        assert!(Upstreams::new(vec![upstream("/a"), upstream("/a/")]).is_err());
        assert!(Upstreams::default().of("/").is_none());
    }

    #[test]
    fn a_base_url_is_a_servers_and_nothing_more() {
        let url = BaseUrl::try_from("https://api.example:8443/base/".to_owned()).unwrap();
        assert_eq!(url.to_string(), "https://api.example:8443/base");
        for right in ["http://[::1]", "http://[::1]:65535", "http://a:1"] {
            assert_eq!(BaseUrl::try_from(right.to_owned()).unwrap().to_string(), right);
        }
        for wrong in [
            "",
            "/a",
            "localhost",
            "ftp://a",
            "http://u:p@a",
            "http://a/?b",
            "http://",
            "http://a:99999",
            "http://a:0",
            "http://a:",
            "http://[::1]:65536",
        ] {
            assert!(BaseUrl::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
