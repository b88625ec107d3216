//! Section 9: a background request is cancelled, and removed once it has ended.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::http::basic;
use crate::common::server::{PASSWORD, one_object};
use crate::common::upstream::{Upstream, ok, wait_for_close};
use crate::common::{Response, TestServer, assert_submitted, error_of, eventually, is_date_time, keys_in_order, until};

/// The contract says a second; generous, for a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(5);

const KIM: (&str, &str) = ("kim", "password of kim");

/// Answers what is fast, breaks off what is broken, stops in the middle of what is half, and never answers the rest.
fn upstream() -> Upstream {
    Upstream::start(|seen, stream| {
        let target = seen.target();
        if target.starts_with("/up/fast") {
            return ok(stream, "fast");
        }
        if target.starts_with("/up/broken") {
            return drop(stream.shutdown(Shutdown::Both));
        }
        if target == "/up/half" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf:");
        }
        wait_for_close(stream);
    })
}

/// A server with these lines of its `[background]`, and with the upstream under `/up` and its policies.
fn start(background: &str, upstream: &Upstream, routes: &str) -> TestServer {
    TestServer::options().config(&format!("[background]\n{background}\n{}{routes}", upstream.table("/up"))).start()
}

fn post(server: &TestServer, path: &str) -> String {
    assert_submitted(&server.call("POST", &format!("{path}?bgrs=yes")).body("a/b", "sent").send())
}

fn verbose(server: &TestServer, rid: &str) -> Value {
    one_object(&server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200))
}

/// Cancels a request that has not ended, and gives its information.
#[track_caller]
fn cancel(server: &TestServer, rid: &str) -> Value {
    let answer = server.delete(&format!("/bgrs/{rid}")).expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!((answer.header("Cache-Control"), answer.header("Retry-After")), (Some("no-store"), None));
    let shown = server.get(&format!("/bgrs/{rid}")).expect(200);
    assert_eq!(keys_in_order(&answer.text()), keys_in_order(&shown.text()));
    assert_eq!(one_object(&answer), assert_cancelled(server, rid));
    one_object(&answer)
}

/// Asserts that a request is cancelled whichever way one looks at it, and gives its information.
#[track_caller]
fn assert_cancelled(server: &TestServer, rid: &str) -> Value {
    let info = server.info(rid);
    assert_eq!((&info["status_id"], &info["status_name"]), (&json!("6"), &json!("cancelled")), "{info}");
    assert!(is_date_time(&info["finished_dt"]), "{info}");
    for key in ["status", "content_type", "result"] {
        assert!(info[key].is_null(), "{key} in {info}");
    }
    assert_eq!(server.last_detail(rid), "cancelled");
    let result = server.get(&format!("/bgrs/{rid}/result"));
    error_of(&result, 410);
    assert_eq!(result.header("Bgrs-Request"), Some(rid));
    info
}

fn targets(upstream: &Upstream) -> Vec<String> {
    upstream.seen().iter().map(|seen| seen.target().to_owned()).collect()
}

/// What is there of results, whole or not. The calls' own bodies are kept.
fn all_but_bodies(server: &TestServer) -> Vec<String> {
    server.media_files().into_iter().filter(|name| !name.ends_with(".body")).collect()
}

#[test]
fn a_queued_one_is_cancelled_while_the_queue_is_full_and_never_runs_and_its_place_is_free_again() {
    let upstream = upstream();
    let server = start("concurrency = 1\nqueue = 1", &upstream, "");
    let running = server.submit("GET", "/up/slow");
    upstream.wait_for(1);
    let queued = post(&server, "/up/queued");
    let next = server.call("GET", "/up/fast?bgrs=yes");
    error_of(&next.send(), 503);
    let info = cancel(&server, &queued);
    assert_eq!((&info["progress"], server.details(&queued).len()), (&json!("0.00"), 1));
    let info = verbose(&server, &queued);
    assert_eq!((&info["attempts"], &info["started_dt"]), (&json!("0"), &Value::Null));
    assert!(is_date_time(&info["expires_dt"]), "{info}");
    // One place, and not two.
    let next = assert_submitted(&next.send());
    error_of(&server.get("/up/fast?bgrs=yes"), 503);
    cancel(&server, &running);
    server.finished(&next);
    assert_eq!(targets(&upstream), ["/up/slow", "/up/fast"]);
}

#[test]
fn the_share_of_a_user_is_free_again_whichever_of_theirs_is_cancelled() {
    let upstream = upstream();
    let server = start("concurrency = 1\nper_user = 2", &upstream, "");
    let full = || drop(error_of(&server.get("/up/more?bgrs=yes"), 429));
    let running = server.submit("GET", "/up/running");
    upstream.wait_for(1);
    let queued = server.submit("GET", "/up/queued");
    full();
    cancel(&server, &queued);
    server.submit("GET", "/up/second");
    full();
    cancel(&server, &running);
    upstream.wait_for(2);
    until("the place of the one that ran is free", || server.get("/up/third?bgrs=yes").status == 202);
    full();
    assert_eq!(targets(&upstream), ["/up/running", "/up/second"]);
}

