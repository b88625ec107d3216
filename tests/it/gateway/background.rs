//! Background calls.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::in_front_of;
use crate::common::upstream::{Seen, Upstream, answer, ok, wait_for_close};
use crate::common::{Response, TestServer, assert_submitted, error_of, until};

fn result(server: &TestServer, rid: &str) -> Response {
    server.get(&format!("/bgrs/{rid}/result"))
}

/// The number that a target ends with.
fn number(seen: &Seen) -> usize {
    let last = seen.target().rsplit('/').next();
    last.and_then(|text| text.parse().ok()).expect("a number at the target's end")
}

#[test]
fn a_call_arrives_as_it_was_sent_and_its_result_is_the_answer_as_it_was_given() {
    let upstream = Upstream::start(|_, stream| {
        let headers = "Content-Type: application/json\r\nX-Two: a\r\nX-Two: b\r\nSet-Cookie: c=d\r\nDate: then\r\n\
                       Cache-Control: max-age=9\r\nConnection: X-Hop\r\nX-Hop: 1\r\n";
        answer(stream, "201 Made", headers, "\"made\0\"");
    });
    let server = in_front_of(&upstream);
    let sent = "/up/a%2Fb//c/.;p=1?x=%20+&&y=%C3%A9&bgrs=yes&x=2";
    let call = server
        .call("PATCH", sent)
        .header("X-Twice", "1")
        .header("X-Twice", "2")
        .header("Cookie", "c=d")
        .header("Accept-Encoding", "gzip")
        .header("Range", "bytes=0-1")
        .header("If-None-Match", "\"x\"")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("Via", "1.0 cdn")
        .header("Connection", "close, X-Hop")
        .header("X-Hop", "1")
        .body("text/x", [0_u8, 255, 10, 13]);
    let rid = assert_submitted(&call.send());
    let info = server.finished(&rid);
    assert_eq!(info["name"], sent);
    assert_eq!(info["status"], "201");
    assert_eq!(info["result"], format!("media/keep1m.bgrs.{rid}.result.json"));

    let seen = upstream.only();
    assert_eq!(seen.line(), "PATCH /up/a%2Fb//c/.;p=1?x=%20+&&y=%C3%A9&x=2 HTTP/1.1");
    assert_eq!(seen.body, [0, 255, 10, 13]);
    assert_eq!(seen.all("X-Twice"), ["1", "2"]);
    let (own, host) = (upstream.addr().to_string(), server.addr().to_string());
    let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=http");
    for (name, value) in [
        ("Content-Type", "text/x"),
        ("Content-Length", "4"),
        ("Cookie", "c=d"),
        ("Accept-Encoding", "gzip"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "\"x\""),
        ("Host", own.as_str()),
        ("Via", "1.0 cdn, 1.1 bgrs-server"),
        ("Forwarded", forwarded.as_str()),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", host.as_str()),
        ("X-Forwarded-Proto", "http"),
        ("Bgrs-Request", rid.as_str()),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    assert_eq!((seen.header("Authorization"), seen.header("X-Hop")), (None, None));

    let result = result(&server, &rid).expect(201);
    assert_eq!(result.body, b"\"made\0\"");
    assert_eq!(result.header("Content-Type"), Some("application/json"));
    assert_eq!(result.header_all("X-Two"), ["a", "b"]);
    assert_eq!((result.header("Set-Cookie"), result.header("X-Hop")), (None, None));
    assert_ne!(result.header("Date"), Some("then"));
    assert_eq!(result.header("Cache-Control"), Some("private, no-cache"));
}

#[test]
fn a_call_for_a_part_or_for_a_change_gets_what_the_upstream_makes_of_it() {
    let upstream = Upstream::start(|seen, stream| match (seen.header("Range"), seen.header("If-None-Match")) {
        (Some("bytes=2-3"), None) => answer(stream, "206 Partial Content", "Content-Range: bytes 2-3/9\r\n", "cd"),
        (None, Some("\"e\"")) => drop(stream.write_all(b"HTTP/1.1 304 Not Modified\r\nX-A: 1\r\n\r\n")),
        _ => ok(stream, "all of it"),
    });
    let server = in_front_of(&upstream);
    // The second time, the caller is remembered: another way to the same end.
    for _ in 0..2 {
        let rid = assert_submitted(&server.call("GET", "/up?bgrs=yes").header("Range", "bytes=2-3").send());
        server.finished(&rid);
        let part = result(&server, &rid).expect(206);
        assert_eq!((part.text().as_str(), part.header("Content-Range")), ("cd", Some("bytes 2-3/9")));
        let rid = assert_submitted(&server.call("GET", "/up?bgrs=yes").header("If-None-Match", "\"e\"").send());
        assert!(server.finished(&rid)["result"].is_null());
        let same = result(&server, &rid).expect(304);
        assert_eq!((same.header("X-A"), same.header("Bgrs-Request")), (Some("1"), Some(rid.as_str())));
    }
}

#[test]
fn whatever_the_upstream_answers_is_the_result_and_no_redirect_is_followed() {
    const ANSWERS: [(&str, &str, &str); 4] = [
        ("404 Not Found", "Bgrs-Request: 4ff7cc2d88b1de88e83cce3f1caa1509\r\n", "none of mine"),
        ("500 Oh no", "Content-Type: text/html\r\n", "<h1>no</h1>"),
        ("302 Found", "Location: /elsewhere\r\n", ""),
        ("307 Temporary Redirect", "Location: http://other.example/\r\n", "there"),
    ];
    let upstream = Upstream::start(|seen, stream| {
        let (status, headers, body) = ANSWERS[number(seen)];
        answer(stream, status, headers, body);
    });
    let server = in_front_of(&upstream);
    for (at, (status, headers, body)) in ANSWERS.into_iter().enumerate() {
        let rid = server.submit("POST", &format!("/up/{at}"));
        let info = server.finished(&rid);
        assert_eq!(info["status"], &status[..3], "{info}");
        assert_eq!(server.last_detail(&rid), "done");
        let result = result(&server, &rid).expect(status[..3].parse().unwrap());
        assert_eq!((result.text().as_str(), result.header("Bgrs-Request")), (body, Some(rid.as_str())));
        if let Some((_, location)) = headers.trim().split_once("Location: ") {
            assert_eq!(result.header("Location"), Some(location));
        }
    }
    assert_eq!(upstream.seen().len(), ANSWERS.len());
}

#[test]
fn an_upstreams_own_202_is_told_from_a_request_that_has_not_ended() {
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = opened.lock().unwrap().recv();
        answer(stream, "202 Accepted", "", "later");
    });
    let server = in_front_of(&upstream);
    let rid = server.submit("GET", "/up");
    upstream.wait_for(1);
    let pending = result(&server, &rid).expect(202);
    assert_eq!(pending.json()[0]["status_name"], "running");
    assert_eq!(pending.header("Bgrs-Request"), None);
    gate.send(()).unwrap();
    server.finished(&rid);
    let own = result(&server, &rid).expect(202);
    assert_eq!((own.text().as_str(), own.header("Bgrs-Request")), ("later", Some(rid.as_str())));
}

