//! Background calls that an upstream did not answer, or not yet.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::common::server::one_object;
use crate::common::upstream::{Upstream, answer, ok};
use crate::common::{Response, TestServer, assert_submitted, error_of, eventually, until};

/// A server with this upstream, whose calls are tried again as `retry` says.
fn retrying(upstream: &str, retry: &str) -> TestServer {
    TestServer::options().config(&format!("{upstream}[[route]]\npath = \"/up\"\nretry = {{ {retry} }}\n")).start()
}

/// An address where nobody listens, and its upstream. Not of 127.0.0.1: nothing else takes a port of it meanwhile.
fn nobody() -> (SocketAddr, String) {
    let addr = TcpListener::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    (addr, format!("[[upstream]]\nprefix = \"/up\"\nurl = \"http://{addr}\"\n"))
}

fn verbose(server: &TestServer, rid: &str) -> Value {
    one_object(&server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200))
}

fn attempts(server: &TestServer, rid: &str) -> usize {
    verbose(server, rid)["attempts"].as_str().unwrap().parse().unwrap()
}

fn result(server: &TestServer, rid: &str) -> Response {
    server.get(&format!("/bgrs/{rid}/result"))
}

/// The details, where there is one for each attempt that failed and one for the end.
#[track_caller]
fn one_detail_for_each_of(count: usize, server: &TestServer, rid: &str) -> Vec<String> {
    let details = server.details(rid).into_iter();
    let texts: Vec<_> = details.map(|detail| detail["details"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts.len(), count, "{texts:?}");
    for (before, text) in texts[..count - 1].iter().enumerate() {
        assert!(text.contains(&format!("attempt {} of ", before + 1)), "{texts:?}");
    }
    texts
}

#[test]
fn an_upstream_that_cannot_be_reached_is_tried_again_until_it_is_there() {
    let (addr, upstream) = nobody();
    let server = retrying(&upstream, "attempts = 50, delay = \"50ms\"");
    let rid = server.submit("GET", "/up");
    let in_vain = eventually("attempts that failed", || {
        let info = verbose(&server, &rid);
        let attempts: usize = info["attempts"].as_str()?.parse().ok()?;
        (info["status_name"] == "retrying" && attempts >= 2).then_some(attempts)
    });
    assert_eq!(result(&server, &rid).expect(202).header("Bgrs-Request"), None);
    thread::spawn(move || {
        let (mut stream, _) = TcpListener::bind(addr).unwrap().accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 1000];
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the call broke off");
            head.extend(&buffer[..read]);
        }
        ok(&mut stream, "at last");
    });
    server.finished(&rid);
    assert_eq!(result(&server, &rid).expect(200).text(), "at last");
    let made = attempts(&server, &rid);
    assert!(made > in_vain, "{made} after {in_vain}");
    let details = one_detail_for_each_of(made, &server, &rid);
    assert!(details[0].contains("cannot be reached"), "{details:?}");
    assert_eq!(details[made - 1], "done");
}

#[test]
fn a_call_fails_with_the_last_of_its_attempts_and_one_that_is_not_safe_to_repeat_has_only_one() {
    let server = retrying(&nobody().1, "delay = \"20ms\"");
    let keyed = server.call("POST", "/up?bgrs=yes").header("Idempotency-Key", "a-key");
    for (call, count) in [
        (server.call("GET", "/up?bgrs=yes"), 3),
        (keyed.body("a/b", "sent"), 3),
        (server.call("POST", "/up?bgrs=yes").body("a/b", "sent"), 1),
        (server.call("PATCH", "/up?bgrs=yes").body("a/b", "sent"), 1),
    ] {
        let rid = assert_submitted(&call.send());
        let info = server.ended(&rid);
        assert_eq!(info["status_name"], "failed", "{info}");
        assert_eq!(attempts(&server, &rid), count, "{info}");
        let last = one_detail_for_each_of(count, &server, &rid).remove(count - 1);
        assert!(last.contains("cannot be reached"), "{last}");
        assert_eq!(last.contains("3 attempts"), count == 3, "{last}");
        let result = result(&server, &rid);
        assert_eq!(error_of(&result, 502), last);
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    }
    assert!(server.media_files().iter().all(|name| name.ends_with(".body")));
}

