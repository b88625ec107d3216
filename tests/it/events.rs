//! Section 9: what becomes of a background request, as server-sent events.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::events::{Event, Events, Reporter, begin, holding};
use crate::common::http::read_to_end;
use crate::common::rows::{add_details, pin_running};
use crate::common::upstream::{Upstream, ok};
use crate::common::{TestServer, assert_submitted, error_of, keys_in_order, until};

/// A server with this upstream under `/up`.
fn in_front_of(upstream: &Upstream) -> TestServer {
    TestServer::options().config(&upstream.table("/up")).start()
}

/// The events of a request; those behind the `last` that was seen.
#[track_caller]
fn events(server: &TestServer, rid: &str, last: Option<&str>) -> Events {
    Events::open(server.addr(), &format!("/bgrs/{rid}/events"), last)
}

/// Section 4's objects among these events.
fn details(events: &[Event]) -> Vec<Value> {
    events.iter().filter(|event| event.name == "detail").map(Event::json).collect()
}

/// Asserts that each id says how far its reader has come: the last detail, state and progress.
#[track_caller]
fn assert_ids(events: &[Event]) {
    let (mut detail, mut status) = ("0".to_owned(), String::new());
    for event in events {
        let json = event.json();
        let text = |key: &str| json[key].as_str().expect("a string");
        if event.name == "detail" {
            detail = text("id").to_owned();
        } else {
            let hundredths: u32 = text("progress").replace('.', "").parse().expect("a number");
            status = format!("{}-{hundredths}", text("status_id"));
        }
        let end = if event.name == "end" { "-end" } else { "" };
        assert_eq!(event.id, format!("{detail}-{status}{end}"), "{event:?}");
    }
}

/// Asserts that these are all the events of a request that has ended: everything once, and in order.
#[track_caller]
fn assert_all(server: &TestServer, rid: &str, events: &[Event]) {
    let (end, before) = events.split_last().expect("an end");
    assert_eq!((before[0].name.as_str(), end.name.as_str()), ("status", "end"), "{events:?}");
    assert_eq!(end.json(), server.info(rid));
    assert_eq!(details(before), server.details(rid));
    assert_ids(events);
    let statuses: Vec<_> = before.iter().filter(|event| event.name != "detail").collect();
    assert!(statuses.iter().all(|event| event.name == "status"), "{statuses:?}");
    assert!(statuses.windows(2).all(|pair| pair[0].data != pair[1].data), "{statuses:?}");
    let progress = |event: &&Event| -> f64 { event.json()["progress"].as_str().unwrap().parse().unwrap() };
    assert!(statuses.iter().map(progress).is_sorted(), "{statuses:?}");
}

/// Reads the stream to its end, and asserts that all came.
#[track_caller]
fn assert_whole(server: &TestServer, rid: &str, events: &mut Events) {
    events.by_ref().for_each(drop);
    assert!(events.whole, "it was cut off: {:?}", events.seen);
    assert_all(server, rid, &events.seen);
}

#[test]
fn of_an_ended_request_its_status_its_details_and_its_end_come_and_each_id_leads_on_from_there() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    add_details(&server, &rid, 6);
    let mut all = events(&server, &rid, None);
    assert_eq!(all.head.header("Cache-Control"), Some("no-store"));
    assert_eq!(all.head.header("X-Accel-Buffering"), Some("no"));
    assert_whole(&server, &rid, &mut all);
    let seen = &all.seen;
    assert_eq!(seen.len(), server.details(&rid).len() + 2);
    let information = server.get(&format!("/bgrs/{rid}")).expect(200).text();
    for event in seen {
        let keys = keys_in_order(&event.data);
        if event.name == "detail" {
            assert_eq!(keys, ["id", "rid", "dt", "details"]);
        } else {
            assert_eq!((keys, event.json()), (keys_in_order(&information), server.info(&rid)));
        }
    }

    let path = format!("/bgrs/{rid}/events");
    let versioned = format!("/v2.5{path}");
    assert!(Events::open(server.addr(), &versioned, None).eq(seen.iter().cloned()));
    let (end, before) = seen.split_last().unwrap();
    for (at, event) in before.iter().enumerate() {
        let mut rest = events(&server, &rid, Some(&event.id));
        assert!(rest.by_ref().eq(seen[at + 1..].iter().cloned()), "behind {}: {:?}", event.id, rest.seen);
        assert!(rest.whole);
    }
    for path in [&path, &versioned] {
        let stop = server.call("GET", path).header("Last-Event-ID", &end.id).send().expect(204);
        assert!(stop.body.is_empty());
    }
}

