//! A foreground call that is slow becomes a background request, before the CDN in front gives up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;

use serde_json::{Value, json};

use crate::common::http::{basic, read_to_end};
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer, ok, wait_for_close};
use crate::common::{DEADLINE, Response, TestServer, assert_submitted, error_of, until};

/// Holds an upstream's answers back until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        let (open, opened) = &*self.0;
        *open.lock().unwrap() = true;
        opened.notify_all();
    }

    pub fn wait(&self) {
        let (open, opened) = &*self.0;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }
}

/// The upstream's table, and a policy for all of it that rescues soon; further keys of it, or tables.
fn rescuing(upstream: &Upstream, after: &str, more: &str) -> String {
    format!("{}[[route]]\npath = \"/up\"\nrescue_after = \"{after}\"\n{more}\n", upstream.table("/up"))
}

fn start(config: &str) -> TestServer {
    TestServer::options().config(config).start()
}

/// Begins a call on a connection of its own.
fn begin(server: &TestServer, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let auth = basic("admin", PASSWORD);
    write!(stream, "{head}\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: close\r\n\r\n{body}").unwrap();
    stream
}

#[test]
fn a_call_without_an_answer_in_time_gets_202_and_its_one_answer_becomes_the_result() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, stream| {
        held.wait();
        answer(stream, "404 Not here", "Content-Type: text/csv\r\nX-Twice: a\r\nX-Twice: b\r\n", "a,b\r\n");
    });
    let server = start(&rescuing(&upstream, "50ms", ""));
    let kim = server.add_user("kim", "password of kim");
    let target = "/up/x%2Fy?q=%20&&q";
    let rid = assert_submitted(&server.call("GET", target).auth("kim", "password of kim").send());
    let info = server.info(&rid);
    assert_eq!(info["status_name"], "running");
    assert_eq!(info["name"], target);
    assert_eq!(info["user_id"], kim.to_string());
    gate.open();
    assert_eq!(server.finished(&rid)["status"], "404");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(404);
    assert_eq!((result.text().as_str(), result.header("Content-Type")), ("a,b\r\n", Some("text/csv")));
    assert_eq!(result.header_all("X-Twice"), ["a", "b"]);
    assert_eq!(upstream.only().line(), format!("GET {target} HTTP/1.1"));
    assert_eq!(server.last_detail(&rid), "done");
}

#[test]
fn what_is_fast_or_has_begun_or_was_asked_for_in_the_foreground_stays_there() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen, stream| match seen.target() {
        "/up/fast" => ok(stream, "fast"),
        "/up/begun" => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            held.wait();
            let _ = write!(stream, "later");
        }
        "/up/asked" => {
            held.wait();
            ok(stream, "asked");
        }
        _ => wait_for_close(stream),
    });
    // Long enough for an answer's head on a busy machine.
    let server = start(&rescuing(&upstream, "2s", ""));
    assert_eq!(server.get("/up/fast").expect(200).text(), "fast");
    let asked = server.call("GET", "/up/asked?bgrs=no");
    let asked = thread::spawn(move || asked.send());
    let mut begun = begin(&server, "GET /up/begun HTTP/1.1", "");
    let mut received = Vec::new();
    while !received.ends_with(b"first") {
        let mut buffer = [0; 1000];
        let read = begun.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&received));
        received.extend(&buffer[..read]);
    }
    upstream.wait_for(3);
    // A call that began later is rescued: the time of the others has passed.
    assert_submitted(&server.get("/up/never"));
    assert_eq!(server.rows(), 1);
    gate.open();
    received.extend(read_to_end(&mut begun).unwrap());
    let begun = Response::parse(&received, false).unwrap().expect(200);
    assert_eq!(begun.text(), "firstlater");
    assert_eq!(asked.join().unwrap().expect(200).text(), "asked");
    assert_eq!((server.rows(), upstream.seen().len()), (1, 4));
}

#[test]
fn a_call_whose_time_is_over_before_it_would_be_rescued_gets_504() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let server = start(&rescuing(&upstream, "60s", ""));
    error_of(&server.call("GET", "/up/x").header("Bgrs-Timeout", "100ms").send(), 504);
    assert_eq!(server.rows(), 0);
}

#[test]
fn a_body_that_is_still_being_sent_when_the_time_is_over_is_not_rescued() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let server = start(&rescuing(&upstream, "50ms", "timeout = \"500ms\""));
    let mut slow = begin(&server, "POST /up/x HTTP/1.1\r\nContent-Length: 1000", "half of it");
    error_of(&Response::parse(&read_to_end(&mut slow).unwrap(), false).unwrap(), 504);
    assert_eq!(server.rows(), 0);
}

