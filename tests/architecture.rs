//! The direction of imports: who may know whom, and nobody in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each module with those that it may import. A circle cannot be written down here: a module comes after those it
/// knows.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("failpoint", &[]),
    ("limits", &[]),
    ("post", &[]),
    ("priority", &[]),
    ("model", &[]),
    ("routing", &["model"]),
    ("progress", &["clock", "model"]),
    ("vault", &["model"]),
    ("store", &["model", "post", "priority"]),
    ("watch", &["model", "store"]),
    ("view", &["model", "store"]),
    ("webhooks", &["vault"]),
    ("media", &["failpoint", "model", "post", "priority", "vault"]),
    ("dispatch", &["model", "priority", "progress", "routing"]),
    ("scheduler", &["model", "store"]),
    ("stats", &["clock", "model", "scheduler", "store"]),
    ("auth", &["model", "store"]),
    ("config", &["model", "routing", "store", "webhooks"]),
    ("listen", &["config"]),
    ("accounts", &["auth", "clock", "media", "store"]),
    (
        "worker",
        &[
            "auth",
            "clock",
            "dispatch",
            "failpoint",
            "media",
            "model",
            "progress",
            "routing",
            "scheduler",
            "stats",
            "store",
            "vault",
            "view",
            "watch",
            "webhooks",
        ],
    ),
    (
        "http",
        &[
            "auth",
            "clock",
            "dispatch",
            "failpoint",
            "media",
            "model",
            "priority",
            "progress",
            "routing",
            "scheduler",
            "stats",
            "store",
            "vault",
            "view",
            "watch",
            "webhooks",
        ],
    ),
    ("api", &["accounts", "clock", "http", "model", "progress", "store"]),
    (
        "app",
        &[
            "accounts",
            "auth",
            "clock",
            "config",
            "dispatch",
            "http",
            "media",
            "model",
            "scheduler",
            "stats",
            "store",
            "vault",
            "watch",
            "webhooks",
            "worker",
        ],
    ),
    ("server", &["app", "config", "limits", "listen", "priority"]),
];

/// The modules of the library by name, each with the text of all its files.
fn modules() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for entry in std::fs::read_dir(src).expect("the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        read(&path, modules.entry(name).or_default());
    }
    // The crate's roots, and the command line, which is the binary's.
    for root in ["lib", "main", "cli"] {
        modules.remove(root).expect("a root");
    }
    modules
}

fn read(path: &Path, text: &mut String) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            read(&entry.expect("an entry").path(), text);
        }
    } else {
        text.push_str(&std::fs::read_to_string(path).expect("a source file"));
    }
}

/// The modules that a text names behind `crate::`.
fn imports(text: &str) -> BTreeSet<&str> {
    let ends = |c: char| !(c.is_ascii_lowercase() || c == '_');
    text.split("crate::").skip(1).filter_map(|rest| rest.split(ends).next()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_import_only_what_they_may() {
    for (module, text) in modules() {
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no place here"));
        for import in imports(&text) {
            assert!(import == module || allowed.contains(&import), "{module} imports {import}");
        }
    }
}

#[test]
fn no_module_knows_one_that_stands_behind_it() {
    let mut known = BTreeSet::new();
    for (module, imports) in MAY_IMPORT {
        for import in *imports {
            assert!(known.contains(import), "{module} knows {import} too early");
        }
        known.insert(module);
    }
}

#[test]
fn store_media_and_dispatch_do_not_know_each_other() {
    let apart = ["store", "media", "dispatch"];
    for (module, imports) in MAY_IMPORT.iter().filter(|(module, _)| apart.contains(module)) {
        assert!(!imports.iter().any(|import| apart.contains(import)), "{module}");
    }
}