#[test]
fn a_running_one_is_dropped_at_once_and_its_connection_to_the_upstream_closed() {
    let upstream = upstream();
    let route = "[[route]]\npath = \"/up/rescued\"\nrescue_after = \"100ms\"\n";
    let server = start("", &upstream, route);
    let calls = [
        server.call("GET", "/up/silent?bgrs=yes"),
        server.call("POST", "/up/silent?bgrs=yes").body("a/b", vec![b'x'; 300_000]),
        server.call("GET", "/up/half?bgrs=yes"),
        server.call("GET", "/up/rescued"),
    ];
    for (before, call) in calls.iter().enumerate() {
        let rid = assert_submitted(&call.send());
        let seen = upstream.wait_for(before + 1).remove(before);
        let progress = if seen.target() == "/up/half" { "50.00" } else { "0.00" };
        until("it has come so far", || server.info(&rid)["progress"] == progress);
        let begun = Instant::now();
        assert_eq!(cancel(&server, &rid)["progress"], progress);
        until("the connection is closed", || upstream.closed() == before + 1);
        assert!(begun.elapsed() < AT_ONCE, "{}: {:?}", seen.target(), begun.elapsed());
        if let Some(token) = seen.header("Bgrs-Report-Token") {
            let report = server.call("POST", &format!("/bgrs/{rid}/report")).no_auth();
            let report = report.header("Authorization", &format!("Bearer {token}"));
            error_of(&report.json(&json!({ "progress": 99, "details": "too late" })).send(), 409);
        }
    }
    until("no part of a result is left", || all_but_bodies(&server).is_empty());
    // Nothing is made again, and nobody waits for a place.
    server.finished_get("/up/fast");
    assert_eq!(targets(&upstream).len(), calls.len() + 1);
}

#[test]
fn a_long_call_of_the_hosted_api_stops() {
    let server = TestServer::options().config("[background]\nconcurrency = 1\nthreads = 1").start();
    server.post("/campaigns", &json!({ "name": "one" })).expect(200);
    server.post("/scans", &json!({ "campaign_id": 1 })).expect(200);
    let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 400000)
               INSERT INTO scans (campaign_id, dt, device) SELECT campaign_id, dt, 'phone' FROM scans, n WHERE id = 1";
    server.db().execute(sql, []).expect("many rows");
    let export = server.submit("GET", "/scans/export");
    until("the export has begun", || !server.details(&export).is_empty());
    let exported = cancel(&server, &export);
    until("no part of the export is left", || all_but_bodies(&server).is_empty());

    let total = 20_000;
    let batch: Value = (0..total).map(|n| json!({ "name": format!("bulk test {n}") })).collect();
    let batch = assert_submitted(&server.post("/campaigns", &batch));
    until("some elements are done", || server.count("campaigns") > 100);
    cancel(&server, &batch);
    // There is one thread: what goes on there would be seen.
    let some_more = || (0..10).for_each(|_| drop(server.finished_get("/users/me")));
    some_more();
    let made = server.count("campaigns");
    some_more();
    assert_eq!(server.count("campaigns"), made);
    assert!(made < total, "{made}");
    assert_eq!(assert_cancelled(&server, &export), exported);
    assert_cancelled(&server, &batch);
}

#[test]
fn one_that_waits_for_its_next_attempt_gets_none_and_its_place_is_free_again() {
    let upstream = upstream();
    let routes = "[[route]]\npath = \"/up/broken/often\"\nretry = { attempts = 50, delay = \"200ms\" }\n\
                  [[route]]\npath = \"/up/broken/thrice\"\nretry = { attempts = 3, delay = \"200ms\" }\n";
    let server = start("per_user = 1", &upstream, routes);
    let rid = server.submit("GET", "/up/broken/often");
    until("an attempt has failed", || server.info(&rid)["status_name"] == "retrying");
    error_of(&server.get("/up/fast?bgrs=yes"), 429);
    cancel(&server, &rid);
    let attempts = verbose(&server, &rid)["attempts"].clone();
    let other = eventually("a place", || {
        let answer = server.get("/up/broken/thrice?bgrs=yes");
        (answer.status == 202).then(|| assert_submitted(&answer))
    });
    // Its three attempts take longer than the next one of the other would have been away.
    assert_eq!(server.ended(&other)["status_name"], "failed");
    assert_eq!(verbose(&server, &rid)["attempts"], attempts);
    let made = targets(&upstream).iter().filter(|target| *target == "/up/broken/often").count();
    assert!(attempts.as_str().and_then(|text| text.parse::<usize>().ok()).is_some_and(|most| made <= most), "{made}");
    assert_cancelled(&server, &rid);
}