#[test]
fn a_call_that_is_answered_while_its_late_body_is_being_sent_is_not_rescued() {
    for (answer, status) in
        [("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 413), ("", 502)]
    {
        let gate = Gate::default();
        let held = gate.clone();
        // Not `Upstream`, which reads the whole body first.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = format!("[[upstream]]\nprefix = \"/up\"\nurl = \"http://{}\"\n", listener.local_addr().unwrap());
        let (said, heard) = mpsc::channel();
        let upstream = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"half") {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).unwrap();
                assert_ne!(read, 0, "closed before the body came");
                head.extend(&buffer[..read]);
            }
            said.send(()).unwrap();
            held.wait();
            let _ = stream.write_all(answer.as_bytes());
        });
        let server = start(&format!("{table}[[route]]\npath = \"/up\"\nrescue_after = \"50ms\"\n"));
        server.get("/v2.5/users/me").expect(200);
        let mut slow = begin(&server, "POST /up/x HTTP/1.1\r\nContent-Length: 1000", "half");
        heard.recv_timeout(DEADLINE).unwrap();
        // A call that began later, and has no body, is rescued: the other's time has passed.
        assert_submitted(&server.get("/up/never"));
        gate.open();
        let got = Response::parse(&read_to_end(&mut slow).unwrap(), false).unwrap();
        assert_eq!((got.status, server.rows()), (status, 1), "{}", got.lossy());
        upstream.join().unwrap();
    }
}

#[test]
fn any_call_is_rescued_once_its_body_was_sent_and_its_details_say_what_a_crash_would_do() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen, stream| {
        held.wait();
        if seen.line().starts_with("HEAD ") {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Made: 1\r\n\r\n");
        } else {
            answer(stream, "200 OK", "", &String::from_utf8_lossy(&seen.body));
        }
    });
    let server = start(&rescuing(&upstream, "50ms", ""));
    let body = "b".repeat(100_000);
    let with_body = |method: &str| server.call(method, "/up").body("a/b", body.clone());
    let streamed = "its body was streamed, not stored: it is not repeated after a crash";
    let mut rescued = Vec::new();
    for (call, promise, length) in [
        (server.call("GET", "/up"), "it is made again after a crash", 0),
        (server.call("POST", "/up"), "POST is not repeated after a crash", 0),
        (with_body("POST"), streamed, body.len()),
        (with_body("PUT").chunked(), streamed, body.len()),
    ] {
        let rid = assert_submitted(&call.send());
        let said = format!("had no answer after 50ms and became a background request; {promise}");
        assert_eq!(server.last_detail(&rid), said);
        rescued.push((rid, length));
    }
    let head = server.call("HEAD", "/up").send().expect(202);
    let head = head.header("Location").and_then(|location| location.strip_prefix("/bgrs/")).expect("an rid");
    assert!(server.media_files().is_empty(), "{:?}", server.media_files());
    gate.open();
    for (rid, length) in rescued {
        assert_eq!(server.finished(&rid)["status"], "200");
        assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).body.len(), length);
    }
    let info = server.finished(head);
    assert_eq!((&info["content_type"], &info["result"]), (&Value::Null, &Value::Null));
    let result = server.get(&format!("/bgrs/{head}/result")).expect(200);
    assert_eq!((result.header("X-Made"), result.body.len()), (Some("1"), 0));
    assert_eq!(upstream.seen().len(), 5);
}

#[test]
fn a_caller_who_is_still_uploading_is_not_rescued_before_the_upload_is_over() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen, stream| {
        if seen.target() == "/up/never" {
            return wait_for_close(stream);
        }
        held.wait();
        answer(stream, "200 OK", "", &String::from_utf8_lossy(&seen.body));
    });
    let server = start(&rescuing(&upstream, "50ms", ""));
    let mut uploading = begin(&server, "POST /up HTTP/1.1\r\nContent-Length: 10", "first");
    // A call that began later is rescued: the time of this one has passed.
    assert_submitted(&server.get("/up/never"));
    assert_eq!(server.rows(), 1);
    uploading.write_all(b"later").unwrap();
    let received = read_to_end(&mut uploading).unwrap();
    let rid = assert_submitted(&Response::parse(&received, false).unwrap());
    gate.open();
    server.finished(&rid);
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "firstlater");
}

