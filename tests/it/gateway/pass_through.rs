//! Foreground calls.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::in_front_of;
use crate::common::http::{basic, exchange};
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer, ok, wait_for_close};
use crate::common::{Response, TestServer, error_of, until};

#[test]
fn a_call_arrives_as_it_was_sent_and_its_answer_comes_back_as_it_was_given() {
    let upstream = Upstream::start(|_, stream| {
        answer(stream, "201 Made", "X-One: 1\r\nX-Two: a\r\nX-Two: b\r\nSet-Cookie: c=d\r\nDate: then\r\n", "made\0");
    });
    let server = in_front_of(&upstream);
    let call = server
        .call("PATCH", "/up/a%2Fb//c/.;p=1?x=%20+&&y=%C3%A9&x=2&bgrs=no")
        .header("X-Twice", "1")
        .header("X-Twice", "2")
        .header("Cookie", "c=d")
        .header("Accept-Encoding", "gzip")
        .header("Range", "bytes=0-1")
        .header("If-None-Match", "\"x\"")
        .body("text/x", vec![0, 255, 10, 13]);
    let response = call.send().expect(201);
    assert_eq!(response.body, b"made\0");
    assert_eq!(response.header("X-One"), Some("1"));
    assert_eq!(response.header_all("X-Two"), ["a", "b"]);
    assert_eq!(response.header("Set-Cookie"), Some("c=d"));
    assert_eq!(response.header_all("Date"), ["then"]);
    assert_eq!(response.header("Via"), Some("1.1 bgrs-server"));
    let seen = upstream.only();
    assert_eq!(seen.line(), "PATCH /up/a%2Fb//c/.;p=1?x=%20+&&y=%C3%A9&x=2 HTTP/1.1");
    assert_eq!(seen.all("X-Twice"), ["1", "2"]);
    assert_eq!(seen.body, [0, 255, 10, 13]);
    assert_eq!(seen.all("Content-Length"), ["4"]);
    for (name, value) in
        [("Cookie", "c=d"), ("Accept-Encoding", "gzip"), ("Range", "bytes=0-1"), ("If-None-Match", "\"x\"")]
    {
        assert_eq!(seen.all(name), [value]);
    }
}

