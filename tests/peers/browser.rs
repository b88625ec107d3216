//! A browser's `fetch`, from pages of other origins: headless Chromium.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Mutex, mpsc};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::upstream::{Upstream, answer, ok};
use crate::common::{TestServer, eventually};
use crate::peer::{command, find};

/// Calls the server that its query names, in the foreground and in the background, and tells its own what it saw.
const PAGE: &str = r#"<!doctype html>
<title>A page of another origin</title>
<script>
const server = new URLSearchParams(location.search).get("server");
const headers = { Authorization: "Basic " + btoa("admin:secret") };
const say = (where, what) => fetch(where, { method: "POST", body: JSON.stringify(what) });
async function look() {
  const plain = await fetch(server + "/up/plain", { headers });
  const foreground = [plain.status, await plain.text()];
  const accepted = await fetch(server + "/up/import?bgrs=yes", {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: '{"rows": 1000}',
  });
  const request = accepted.headers.get("Location");
  for (;;) {
    const answer = await fetch(server + request + "/result", { headers });
    const rid = answer.headers.get("Bgrs-Request");
    if (rid) {
      return { foreground, accepted: accepted.status, request, rid, result: [answer.status, await answer.text()] };
    }
    const seconds = Number(answer.headers.get("Retry-After"));
    await say("/waiting", { status: answer.status, seconds });
    await new Promise((done) => setTimeout(done, seconds * 1000));
  }
}
look().catch((error) => ({ error: error.name })).then((what) => say("/seen", what));
</script>
"#;

/// A browser on one page, killed with all its processes when the test is done with it.
pub struct Browser {
    child: Child,
    _profile: TempDir,
}

impl Browser {
    pub fn open(program: &Path, url: &str) -> Self {
        let profile = TempDir::new().expect("a temporary folder");
        let mut command = command(program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--no-proxy-server", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--disable-sync"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self { child: command.spawn().expect("the browser starts"), _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The page's own server.
fn page() -> Upstream {
    Upstream::start(|seen, stream| {
        if seen.line().starts_with("GET /?") {
            answer(stream, "200 OK", "Content-Type: text/html; charset=utf-8\r\n", PAGE);
        } else {
            ok(stream, "");
        }
    })
}

/// What the page has said at this path, or at its end where it never came to that.
fn said(page: &Upstream, path: &str) -> Value {
    let is_it = |target: &str| target == path || target == "/seen";
    let said = eventually("a word of the page", || {
        page.seen().into_iter().find(|seen| seen.line().starts_with("POST ") && is_it(seen.target()))
    });
    serde_json::from_slice(&said.body).expect("JSON")
}

#[test]
fn a_page_of_an_allowed_origin_calls_with_fetch_and_one_of_another_origin_is_refused_by_the_browser() {
    let Some(program) = find("a browser's fetch", &["chromium", "chromium-browser", "google-chrome"]) else { return };
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |seen, stream| {
        if seen.target() == "/up/import" {
            let _ = opened.lock().unwrap().recv();
        }
        ok(stream, &format!("{} {}", seen.target(), String::from_utf8_lossy(&seen.body)));
    });
    let (allowed, other) = (page(), page());
    let cors = format!("[cors]\norigins = [\"http://{}\"]\n", allowed.addr());
    let server = TestServer::options().config(&(upstream.table("/up") + &cors)).start();
    let url = |page: &Upstream| format!("http://{}/?server=http://{}", page.addr(), server.addr());

    let browser = Browser::open(&program, &url(&allowed));
    assert_eq!(said(&allowed, "/waiting"), json!({"status": 202, "seconds": 1}));
    gate.send(()).unwrap();
    let seen = said(&allowed, "/seen");
    drop(browser);
    assert_eq!(seen["foreground"], json!([200, "/up/plain "]), "{seen}");
    assert_eq!(seen["accepted"], 202);
    let rid = seen["rid"].as_str().expect("an rid");
    assert_eq!(seen["request"], format!("/bgrs/{rid}"));
    assert_eq!(seen["result"], json!([200, "/up/import {\"rows\": 1000}"]));
    let lines = || -> Vec<String> { upstream.seen().iter().map(|seen| seen.line().to_owned()).collect() };
    let calls = ["GET /up/plain HTTP/1.1", "POST /up/import HTTP/1.1"];
    assert_eq!(lines(), calls, "the server answers the browser's questions itself");

    let _browser = Browser::open(&program, &url(&other));
    assert_eq!(said(&other, "/seen"), json!({"error": "TypeError"}));
    assert_eq!(lines(), calls);
}