#[test]
fn a_caller_who_never_ends_the_upload_is_not_rescued_and_leaves_nothing() {
    let upstream = Upstream::saying("");
    let config = rescuing(&upstream, "50ms", "");
    let server = TestServer::options().server("read_timeout = \"1s\"").config(&config).start();
    let mut uploading = begin(&server, "POST /up HTTP/1.1\r\nContent-Length: 10", "first");
    let received = server.leaves_nothing(|| read_to_end(&mut uploading).unwrap());
    let response = Response::parse(&received, false).unwrap();
    assert!(response.status >= 400, "{}: {}", response.status, response.lossy());
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_rescued_call_whose_upstream_breaks_off_has_failed_or_is_tried_again_where_that_is_safe() {
    let gate = Gate::default();
    let (held, tried) = (gate.clone(), AtomicUsize::new(0));
    let upstream = Upstream::start(move |seen, stream| {
        held.wait();
        match seen.line() {
            "GET /up/again HTTP/1.1" if tried.fetch_add(1, Ordering::SeqCst) > 0 => return ok(stream, "at last"),
            "GET /up/middle HTTP/1.1" => {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
            }
            _ => {}
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let server = start(&rescuing(&upstream, "50ms", "retry = { delay = \"0s\" }"));
    let rescued = |method: &str, path: &str| assert_submitted(&server.call(method, path).send());
    let early = rescued("POST", "/up/early");
    let middle = rescued("GET", "/up/middle");
    let again = rescued("GET", "/up/again");
    gate.open();
    for (rid, why) in
        [(&early, "the upstream broke off before it had answered"), (&middle, "the API's answer broke off")]
    {
        let info = server.ended(rid);
        assert_eq!((&info["status_name"], &info["result"]), (&json!("failed"), &Value::Null));
        let result = server.get(&format!("/bgrs/{rid}/result"));
        let description = error_of(&result, 502);
        assert!(description.starts_with(why) && description == server.last_detail(rid), "{description}");
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    }
    server.finished(&again);
    assert_eq!(server.get(&format!("/bgrs/{again}/result")).expect(200).text(), "at last");
    let details = server.details(&again);
    let details: Vec<_> = details.iter().map(|detail| detail["details"].as_str().unwrap()).collect();
    assert!(details[1].ends_with("attempt 1 of 3, the next in 0s"), "{details:?}");
    assert_eq!(upstream.seen().len(), 4);
}

#[test]
fn a_rescued_call_that_takes_longer_than_its_timeout_has_failed_and_the_upstreams_connection_is_closed() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let server = start(&rescuing(&upstream, "50ms", "timeout = \"500ms\""));
    let rid = assert_submitted(&server.get("/up"));
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    let result = server.get(&format!("/bgrs/{rid}/result"));
    assert_eq!(error_of(&result, 504), "timed out after 500ms");
    until("the upstream's connection to be closed", || upstream.closed() == 1);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn after_a_kill_a_rescued_get_is_made_again_and_what_had_a_body_has_failed() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, stream| {
        held.wait();
        ok(stream, "made again");
    });
    let mut server = start(&rescuing(&upstream, "50ms", ""));
    let get = assert_submitted(&server.get("/up"));
    let post = assert_submitted(&server.call("POST", "/up").body("a/b", "body").send());
    server.kill();
    gate.open();
    server.start_again();
    server.finished(&get);
    assert_eq!(server.get(&format!("/bgrs/{get}/result")).expect(200).text(), "made again");
    assert_eq!(server.ended(&post)["status_name"], "failed");
    assert_eq!(server.last_detail(&post), "interrupted by a restart; POST is not repeated");
    let seen = upstream.seen();
    let count = |method: &str| seen.iter().filter(|seen| seen.line().starts_with(method)).count();
    assert_eq!((count("GET "), count("POST ")), (2, 1));
}

#[test]
fn where_there_is_no_room_for_it_a_slow_call_stays_in_the_foreground_and_gets_its_answer() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen, stream| {
        if seen.target() == "/up/never" {
            return wait_for_close(stream);
        }
        held.wait();
        ok(stream, "slow");
    });
    let server = start(&format!("[background]\nper_user = 1\n{}", rescuing(&upstream, "50ms", "")));
    server.submit("GET", "/up/never");
    let slow = server.call("GET", "/up/slow");
    let slow = thread::spawn(move || slow.send());
    until("the rescue is given up", || server.stderr().contains("a slow call stays in the foreground"));
    gate.open();
    assert_eq!(slow.join().unwrap().expect(200).text(), "slow");
    assert_eq!(server.rows(), 1);
}
