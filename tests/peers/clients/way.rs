//! An API whose calls come to every end, and the way to the server, on which one thing or another goes wrong.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{rows, url};
use crate::common::events::Reporter;
use crate::common::http::exchange;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Seen, Upstream, answer, ok, wait_for_close};
use crate::common::{Call, until};

/// What the API reports while it is at work.
pub const REPORT: &str = "425 of 1000 imported";

/// What goes wrong between a recipe and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    Nothing,
    /// The first answer to a submission is lost.
    Loses,
    /// The first answer to a GET whose path ends so breaks off in the middle.
    Cuts(&'static str),
    /// The request that is asked about has expired.
    Forgets,
}

/// Everything that has come through to a recipe.
pub type Told = Arc<Mutex<String>>;

/// What stands between a recipe and the server.
pub struct Way {
    pub relay: Upstream,
    trick: Arc<Mutex<Trick>>,
}

impl Way {
    pub fn start(server: SocketAddr, told: &Told) -> Self {
        let trick = Arc::new(Mutex::new(Trick::Nothing));
        let (told, tricked) = (told.clone(), trick.clone());
        let relay = Upstream::start(move |seen, stream| {
            let due = due(&tricked, seen);
            // There is none once the test is over.
            let answer = exchange(server, &passed_on(seen, due)).unwrap_or_default();
            let length = match due {
                Trick::Loses => 0,
                Trick::Cuts(_) => answer.len() / 2,
                Trick::Nothing | Trick::Forgets => answer.len(),
            };
            let _ = stream.write_all(&answer[..length]);
            let _ = stream.shutdown(Shutdown::Both);
            told.lock().expect("what was told").push_str(&String::from_utf8_lossy(&answer[..length]));
        });
        Self { relay, trick }
    }

    pub fn url(&self) -> String {
        url(self.relay.addr())
    }

    pub fn play(&self, trick: Trick) {
        *self.trick.lock().expect("a trick") = trick;
    }

    /// Asserts that what was to go wrong once did so.
    #[track_caller]
    pub fn assert_played(&self) {
        let left = *self.trick.lock().expect("a trick");
        assert!(matches!(left, Trick::Nothing | Trick::Forgets), "{left:?}");
    }
}

/// What is to be done to this call. What happens once is over then.
fn due(trick: &Mutex<Trick>, seen: &Seen) -> Trick {
    let mut trick = trick.lock().expect("a trick");
    let is_due = match *trick {
        Trick::Loses => seen.header("Idempotency-Key").is_some(),
        Trick::Cuts(end) => seen.line().starts_with("GET ") && seen.target().ends_with(end),
        Trick::Nothing => false,
        Trick::Forgets => return Trick::Forgets,
    };
    if is_due { std::mem::replace(&mut *trick, Trick::Nothing) } else { Trick::Nothing }
}

/// The call as the server gets it, over a connection of its own.
fn passed_on(seen: &Seen, due: Trick) -> Vec<u8> {
    let lines = seen.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let mut head: Vec<String> = lines.map(str::to_owned).collect();
    head.push("Connection: close\r\n\r\n".to_owned());
    let rid = seen.target().strip_prefix("/bgrs/").and_then(|rest| rest.get(..32));
    if let Some(rid) = rid.filter(|_| due == Trick::Forgets) {
        head[0] = head[0].replace(rid, &"0".repeat(32));
    }
    [head.join("\r\n").as_bytes(), seen.body.as_slice()].concat()
}

/// An API whose calls come to every end; the one that succeeds waits until what it reported has been told.
pub fn api(told: &Told) -> Upstream {
    let told = told.clone();
    let is_told = move || {
        let told = told.lock().expect("what was told");
        told.contains("\"42.50\"") && told.contains(REPORT)
    };
    Upstream::start(move |seen, stream| match seen.target() {
        "/up/import" => {
            Reporter::of(seen).say(&json!({ "progress": 42.5, "details": REPORT }));
            until("the recipe to be told of the report", &is_told);
            ok(stream, &rows());
        }
        "/up/refused" => answer(stream, "422 Unprocessable Content", "Content-Type: text/plain\r\n", "no such year"),
        "/up/broken" => {
            let _ = stream.shutdown(Shutdown::Both);
        }
        "/up/cancelled" => {
            cancel(seen);
            wait_for_close(stream);
        }
        _ => wait_for_close(stream),
    })
}

/// Cancels the request that this call is made for, as its owner may.
fn cancel(seen: &Seen) {
    let report = seen.header("Bgrs-Report").and_then(|url| url.strip_prefix("http://")?.strip_suffix("/report"));
    let (addr, path) = report.and_then(|report| report.split_once('/')).expect("where to report");
    let call = Call::new(addr.parse().expect("an address"), "DELETE", &format!("/{path}"));
    call.auth("admin", PASSWORD).send().expect(200);
}

/// The rid of the last call that has arrived.
pub fn last_rid(upstream: &Upstream) -> String {
    let seen = upstream.seen();
    let rid = seen.last().and_then(|seen| seen.header("Bgrs-Request"));
    rid.expect("a call in the background").to_owned()
}