#[test]
fn what_is_of_one_hop_alone_stays_behind_and_where_the_call_came_from_is_added() {
    let upstream = Upstream::start(|_, stream| {
        answer(
            stream,
            "200 OK",
            "Connection: X-Secret, close\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\n",
            "",
        );
        let _ = stream.shutdown(Shutdown::Both);
    });
    let server = in_front_of(&upstream);
    let response = server
        .call("GET", "/up")
        .header("Connection", "close, X-Hop")
        .header("X-Hop", "1")
        .header("TE", "trailers")
        .header("Proxy-Connection", "keep-alive")
        .header("Bgrs-Report-Token", "made up")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("Via", "1.0 cdn")
        .send()
        .expect(200);
    assert_eq!((response.header("X-Secret"), response.header("Keep-Alive")), (None, None));
    assert_eq!(response.header("X-Kept"), Some("1"));
    let seen = upstream.only();
    for name in ["X-Hop", "TE", "Proxy-Connection", "Connection", "Bgrs-Report-Token", "Authorization"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let host = server.addr().to_string();
    assert_eq!(seen.header("Host"), Some(upstream.addr().to_string().as_str()));
    assert_eq!(seen.header("Via"), Some("1.0 cdn, 1.1 bgrs-server"));
    assert_eq!(seen.all("X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(seen.all("X-Forwarded-Host"), [host.as_str()]);
    assert_eq!(seen.all("X-Forwarded-Proto"), ["http"]);
    assert_eq!(seen.all("Forwarded"), [format!("for=127.0.0.1;host=\"{host}\";proto=http")]);
}

#[test]
fn behind_a_trusted_proxy_its_word_counts() {
    let upstream = Upstream::saying("");
    let server =
        TestServer::options().server("trusted_proxies = [\"127.0.0.0/8\"]").config(&upstream.table("/up")).start();
    let call = server.call("GET", "/up").header("X-Forwarded-For", "203.0.113.9").header("X-Forwarded-Proto", "https");
    call.header("X-Forwarded-Host", "api.example").send().expect(200);
    let seen = upstream.only();
    assert_eq!(seen.all("X-Forwarded-For"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(seen.all("X-Forwarded-Host"), ["api.example"]);
    assert_eq!(seen.all("X-Forwarded-Proto"), ["https"]);
}

#[test]
fn a_prefix_is_whole_segments_the_longest_wins_and_what_the_server_hosts_goes_first() {
    let (short, long) = (Upstream::saying("short"), Upstream::saying("long"));
    let config = format!("{}{}", short.table("/up"), long.table("/up/b"));
    let server = TestServer::options().config(&config).start();
    for (path, body) in [("/up", "short"), ("/up/bc", "short"), ("/up/b/c", "long"), ("/%75p/b", "long")] {
        assert_eq!(server.get(path).expect(200).text(), body, "{path}");
    }
    error_of(&server.get("/upper"), 404);
    let everything = TestServer::options().config(&short.table("/")).start();
    assert_eq!(everything.get("/v2.5/users/me").expect(200).json()["login"], "admin");
    assert_eq!(everything.get("/anything").expect(200).text(), "short");
    let alone = TestServer::options().server("hosted_api = false").config(&short.table("/")).start();
    assert_eq!(alone.get("/v2.5/users/me").expect(200).text(), "short");
}

#[test]
fn the_path_goes_behind_the_bases_whole_or_less_the_prefix_and_the_host_is_as_configured() {
    let upstream = Upstream::saying("");
    let url = format!("url = \"http://{}/base/\"", upstream.addr());
    let config = format!(
        "[[upstream]]\nprefix = \"/whole\"\n{url}\n[[upstream]]\nprefix = \"/less/this\"\n{url}\nstrip_prefix = true\npreserve_host = true\n"
    );
    let server = TestServer::options().config(&config).start();
    server.get("/whole/x?y").expect(200);
    server.get("/less/this/x//y?z").expect(200);
    server.get("/less/this").expect(200);
    let seen = upstream.seen();
    let targets: Vec<_> = seen.iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/base/whole/x?y", "/base/x//y?z", "/base/"]);
    assert_eq!(seen[0].header("Host").unwrap(), upstream.addr().to_string());
    assert_eq!(seen[1].header("Host").unwrap(), server.addr().to_string());
}

#[test]
fn a_path_with_a_climbing_segment_is_400_in_any_spelling() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    for path in ["/up/../bgrs", "/up/%2e%2e/x", "/up/.%2E/x", "/up/x/..", "/up/..%2fx", "/up/x%5c..%5cy"] {
        for joint in ["", "?bgrs=yes"] {
            error_of(&server.get(&format!("{path}{joint}")), 400);
        }
    }
    assert_eq!((upstream.seen().len(), server.rows()), (0, 0));
}

#[test]
fn no_byte_of_a_target_becomes_one_of_the_upstreams_authority() {
    let upstream = Upstream::saying("mine");
    let other = Upstream::saying("other");
    let config = upstream.table("/api") + "strip_prefix = true\n";
    let server = TestServer::options().config(&config).start();
    for target in [format!("/api/@{}/x", other.addr()), format!("/api//{}/x", other.addr())] {
        assert_eq!(server.get(&target).expect(200).text(), "mine");
    }
    error_of(&server.get(&format!("/api%2F@{}/x", other.addr())), 404);
    assert!(other.seen().is_empty());
}

#[test]
fn redirects_errors_and_encoded_bodies_come_back_as_they_are() {
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/moved" => answer(stream, "302 Found", "Location: /elsewhere\r\n", ""),
        "/up/broken" => answer(stream, "500 Oh no", "Content-Type: text/html\r\n", "<h1>no</h1>"),
        _ => answer(stream, "200 OK", "Content-Encoding: gzip\r\n", "not really gzip"),
    });
    let server = in_front_of(&upstream);
    assert_eq!(server.get("/up/moved").expect(302).header("Location"), Some("/elsewhere"));
    assert_eq!(server.get("/up/broken").expect(500).text(), "<h1>no</h1>");
    let encoded = server.get("/up/encoded").expect(200);
    assert_eq!((encoded.text().as_str(), encoded.header("Content-Encoding")), ("not really gzip", Some("gzip")));
    assert_eq!(upstream.seen().len(), 3, "no redirect was followed");
}

#[test]
fn head_204_and_304_keep_their_heads_and_have_no_body() {
    let upstream = Upstream::start(|seen, stream| {
        let text = match seen.line().split('/').nth(2).unwrap_or_default() {
            "none HTTP" => "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
            "same HTTP" => "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n",
            "chunked HTTP" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: 1\r\n\r\n",
        };
        let _ = stream.write_all(text.as_bytes());
    });
    let server = in_front_of(&upstream);
    let head = server.call("HEAD", "/up/long").send().expect(200);
    assert_eq!((head.header("Content-Length"), head.header("X-A")), (Some("1234"), Some("1")));
    let head = server.call("HEAD", "/up/chunked").send().expect(200);
    assert_eq!((head.header("Content-Length"), head.header("X-A")), (None, Some("1")));
    let none = server.get("/up/none").expect(204);
    assert_eq!((none.header("X-A"), none.header("Content-Length"), none.body.len()), (Some("1"), None, 0));
    let same = server.get("/up/same").expect(304);
    assert_eq!((same.header("ETag"), same.body.len()), (Some("\"e\""), 0));
}

#[test]
fn a_304_keeps_the_length_that_it_tells_and_a_204_has_none() {
    let upstream = Upstream::start(|seen, stream| {
        let text = match seen.target() {
            "/up/none" => "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
        };
        let _ = stream.write_all(text.as_bytes());
    });
    let server = in_front_of(&upstream);
    let call =
        |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n", basic("admin", PASSWORD));
    // One behind the other on one connection: no byte of a body is awaited or sent.
    let calls =
        format!("{}\r\n{}\r\n{}Connection: close\r\n\r\n", call("/up/same"), call("/up/none"), call("/up/same"));
    let answers = String::from_utf8(server.raw(calls.as_bytes())).unwrap().to_lowercase();
    let heads: Vec<&str> = answers.split("\r\n\r\n").collect();
    assert_eq!((heads.len(), heads[3]), (4, ""), "{answers}");
    for (head, status, length) in [(heads[0], "304", true), (heads[1], "204", false), (heads[2], "304", true)] {
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{answers}");
        assert_eq!(head.contains("content-length: 77"), length, "{answers}");
        assert_eq!(head.contains("content-length"), length, "{answers}");
    }
}

#[test]
fn a_call_that_meets_a_closed_connection_is_sent_once_more_where_that_is_harmless() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_, stream| match calls.fetch_add(1, Ordering::SeqCst) {
        // Closed as a call comes, as if it had been idle for too long.
        1 | 4 | 6 => drop(stream.shutdown(Shutdown::Both)),
        _ => ok(stream, "well"),
    });
    let server = in_front_of(&upstream);
    for _ in 0..2 {
        assert_eq!(server.get("/up/x").expect(200).text(), "well");
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (3, 2));
    // What may do something twice is not, nor what has a body, which is gone.
    for method in ["POST", "PUT"] {
        server.get("/up/x").expect(200);
        error_of(&server.call(method, "/up/x").body("text/plain", "body").send(), 502);
    }
    assert_eq!(upstream.seen().len(), 7);
}

