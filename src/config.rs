//! The configuration: the shipped `bgrs.toml` is the layer of defaults, under the file, under the environment.

mod gateway;
mod values;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use config::{ConfigError, File, FileFormat};
use serde::Deserialize;

pub use self::gateway::Cors;
use self::values::LONGEST;
use crate::model::time::Keep;
use crate::routing::{Policies, Policy, Proxy, Upstreams};
pub use crate::store::sqlite::Durability;
use crate::webhooks::{Network, Secret};

/// The file that ships, with every key.
pub const DEFAULTS: &str = include_str!("../bgrs.toml");

/// What is wrong with the configuration: one line that names the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP side.
    pub server: Server,
    /// The rows.
    pub store: Store,
    /// The bytes.
    pub media: Media,
    /// The work.
    pub background: Background,
    /// Who is told of ends.
    pub webhooks: Webhooks,
    /// Pages of other origins.
    pub cors: Cors,
    /// The APIs behind the server.
    pub upstreams: Upstreams,
    /// What holds for which calls.
    pub policies: Policies,
}

/// The configuration as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct Written {
    server: Server,
    store: Store,
    media: Media,
    background: Background,
    webhooks: Webhooks,
    cors: Cors,
    #[serde(default)]
    upstream: Vec<gateway::Upstream>,
    #[serde(default)]
    route: Vec<gateway::Route>,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Server {
    /// Where to listen.
    #[serde(deserialize_with = "values::one_or_many::<_, _, 1>")]
    pub listen: Vec<Listen>,
    /// Threads that serve HTTP.
    #[serde(deserialize_with = "values::count::<_, _, 1, 64>")]
    pub workers: usize,
    /// Bytes of a stored body at most.
    #[serde(deserialize_with = "values::bytes::<_, 1>")]
    pub max_body: u64,
    /// The longest silence within a body.
    #[serde(deserialize_with = "values::duration::<_, 1, LONGEST>")]
    pub read_timeout: Duration,
    /// The longest that a whole body may take.
    #[serde(deserialize_with = "values::duration::<_, 1, LONGEST>")]
    pub body_timeout: Duration,
    /// How long calls under way have to end.
    #[serde(deserialize_with = "values::duration::<_, 0, LONGEST>")]
    pub shutdown_timeout: Duration,
    /// The longest that a client may take nothing of an answer.
    #[serde(deserialize_with = "values::duration::<_, 1, LONGEST>")]
    pub write_timeout: Duration,
    /// Connections of each HTTP thread at most.
    #[serde(deserialize_with = "values::count::<_, _, 1, 1_000_000>")]
    pub max_connections: usize,
    /// What stands before the server's own routes; empty, or with a slash in front and none behind.
    #[serde(deserialize_with = "values::mount")]
    pub mount: String,
    /// The server's address as upstreams see it, without a slash at its end; empty: where it listens.
    #[serde(deserialize_with = "values::public_url")]
    pub public_url: String,
    /// The proxies in front whose `X-Forwarded-…` count.
    #[serde(deserialize_with = "values::one_or_many::<_, _, 0>")]
    pub trusted_proxies: Vec<Proxy>,
    /// Whether the server hosts its own API.
    #[serde(deserialize_with = "values::flag")]
    pub hosted_api: bool,
}

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Store {
    /// The SQLite file.
    #[serde(deserialize_with = "values::path")]
    pub database: PathBuf,
    /// What a committed row survives.
    #[serde(deserialize_with = "values::choice")]
    pub durability: Durability,
    /// The key that stored bodies are encrypted with.
    #[serde(deserialize_with = "values::path")]
    pub key_file: PathBuf,
}

/// `[media]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Media {
    /// The folder.
    #[serde(deserialize_with = "values::path")]
    pub dir: PathBuf,
    /// How long results are kept.
    #[serde(deserialize_with = "values::choice")]
    pub keep: Keep,
    /// Bytes that results may take in all; 0: as many as the disk has.
    #[serde(deserialize_with = "values::bytes::<_, 0>")]
    pub max_size: u64,
}