#[test]
fn what_was_cancelled_never_runs_also_after_a_kill_at_that_moment() {
    let upstream = upstream();
    let route = "[[route]]\npath = \"/up/broken\"\nretry = { delay = \"1h\" }\n";
    let mut server = start("concurrency = 1", &upstream, route);
    let retrying = server.submit("GET", "/up/broken");
    until("an attempt has failed", || server.info(&retrying)["status_name"] == "retrying");
    let running = server.submit("GET", "/up/slow");
    upstream.wait_for(2);
    let queued = assert_submitted(&server.call("PUT", "/up/queued?bgrs=yes").body("a/b", "sent").send());
    let rids = [&queued, &retrying, &running];
    let answers = rids.map(|rid| server.delete(&format!("/bgrs/{rid}")));
    server.kill();
    server.start_again();
    server.finished_get("/up/fast");
    for (rid, answer) in rids.into_iter().zip(answers) {
        assert_eq!(assert_cancelled(&server, rid), one_object(&answer.expect(200)));
    }
    assert_eq!(targets(&upstream), ["/up/broken", "/up/slow", "/up/fast"]);
}

#[test]
fn at_the_moment_of_its_end_a_request_is_cancelled_or_has_finished_and_nothing_is_torn_or_lost() {
    const SHARE: usize = 200;
    let held = Arc::new(AtomicBool::new(false));
    let holds = held.clone();
    let upstream =
        Upstream::start(
            move |_, stream| {
                if holds.load(Ordering::SeqCst) { wait_for_close(stream) } else { ok(stream, "done") }
            },
        );
    let server = start(&format!("concurrency = 4\nper_user = {SHARE}"), &upstream, "");
    let submit = || server.call("PUT", "/up?bgrs=yes").body("a/b", "sent").send();
    let kept = Mutex::new(Vec::new());
    let race = |worker: u64| {
        let one = |turn: u64| {
            let rid = assert_submitted(&submit());
            // Sooner and later: while it waits, while it runs, at its end, and after that.
            thread::sleep(Duration::from_micros((turn * 7 + worker) % 20 * 400));
            let answer = server.delete(&format!("/bgrs/{rid}"));
            // Nobody's turn may go with that of a neighbour that was cancelled.
            kept.lock().expect("a list").push(assert_submitted(&submit()));
            (rid, answer.status)
        };
        (0..25).map(one).collect::<Vec<_>>()
    };
    let race = &race;
    let outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|worker| scope.spawn(move || race(worker))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    let mut left = kept.lock().expect("a list").clone();
    for rid in &left {
        server.finished(rid);
    }
    let results = left.len();
    for (rid, status) in outcomes {
        match status {
            200 => {
                assert_cancelled(&server, &rid);
                left.push(rid);
            }
            204 => drop(error_of(&server.get(&format!("/bgrs/{rid}")), 404)),
            other => panic!("{other} of {rid}"),
        }
    }
    assert_eq!(usize::try_from(server.rows()).expect("a count"), left.len());
    until("bodies of what is there, and results of what has finished, are all that is left", || {
        let files = server.media_files();
        let is_of_one = |name: &String| left.iter().any(|rid| name.contains(rid.as_str()));
        files.iter().all(is_of_one)
            && files.iter().filter(|name| name.ends_with(".body")).count() == left.len()
            && all_but_bodies(&server).len() == results
    });
    // All places are free again, and there are no more than there were.
    held.store(true, Ordering::SeqCst);
    for _ in 0..SHARE {
        until("there is a place", || submit().status == 202);
    }
    error_of(&submit(), 429);
}

#[test]
fn one_that_has_ended_is_removed_with_everything_that_was_of_it() {
    let upstream = upstream();
    let server = start("", &upstream, "");
    let finished = post(&server, "/up/fast");
    let file = server.finished(&finished)["result"].as_str().expect("a result").to_owned();
    server.get(&format!("/{file}")).expect(200);
    let failed = post(&server, "/up/broken");
    assert_eq!(server.ended(&failed)["status_name"], "failed");
    let cancelled = post(&server, "/up/slow");
    upstream.wait_for(3);
    cancel(&server, &cancelled);
    let kept = post(&server, "/up/fast/kept");
    server.finished(&kept);
    for rid in [&finished, &failed, &cancelled] {
        let path = format!("/bgrs/{rid}");
        server.delete(&path).expect(204);
        for (method, rest) in [
            ("GET", ""),
            ("GET", "?wait=60"),
            ("GET", "/details"),
            ("GET", "/result"),
            ("GET", "/result?wait=60"),
            ("GET", "/events"),
            ("POST", "/rerun"),
            ("DELETE", ""),
        ] {
            let answer = server.call(method, &format!("{path}{rest}")).send();
            error_of(&answer, 404);
            assert_eq!(answer.header("Bgrs-Request"), None, "{method} {rest}");
        }
    }
    error_of(&server.get(&format!("/{file}")), 404);
    let list = server.get("/bgrs").expect(200);
    assert_eq!(one_object(&list)["rid"], kept.as_str());
    let details: i64 = i64::try_from(server.details(&kept).len()).expect("a count");
    assert_eq!((server.rows(), server.count("bgrs_details")), (1, details));
    until("all its files are gone", || {
        let files = server.media_files();
        files.len() == 2 && files.iter().all(|name| name.contains(kept.as_str()))
    });
    assert_eq!(server.get(&format!("/bgrs/{kept}/result")).expect(200).text(), "fast");
}

