//! The configuration: the shipped `bgrs.toml` is the layer of defaults, under the file, under the environment.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use config::{File, FileFormat};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::model::time::Keep;
pub use crate::store::sqlite::Durability;

/// The file that ships, with every key.
pub const DEFAULTS: &str = include_str!("../bgrs.toml");

/// What is wrong with the configuration: one line that names the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The HTTP side.
    pub server: Server,
    /// The rows.
    pub store: Store,
    /// The bytes.
    pub media: Media,
    /// The work.
    pub background: Background,
}

/// `[server]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where to listen.
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<Listen>,
    /// Threads that serve HTTP.
    pub workers: usize,
    /// Bytes of a stored body at most.
    #[serde(deserialize_with = "bytes")]
    pub max_body: u64,
    /// The longest silence within a body.
    #[serde(deserialize_with = "duration")]
    pub read_timeout: Duration,
    /// The longest that a whole body may take.
    #[serde(deserialize_with = "duration")]
    pub body_timeout: Duration,
    /// How long calls under way have to end.
    #[serde(deserialize_with = "duration")]
    pub shutdown_timeout: Duration,
    /// Connections of each HTTP thread at most.
    pub max_connections: usize,
}

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The SQLite file.
    pub database: PathBuf,
    /// What a committed row survives.
    pub durability: Durability,
    /// The key that stored bodies are encrypted with.
    pub key_file: PathBuf,
}

/// `[media]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// The folder.
    pub dir: PathBuf,
    /// How long results are kept.
    pub keep: Keep,
    /// Bytes that results may take in all; 0: as many as the disk has.
    #[serde(deserialize_with = "bytes")]
    pub max_size: u64,
}

/// `[background]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// Requests running at once.
    pub concurrency: usize,
    /// Requests waiting at most.
    pub queue: usize,
    /// Requests of one user at most, waiting or running.
    pub per_user: usize,
    /// Attempts in all after crashes.
    pub attempts: u32,
    /// The longest that a request may run.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Threads on which background calls of the hosted API run.
    pub threads: usize,
    /// How long an answer is held for `bgrs=auto`.
    #[serde(deserialize_with = "duration")]
    pub auto_wait: Duration,
    /// The longest hold that a caller may ask for.
    #[serde(deserialize_with = "duration")]
    pub max_wait: Duration,
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
    pub fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self, Error> {
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let known = config::Config::builder().add_source(defaults.clone()).build().map_err(one_line)?;
        let mut layers = config::Config::builder().add_source(defaults);
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(path).map_err(|e| Error(format!("--config: {}: {e}", path.display())))?;
            layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
        }
        for (variable, value) in env {
            let Some(key) = key_of(&variable) else { continue };
            if known.get::<config::Value>(&key).is_err() {
                return Err(Error(format!("{variable}: there is no key {key}; bgrs.toml shows those there are")));
            }
            layers = layers.set_override(&key, value).map_err(one_line)?;
        }
        let merged = layers.build().map_err(one_line)?;
        let mut config: Self = serde_path_to_error::deserialize(merged).map_err(|error| named(&error))?;
        config.check()?;
        config.resolve(file.and_then(Path::parent).unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Holds numbers and durations to what the server can do.
    fn check(&self) -> Result<(), Error> {
        let (server, background) = (&self.server, &self.background);
        within("server.workers", server.workers, 1, 64)?;
        within("server.max_connections", server.max_connections, 1, 1_000_000)?;
        within("background.concurrency", background.concurrency, 1, 10_000)?;
        within("background.queue", background.queue, 1, 10_000_000)?;
        within("background.per_user", background.per_user, 1, 10_000_000)?;
        within("background.attempts", background.attempts as usize, 1, 100)?;
        within("background.threads", background.threads, 1, 64)?;
        lasts("server.read_timeout", server.read_timeout)?;
        lasts("server.body_timeout", server.body_timeout)?;
        lasts("background.timeout", background.timeout)?;
        if server.max_body == 0 {
            return Err(Error("server.max_body: 0 is out of range: at least 1 byte".to_owned()));
        }
        if server.listen.is_empty() {
            return Err(Error("server.listen: the list is empty: name at least one address".to_owned()));
        }
        for (key, path) in [
            ("store.database", &self.store.database),
            ("store.key_file", &self.store.key_file),
            ("media.dir", &self.media.dir),
        ] {
            if path.as_os_str().is_empty() {
                return Err(Error(format!("{key}: the path is empty")));
            }
        }
        Ok(())
    }

    /// Makes relative paths relative to the file.
    fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.store.database, &mut self.store.key_file, &mut self.media.dir] {
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

fn within(key: &str, value: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error(format!("{key}: {value} is out of range: {least} to {most}")))
}

/// A thirty days' timeout is the longest that makes sense, and far from where clocks overflow.
fn lasts(key: &str, value: Duration) -> Result<(), Error> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    if (Duration::from_secs(1)..=LONGEST).contains(&value) {
        return Ok(());
    }
    Err(Error(format!("{key}: {} is out of range: 1s to 30days", humantime::format_duration(value))))
}

fn one_line(error: impl fmt::Display) -> Error {
    Error(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Puts the whole key before what is wrong with it.
fn named(error: &serde_path_to_error::Error<config::ConfigError>) -> Error {
    let (path, message) = (error.path().to_string(), error.inner().to_string());
    let path = if path == "." { String::new() } else { path };
    match message.split('`').nth(1).filter(|_| message.starts_with("unknown field")) {
        Some(key) if path.is_empty() => one_line(format!("{key}: this key is unknown ({message})")),
        Some(key) if path.ends_with(key) => one_line(format!("{path}: this key is unknown ({message})")),
        Some(key) => one_line(format!("{path}.{key}: this key is unknown ({message})")),
        None => one_line(format!("{path}: {message}")),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| de::Error::custom(format!("{text:?} is not a duration such as \"30s\", \"20m\" or \"6h\"")))
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size: Result<ByteSize, _> = text.parse();
    size.map(|size| size.as_u64())
        .map_err(|_| de::Error::custom(format!("{text:?} is not a size such as \"512 MiB\" or \"1 GiB\"")))
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Listen>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<Listen>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address, or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse().map(|listen| vec![listen]).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = seq.next_element::<String>()? {
                all.push(text.parse().map_err(de::Error::custom)?);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bgrs.toml");
        std::fs::write(&path, text).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
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
            ("[background]\ntimeout = \"0s\"", "background.timeout"),
            ("[background]\nper_user = \"many\"", "background.per_user"),
            ("[[upstream]]\nprefix = \"/a\"", "upstream"),
            ("[colour]\nx = 1", "colour"),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
        assert!(!load("[server\n", &[]).unwrap_err().contains('\n'));
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
        assert!(load("", &[("BGRS_BACKGROUND__QUEUE", "x")]).unwrap_err().contains("background.queue"));
    }

    #[test]
    fn every_key_of_the_type_stands_in_the_shipped_file_with_a_comment() {
        // A key that the file lacks would be a missing field; one that the type lacks would be unknown.
        Config::load(None, std::iter::empty()).unwrap();
        let mut before = "";
        for line in DEFAULTS.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(before.starts_with("# "), "{line} has no comment");
            }
            before = line;
        }
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let config = load("[media]\ndir = \"/absolute\"\n[server]\nlisten = \"unix:a.sock\"", &[]).unwrap();
        assert!(config.store.database.is_absolute());
        assert_eq!(config.media.dir, Path::new("/absolute"));
        assert!(matches!(&config.server.listen[0], Listen::Unix(path) if path.is_absolute()));
    }
}