/// `[background]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Background {
    /// Requests running at once.
    #[serde(deserialize_with = "values::count::<_, _, 1, 10_000>")]
    pub concurrency: usize,
    /// Requests waiting at most.
    #[serde(deserialize_with = "values::count::<_, _, 1, 10_000_000>")]
    pub queue: usize,
    /// Requests of one user at most, waiting or running.
    #[serde(deserialize_with = "values::count::<_, _, 1, 10_000_000>")]
    pub per_user: usize,
    /// Attempts in all after crashes.
    #[serde(deserialize_with = "values::count::<_, _, 1, 100>")]
    pub attempts: u32,
    /// The longest that a request may run.
    #[serde(deserialize_with = "values::duration::<_, 1, LONGEST>")]
    pub timeout: Duration,
    /// Threads on which background calls of the hosted API run.
    #[serde(deserialize_with = "values::count::<_, _, 1, 64>")]
    pub threads: usize,
    /// How long an answer is held for `bgrs=auto`.
    #[serde(deserialize_with = "values::duration::<_, 0, LONGEST>")]
    pub auto_wait: Duration,
    /// The longest hold that a caller may ask for.
    #[serde(deserialize_with = "values::duration::<_, 0, LONGEST>")]
    pub max_wait: Duration,
}

/// `[webhooks]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Webhooks {
    /// What callbacks are signed with, `whsec_…`; none: what is in the file.
    #[serde(deserialize_with = "values::secret")]
    pub secret: Option<Secret>,
    /// Where one is kept that was made at the first start.
    #[serde(deserialize_with = "values::path")]
    pub secret_file: PathBuf,
    /// Nets that callbacks may lead to, beside the public one.
    #[serde(deserialize_with = "values::one_or_many::<_, _, 0>")]
    pub allow: Vec<Network>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address with its port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let expected = "an address with its port (127.0.0.1:8080) or unix:/path is expected";
        text.parse().map(Self::Tcp).map_err(|_| format!("{text:?} is not a place to listen: {expected}"))
    }
}

impl Config {
    /// Reads the configuration from a file, if one is named, and from environment variables.
    ///
    /// # Errors
    /// What is wrong with it, in one line that names the key.
    pub fn load(file: Option<&Path>, env: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, Error> {
        let defaults = layer("the shipped bgrs.toml", DEFAULTS)?;
        let mut layers = config::Config::builder().add_source(defaults.clone());
        if let Some(path) = file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|e| one_line(&format!("--config: {name}: {e}")))?;
            layers = layers.add_source(layer(&name, &text)?);
        }
        let mut variables = HashMap::new();
        for (variable, value) in env {
            // A key's variable is plain text; one that is not is another program's.
            let Ok(variable) = variable.into_string() else { continue };
            let Some(key) = key_of(&variable) else { continue };
            let wrong = |what: &str| one_line(&format!("{variable}: {what}"));
            let value = value.into_string().map_err(|_| wrong("its value is not UTF-8"))?;
            if defaults.get::<config::Value>(&key).is_err() {
                return Err(wrong(&format!("there is no key {key}; bgrs.toml shows those there are")));
            }
            layers = layers.set_override(&key, value).map_err(|error| wrong(&reason(&error)))?;
            variables.insert(key, variable);
        }
        let merged = layers.build().map_err(|error| one_line(&reason(&error)))?;
        let written: Written = serde_path_to_error::deserialize(merged).map_err(|error| named(&error, &variables))?;
        written.resolve(file.and_then(Path::parent).unwrap_or(Path::new("")))
    }
}