#[test]
fn a_head_submission_has_its_id_in_location_and_its_result_has_no_body() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: 1\r\n\r\n");
    });
    let server = in_front_of(&upstream);
    let accepted = server.call("HEAD", "/up?bgrs=yes").send().expect(202);
    let location = accepted.header("Location").unwrap();
    let rid = location.strip_prefix("/bgrs/").unwrap();
    let info = server.finished(rid);
    assert!(info["result"].is_null() && info["content_type"].is_null(), "{info}");
    assert_eq!(upstream.only().line(), "HEAD /up HTTP/1.1");
    for method in ["GET", "HEAD"] {
        let result = server.call(method, &format!("{location}/result")).send().expect(200);
        assert_eq!((result.header("X-A"), result.header("Bgrs-Request")), (Some("1"), Some(rid)));
        assert!(result.body.is_empty(), "{method}");
    }
}

#[test]
fn an_answers_body_is_kept_however_its_end_is_told_and_where_there_is_none_there_is_no_file() {
    const ANSWERS: [(&str, u16, &str); 5] = [
        ("204 No Content\r\n\r\n", 204, ""),
        ("200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, ""),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2\r\nle\r\n0\r\n\r\n", 200, "whole"),
        ("200 OK\r\nConnection: close\r\n\r\nwhole", 200, "whole"),
    ];
    let upstream = Upstream::start(|seen, stream| {
        let (rest, ..) = ANSWERS[number(seen)];
        let (status, rest) = rest.split_once("\r\n").unwrap();
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{rest}");
        if rest.starts_with("Connection: close") {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let server = in_front_of(&upstream);
    for (at, (_, status, body)) in ANSWERS.into_iter().enumerate() {
        let rid = server.submit("GET", &format!("/up/{at}"));
        let info = server.finished(&rid);
        let (content_type, file) = if body.is_empty() {
            (None, None)
        } else {
            (Some("text/plain"), Some(format!("media/keep1m.bgrs.{rid}.result.txt")))
        };
        assert_eq!((info["content_type"].as_str(), info["result"].as_str()), (content_type, file.as_deref()), "{at}");
        assert_eq!(info["progress"], "100.00", "{at}");
        let result = result(&server, &rid).expect(status);
        assert_eq!((result.text().as_str(), result.header("Bgrs-Request")), (body, Some(rid.as_str())), "{at}");
    }
    assert_eq!(server.media_files().len(), 2);
}

#[test]
fn a_body_goes_up_and_comes_back_byte_for_byte_and_is_kept_with_the_result() {
    let upstream = Upstream::start(|seen, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
        let _ = stream.write_all(&seen.body);
    });
    let server = in_front_of(&upstream);
    let body: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    for (length, chunked) in [(0, false), (4, true), (body.len(), false), (body.len(), true)] {
        let sent = &body[..length];
        let call = server.call("POST", "/up?bgrs=yes").body("a/b", sent);
        let call = if chunked { call.chunked() } else { call };
        let rid = assert_submitted(&call.send());
        server.finished(&rid);
        assert!(result(&server, &rid).expect(200).body == sent, "{length} {chunked}");
        let seen = upstream.seen().pop().unwrap();
        assert!(seen.body == sent, "{length} {chunked}");
        if !chunked {
            assert_eq!(seen.all("Content-Length"), [length.to_string()]);
        }
    }
    let files = server.media_files();
    let bodies = files.iter().filter(|name| name.ends_with(".body")).count();
    assert_eq!((files.len(), bodies), (6, 3), "{files:?}");
}

#[test]
fn an_answer_that_breaks_off_in_the_middle_is_a_failure_and_never_a_short_result() {
    for head in ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nf4240\r\n"] {
        let upstream = Upstream::start(move |_, stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}");
            let _ = stream.write_all(&vec![b'x'; 300_000]);
            let _ = stream.shutdown(Shutdown::Both);
        });
        let server = in_front_of(&upstream);
        let rid = assert_submitted(&server.call("PUT", "/up?bgrs=yes").body("a/b", "sent").send());
        let info = server.ended(&rid);
        assert_eq!(info["status_name"], "failed", "{info}");
        assert!(info["status"].is_null() && info["result"].is_null(), "{info}");
        let result = result(&server, &rid);
        assert_eq!(error_of(&result, 502), server.last_detail(&rid));
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
        let body = format!("bgrs.{rid}.body");
        until("nothing of the answer is left", || server.media_files().iter().eq([&body]));
        // What has begun to answer has done the work, as far as anybody knows: it is not asked again.
        assert_eq!(upstream.seen().len(), 1);
    }
}

