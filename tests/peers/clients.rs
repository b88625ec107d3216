//! The recipes of docs/clients.md, each as it stands there, run by the programs that it is for.

mod callbacks;
mod ends;
mod tools;
mod way;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::browser::Browser;
use crate::common::data_dir::run;
use crate::common::eventually;
use crate::common::left_out::left_out;
use crate::common::upstream::{Upstream, answer, ok};
use crate::peer::{command, find};

const CLIENTS: &str = include_str!("../../docs/clients.md");

/// Gives a recipe its variables by its own query, and says how it has ended and what it has said and stored. One that
/// receives callbacks is handed a delivery.
const PAGE: &str = r#"<!doctype html>
<title>A page with a recipe in it</title>
<script type="module">
const env = Object.fromEntries(new URLSearchParams(location.search));
globalThis.process = { env };
let [code, said] = [0, ""];
console.log = console.error = (line) => (said += `${line}\n`);
try {
  const { receive } = await import("/recipe.js");
  if (receive) {
    const { headers, body } = JSON.parse(env.DELIVERY);
    const answer = await receive(new Request("/", { method: "POST", headers, body }));
    console.log(`answered ${answer.status}`);
  }
} catch (error) {
  [code, said] = [1, said + error.message];
}
const folder = await navigator.storage.getDirectory();
const file = await folder.getFileHandle("export.csv").then((handle) => handle.getFile(), () => null);
if (file?.size) await fetch("/file", { method: "POST", body: file });
await fetch(`/end?${code}`, { method: "POST", body: said });
</script>
"#;

/// The recipes of the page by their names.
fn recipes() -> BTreeMap<&'static str, &'static str> {
    let recipe = |part: &'static str| {
        let (name, rest) = part.split_once(" -->\n```").expect("a block of code behind its marker");
        let (_, rest) = rest.split_once('\n').expect("its first line");
        let end = rest.find("\n```\n").expect("its end");
        (name, &rest[..=end])
    };
    CLIENTS.split("<!-- recipe: ").skip(1).map(recipe).collect()
}

#[track_caller]
fn recipe(name: &str) -> &'static str {
    recipes().get(name).copied().unwrap_or_else(|| panic!("there is no recipe {name}"))
}

/// The program of the recipes for curl.
#[track_caller]
fn bash() -> Option<PathBuf> {
    find("the recipes for curl", &["curl"])?;
    find("the recipes for curl", &["bash"])
}

#[track_caller]
fn chromium() -> Option<PathBuf> {
    find("the recipes for JavaScript in a page", &["chromium", "chromium-browser", "google-chrome"])
}

/// A Node that has what browsers have.
#[track_caller]
fn node() -> Option<PathBuf> {
    let script = "process.exit(globalThis.crypto ? 0 : 1)";
    let output = Command::new("node").args(["-e", script]).output();
    let found = output.is_ok_and(|output| output.status.success()).then(|| PathBuf::from("node"));
    if found.is_none() {
        left_out("the recipes for JavaScript in Node", "a node with WebCrypto");
    }
    found
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

/// The file that the API gives.
fn rows() -> String {
    (0..5_000).map(|n| format!("{n},scan\n")).collect()
}

/// How a recipe has ended: its exit code, all that it said, and the file that it made.
struct Ran {
    code: i32,
    said: String,
    file: Option<String>,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.said);
        self
    }

    #[track_caller]
    fn says(&self, what: &str) {
        assert!(self.said.contains(what), "no {what:?} in: {}", self.said);
    }
}

/// Runs a recipe as a file of this name, with these variables, in a folder of its own.
fn execute(program: &Path, name: &str, recipe: &str, variables: &[(&str, String)]) -> Ran {
    let dir = TempDir::new().expect("a temporary folder");
    fs::write(dir.path().join(name), recipe).expect("a file");
    let mut command = command(program);
    command.current_dir(dir.path()).arg(name).envs(variables.iter().map(|(name, value)| (name, value)));
    let ended = run(command, "");
    let file = fs::read_to_string(dir.path().join("export.csv")).ok();
    Ran { code: ended.code.expect("an exit code"), said: ended.stdout + &ended.stderr, file }
}

/// The server of the page with this recipe.
fn page(recipe: &'static str) -> Upstream {
    Upstream::start(move |seen, stream| match seen.target() {
        "/recipe.js" => answer(stream, "200 OK", "Content-Type: text/javascript\r\n", recipe),
        target if target.starts_with("/?") => {
            answer(stream, "200 OK", "Content-Type: text/html; charset=utf-8\r\n", PAGE);
        }
        _ => ok(stream, ""),
    })
}

/// Lets such a page be called.
fn cors(page: &Upstream) -> String {
    format!("[cors]\norigins = [\"{}\"]\n", url(page.addr()))
}

/// Has a browser run the recipe of a page.
fn browse(program: &Path, page: &Upstream, variables: &[(&str, String)]) -> Ran {
    let before = page.seen().len();
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.extend_pairs(variables).finish();
    let _browser = Browser::open(program, &format!("{}/?{query}", url(page.addr())));
    let said = |place: &str| page.seen().into_iter().skip(before).find(|seen| seen.target().starts_with(place));
    let end = eventually("the end of the recipe in a page", || said("/end?"));
    let file = said("/file").map(|seen| String::from_utf8(seen.body).expect("a file in UTF-8"));
    let code = i32::from(!end.target().ends_with('0'));
    Ran { code, said: String::from_utf8_lossy(&end.body).into_owned(), file }
}

#[test]
fn each_block_of_code_on_the_page_is_a_recipe_and_each_recipe_is_executed_here() {
    let recipes = recipes();
    assert_eq!(CLIENTS.matches("\n```").count(), 2 * recipes.len(), "a block has no marker, or two have one name");
    let tests =
        [include_str!("clients/callbacks.rs"), include_str!("clients/ends.rs"), include_str!("clients/tools.rs")];
    for name in recipes.keys() {
        let call = format!("recipe(\"{name}\")");
        assert!(tests.iter().any(|tests| tests.contains(&call)), "{name} is not executed");
    }
}