#[test]
fn a_last_event_id_that_is_none_counts_as_none() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let all: Vec<_> = events(&server, &rid, None).collect();
    for id in [
        "",
        "x",
        "1",
        "1-4",
        "1-4-",
        "1-4-x",
        "1-9-10000",
        "-1-4-10000",
        "1-4-10000-",
        "1-4-10000-5",
        "1-4-10000-end-",
        "1-4-10000-end-end",
        "99999999999999999999-4-10000",
        "end",
        "x-end",
        "1-9-10000-end",
        "é",
    ] {
        assert!(events(&server, &rid, Some(id)).eq(all.iter().cloned()), "{id:?}");
    }
}

#[test]
fn what_an_upstream_reports_reaches_all_who_listen_while_the_request_runs() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("GET", "/up");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    let mut listeners: Vec<_> = (0..20).map(|_| events(&server, &rid, None)).collect();
    for listener in &mut listeners {
        let first = listener.next().expect("an event");
        assert!(first.shows("running", "0.00"), "{first:?}");
    }
    for (report, said, progress) in [
        (json!({ "progress": 10, "details": "café\nau lait\r\n\r\n:" }), Some("café\nau lait\r\n\r\n:"), Some("10.00")),
        (json!({ "progress": 42.5 }), None, Some("42.50")),
        (json!({ "progress": 7, "details": "once more" }), Some("once more"), None),
        (json!({ "details": "event: end" }), Some("event: end"), None),
        (json!({ "progress": 100, "details": "all of it" }), Some("all of it"), Some("100.00")),
    ] {
        reporter.say(&report);
        let count = usize::from(said.is_some()) + usize::from(progress.is_some());
        for listener in &mut listeners {
            let news: Vec<Event> = listener.by_ref().take(count).collect();
            let says = |text: &str| news.iter().any(|event| event.says(text));
            let shows = |progress: &str| news.iter().any(|event| event.shows("running", progress));
            assert!(said.is_none_or(says) && progress.is_none_or(shows), "{report}: {news:?}");
        }
    }
    // Who has seen everything hears nothing twice, but what comes then.
    let last = listeners[0].seen.last().map(|event| event.id.clone());
    let mut late = events(&server, &rid, last.as_deref());
    reporter.say(&json!({ "details": "at last" }));
    assert!(late.next().is_some_and(|event| event.says("at last")), "{:?}", late.seen);
    drop(gate);
    for listener in &mut listeners {
        assert_whole(&server, &rid, listener);
    }
    assert_eq!(late.last(), listeners[0].seen.last().cloned());
}

#[test]
fn a_reader_who_is_cut_off_again_and_again_loses_nothing_and_gets_nothing_twice() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("GET", "/up");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    let report_all = |by: usize| {
        for n in 0..50 {
            reporter.say(&json!({ "progress": n, "details": format!("{n} of {by}") }));
        }
    };
    let read_all = || {
        let mut all: Vec<Event> = Vec::new();
        while all.last().is_none_or(|event| event.name != "end") {
            let last = all.last().map(|event| event.id.clone());
            all.extend(events(&server, &rid, last.as_deref()).take(7));
        }
        all
    };
    let all = thread::scope(|scope| {
        let reader = scope.spawn(read_all);
        let reporters = [0, 1, 2, 3].map(|by| scope.spawn(move || report_all(by)));
        for reporter in reporters {
            reporter.join().unwrap();
        }
        drop(gate);
        reader.join().unwrap()
    });
    assert_eq!(details(&all).len(), 4 * 50 + 1);
    assert_all(&server, &rid, &all);
}

