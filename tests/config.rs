//! The shipped `bgrs.toml` is the `Config` type: the same keys in both, each with a comment, each to be overridden.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bgrs::Config;
use bgrs::config::{DEFAULTS, Durability, Listen};
use bgrs::model::time::Keep;

/// A key of the shipped file.
struct Key<'a> {
    section: &'a str,
    name: &'a str,
    value: &'a str,
    line_before: &'a str,
}

impl Key<'_> {
    fn variable(&self) -> String {
        format!("BGRS_{}__{}", self.section, self.name).to_uppercase()
    }

    fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// The keys of the shipped file, which holds nothing but comments, sections and keys of one line.
fn keys_of_the_file() -> Vec<Key<'static>> {
    let (mut section, mut line_before, mut keys) = ("", "", Vec::new());
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').expect("a section");
        } else if !line.is_empty() && !line.starts_with('#') {
            let (name, value) = line.split_once(" = ").expect("a key and its value");
            keys.push(Key { section, name, value: value.trim_matches('"'), line_before });
        }
        line_before = line;
    }
    keys
}

/// The keys that the type knows in a section, or its sections: what it answers to one that it does not know.
fn keys_of_the_type(section: Option<&str>) -> BTreeSet<String> {
    let header = section.map(|section| format!("[{section}]\n")).unwrap_or_default();
    let error = load(&format!("{header}no_such_key = 1"), &[]).expect_err("the key is unknown");
    let (_, known) = error.split_once("there are ").expect("the keys that there are");
    known.split(", ").map(str::to_owned).collect()
}

fn load(text: &str, env: &[(String, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("bgrs.toml");
    std::fs::write(&file, text).expect("a file");
    let env = env.iter().map(|(name, value)| (name.into(), value.into()));
    Config::load(Some(&file), env).map_err(|error| error.to_string())
}

#[test]
fn the_file_and_the_type_have_the_same_keys() {
    let keys = keys_of_the_file();
    let sections: BTreeSet<_> = keys.iter().map(|key| key.section.to_owned()).collect();
    let examples = ["route", "upstream"].map(str::to_owned);
    assert_eq!(sections.iter().cloned().chain(examples).collect::<BTreeSet<_>>(), keys_of_the_type(None));
    for section in sections {
        let names = keys.iter().filter(|key| key.section == section).map(|key| key.name.to_owned());
        assert_eq!(names.collect::<BTreeSet<_>>(), keys_of_the_type(Some(&section)), "[{section}]");
    }
}

#[test]
fn the_examples_of_the_file_are_every_key_of_an_upstream_and_of_a_route() {
    let examples: String = DEFAULTS
        .lines()
        .skip_while(|line| !line.starts_with("# [["))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with("[[") || line.contains(" = "))
        .map(|line| line.split("  # ").next().unwrap_or_default().trim_end().to_owned() + "\n")
        .collect();
    for table in ["upstream", "route"] {
        let error = load(&format!("[[{table}]]\nno_such_key = 1"), &[]).expect_err("the key is unknown");
        let (_, known) = error.split_once("there are ").expect("the keys that there are");
        for key in known.split(", ") {
            assert!(examples.contains(&format!("\n{key} = ")), "{table}.{key} in\n{examples}");
        }
    }
    let right = examples.replace("http:", "https:").replace("\"local\"", "\"forward\"");
    let config = load(&right, &[]).expect("the examples are right");
    assert_eq!(config.upstreams.iter().count(), 1);
    assert!(config.policies.route("GET", "/reports/2026/export", false).is_some());
}

#[test]
fn every_key_of_the_file_has_a_comment() {
    for key in keys_of_the_file() {
        assert!(key.line_before.starts_with("# "), "{}", key.path());
    }
}

#[test]
fn the_file_by_itself_is_the_defaults() {
    let config = Config::load(None, std::iter::empty()).expect("the defaults load");
    let seconds = Duration::from_secs;
    assert_eq!(config.server.listen, [Listen::Tcp(([127, 0, 0, 1], 8080).into())]);
    assert_eq!(config.server.workers, 2);
    assert_eq!(config.server.max_body, 1 << 30);
    assert_eq!(config.server.read_timeout, seconds(30));
    assert_eq!(config.server.body_timeout, seconds(60 * 60));
    assert_eq!(config.server.shutdown_timeout, seconds(30));
    assert_eq!(config.server.max_connections, 25_000);
    assert_eq!((config.server.mount.as_str(), config.server.public_url.as_str()), ("", ""));
    assert!(config.server.trusted_proxies.is_empty() && config.server.hosted_api);
    assert!(config.cors.origins.is_empty() && !config.cors.credentials);
    assert_eq!(config.cors.max_age, seconds(60 * 60));
    assert!(config.upstreams.is_empty() && config.policies.route("GET", "/", false).is_none());
    assert_eq!(config.policies.of("GET", "/", false).timeout, seconds(6 * 60 * 60));
    assert_eq!(config.store.database, Path::new("bgrs.sqlite3"));
    assert_eq!(config.store.durability, Durability::Full);
    assert_eq!(config.store.key_file, Path::new("bgrs.key"));
    assert_eq!(config.media.dir, Path::new("media"));
    assert_eq!(config.media.keep, Keep::Month);
    assert_eq!(config.media.max_size, 0);
    assert_eq!(config.background.concurrency, 64);
    assert_eq!(config.background.queue, 100_000);
    assert_eq!(config.background.per_user, 10_000);
    assert_eq!(config.background.attempts, 3);
    assert_eq!(config.background.timeout, seconds(6 * 60 * 60));
    assert_eq!(config.background.threads, 2);
    assert_eq!(config.background.auto_wait, seconds(20));
    assert_eq!(config.background.max_wait, seconds(60));
}

#[test]
fn every_key_may_be_left_out_and_be_set_by_its_variable() {
    for key in keys_of_the_file() {
        load("", &[(key.variable(), key.value.trim_matches(['[', ']']))]).expect("the default, from a variable");
    }
}

#[test]
fn a_variable_that_sets_nothing_is_refused_in_one_line_that_names_it_and_its_key() {
    for key in keys_of_the_file().into_iter().filter(|key| !["", "[]"].contains(&key.value)) {
        let error = load("", &[(key.variable(), "")]).expect_err("an empty value is none");
        assert!(error.starts_with(&format!("{} ({}): ", key.path(), key.variable())), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