#[test]
fn a_call_that_broke_off_before_its_answer_is_made_again_whole_if_that_is_safe() {
    let known = Mutex::new(HashSet::new());
    let upstream = Upstream::start(move |seen, stream| {
        let is_first = known.lock().unwrap().insert(seen.line().to_owned());
        let words = match seen.target() {
            "/up/noise" => "not http at all\r\n\r\n",
            "/up/half" => "HTTP/1.1 200 OK\r\nContent-Le",
            _ => "",
        };
        if is_first {
            let _ = stream.write_all(words.as_bytes());
            let _ = stream.shutdown(Shutdown::Both);
        } else {
            ok(stream, "second");
        }
    });
    let server = retrying(&upstream.table("/up"), "delay = \"20ms\"");
    let body = vec![7_u8; 300_000];
    let call = |method: &str, path: &str| server.call(method, &format!("{path}?bgrs=yes")).body("a/b", body.clone());
    for (call, line) in [
        (call("GET", "/up/silent"), "GET /up/silent HTTP/1.1"),
        (call("GET", "/up/half"), "GET /up/half HTTP/1.1"),
        (call("GET", "/up/noise"), "GET /up/noise HTTP/1.1"),
        (call("PUT", "/up/silent"), "PUT /up/silent HTTP/1.1"),
        (call("DELETE", "/up/half"), "DELETE /up/half HTTP/1.1"),
        (call("POST", "/up/keyed").header("Idempotency-Key", "a-key"), "POST /up/keyed HTTP/1.1"),
    ] {
        let rid = assert_submitted(&call.send());
        server.finished(&rid);
        assert_eq!(result(&server, &rid).expect(200).text(), "second", "{line}");
        one_detail_for_each_of(2, &server, &rid);
        let seen = upstream.seen();
        let twice: Vec<_> = seen.iter().filter(|seen| seen.line() == line).collect();
        assert!(twice.len() == 2 && twice.iter().all(|seen| seen.body == body), "{line}: {}", twice.len());
    }
    // Over a connection that has served before, too: a client's pool must not make it again on its own.
    let rid = assert_submitted(&call("POST", "/up/silent").send());
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    one_detail_for_each_of(1, &server, &rid);
    error_of(&result(&server, &rid), 502);
    let seen = upstream.seen();
    assert_eq!(seen.iter().filter(|seen| seen.line() == "POST /up/silent HTTP/1.1").count(), 1);
}

#[test]
fn an_upstream_that_says_when_to_come_back_is_asked_again_then_and_not_before() {
    let due = Mutex::new(HashMap::<String, SystemTime>::new());
    let upstream = Upstream::start(move |seen, stream| {
        let mut due = due.lock().unwrap();
        let (at, status, said) = match due.get(seen.target()) {
            Some(at) => return ok(stream, if SystemTime::now() < *at { "too early" } else { "in time" }),
            None if seen.target() == "/up/seconds" => {
                (SystemTime::now() + Duration::from_secs(1), "503 Service Unavailable", "1".to_owned())
            }
            None => {
                let said = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
                (httpdate::parse_http_date(&said).unwrap(), "429 Too Many Requests", said)
            }
        };
        due.insert(seen.target().to_owned(), at);
        answer(stream, status, &format!("Retry-After: {said}\r\n"), "not now");
    });
    // Its own rest would be too long for any test.
    let server = retrying(&upstream.table("/up"), "delay = \"1h\"");
    for (path, status) in [("/up/seconds", "503"), ("/up/date", "429")] {
        let rid = server.finished_get(path);
        assert_eq!(result(&server, &rid).expect(200).text(), "in time");
        let details = one_detail_for_each_of(2, &server, &rid);
        assert!(details[0].contains(status), "{details:?}");
    }
}