#[test]
fn a_request_is_followed_from_the_queue_on_and_bytes_that_arrive_are_progress() {
    let ((first, opened_first), (second, opened_second)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let (opened_first, opened_second) = (Mutex::new(opened_first), Mutex::new(opened_second));
    let upstream = Upstream::start(move |seen, stream| {
        if seen.target() == "/up/first" {
            let _ = opened_first.lock().unwrap().recv();
            return ok(stream, "first");
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        let _ = opened_second.lock().unwrap().recv();
        let _ = stream.write_all(b"later");
    });
    let config = format!("[background]\nconcurrency = 1\n{}", upstream.table("/up"));
    let server = TestServer::options().config(&config).start();
    let running = server.submit("GET", "/up/first");
    let rid = server.submit("GET", "/up/second");
    let mut stream = events(&server, &rid, None);
    let queued = stream.next().expect("an event");
    assert!(queued.shows("queued", "0.00"), "{queued:?}");
    drop(first);
    stream.find(|event| event.shows("running", "50.00")).expect("the half of it");
    drop(second);
    assert_whole(&server, &rid, &mut stream);
    server.finished(&running);
}

#[test]
fn an_attempt_that_failed_is_seen_and_so_is_an_end_by_failure_or_by_a_cancel() {
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = opened.lock().unwrap().recv();
        let _ = stream.shutdown(Shutdown::Both);
    });
    let config = upstream.table("/up") + "[[route]]\npath = \"/up\"\nretry = { delay = \"1h\" }\n";
    let server = TestServer::options().config(&config).start();
    let (get, post) = (server.submit("GET", "/up"), server.submit("POST", "/up"));
    upstream.wait_for(2);
    let (mut retried, mut failed) = (events(&server, &get, None), events(&server, &post, None));
    drop(gate);
    assert_whole(&server, &post, &mut failed);
    retried.find(|event| event.shows("retrying", "0.00")).expect("a rest");
    server.delete(&format!("/bgrs/{get}")).expect(200);
    assert_whole(&server, &get, &mut retried);
    for (events, status_name) in [(&failed, "failed"), (&retried, "cancelled")] {
        assert_eq!(events.seen.last().map(|end| end.json()["status_name"].clone()), Some(json!(status_name)));
    }
    let said: Vec<_> = details(&retried.seen).iter().map(|detail| detail["details"].clone()).collect();
    assert!(said[0].as_str().is_some_and(|why| why.ends_with("attempt 1 of 3, the next in 1h")), "{said:?}");
    assert_eq!(said[1..], ["cancelled"]);
}

#[test]
fn events_are_for_anyone_with_credentials_and_of_requests_that_there_are() {
    let (_gate, upstream) = holding();
    let server = in_front_of(&upstream);
    server.add_user("kim", "password of kim");
    let rid = server.finished_get("/users/me");
    let path = format!("/bgrs/{rid}/events");
    let kims = server.call("GET", &path).auth("kim", "password of kim").send().expect(200);
    assert_eq!(kims.body, server.get(&path).body);
    error_of(&server.call("GET", &path).no_auth().send(), 401);
    error_of(&server.call("GET", &path).auth("kim", "wrong").send(), 401);
    for bad in ["0".repeat(32), rid.to_uppercase() + "0", rid[1..].to_owned(), "x".to_owned()] {
        for last in ["", "1-4-10000", "1-4-10000-end"] {
            let unknown = server.call("GET", &format!("/bgrs/{bad}/events")).header("Last-Event-ID", last).send();
            error_of(&unknown, 404);
        }
    }
    for method in ["POST", "PUT", "DELETE"] {
        let refused = server.call(method, &path).send();
        error_of(&refused, 405);
        assert_eq!(refused.header("Allow"), Some("GET, HEAD"));
    }
    // A head alone is there at once, also while the request runs.
    let running = server.submit("GET", "/up");
    upstream.wait_for(1);
    for rid in [&rid, &running] {
        let head = server.call("HEAD", &format!("/bgrs/{rid}/events")).send().expect(200);
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    }
}

#[test]
fn behind_a_mount_the_events_are_there_and_nowhere_else() {
    let server = TestServer::options().server("mount = \"/background\"").start();
    let accepted = server.get("/users/me?bgrs=yes").expect(202).json();
    let rid = accepted["request"].as_str().expect("a string");
    let read = |path: &str| Events::open(server.addr(), &format!("{path}/{rid}/events"), None);
    // As it happens; then as it is.
    assert!(read("/background/bgrs").last().is_some_and(|event| event.name == "end"));
    let all: Vec<_> = read("/background/bgrs").collect();
    assert!(read("/background/v2.5/bgrs").eq(all.iter().cloned()));
    assert_ids(&all);
    error_of(&server.get(&format!("/bgrs/{rid}/events")), 404);
}