#[test]
fn an_answer_in_chunks_that_breaks_off_is_short_to_nobody_who_can_be_told() {
    let upstream = Upstream::start(|seen, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        if seen.target() == "/up/whole" {
            let _ = write!(stream, "0\r\n\r\n");
        } else {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let server = in_front_of(&upstream);
    for headers in
        ["Connection: close\r\n", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"]
    {
        for (target, is_whole) in [("/up/whole", true), ("/up/broken", false)] {
            let auth = basic("admin", PASSWORD);
            let call = format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\n{headers}\r\n");
            let answer = String::from_utf8(server.raw(call.as_bytes())).unwrap();
            // Where its end is seen with its beginning, less of it is sent, or nothing.
            let has = |part: &str| answer.to_lowercase().contains(part);
            assert!(answer.is_empty() || has("transfer-encoding: chunked"), "{headers} {answer}");
            assert!(!is_whole || has("\r\n\r\n5\r\nfirst\r\n"), "{headers} {answer}");
            assert_eq!(answer.ends_with("\r\n0\r\n\r\n"), is_whole, "{headers} {target} {answer}");
        }
    }
}

#[test]
fn bodies_in_chunks_go_both_ways() {
    let upstream = Upstream::start(|seen, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in seen.body.chunks(1000) {
            let _ = write!(stream, "{:x}\r\n", chunk.len());
            let _ = stream.write_all(chunk);
            let _ = stream.write_all(b"\r\n");
        }
        let _ = stream.write_all(b"0\r\n\r\n");
    });
    let server = in_front_of(&upstream);
    let body: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let response = server.call("POST", "/up").body("a/b", body.clone()).chunked().send().expect(200);
    assert!(response.body == body);
    assert_eq!(upstream.only().header("Transfer-Encoding"), Some("chunked"));
}

#[test]
fn an_answer_comes_back_piece_by_piece_and_not_at_its_end() {
    let (gate, opened) = std::sync::mpsc::channel::<()>();
    let opened = std::sync::Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        let _ = opened.lock().unwrap().recv();
        let _ = write!(stream, "later");
    });
    let server = in_front_of(&upstream);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let auth = crate::common::http::basic("admin", crate::common::server::PASSWORD);
    write!(stream, "GET /up HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: close\r\n\r\n").unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"first") {
        let mut buffer = [0; 1000];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&received));
        received.extend(&buffer[..read]);
    }
    gate.send(()).unwrap();
    stream.read_to_end(&mut received).unwrap();
    assert!(received.ends_with(b"firstlater"));
}