#[test]
fn only_the_owner_and_an_administrator_may_cancel_and_remove() {
    let upstream = upstream();
    let server = start("", &upstream, "");
    server.add_user(KIM.0, KIM.1);
    let by_kim = |method: &str, target: &str| server.call(method, target).auth(KIM.0, KIM.1).send();
    let admins = [server.finished_get("/up/fast"), server.submit("GET", "/up/slow")];
    upstream.wait_for(2);
    for rid in &admins {
        let path = format!("/bgrs/{rid}");
        let before = (verbose(&server, rid), server.details(rid));
        error_of(&by_kim("DELETE", &path), 403);
        error_of(&server.call("DELETE", &path).no_auth().send(), 401);
        error_of(&server.call("DELETE", &path).auth(KIM.0, "wrong").send(), 401);
        assert_eq!((verbose(&server, rid), server.details(rid)), before);
    }
    let kims = [1, 2].map(|count| {
        let rid = assert_submitted(&by_kim("GET", "/up/slow?bgrs=yes"));
        upstream.wait_for(2 + count);
        rid
    });
    let [own, others] = kims.each_ref().map(|rid| format!("/bgrs/{rid}"));
    assert_eq!(one_object(&by_kim("DELETE", &own).expect(200))["status_name"], "cancelled");
    cancel(&server, &kims[1]);
    by_kim("DELETE", &own).expect(204);
    server.delete(&others).expect(204);
    for unknown in ["0".repeat(32), kims[0].clone(), "A".repeat(32), "x".to_owned(), format!("{}0", admins[0])] {
        let path = format!("/bgrs/{unknown}");
        error_of(&server.delete(&path), 404);
        error_of(&by_kim("DELETE", &path), 404);
    }
    assert_eq!(server.rows(), 2);
}

#[test]
fn whoever_waits_for_it_learns_of_the_cancelling_at_once() {
    let upstream = upstream();
    let server = &start("", &upstream, "");
    let rid = server.submit("GET", "/up/slow");
    upstream.wait_for(1);
    let paths = ["", "/result"].map(|part| format!("/bgrs/{rid}{part}?wait=60"));
    let begun = Instant::now();
    let waited: Vec<Response> = thread::scope(|scope| {
        let waiting: Vec<_> = paths.iter().map(|path| scope.spawn(move || server.get(path))).collect();
        cancel(server, &rid);
        waiting.into_iter().map(|waiting| waiting.join().expect("an answer")).collect()
    });
    let asked_later = paths.iter().map(|path| server.get(path));
    let answers: Vec<Response> = waited.into_iter().chain(asked_later).collect();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for pair in answers.chunks(2) {
        assert_eq!(one_object(&pair[0])["status_name"], "cancelled");
        error_of(&pair[1], 410);
        assert_eq!(pair[1].header("Bgrs-Request"), Some(rid.as_str()));
    }
}

#[test]
fn a_caller_who_hangs_up_after_the_202_cancels_nothing() {
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = opened.lock().expect("a gate").recv();
        ok(stream, "done");
    });
    let server = start("", &upstream, "");
    let mut connection = TcpStream::connect(server.addr()).expect("a connection");
    let credentials = basic("admin", PASSWORD);
    write!(connection, "GET /up?bgrs=yes HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\n\r\n").expect("a call");
    let mut received = Vec::new();
    while !received.ends_with(b"}") {
        let mut buffer = [0; 1000];
        let read = connection.read(&mut buffer).expect("an answer");
        assert!(read > 0, "the answer breaks off: {received:?}");
        received.extend(&buffer[..read]);
    }
    let rid = assert_submitted(&Response::parse(&received, false).expect("an answer"));
    upstream.wait_for(1);
    drop(connection);
    // What comes later, over other connections, is answered meanwhile.
    server.finished_get("/users/me");
    assert_eq!(server.info(&rid)["status_name"], "running");
    gate.send(()).expect("an upstream");
    server.finished(&rid);
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "done");
    assert_eq!(targets(&upstream), ["/up"]);
}