#[test]
fn only_what_asks_for_another_attempt_gets_one_and_the_last_ones_answer_is_the_result() {
    let counts = Mutex::new(HashMap::<String, usize>::new());
    let upstream = Upstream::start(move |seen, stream| {
        let (status, headers) = match seen.target() {
            "/up/busy" => ("429 Too Many Requests", "Retry-After: 0\r\n"),
            "/up/down" => ("503 Service Unavailable", "Retry-After: 0\r\n"),
            "/up/unsaid" => ("503 Service Unavailable", ""),
            "/up/listed" => ("502 Bad Gateway", ""),
            _ => ("500 Internal Server Error", "Retry-After: 0\r\n"),
        };
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(seen.line().to_owned()).or_default();
        *count += 1;
        answer(stream, status, headers, &count.to_string());
    });
    let server = retrying(&upstream.table("/up"), "delay = \"20ms\", on = [502]");
    for (method, path, status, count) in [
        ("GET", "/up/busy", 429_u16, 3_usize),
        ("PUT", "/up/down", 503, 3),
        ("POST", "/up/down", 503, 1),
        ("GET", "/up/unsaid", 503, 1),
        ("DELETE", "/up/listed", 502, 3),
        ("POST", "/up/listed", 502, 1),
        ("GET", "/up/other", 500, 1),
    ] {
        let rid = server.submit(method, path);
        let info = server.finished(&rid);
        assert_eq!(info["status"], status.to_string(), "{method} {path}");
        let result = result(&server, &rid).expect(status);
        assert_eq!(result.text(), count.to_string(), "{method} {path}");
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
        let details = one_detail_for_each_of(count, &server, &rid);
        assert_eq!(details[count - 1], "done");
    }
    assert_eq!(upstream.seen().len(), 3 + 3 + 1 + 1 + 3 + 1 + 1);
}

#[test]
fn between_attempts_lies_the_delay_and_then_a_longer_one() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let times = arrivals.clone();
    let upstream = Upstream::start(move |_, stream| {
        times.lock().unwrap().push(Instant::now());
        let _ = stream.shutdown(Shutdown::Both);
    });
    let server = retrying(&upstream.table("/up"), "delay = \"400ms\"");
    let rid = server.submit("GET", "/up");
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    let arrivals = arrivals.lock().unwrap();
    let rests: Vec<_> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(rests.len(), 2, "{rests:?}");
    assert!(rests[0] >= Duration::from_millis(400) && rests[1] >= Duration::from_millis(800), "{rests:?}");
}

#[test]
fn a_request_that_is_to_be_tried_again_outlives_a_restart() {
    let there = Arc::new(AtomicBool::new(false));
    let answers = there.clone();
    let upstream = Upstream::start(move |_, stream| {
        if answers.load(Ordering::SeqCst) {
            ok(stream, "at last");
        } else {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let mut server = retrying(&upstream.table("/up"), "attempts = 50, delay = \"50ms\"");
    let rid = assert_submitted(&server.call("PUT", "/up?bgrs=yes").body("a/b", "sent").send());
    until("an attempt has failed", || server.info(&rid)["status_name"] == "retrying");
    server.stop();
    // An attempt that was under way then has come to its end: the request is put aside in any case.
    let state: i64 = server.db().query_row("SELECT status_id FROM bgrs", [], |row| row.get(0)).unwrap();
    assert_eq!(state, 3);
    let before = upstream.seen().len();
    there.store(true, Ordering::SeqCst);
    server.start_again();
    server.finished(&rid);
    assert_eq!(result(&server, &rid).expect(200).text(), "at last");
    let seen = upstream.seen();
    assert_eq!(seen.len(), before + 1);
    assert!(seen.iter().all(|seen| seen.body == b"sent"));
    assert_eq!(attempts(&server, &rid), seen.len());
    one_detail_for_each_of(seen.len(), &server, &rid);
}