#[test]
fn a_body_larger_than_what_is_stored_passes_in_the_foreground() {
    let upstream = Upstream::start(|seen, stream| ok(stream, if seen.body.len() == 3000 { "whole" } else { "part" }));
    let server = TestServer::options().server("max_body = \"1000\"").config(&upstream.table("/up")).start();
    assert_eq!(server.call("POST", "/up").body("a/b", vec![1; 3000]).send().expect(200).text(), "whole");
    error_of(&server.call("POST", "/up?bgrs=yes").body("a/b", vec![1; 3000]).send(), 413);
    assert_eq!(upstream.seen().len(), 1, "a body that is too large is not sent in part");
}

#[test]
fn without_credentials_or_with_wrong_ones_nothing_passes() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    error_of(&server.call("GET", "/up").no_auth().send(), 401);
    error_of(&server.call("GET", "/up").auth("admin", "wrong").send(), 401);
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_upstream_that_is_not_there_is_502_and_the_servers_own_error_has_no_via() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server =
        TestServer::options().config(&format!("[[upstream]]\nprefix = \"/up\"\nurl = \"http://{addr}\"\n")).start();
    let response = server.get("/up");
    let description = error_of(&response, 502);
    assert!(!description.contains(&addr.to_string()), "{description}");
    assert_eq!(response.header("Via"), None);
}

#[test]
fn an_upstream_that_breaks_off_before_it_answers_is_502() {
    for words in ["", "HTTP/1.1 200 OK\r\nContent-Le", "not http at all\r\n\r\n"] {
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(words.as_bytes());
            let _ = stream.shutdown(Shutdown::Both);
        });
        let server = in_front_of(&upstream);
        error_of(&server.get("/up"), 502);
        assert_eq!(upstream.seen().len(), 1, "{words:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_in_the_middle_closes_the_connection_and_nothing_is_put_behind_it() {
    for head in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let upstream = Upstream::start(move |_, stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n5\r\npart!\r\n");
            let _ = stream.shutdown(Shutdown::Both);
        });
        let server = in_front_of(&upstream);
        assert!(server.call("GET", "/up").try_send().is_err(), "{head}");
        let auth = crate::common::http::basic("admin", crate::common::server::PASSWORD);
        let bytes = format!("GET /up HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\n\r\n");
        let received = exchange(server.addr(), bytes.as_bytes()).unwrap();
        let received = String::from_utf8_lossy(&received);
        assert!(received.starts_with("HTTP/1.1 200") && !received.contains("error"), "{received}");
        assert!(!received.ends_with("0\r\n\r\n"), "{received}");
    }
}

#[test]
fn a_call_that_takes_longer_than_its_timeout_is_504_and_the_upstreams_connection_is_closed() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let config = upstream.table("/up") + "[[route]]\npath = \"/up/slow\"\ntimeout = \"200ms\"\n";
    let server = TestServer::options().config(&config).start();
    error_of(&server.get("/up/slow"), 504);
    error_of(&server.call("GET", "/up").header("Bgrs-Timeout", "150ms").send(), 504);
    error_of(&server.get("/up?bgrs_timeout=150ms"), 504);
    until("the connections to be closed", || upstream.closed() == 3);
    for wrong in ["0s", "soon", "9"] {
        error_of(&server.call("GET", "/up").header("Bgrs-Timeout", wrong).send(), 400);
        error_of(&server.get(&format!("/up?bgrs_timeout={wrong}")), 400);
    }
    assert_eq!(upstream.seen().len(), 3);
    assert!(upstream.seen().iter().all(|seen| seen.header("Bgrs-Timeout").is_none() && !seen.target().contains('?')));
}