#[test]
fn a_call_that_takes_longer_than_it_may_fails_and_the_upstreams_connection_is_closed() {
    let upstream = Upstream::start(|seen, stream| {
        if seen.target() == "/up/half" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        }
        wait_for_close(stream);
    });
    let config = upstream.table("/up") + "[[route]]\npath = \"/up\"\ntimeout = \"1s\"\n";
    let server = TestServer::options().config(&config).start();
    let calls = [
        (server.call("GET", "/up/slow?bgrs=yes"), "1s"),
        (server.call("GET", "/up/half?bgrs=yes"), "1s"),
        (server.call("GET", "/up/x?bgrs=yes").header("Bgrs-Timeout", "500ms"), "500ms"),
        (server.call("GET", "/up/x?bgrs_timeout=500ms&bgrs=yes"), "500ms"),
        (server.call("GET", "/up/x?bgrs=yes").header("Bgrs-Timeout", "1h"), "1s"),
    ];
    let rids = calls.map(|(call, limit)| (assert_submitted(&call.send()), limit));
    for (rid, limit) in &rids {
        let info = server.ended(rid);
        assert_eq!(info["status_name"], "failed", "{info}");
        let result = result(&server, rid);
        let description = error_of(&result, 504);
        assert_eq!(description, server.last_detail(rid));
        assert!(description.ends_with(&format!(" {limit}")), "{description}");
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    }
    until("the connections to be closed", || upstream.closed() == rids.len());
    let seen = upstream.seen();
    assert_eq!(seen.len(), rids.len(), "no call was made again");
    assert!(seen.iter().all(|seen| seen.header("Bgrs-Timeout").is_none() && !seen.target().contains('?')));
    until("no file is left", || server.media_files().is_empty());
}

#[test]
fn a_timeout_that_is_none_is_400_and_leaves_nothing() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    let call = |target: &str| server.call("POST", target).body("a/b", "sent");
    for wrong in ["0s", "soon", "9", "-9s"] {
        server.leaves_nothing(|| error_of(&call("/up?bgrs=yes").header("Bgrs-Timeout", wrong).send(), 400));
        server.leaves_nothing(|| error_of(&call(&format!("/up?bgrs=yes&bgrs_timeout={wrong}")).send(), 400));
    }
    let two = call("/up?bgrs=yes&bgrs_timeout=8s").header("Bgrs-Timeout", "9s");
    server.leaves_nothing(|| error_of(&two.send(), 400));
    assert!(upstream.seen().is_empty());
}