impl Written {
    /// Makes relative paths relative to the file, and looks at what goes beyond one key.
    fn resolve(self, folder: &Path) -> Result<Config, Error> {
        let wrong = |section: &str, (key, why): (&str, String)| one_line(&format!("{section}.{key}: {why}"));
        let upstreams = self.upstream.into_iter().enumerate().map(|(index, upstream)| {
            upstream.resolve(folder).map_err(|error| wrong(&format!("upstream[{index}]"), error))
        });
        let upstreams = upstreams.collect::<Result<_, _>>()?;
        let timeout = self.background.timeout;
        let routes = self
            .route
            .into_iter()
            .enumerate()
            .map(|(index, route)| route.resolve(timeout).map_err(|error| wrong(&format!("route[{index}]"), error)));
        let routes = routes.collect::<Result<_, _>>()?;
        self.cors.check().map_err(|error| wrong("cors", error))?;
        let mut config = Config {
            server: self.server,
            store: self.store,
            media: self.media,
            background: self.background,
            webhooks: self.webhooks,
            cors: self.cors,
            upstreams: Upstreams::new(upstreams).map_err(|why| one_line(&format!("upstream: {why}")))?,
            policies: Policies::new(routes, Policy::new(timeout)).map_err(|why| one_line(&format!("route: {why}")))?,
        };
        config.resolve(folder);
        Ok(config)
    }
}

impl Config {
    /// Makes relative paths relative to the file.
    fn resolve(&mut self, folder: &Path) {
        let files = [&mut self.store.database, &mut self.store.key_file, &mut self.media.dir];
        for path in files.into_iter().chain([&mut self.webhooks.secret_file]) {
            *path = folder.join(&*path);
        }
        for listen in &mut self.server.listen {
            if let Listen::Unix(path) = listen {
                *path = folder.join(&*path);
            }
        }
    }
}