#[test]
fn a_caller_who_hangs_up_lets_go_of_the_upstream() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let server = in_front_of(&upstream);
    let auth = crate::common::http::basic("admin", crate::common::server::PASSWORD);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    write!(stream, "GET /up HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\n\r\n").unwrap();
    upstream.wait_for(1);
    drop(stream);
    until("the upstream's connection to be closed", || upstream.closed() == 1);
}

#[test]
fn connections_to_an_upstream_are_used_again() {
    let upstream = Upstream::saying("again");
    let server = in_front_of(&upstream);
    for _ in 0..20 {
        server.get("/up").expect(200);
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (20, 1));
}

#[test]
fn expect_100_continue_is_answered_and_the_body_passed_on() {
    let upstream = Upstream::start(|seen, stream| ok(stream, std::str::from_utf8(&seen.body).unwrap()));
    let server = in_front_of(&upstream);
    let auth = crate::common::http::basic("admin", crate::common::server::PASSWORD);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let head = format!(
        "POST /up HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut buffer = [0; 1000];
    let read = stream.read(&mut buffer).unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&buffer[..read]));
    stream.write_all(b"body").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("HTTP/1.1 200 OK") && rest.ends_with("body"), "{rest}");
    assert_eq!(upstream.only().header("Expect"), None);
}

#[test]
fn a_websocket_is_passed_through_both_ways() {
    let upstream = Upstream::start(|seen, stream| {
        assert_eq!(seen.header("Upgrade"), Some("websocket"));
        assert_eq!(seen.header("Sec-WebSocket-Key"), Some("abc"));
        let _ = write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: def\r\n\r\nhello"
        );
        let mut buffer = [0; 5];
        if stream.read_exact(&mut buffer).is_ok() {
            let _ = stream.write_all(&buffer.map(|byte| byte.to_ascii_uppercase()));
        }
        wait_for_close(stream);
    });
    let server = in_front_of(&upstream);
    let auth = crate::common::http::basic("admin", crate::common::server::PASSWORD);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let head = format!(
        "GET /up/socket HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut received = Vec::new();
    let mut until_it_ends_with = |stream: &mut TcpStream, end: &[u8]| {
        while !received.ends_with(end) {
            let mut buffer = [0; 1000];
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&received));
            received.extend(&buffer[..read]);
        }
        String::from_utf8_lossy(&received).into_owned()
    };
    let head = until_it_ends_with(&mut stream, b"hello");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.to_lowercase().contains("upgrade: websocket") && head.to_lowercase().contains("sec-websocket-accept: def")
    );
    stream.write_all(b"shout").unwrap();
    until_it_ends_with(&mut stream, b"SHOUT");
    drop(stream);
    until("the upstream's connection to be closed", || upstream.closed() == 1);
    error_of(&server.call("GET", "/up?bgrs=yes").header("Upgrade", "websocket").send(), 400);
}

#[test]
fn a_websocket_that_the_upstream_refuses_is_an_ordinary_answer() {
    let upstream = Upstream::start(|_, stream| answer(stream, "403 No", "", "no"));
    let server = in_front_of(&upstream);
    let mut received = Vec::new();
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let auth = crate::common::http::basic("admin", crate::common::server::PASSWORD);
    let head = format!(
        "GET /up HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    while !received.ends_with(b"no") {
        let mut buffer = [0; 1000];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&received));
        received.extend(&buffer[..read]);
    }
    assert!(Response::parse(&received, false).is_ok_and(|response| response.status == 403));
}

#[test]
fn the_servers_own_routes_can_be_moved_out_of_an_upstreams_way() {
    let upstream = Upstream::start(|seen, stream| ok(stream, seen.target()));
    let server = TestServer::options()
        .server("mount = \"/background\"\nhosted_api = false")
        .config(&upstream.table("/"))
        .start();
    for path in ["/bgrs/x", "/media/x", "/healthz", "/ui"] {
        assert_eq!(server.get(path).expect(200).text(), path);
    }
    let accepted = server.get("/media/x?bgrs=yes").expect(202);
    let rid = accepted.json()["request"].as_str().unwrap().to_owned();
    let location = format!("/background/bgrs/{rid}");
    assert_eq!(accepted.header("Location"), Some(location.as_str()));
    until("the result", || server.get(&format!("{location}/result?wait=10")).status == 200);
    assert_eq!(server.get(&format!("{location}/result")).text(), "/media/x");
    let info = server.get(&location).expect(200).json();
    assert_eq!(server.get(&format!("/background/v2.5/bgrs/{rid}")).expect(200).json(), info);
    let file = info[0]["result"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("/background/{file}")).expect(200).text(), "/media/x");
}
