//! Upstreams that mean harm, or know no HTTP: what they say hurts no other call, and is never taken for a good answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::in_front_of;
use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer, ok};
use crate::common::{Response, TestServer, error_of};

/// What nobody has asked for: whoever gets this has been fooled.
const FORGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

/// A server that makes each call once, in front of an upstream that answers well where `misbehave` says nothing.
fn front(misbehave: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> (Upstream, TestServer) {
    let upstream = Upstream::start(move |seen, stream| {
        if !misbehave(seen.target(), stream) {
            ok(stream, "well");
        }
    });
    let once = "[[route]]\npath = \"/up\"\nretry = { attempts = 1 }\n";
    let slow = "[[route]]\npath = \"/up/slow\"\ntimeout = \"500ms\"\nretry = { attempts = 1 }\n";
    let server = TestServer::options().config(&format!("{}{once}{slow}", upstream.table("/up"))).start();
    (upstream, server)
}

/// The same where `/up/N` is answered with the N-th of these, and the connection closed.
fn in_front_of_these(answers: Vec<String>) -> TestServer {
    let (_, server) = front(move |target, stream| {
        let number = target.strip_prefix("/up/").and_then(|rest| rest.parse::<usize>().ok());
        let Some(answer) = number.and_then(|number| answers.get(number)) else { return false };
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown(Shutdown::Both);
        true
    });
    server
}

#[track_caller]
fn assert_well(server: &TestServer) {
    assert_eq!(server.get("/up/well").expect(200).text(), "well");
    let rid = server.finished_get("/up/well");
    assert_eq!(result(server, &rid).expect(200).text(), "well");
}

fn result(server: &TestServer, rid: &str) -> Response {
    server.get(&format!("/bgrs/{rid}/result"))
}

/// Asserts that a background request of this fails, and with which status its result says so.
#[track_caller]
fn assert_fails(server: &TestServer, target: &str, status: u16) {
    let rid = server.submit("GET", target);
    let info = server.ended(&rid);
    assert_eq!(info["status_name"], "failed", "{target}: {info}");
    assert!(info["result"].is_null(), "{target}: {info}");
    error_of(&result(server, &rid), status);
}

/// Asserts that none of these is taken for an answer, in the foreground and in the background.
#[track_caller]
fn assert_none_is_an_answer(answers: Vec<String>) {
    let names: Vec<String> = answers.iter().map(|answer| answer.chars().take(80).collect()).collect();
    let server = in_front_of_these(answers);
    for (number, name) in names.iter().enumerate() {
        let target = format!("/up/{number}");
        let response = server.call("GET", &target).try_send();
        let response = response.unwrap_or_else(|error| panic!("{name:?}: {error}"));
        assert_eq!(response.status, 502, "{name:?}: {}", response.lossy());
        error_of(&response, 502);
        assert_fails(&server, &target, 502);
    }
    assert_well(&server);
}

fn joined(start: &[u8], value: &[u8], end: &[u8]) -> Vec<u8> {
    [start, value, end].concat()
}

fn heads(heads: &[&str]) -> Vec<String> {
    heads.iter().map(|head| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello")).collect()
}

#[test]
fn a_status_line_that_is_none_is_502() {
    let lines = [
        "HTTP/1.1",
        "HTTP/1.1 99 Low",
        "HTTP/1.1 000 Nothing",
        "HTTP/1.1 1000 High",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/2.0 200 OK",
        "ICY 200 OK",
        "200 OK",
        "<html>",
    ];
    assert_none_is_an_answer(lines.iter().map(|line| format!("{line}\r\nContent-Length: 5\r\n\r\nhello")).collect());
}

#[test]
fn a_header_that_is_folded_or_malformed_is_502() {
    let malformed = [
        "X-A: 1\r\n Content-Length: 5",
        "X-A: 1\r\n\tX-B: 2",
        "X-A: 1\rX-B: 2",
        "X-A: 1\0",
        "X-A : 1",
        "X A: 1",
        ": 1",
        "X-A",
    ];
    assert_none_is_an_answer(heads(&malformed));
}

#[test]
fn a_head_without_measure_is_502() {
    let big = format!("X-Big: {}", "a".repeat(1 << 20));
    let many = "X-Many: 1\r\n".repeat(10_000);
    assert_none_is_an_answer(heads(&[big.as_str(), many.trim_end()]));
}

#[test]
fn a_length_that_is_none_or_differs_from_another_is_502() {
    let lengths = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: five",
        "Content-Length: ",
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999",
    ];
    assert_none_is_an_answer(heads(&lengths));
}

#[test]
fn an_answer_with_a_length_and_chunks_or_with_another_coding_is_502() {
    // RFC 9112 section 6.3: it ought to be handled as an error. The codings are none that the server asked for.
    let framings = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 50",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip",
    ];
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let mut answers: Vec<_> = framings.map(|head| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{chunks}")).into();
    answers.push(format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    assert_none_is_an_answer(answers);
}

#[test]
fn another_protocol_that_nobody_asked_for_is_502() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\n";
    let answers = ["Connection: upgrade\r\nUpgrade: websocket\r\n", ""];
    assert_none_is_an_answer(answers.map(|headers| format!("{switch}{headers}\r\n{FORGED}")).into());
}

#[test]
fn a_head_without_an_end_is_502_and_not_read_to_its_end() {
    let (_, server) = front(|target, stream| {
        let (start, more) = match target {
            "/up/reason" => ("HTTP/1.1 200 ", "a"),
            "/up/name" => ("HTTP/1.1 200 OK\r\n", "a"),
            "/up/value" => ("HTTP/1.1 200 OK\r\nX-A: ", "a"),
            "/up/fields" => ("HTTP/1.1 200 OK\r\n", "X-A: 1\r\n"),
            "/up/lines" => ("", "\r\n"),
            _ => return false,
        };
        let _ = stream.write_all(start.as_bytes());
        let more = more.repeat(1000);
        // It ends where the server closes the connection.
        while stream.write_all(more.as_bytes()).is_ok() {}
        true
    });
    for target in ["/up/reason", "/up/name", "/up/value", "/up/fields", "/up/lines"] {
        error_of(&server.get(target), 502);
        assert_fails(&server, target, 502);
    }
    assert_well(&server);
}

#[test]
fn an_answer_has_a_hundred_fields_at_most() {
    let head = |count: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "X-A: 1\r\n".repeat(count - 1));
    let (most, more) = ("/up/0", "/up/1");
    let server = in_front_of_these(vec![head(100), head(101)]);
    assert_eq!(server.get(most).expect(200).header_all("X-A").len(), 99);
    let rid = server.finished_get(most);
    result(&server, &rid).expect(200);
    error_of(&server.get(more), 502);
    assert_fails(&server, more, 502);
    assert_well(&server);
}

