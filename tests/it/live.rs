//! The dashboard's live list: requests as they are submitted and change, as server-sent events.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use crate::common::events::{Reporter, holding};
use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::Upstream;
use crate::common::{DEADLINE, TestServer, assert_submitted, error_of};

const ADMIN: (&str, &str) = ("admin", PASSWORD);

const KIM: (&str, &str) = ("kim", "password of kim");

fn in_front_of(upstream: &Upstream) -> TestServer {
    TestServer::options().config(&upstream.table("/up")).start()
}

/// Someone who listens, and hears of whatever happens from here on.
struct Listener {
    head: Vec<String>,
    lines: Lines<BufReader<TcpStream>>,
}

impl Listener {
    #[track_caller]
    fn open(server: &TestServer, (login, password): (&str, &str)) -> Self {
        let mut stream = TcpStream::connect(server.addr()).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let auth = basic(login, password);
        let call =
            format!("GET /ui/requests HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: close\r\n\r\n");
        stream.write_all(call.as_bytes()).expect("a call");
        let mut lines = BufReader::new(stream).lines();
        let mut next = || lines.next().expect("an answer").expect("a line").to_ascii_lowercase();
        let mut head = vec![next()];
        while head.last().is_some_and(|line| !line.is_empty()) {
            head.push(next());
        }
        assert!(head[0].starts_with("http/1.1 200"), "{head:?}");
        // A comment comes at once.
        while !next().starts_with(':') {}
        Self { head, lines }
    }

    /// The next event that shows this request in this state.
    #[track_caller]
    fn shown(&mut self, rid: &str, status_name: &str) -> Value {
        let is_shown = |event: &Value| event["rid"] == rid && event["status_name"] == status_name;
        self.find(is_shown).unwrap_or_else(|| panic!("{rid} was not shown as {status_name}"))
    }
}

impl Iterator for Listener {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut name = None;
        loop {
            // Of the chunks' sizes in between, none begins like a field.
            let line = self.lines.next()?.expect("a line");
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                assert_eq!(name.as_deref(), Some("request"), "{data}");
                return Some(serde_json::from_str(data).expect("an object"));
            }
        }
    }
}

/// Section 3's object with what `verbose` adds.
#[track_caller]
fn verbose(server: &TestServer, rid: &str) -> Value {
    server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200).json()[0].clone()
}

#[test]
fn what_is_submitted_runs_and_ends_is_shown_to_its_owner_and_to_administrators_alone() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let kims_id = server.add_user(KIM.0, KIM.1).to_string();
    let before = server.finished_get("/users/me");
    let (mut admin, mut kim) = (Listener::open(&server, ADMIN), Listener::open(&server, KIM));
    for field in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(admin.head.iter().any(|line| line == field), "{field}: {:?}", admin.head);
    }
    let admins = server.finished_get("/users/me");
    assert_eq!(admin.shown(&admins, "finished"), verbose(&server, &admins));

    let submit = || assert_submitted(&server.call("GET", "/up?bgrs=yes").auth(KIM.0, KIM.1).send());
    let ends = submit();
    admin.shown(&ends, "running");
    let cancelled = submit();
    admin.shown(&cancelled, "running");
    server.delete(&format!("/bgrs/{cancelled}")).expect(200);
    assert_eq!(admin.shown(&cancelled, "cancelled"), verbose(&server, &cancelled));
    drop(gate);
    server.finished(&ends);
    assert_eq!(admin.shown(&ends, "finished"), verbose(&server, &ends));

    // What was before is not replayed, and others' requests are not shown.
    let shows =
        |event: &Value, rid: &str, status_name: &str| event["rid"] == rid && event["status_name"] == status_name;
    let mut seen: Vec<Value> = Vec::new();
    while seen.last().is_none_or(|event| !shows(event, &ends, "finished")) {
        seen.push(kim.next().expect("an event"));
    }
    assert!(seen.iter().all(|event| event["user_id"] == kims_id.as_str()), "{seen:?}");
    assert!(seen.iter().all(|event| ![&before, &admins].iter().any(|rid| event["rid"] == rid.as_str())), "{seen:?}");
    for (rid, status_name) in [(&ends, "running"), (&cancelled, "running"), (&cancelled, "cancelled")] {
        assert!(seen.iter().any(|event| shows(event, rid, status_name)), "{status_name}: {seen:?}");
    }
}

#[test]
fn of_a_request_that_changes_all_the_time_two_events_come_in_a_second_at_most() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let mut listener = Listener::open(&server, ADMIN);
    let begun = Instant::now();
    let rid = server.submit("GET", "/up");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    for n in 1..=60 {
        reporter.say(&json!({ "progress": n }));
    }
    drop(gate);
    server.finished(&rid);
    let mut events = 1;
    while listener.next().expect("an event")["status_name"] != "finished" {
        events += 1;
    }
    let most = 2 * begun.elapsed().as_secs() + 3;
    assert!(events <= most, "{events} events in {:?}", begun.elapsed());
}

#[test]
fn the_live_list_is_for_those_with_credentials_and_is_only_read() {
    let server = TestServer::start();
    error_of(&server.call("GET", "/ui/requests").no_auth().send(), 401);
    error_of(&server.call("GET", "/ui/requests").auth("admin", "wrong").send(), 401);
    let head = server.call("HEAD", "/ui/requests").send().expect(200);
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    let refused = server.call("POST", "/ui/requests").send();
    error_of(&refused, 405);
    assert_eq!(refused.header("Allow"), Some("GET, HEAD"));
}

#[test]
fn a_shutdown_ends_the_live_list_at_once() {
    let mut server = TestServer::options().server("shutdown_timeout = \"10m\"").start();
    let mut listener = Listener::open(&server, ADMIN);
    let rid = server.finished_get("/users/me");
    listener.shown(&rid, "finished");
    assert_eq!(server.signal("TERM"), Some(0), "{}", server.stderr());
    assert_eq!(listener.next(), None);
}