#[test]
fn the_servers_parameters_are_taken_out_of_the_query_and_no_other_byte() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    for (sent, arrived) in [
        ("/up?bgrs_timeout=9s&bgrs=yes", "/up"),
        ("/up?x=%20+&bgrs_timeout=9s&&y=%C3%A9&bgrs=yes&z=", "/up?x=%20+&&y=%C3%A9&z="),
        ("/up?bgrs%5Ftimeout=9s&a&bgrs=1", "/up?a"),
        ("/up?xbgrs_timeout=1&BGRS_TIMEOUT=2&bgrs=yes", "/up?xbgrs_timeout=1&BGRS_TIMEOUT=2"),
    ] {
        let rid = assert_submitted(&server.get(sent));
        assert_eq!(server.finished(&rid)["name"], sent);
        assert_eq!(upstream.seen().pop().unwrap().target(), arrived);
    }
}

#[test]
fn a_path_of_nobody_is_404_and_what_cannot_wait_is_400_and_neither_leaves_anything() {
    let upstream = Upstream::saying("");
    let server = TestServer::options().server("hosted_api = false").config(&upstream.table("/up")).start();
    for path in ["/", "/upper", "/v2.5/users/me"] {
        server.leaves_nothing(|| error_of(&server.get(&format!("{path}?bgrs=yes")), 404));
    }
    for method in ["TRACE", "CONNECT"] {
        let answer = server.leaves_nothing(|| server.call(method, "/up?bgrs=yes").send());
        assert_eq!(answer.status, 400, "{method}: {}", answer.lossy());
    }
    for protocol in ["websocket", "h2c"] {
        let call = server.call("GET", "/up?bgrs=yes").header("Connection", "close, Upgrade");
        server.leaves_nothing(|| error_of(&call.header("Upgrade", protocol).send(), 400));
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn bgrs_no_wins_over_a_policy() {
    let upstream = Upstream::saying("now");
    let config = upstream.table("/up") + "[[route]]\npath = \"/up\"\nbgrs = \"always\"\n";
    let server = TestServer::options().config(&config).start();
    assert_eq!(server.get("/up?bgrs=no").expect(200).text(), "now");
    assert_eq!((server.rows(), upstream.only().target()), (0, "/up"));
    assert_submitted(&server.get("/up"));
}

#[test]
fn after_a_kill_what_ran_runs_again_if_that_is_safe_and_what_waited_goes_on() {
    let there = Arc::new(AtomicBool::new(false));
    let answers = there.clone();
    let upstream = Upstream::start(move |seen, stream| match seen.target() {
        _ if answers.load(Ordering::SeqCst) => ok(stream, "done"),
        "/up/retried" => drop(stream.shutdown(Shutdown::Both)),
        _ => wait_for_close(stream),
    });
    let route = "[[route]]\npath = \"/up/retried\"\nretry = { attempts = 100, delay = \"50ms\" }\n";
    let config = format!("[background]\nconcurrency = 3\n{}{route}", upstream.table("/up"));
    let mut server = TestServer::options().config(&config).start();
    let count = |target: &str| upstream.seen().iter().filter(|seen| seen.target() == target).count();
    let state = |server: &TestServer, rid: &str| server.info(rid)["status_name"].as_str().unwrap().to_owned();

    let retried = server.submit("GET", "/up/retried");
    until("an attempt has failed", || state(&server, &retried) == "retrying");
    let post = assert_submitted(&server.call("POST", "/up/post?bgrs=yes").body("a/b", "sent").send());
    let keyed = server.call("POST", "/up/keyed?bgrs=yes").header("Idempotency-Key", "a-key").body("a/b", "sent");
    let keyed = assert_submitted(&keyed.send());
    let get = server.submit("GET", "/up/get");
    until("three are running", || ["/up/post", "/up/keyed", "/up/get"].into_iter().all(|target| count(target) == 1));
    // They have all the places that there are: nothing else can be running.
    let queued = server.submit("GET", "/up/queued");
    assert_eq!((state(&server, &queued), state(&server, &retried)), ("queued".to_owned(), "retrying".to_owned()));
    server.kill();
    there.store(true, Ordering::SeqCst);
    server.start_again();

    let interrupted = "interrupted by a restart; POST is not repeated";
    assert_eq!(server.ended(&post)["status_name"], "failed");
    assert_eq!(server.last_detail(&post), interrupted);
    assert_eq!(error_of(&result(&server, &post), 502), interrupted);
    for rid in [&keyed, &get, &queued, &retried] {
        server.finished(rid);
        assert_eq!(result(&server, rid).expect(200).text(), "done");
    }
    let counts = ["/up/post", "/up/keyed", "/up/get", "/up/queued"].map(count);
    assert_eq!(counts, [1, 2, 2, 1]);
    let seen = upstream.seen();
    assert!(seen.iter().filter(|seen| seen.target() == "/up/keyed").all(|seen| seen.body == b"sent"));
}