#[test]
fn where_nothing_happens_a_comment_keeps_the_connection_open() {
    let (_gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("GET", "/up");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    let mut stream = events(&server, &rid, None);
    assert!(stream.next().is_some_and(|event| event.shows("running", "0.00")));
    let begun = Instant::now();
    stream.comment();
    let silence = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(60)).contains(&silence), "{silence:?}");
    reporter.say(&json!({ "details": "still there" }));
    assert!(stream.next().is_some_and(|event| event.says("still there")));
}

#[test]
fn thousands_of_details_stream_whole_from_the_first_or_from_the_middle() {
    let server = TestServer::start();
    let rid = server.finished_get("/users/me");
    add_details(&server, &rid, 2000);
    let mut all = events(&server, &rid, None);
    assert_whole(&server, &rid, &mut all);
    assert!(all.seen.len() >= 2000);
    let rest = events(&server, &rid, Some(&all.seen[999].id));
    assert!(rest.eq(all.seen[1000..].iter().cloned()));
}

/// Whether the server's end of this connection is open, as the system knows it.
fn is_open(server: SocketAddr, client: SocketAddr) -> bool {
    const ESTABLISHED: &str = "01";
    let [server, client] = [server, client].map(|addr| format!(":{:04X}", addr.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the system's connections");
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.len() > 3 && fields[1].ends_with(&*server) && fields[2].ends_with(&*client) && fields[3] == ESTABLISHED
    })
}

#[test]
fn a_reader_who_takes_nothing_is_dropped_and_may_come_back() {
    let (gate, upstream) = holding();
    let server = TestServer::options().server("write_timeout = \"1s\"").config(&upstream.table("/up")).start();
    let rid = server.submit("GET", "/up");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    let mut stalled = begin(server.addr(), &format!("/bgrs/{rid}/events"), "");
    let client = stalled.local_addr().expect("an address");
    until("the reader is there", || is_open(server.addr(), client));
    // Several times what the system keeps for a reader.
    let (long, count) = ("x".repeat(60_000), 300);
    for _ in 0..count {
        reporter.say(&json!({ "details": long }));
    }
    until("the reader is dropped", || !is_open(server.addr(), client));
    let received = read_to_end(&mut stalled).expect("what was on its way").len();
    assert!(received < count * long.len(), "{received} bytes had come");
    drop(gate);
    server.finished(&rid);
    assert_whole(&server, &rid, &mut events(&server, &rid, None));
}

#[test]
fn a_shutdown_ends_the_streams_at_once_and_their_readers_go_on_after_it() {
    let mut server = TestServer::options().server("shutdown_timeout = \"10m\"").start();
    let rid = server.finished_get("/users/me");
    pin_running(&server, &rid);
    let mut stream = events(&server, &rid, None);
    for name in ["status", "detail"] {
        assert!(stream.next().is_some_and(|event| event.name == name), "{:?}", stream.seen);
    }
    assert_eq!(stream.seen[0].json()["status_name"], "running");
    assert_eq!(server.signal("TERM"), Some(0), "{}", server.stderr());
    assert_eq!(stream.next(), None);
    server.start_again();
    let rest = events(&server, &rid, Some(&stream.seen[1].id));
    let all: Vec<_> = stream.seen.into_iter().chain(rest).collect();
    assert_all(&server, &rid, &all);
    assert_eq!(server.info(&rid)["status_name"], "finished");
}

#[test]
fn the_stream_of_a_request_that_goes_with_its_user_ends() {
    let (_gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let kim = server.add_user("kim", "password of kim");
    let call = server.call("GET", "/up?bgrs=yes").auth("kim", "password of kim");
    let rid = assert_submitted(&call.send());
    upstream.wait_for(1);
    let mut stream = events(&server, &rid, None);
    assert!(stream.next().is_some_and(|event| event.shows("running", "0.00")));
    server.delete(&format!("/v2.5/users/{kim}")).expect(204);
    assert_eq!(stream.next(), None);
    error_of(&server.get(&format!("/bgrs/{rid}/events")), 404);
}
