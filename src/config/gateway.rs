//! `[[upstream]]`, `[[route]]` and `[cors]`: as they are written, and what they come to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::values::{self, LONGEST};
use crate::routing;

/// `[[upstream]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Upstream {
    prefix: routing::Prefix,
    url: routing::BaseUrl,
    #[serde(default, deserialize_with = "values::choice")]
    auth: Auth,
    #[serde(default)]
    auth_check: Option<String>,
    #[serde(default)]
    auth_user: Option<String>,
    #[serde(default, deserialize_with = "values::some_duration::<_, 0, LONGEST>")]
    auth_ttl: Option<Duration>,
    #[serde(default, deserialize_with = "values::flag")]
    preserve_host: bool,
    #[serde(default, deserialize_with = "values::flag")]
    strip_prefix: bool,
    #[serde(default)]
    ca: Option<PathBuf>,
}

/// How long a yes of an upstream is remembered where the configuration does not say.
const AUTH_TTL: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Auth {
    #[default]
    Local,
    Forward,
}

impl Upstream {
    /// What it comes to; relative paths are relative to `folder`.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn resolve(self, folder: &Path) -> Result<routing::Upstream, (&'static str, String)> {
        let auth = match self.auth {
            Auth::Local => {
                let unused = [
                    ("auth_check", self.auth_check.is_some()),
                    ("auth_user", self.auth_user.is_some()),
                    ("auth_ttl", self.auth_ttl.is_some()),
                ];
                if let Some((key, _)) = unused.into_iter().find(|(_, given)| *given) {
                    return Err((key, "it belongs to auth = \"forward\"".to_owned()));
                }
                routing::Auth::Local
            }
            Auth::Forward => routing::Auth::Forward {
                check: check(self.auth_check).map_err(|why| ("auth_check", why))?,
                user: pointer(self.auth_user).map_err(|why| ("auth_user", why))?,
                ttl: self.auth_ttl.unwrap_or(AUTH_TTL),
            },
        };
        let ca = self.ca.map(|path| folder.join(path));
        if ca.is_some() && self.url.scheme != http::uri::Scheme::HTTPS {
            return Err(("ca", "it belongs to an https url".to_owned()));
        }
        Ok(routing::Upstream {
            prefix: self.prefix,
            url: self.url,
            auth,
            preserve_host: self.preserve_host,
            strip_prefix: self.strip_prefix,
            ca,
        })
    }
}

fn check(path: Option<String>) -> Result<String, String> {
    let path = path.ok_or("auth = \"forward\" needs it: a path that answers 2xx to valid credentials")?;
    match path.parse::<http::uri::PathAndQuery>() {
        Ok(_) if path.starts_with('/') => Ok(path),
        _ => Err(format!("{path:?} is not a path such as \"/v2.5/users/me\"")),
    }
}

fn pointer(text: Option<String>) -> Result<String, String> {
    let text = text.ok_or("auth = \"forward\" needs it: the JSON pointer of the user's id, such as \"/id\"")?;
    if text.is_empty() || text.starts_with('/') {
        return Ok(text);
    }
    Err(format!("{text:?} is not a JSON pointer such as \"/user/id\""))
}

/// `[[route]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Route {
    path: routing::Pattern,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default, deserialize_with = "values::some_choice")]
    bgrs: Option<routing::Mode>,
    #[serde(default, deserialize_with = "values::some_duration::<_, 0, LONGEST>")]
    rescue_after: Option<Duration>,
    #[serde(default, deserialize_with = "values::some_duration::<_, 0, LONGEST>")]
    timeout: Option<Duration>,
    #[serde(default)]
    retry: Retry,
    #[serde(default, deserialize_with = "some_flag")]
    repeat_after_crash: Option<bool>,
    #[serde(default, deserialize_with = "values::flag")]
    batch: bool,
}

/// [`values::flag`], for a key that has no default.
fn some_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    values::flag(deserializer).map(Some)
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { attempts = 3, delay = \"1s\", on = [502] }")]
struct Retry {
    #[serde(default, deserialize_with = "values::some_count::<_, _, 1, 100>")]
    attempts: Option<u32>,
    #[serde(default, deserialize_with = "values::some_duration::<_, 0, LONGEST>")]
    delay: Option<Duration>,
    #[serde(default)]
    on: Vec<u16>,
}

impl Route {
    /// What it comes to; `timeout` holds where it does not name one.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn resolve(self, timeout: Duration) -> Result<routing::Route, (&'static str, String)> {
        for method in &self.methods {
            if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                return Err(("methods", format!("{method:?} is not a method such as \"GET\"")));
            }
        }
        if let Some(status) = self.retry.on.iter().find(|status| !(400..=599).contains(*status)) {
            return Err(("retry.on", format!("{status} is out of range: 400 to 599")));
        }
        let timeout = self.timeout.unwrap_or(timeout);
        if timeout.is_zero() {
            return Err(("timeout", "it has to be longer than nothing".to_owned()));
        }
        if self.rescue_after.is_some_and(|rescue| rescue >= timeout) {
            return Err(("rescue_after", "it has to be shorter than the timeout".to_owned()));
        }
        let retry = routing::Retry::default();
        let retry = routing::Retry {
            attempts: self.retry.attempts.unwrap_or(retry.attempts),
            delay: self.retry.delay.unwrap_or(retry.delay),
            on: self.retry.on,
        };
        let policy = routing::Policy {
            mode: self.bgrs.unwrap_or(routing::Mode::Ask),
            rescue_after: self.rescue_after,
            timeout,
            retry,
            repeat_after_crash: self.repeat_after_crash,
            batch: self.batch,
        };
        Ok(routing::Route { path: self.path, methods: self.methods, policy })
    }
}

/// `[cors]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Cors {
    /// Origins whose pages may call; `*`: all. None: the server says nothing of CORS.
    #[serde(deserialize_with = "values::one_or_many::<_, _, 0>")]
    pub origins: Vec<String>,
    /// Whether pages may send cookies.
    #[serde(deserialize_with = "values::flag")]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    #[serde(deserialize_with = "values::duration::<_, 0, LONGEST>")]
    pub max_age: Duration,
}

impl Cors {
    /// Looks whether the origins are some.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for origin in self.origins.iter().filter(|origin| *origin != "*") {
            let url = routing::BaseUrl::try_from(origin.clone()).map_err(|_| ());
            if url.is_ok_and(|url| url.to_string() == *origin) {
                continue;
            }
            return Err(("origins", format!("{origin:?} is not an origin such as \"https://app.example\", or \"*\"")));
        }
        if self.credentials && self.origins.iter().any(|origin| origin == "*") {
            return Err(("credentials", "browsers do not take it with the origin \"*\"; name the origins".to_owned()));
        }
        Ok(())
    }
}