#[test]
fn a_head_that_stalls_and_interim_answers_without_an_end_are_504_after_the_timeout() {
    let (_, server) = front(|target, stream| {
        match target {
            "/up/slow/stalls" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
            }
            "/up/slow/hints" => {
                let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n", "a".repeat(4000));
                while stream.write_all(hints.as_bytes()).is_ok() {}
            }
            "/up/few" => {
                let few = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
                let _ = stream.write_all(few.as_bytes());
                return false;
            }
            _ => return false,
        }
        true
    });
    for target in ["/up/slow/stalls", "/up/slow/hints"] {
        error_of(&server.get(target), 504);
        assert_fails(&server, target, 504);
    }
    let few = server.get("/up/few").expect(200);
    assert_eq!((few.text().as_str(), few.header("Link")), ("well", None));
    assert_well(&server);
}

#[test]
fn bytes_behind_an_answer_are_not_the_next_calls_answer() {
    let (_, server) = front(|target, stream| {
        let head = match target {
            "/up/short" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "/up/chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "/up/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "/up/none" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/up/same" => "HTTP/1.1 304 Not Modified\r\n\r\n",
            _ => return false,
        };
        let _ = stream.write_all(format!("{head}{FORGED}").as_bytes());
        true
    });
    for (method, path, status, body) in [
        ("GET", "/up/short", 200, "hello"),
        ("GET", "/up/chunks", 200, "hello"),
        ("HEAD", "/up/head", 200, ""),
        ("GET", "/up/none", 204, ""),
        ("GET", "/up/same", 304, ""),
    ] {
        assert_eq!(server.call(method, path).send().expect(status).text(), body, "{path}");
        assert_eq!(server.get("/up/well").expect(200).text(), "well", "after {path}");
        if method == "GET" {
            let rid = server.finished_get(path);
            assert_eq!(result(&server, &rid).expect(status).text(), body, "{path}");
            assert_well(&server);
        }
    }
}

#[test]
fn what_an_upstream_says_unasked_on_an_idle_connection_is_nobodys_answer() {
    let (gate, opened) = mpsc::channel::<()>();
    let (said, heard) = mpsc::channel();
    let (opened, said) = (Mutex::new(opened), Mutex::new(said));
    let (upstream, server) = front(move |target, stream| {
        ok(stream, "well");
        if target == "/up/first" {
            let _ = opened.lock().unwrap().recv();
            let _ = stream.write_all(FORGED.as_bytes());
            // A call that was on its way before the server has read this cannot be told from one that it answers.
            let end = stream.read(&mut [0]);
            let _ = said.lock().unwrap().send(end.map_err(|error| error.kind()));
        }
        true
    });
    assert_eq!(server.get("/up/first").expect(200).text(), "well");
    gate.send(()).unwrap();
    let end = heard.recv_timeout(Duration::from_secs(30)).expect("the connection is closed");
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    assert_eq!(server.get("/up/well").expect(200).text(), "well");
    assert_eq!(upstream.connections(), 2, "the first is not used again");
    assert_well(&server);
}