/// `server.listen` of `BGRS_SERVER__LISTEN`; `None` for a variable that is no key's.
fn key_of(variable: &str) -> Option<String> {
    let (section, key) = variable.strip_prefix("BGRS_")?.split_once("__")?;
    Some(format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

/// Reads the text of one layer; `name` is what its errors begin with.
fn layer(name: &str, text: &str) -> Result<config::Config, Error> {
    parsed(text).map_err(|error| one_line(&format!("{name}: {}", misspelt(text, &error.to_string()))))
}

fn parsed(text: &str) -> Result<config::Config, ConfigError> {
    config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build()
}

/// The place and the reason of a TOML error, without the drawing of the line in between.
fn misspelt(text: &str, report: &str) -> String {
    if let Some(located) = report.strip_prefix("TOML parse error at ") {
        let place = located.lines().next().unwrap_or_default();
        let what: Vec<_> = located.lines().skip(4).collect();
        return format!("{place}: {}", what.join(", "));
    }
    // A number that is too large comes without its place: it is in the line that fails in the same way by itself.
    let alike = |line: &str| parsed(line).is_err_and(|error| error.to_string() == report);
    match text.lines().enumerate().find(|(_, line)| alike(line)) {
        Some((index, line)) => {
            let key = line.split('=').next().unwrap_or_default().trim();
            format!("line {}: {key}: {report}", index + 1)
        }
        None => report.to_owned(),
    }
}

/// What is wrong, without the key: that is named once, in front.
fn reason(error: &ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => reason(error),
        ConfigError::Type { unexpected, expected, .. } => format!("invalid type: {unexpected}, expected {expected}"),
        other => other.to_string(),
    }
}

/// The key that is not there, where that is what is wrong.
fn missing(error: &ConfigError) -> Option<&str> {
    match error {
        ConfigError::At { error, .. } => missing(error),
        ConfigError::NotFound(field) => Some(field),
        _ => None,
    }
}

/// Puts the whole key, and the variable that set it, before what is wrong with it.
fn named(error: &serde_path_to_error::Error<ConfigError>, variables: &HashMap<String, String>) -> Error {
    let (mut key, reason) = (error.path().to_string(), reason(error.inner()));
    let what = match missing(error.inner()) {
        Some(field) => {
            let field = field.strip_prefix(&key).unwrap_or(field).to_owned();
            key = format!("{key}.{field}");
            "is missing, and has no default".to_owned()
        }
        None => unknown_key(&reason).unwrap_or(reason),
    };
    match variables.get(&key) {
        Some(variable) => one_line(&format!("{key} ({variable}): {what}")),
        None => one_line(&format!("{key}: {what}")),
    }
}

/// Says serde's "unknown field" in the words of a configuration, with the keys there are.
fn unknown_key(reason: &str) -> Option<String> {
    let (_, known) = reason.strip_prefix("unknown field `")?.rsplit_once("`, expected ")?;
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    Some(format!("unknown key; there are {}", known.join(", ")))
}

/// Keys and values are quoted from the file, and may hold anything.
fn one_line(text: &str) -> Error {
    Error(text.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bgrs.toml");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(name, value)| (name.into(), value.into()));
        Config::load(Some(&path), env).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_the_key() {
        for (text, key) in [
            ("[server]\nlisten = \"nowhere\"", "server.listen"),
            ("[server]\nlisten = [\"127.0.0.1:1\", 5]", "server.listen"),
            ("[server]\nlisten = []", "server.listen"),
            ("[server]\nlisen = \"x\"", "server.lisen"),
            ("[server]\nmax_body = \"much\"", "server.max_body"),
            ("[server]\nshutdown_timeout = \"soon\"", "server.shutdown_timeout"),
            ("[store]\ndurability = \"none\"", "store.durability"),
            ("[media]\nkeep = \"2m\"", "media.keep"),
            ("[background]\nconcurrency = 0", "background.concurrency"),
            ("[background]\nqueue = -1", "background.queue"),
            ("[background]\nqueue = 1.5", "background.queue"),
            ("[background]\nqueue = true", "background.queue"),
            ("[background]\nqueue = 99999999999999999999", "line 2: queue"),
            ("[background]\nattempts = 101", "background.attempts"),
            ("[background]\nmax_wait = \"31days\"", "background.max_wait"),
            ("[server]\nmax_body = 0", "server.max_body"),
            ("[server]\n\"a\\nb\" = 1", "server.a b"),
            ("[media]\ndir = \"\"", "media.dir"),
            ("[store]\ndatabase = 5", "store.database"),
            ("server = 5", "server"),
            ("[background]\ntimeout = \"0s\"", "background.timeout"),
            ("[background]\nper_user = \"many\"", "background.per_user"),
            ("[server]\nmount = \"/a/\"", "server.mount"),
            ("[server]\npublic_url = \"here\"", "server.public_url"),
            ("[server]\ntrusted_proxies = [\"10.0.0.0/40\"]", "server.trusted_proxies"),
            ("[server]\nhosted_api = 1", "server.hosted_api"),
            ("[cors]\norigins = [\"app.example\"]", "cors.origins"),
            ("[cors]\norigins = [\"*\"]\ncredentials = true", "cors.credentials"),
            ("[[upstream]]\nprefix = \"/a\"", "upstream[0].url"),
            ("[[upstream]]\nurl = \"http://a\"", "upstream[0].prefix"),
            ("[[route]]\nbgrs = \"never\"", "route[0].path"),
            ("[server]\nlisten = \" , \"", "server.listen"),
            ("[server]\nlisten = \"127.0.0.1:1,nowhere\"", "server.listen"),
            ("[[upstream]]\nprefix = \"a\"\nurl = \"http://b\"", "upstream[0].prefix"),
            ("[[upstream]]\nprefix = \"/{a}\"\nurl = \"http://b\"", "upstream[0].prefix"),
            ("[[upstream]]\nprefix = \"/a\"\nurl = \"b\"", "upstream[0].url"),
            ("[[upstream]]\nprefix = \"/a\"\nurl = \"http://b\"\nauth = \"forward\"", "upstream[0].auth_check"),
            ("[[upstream]]\nprefix = \"/a\"\nurl = \"http://b\"\nauth_user = \"/id\"", "upstream[0].auth_user"),
            ("[[upstream]]\nprefix = \"/a\"\nurl = \"http://b\"\nca = \"ca.pem\"", "upstream[0].ca"),
            ("[[upstream]]\nprefix = \"/a\"\nurl = \"http://b\"\nauth = \"none\"", "upstream[0].auth"),
            ("[[route]]\npath = \"/a\"\nbgrs = \"maybe\"", "route[0].bgrs"),
            ("[[route]]\npath = \"/a\"\nmethods = [\"get\"]", "route[0].methods"),
            ("[[route]]\npath = \"/a\"\nrescue_after = \"7h\"", "route[0].rescue_after"),
            ("[[route]]\npath = \"/a\"\nretry = { attempts = 0 }", "route[0].retry.attempts"),
            ("[[route]]\npath = \"/a\"\nretry = { on = [200] }", "route[0].retry.on"),
            ("[[route]]\npath = \"/a\"\n[[route]]\npath = \"/a\"", "route"),
            ("[colour]\nx = 1", "colour"),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains(&format!("{key}: ")), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_comes_with_what_would_be_right() {
        for (text, right) in [
            ("[media]\nkep = \"1m\"", "media.kep: unknown key; there are dir, keep, max_size"),
            ("[media]\nkeep = \"2m\"", "media.keep: unknown value `2m`, expected one of `1d`, `1w`, `1m`, `1y`"),
            ("[store]\ndurability = \"no\"", "store.durability: unknown value `no`, expected `full` or `normal`"),
            ("[server]\nworkers = 65", "server.workers: 65 is out of range: 1 to 64"),
            ("[background]\ntimeout = \"31days\"", "background.timeout: 31days is out of range: 1s to 30days"),
        ] {
            assert_eq!(load(text, &[]).unwrap_err(), right);
        }
    }

    #[test]
    fn what_is_no_toml_is_said_with_the_file_and_the_line() {
        for text in ["[store]\n[server", "[server]\nlisten =", "[server]\nlisten = \"a"] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains("bgrs.toml: line 2, column"), "{text}: {error}");
            assert!(!error.contains(['\n', '|', '^']), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = Config::load(Some(Path::new("no/such.toml")), std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains("no/such.toml"), "{error}");
    }

    #[test]
    fn the_environment_overrides_and_its_unknown_keys_are_named() {
        let config = load(
            "[background]\nqueue = 7",
            &[("BGRS_BACKGROUND__QUEUE", "9"), ("BGRS_SERVER__LISTEN", "127.0.0.1:1"), ("BGRS_ADMIN_PASSWORD", "x")],
        )
        .unwrap();
        assert_eq!(config.background.queue, 9);
        assert_eq!(config.server.listen, [Listen::Tcp("127.0.0.1:1".parse().unwrap())]);
        assert!(load("", &[("BGRS_SERVER__COLOUR", "red")]).unwrap_err().contains("BGRS_SERVER__COLOUR"));
        for wrong in ["x", "0", "1.5", ""] {
            let error = load("", &[("BGRS_BACKGROUND__QUEUE", wrong)]).unwrap_err();
            assert!(error.starts_with("background.queue (BGRS_BACKGROUND__QUEUE): "), "{error}");
        }
    }

    #[test]
    fn a_variable_that_is_no_text_is_refused_where_it_is_ours_and_passed_over_elsewhere() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(vec![0xff]);
        let load = |name: OsString| Config::load(None, [(name, broken())].into_iter());
        let error = load("BGRS_SERVER__LISTEN".into()).unwrap_err().to_string();
        assert_eq!(error, "BGRS_SERVER__LISTEN: its value is not UTF-8");
        assert!(load("PATH".into()).is_ok());
        assert!(load(broken()).is_ok());
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let config = load("[media]\ndir = \"/absolute\"\n[server]\nlisten = \"unix:a.sock\"", &[]).unwrap();
        assert!(config.store.database.is_absolute());
        assert_eq!(config.media.dir, Path::new("/absolute"));
        assert!(matches!(&config.server.listen[0], Listen::Unix(path) if path.is_absolute()));
    }
}