#[test]
fn a_body_in_bad_chunks_closes_the_connection_and_is_never_a_result() {
    let bodies = [
        "0x5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "-5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "five\r\nhello\r\n0\r\n\r\n".to_owned(),
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello!\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello\r\n0\r\n\rX".to_owned(),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20)),
        format!("5\r\nhello\r\n0\r\nX-Big: {}\r\n\r\n", "x".repeat(1 << 20)),
    ];
    let count = bodies.len();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = in_front_of_these(bodies.map(|body| format!("{head}{body}")).into());
    for number in 0..count {
        let target = format!("/up/{number}");
        let received = server.call("GET", &target).try_send();
        assert!(received.is_err(), "{number}: {received:?}");
        assert_fails(&server, &target, 502);
    }
    assert_well(&server);
}

#[test]
fn an_answers_headers_pass_unchanged_but_for_those_of_one_hop() {
    let upstream = Upstream::start(|_, stream| {
        let headers = "Location: http://other.example/%0d%0aX-Evil:%201\r\n\
                       Content-Disposition: attachment; filename=\"../a\\\"b.txt\"\r\n\
                       Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d\r\nVia: 1.0 inner\r\n\
                       Connection: close, X-Bgrs, Content-Length\r\nX-Bgrs: 1\r\n\
                       ETag: W/\"theirs\"\r\nContent-Security-Policy: default-src *\r\n\
                       X-Content-Type-Options: none\r\n";
        answer(stream, "200 OK", headers, "hello");
        let _ = stream.shutdown(Shutdown::Both);
    });
    let server = in_front_of(&upstream);
    let passed = server.get("/up/x").expect(200);
    let rid = server.finished_get("/up/x");
    let kept = result(&server, &rid).expect(200);
    for answer in [&passed, &kept] {
        assert_eq!(answer.text(), "hello");
        assert_eq!(answer.header("Location"), Some("http://other.example/%0d%0aX-Evil:%201"));
        assert_eq!(answer.header("Content-Disposition"), Some("attachment; filename=\"../a\\\"b.txt\""));
        assert_eq!((answer.header("X-Bgrs"), answer.header("X-Evil")), (None, None));
    }
    assert_eq!(passed.header_all("Via"), ["1.0 inner", "1.1 bgrs-server"]);
    assert_eq!(passed.header_all("Set-Cookie"), ["a=b; Path=/", "c=d"]);
    assert_eq!(passed.header("ETag"), Some("W/\"theirs\""));
    assert_eq!(passed.header("X-Content-Type-Options"), Some("none"));
    // A result is shown by the server: no page of an upstream's gets at what the server's own may.
    assert_eq!(kept.header("Content-Security-Policy"), Some("sandbox"));
    assert_eq!(kept.header("X-Content-Type-Options"), Some("nosniff"));
    assert_ne!(kept.header("ETag"), Some("W/\"theirs\""));
    assert!(kept.header_all("Set-Cookie").is_empty());
}

#[test]
fn a_content_type_of_odd_bytes_is_kept_and_served_byte_for_byte() {
    let types: [&[u8]; 2] = [b"text/\xff; x=\"\xc3\"", b"../../etc/passwd"];
    let upstream = Upstream::start(move |seen, stream| {
        let line = if seen.target() == "/up/0" { types[0] } else { types[1] };
        let start = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: ";
        let _ = stream.write_all(&joined(start, line, b"\r\n\r\nhello"));
    });
    let server = in_front_of(&upstream);
    for (number, content_type) in types.into_iter().enumerate() {
        let rid = server.finished_get(&format!("/up/{number}"));
        let file = format!("media/keep1m.bgrs.{rid}.result.bin");
        assert_eq!(server.info(&rid)["result"], file);
        let line = joined(b"\r\ncontent-type: ", content_type, b"\r\n");
        let rest = format!("Host: a\r\nAuthorization: {}\r\nConnection: close\r\n\r\n", basic("admin", PASSWORD));
        for target in [format!("/up/{number}"), format!("/bgrs/{rid}/result"), format!("/{file}")] {
            let received = server.raw(format!("GET {target} HTTP/1.1\r\n{rest}").as_bytes());
            assert!(received.starts_with(b"HTTP/1.1 200 ") && received.ends_with(b"\r\n\r\nhello"), "{target}");
            assert!(received.windows(line.len()).any(|part| part == line), "{target}");
        }
    }
}

#[test]
fn an_answer_without_a_length_is_framed_as_its_caller_reads_it() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    });
    let server = in_front_of(&upstream);
    let auth = basic("admin", PASSWORD);
    // A WebSocket that is not to be: the connection's bytes are framed in a way of their own.
    for head in ["GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket", "GET /up HTTP/1.0"] {
        let received = server.raw(format!("{head}\r\nAuthorization: {auth}\r\n\r\n").as_bytes());
        let received = String::from_utf8_lossy(&received).replacen("HTTP/1.0 ", "HTTP/1.1 ", 1);
        let response = Response::parse(received.as_bytes(), false);
        let response = response.unwrap_or_else(|error| panic!("{head}: {error} in {received}")).expect(200);
        assert_eq!(response.text(), "hello", "{head}");
        // RFC 9112 section 6.1: a caller of 1.0 does not know of chunks.
        assert!(head.contains("1.1") || response.header("Transfer-Encoding").is_none(), "{received}");
    }
}
