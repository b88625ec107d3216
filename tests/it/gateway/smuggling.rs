//! Request smuggling and friends: what is not one well-formed call is refused, or becomes one.

use super::in_front_of;
use crate::common::http::{basic, exchange_and_hang_up};
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, ok};
use crate::common::{TestServer, error_of, until};

/// A body: whoever takes it for a call has been fooled.
const SMUGGLED: &str = "GET /up/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// An upstream that says what it was asked for, and the server in front of it.
fn front() -> (Upstream, TestServer) {
    let upstream = Upstream::start(|seen, stream| ok(stream, seen.target()));
    let server = in_front_of(&upstream);
    (upstream, server)
}

/// A call with good credentials; `rest` is the other headers, the empty line and the body.
fn request(line: &str, rest: &str) -> String {
    format!("{line}\r\nAuthorization: {}\r\n{rest}", basic("admin", PASSWORD))
}

fn answer_to(server: &TestServer, line: &str, rest: &str) -> String {
    String::from_utf8_lossy(&server.raw(request(line, rest).as_bytes())).into_owned()
}

/// Sends what HTTP forbids with a good call right behind it: nothing but a 400, if anything, and the end.
#[track_caller]
fn refused(server: &TestServer, line: &str, rest: &str) -> String {
    let second = request("GET /up/second HTTP/1.1", "Host: a\r\n\r\n");
    let answer = answer_to(server, line, &format!("{rest}{second}"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{line:?} {rest:?}: {answer}");
    assert!(answer.matches("HTTP/1.1 ").count() < 2, "{line:?} {rest:?}: {answer}");
    answer
}

#[track_caller]
fn assert_400(server: &TestServer, line: &str, rest: &str) {
    assert!(!refused(server, line, rest).is_empty(), "{line:?} {rest:?}: closed without a word");
}

/// The same for all of these headers of a call with a body in chunks, in the foreground and in the background.
#[track_caller]
fn assert_400_with(headers: &[&str]) {
    let (upstream, server) = front();
    for header in headers {
        for target in ["/up/x", "/up/x?bgrs=yes"] {
            let rest = format!("Host: a\r\n{header}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
            assert_400(&server, &format!("POST {target} HTTP/1.1"), &rest);
        }
    }
    assert_nothing_passed(&upstream, &server);
}

/// Asserts that the server is well, and that all the upstream has seen is the call that finds this out.
#[track_caller]
fn assert_nothing_passed(upstream: &Upstream, server: &TestServer) {
    assert_eq!(server.get("/up/after").expect(200).text(), "/up/after");
    until("what broke off to be closed", || upstream.closed() + 1 >= upstream.connections());
    assert_eq!(upstream.only().target(), "/up/after");
    assert_eq!(server.rows(), 0);
    until("no file is left", || server.media_files().is_empty());
}

#[test]
fn a_body_whose_end_is_told_twice_is_400() {
    assert_400_with(&[
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ]);
}

#[test]
fn a_length_that_is_no_number_is_400() {
    let lengths = ["", "+5", "-5", "5 5", "5, 6", "5;", "0x5", "5.0", "five", "99999999999999999999"];
    let headers = lengths.map(|length| format!("Content-Length: {length}"));
    assert_400_with(&headers.each_ref().map(String::as_str));
}

#[test]
fn a_coding_that_is_not_just_chunked_is_400() {
    let codings = [
        "",
        "xchunked",
        "chunked, identity",
        "gzip, chunked",
        "chunked, chunked",
        "\"chunked\"",
        "gzip",
        "identity",
        "\r\n chunked",
        "\r\n\tchunked",
    ];
    let headers = codings.map(|coding| format!("Transfer-Encoding: {coding}"));
    assert_400_with(&headers.each_ref().map(String::as_str));
    let (upstream, server) = front();
    assert_400(&server, "POST /up/x HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_nothing_passed(&upstream, &server);
}

#[test]
fn a_header_that_is_folded_or_has_a_control_character_or_a_space_in_its_name_is_400() {
    assert_400_with(&[
        "X-A: 1\r\n Transfer-Encoding: chunked",
        "X-A: 1\rX-B: 2",
        "X-A: 1\0",
        "X-A : 1",
        "Content-Length : 5",
        "X\rA: 1",
        "X\0A: 1",
        "X-\u{e9}: 1",
        ": 1",
        "X-A",
    ]);
}

#[test]
fn a_request_line_that_is_malformed_or_of_another_version_is_400() {
    let (upstream, server) = front();
    for line in [
        "GET /up/a\rb HTTP/1.1",
        "GET /up/a\nb HTTP/1.1",
        "GET /up/a\0b HTTP/1.1",
        "GET /up/a b HTTP/1.1",
        "GET  /up/x HTTP/1.1",
        "GET\t/up/x HTTP/1.1",
        "GET /up/\u{e9} HTTP/1.1",
        "GET /up/<x> HTTP/1.1",
        "GET /up/x HTTP/1.2",
        "GET /up/x HTTP/2.0",
        "GET /up/x HTTP/0.9",
        "GET /up/x",
        "PRI * HTTP/2.0",
    ] {
        assert_400(&server, line, "Host: a\r\n\r\n");
    }
    assert_nothing_passed(&upstream, &server);
}

#[test]
fn a_call_without_a_host_or_with_two_or_with_one_that_is_none_is_400() {
    let (upstream, server) = front();
    let line = "GET /up/x HTTP/1.1";
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        assert_400(&server, line, &format!("{hosts}\r\n"));
    }
    for host in ["a b", "a\"b", "a\\b", "a/b", "http://a", "user@a", "a:b:c", "[::1", "\u{e9}"] {
        let answer = answer_to(&server, line, &format!("Host: {host}\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    assert_nothing_passed(&upstream, &server);
}

#[test]
fn a_bad_chunk_gets_400_and_no_whole_body_comes_out_of_it() {
    let (upstream, server) = front();
    server.get("/v2.5/users/me").expect(200);
    for chunks in [
        "-5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
    ] {
        for target in ["/up/x", "/up/x?bgrs=yes"] {
            let rest = format!("Host: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            let line = format!("POST {target} HTTP/1.1");
            // Closed without a word where the caller is still being looked up when the connection is.
            until("a 400", || !refused(&server, &line, &rest).is_empty());
        }
    }
    assert_nothing_passed(&upstream, &server);
}

#[test]
fn a_body_that_is_cut_off_is_passed_on_and_stored_by_nobody() {
    let (upstream, server) = front();
    for body in [
        "Content-Length: 100\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfff\r\nhello",
    ] {
        for target in ["/up/x", "/up/x?bgrs=yes"] {
            let call = request(&format!("POST {target} HTTP/1.1"), &format!("Host: a\r\n{body}"));
            let received = exchange_and_hang_up(server.addr(), call.as_bytes()).expect("the connection is closed");
            let received = String::from_utf8_lossy(&received);
            // Whoever closes their half has hung up: most get no answer at all.
            assert!(received.is_empty() || received.starts_with("HTTP/1.1 400 "), "{target} {body}: {received}");
        }
    }
    assert_nothing_passed(&upstream, &server);
}

#[test]
fn a_body_arrives_as_one_body_whatever_its_caller_says_around_it() {
    let (upstream, server) = front();
    let size = SMUGGLED.len();
    let sized = |method, headers: &str| (method, format!("{headers}Content-Length: {size}\r\n"), SMUGGLED.to_owned());
    let chunked = |method, headers: &str, extension: &str, trailers: &str| {
        let chunks = format!("{size:x}{extension}\r\n{SMUGGLED}\r\n0\r\n{trailers}\r\n");
        (method, format!("{headers}\r\n"), chunks)
    };
    let plain = "Transfer-Encoding: chunked";
    let cases = [
        sized("POST", ""),
        sized("GET", ""),
        sized("POST", "Connection: Content-Length\r\n"),
        sized("DELETE", "Connection: Content-Length, Host\r\n"),
        sized("POST", "Upgrade: websocket\r\n"),
        chunked("POST", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "", ""),
        chunked("POST", "Connection: Content-Length, Transfer-Encoding\r\ntransfer-encoding:\tCHUNKED \t", "", ""),
        chunked("DELETE", plain, "", ""),
        chunked("GET", plain, "", ""),
        chunked("POST", plain, &format!(";{}", "x".repeat(1 << 20)), ""),
        chunked("POST", plain, "", "Content-Length: 3\r\nHost: b\r\n"),
    ];
    for (at, (method, headers, body)) in cases.iter().enumerate() {
        let rest = format!("Host: a\r\nConnection: close\r\n{headers}\r\n{body}");
        let answer = answer_to(&server, &format!("{method} /up/{at} HTTP/1.1"), &rest);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method} {headers}: {answer}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), at + 1, "{method} {headers}");
        let seen = &seen[at];
        assert_eq!(seen.target(), format!("/up/{at}"));
        assert_eq!(String::from_utf8_lossy(&seen.body), SMUGGLED, "{method} {headers}");
        let framing = [seen.all("Content-Length"), seen.all("Transfer-Encoding")].concat();
        assert!(framing == [size.to_string().as_str()] || framing == ["chunked"], "{method} {headers}: {framing:?}");
    }
}

#[test]
fn what_connection_names_is_taken_from_the_caller_and_not_from_the_server() {
    let (upstream, server) = front();
    let named = "Authorization, Host, Cookie, Via, Forwarded, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto";
    let rest = format!("Host: a\r\nCookie: c=d\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close, {named}\r\n\r\n");
    let answer = answer_to(&server, "GET /up/x HTTP/1.1", &rest);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = upstream.only();
    let own = upstream.addr().to_string();
    for (name, value) in [
        ("Host", own.as_str()),
        ("Via", "1.1 bgrs-server"),
        ("Forwarded", "for=127.0.0.1;host=\"a\";proto=http"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "a"),
        ("X-Forwarded-Proto", "http"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    for name in ["Authorization", "Cookie", "Connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn a_target_is_a_path_here_and_never_leads_to_another_server() {
    let (mine, other) = (Upstream::saying("mine"), Upstream::saying("other"));
    let server = TestServer::options().server("hosted_api = false").config(&mine.table("/")).start();
    let there = other.addr().to_string();
    let rest = "Host: a\r\nConnection: close\r\n\r\n";
    let answer = answer_to(&server, &format!("GET http://{there}/up/x?y HTTP/1.1"), rest);
    assert!(answer.ends_with("\r\n\r\nmine"), "{answer}");
    let seen = mine.only();
    assert_eq!(seen.line(), "GET /up/x?y HTTP/1.1");
    assert_eq!(seen.all("Host"), [mine.addr().to_string()]);
    // The target's host counts, not the field (RFC 9112 section 3.2.2).
    assert_eq!(seen.all("X-Forwarded-Host"), [there.as_str()]);
    let own = format!("GET http://{there}/bgrs/{} HTTP/1.1\r\n{rest}", "0".repeat(32));
    assert!(server.raw(own.as_bytes()).starts_with(b"HTTP/1.1 401 "), "an own route needs credentials in any form");
    let connect = format!("CONNECT {there} HTTP/1.1");
    let get = format!("GET {there} HTTP/1.1");
    let others = ["CONNECT /up/x HTTP/1.1", "GET up HTTP/1.1", "GET up/x HTTP/1.1", "GET * HTTP/1.1"];
    for line in others.into_iter().chain([connect.as_str(), get.as_str(), "OPTIONS * HTTP/1.1"]) {
        let answer = answer_to(&server, line, rest);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
    }
    assert_eq!((mine.seen().len(), other.connections()), (1, 0));
}

#[test]
fn a_host_with_odd_bytes_stays_within_its_quotes() {
    let (upstream, server) = front();
    let host = "a,b;for=192.0.2.1;proto=https";
    let answer =
        answer_to(&server, "GET /up/x HTTP/1.1", &format!("Host: {host}\r\nX-A: \u{e9}\r\nConnection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = upstream.only();
    assert_eq!(seen.all("Forwarded"), [format!("for=127.0.0.1;host=\"{host}\";proto=http")]);
    assert_eq!((seen.all("X-Forwarded-Host"), seen.all("X-Forwarded-For")), (vec![host], vec!["127.0.0.1"]));
    assert_eq!(seen.all("X-A"), ["\u{e9}"]);
}

#[test]
fn a_head_without_measure_is_refused_and_the_connection_closed() {
    let (upstream, server) = front();
    for (line, headers) in [
        ("GET /up/x HTTP/1.1".to_owned(), format!("X-Big: {}\r\n", "a".repeat(1 << 20))),
        ("GET /up/x HTTP/1.1".to_owned(), "X-Many: 1\r\n".repeat(10_000)),
        (format!("GET /up/{} HTTP/1.1", "a".repeat(1 << 16)), String::new()),
    ] {
        let answer = answer_to(&server, &line, &format!("Host: a\r\n{headers}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_nothing_passed(&upstream, &server);
}

#[test]
fn a_path_that_climbs_reaches_no_route_of_the_servers_own() {
    let (upstream, server) = front();
    let rid = server.finished_get("/up/mine");
    for climb in
        ["/a/..", "/up/..", "/up/%2e%2e", "/up/..;", "/up/..%2f", "/up/..%5c", "/healthz/..", "/media/..", "/.", "/"]
    {
        for end in ["", "/details", "/result"] {
            let path = format!("{climb}/bgrs/{rid}{end}");
            let known = server.get(&path);
            assert!(matches!(known.status, 400 | 404), "{path}: {} {}", known.status, known.lossy());
            error_of(&known, known.status);
            let unknown = server.call("GET", &path).no_auth().send();
            assert!(matches!(unknown.status, 400 | 401), "{path}: {} {}", unknown.status, unknown.lossy());
        }
    }
    assert_eq!(upstream.only().target(), "/up/mine");
}

#[test]
fn an_encoded_line_break_stays_encoded() {
    let (upstream, server) = front();
    let target = "/up/a%0d%0aX-Evil:%201%0D%0A%0D%0AGET%20/up/second?q=%0d%0aX-Evil:%201";
    assert_eq!(server.get(target).expect(200).text(), target);
    server.finished_get(target);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.target() == target && seen.header("X-Evil").is_none()), "{seen:?}");
}

#[test]
fn a_call_of_http_1_0_is_passed_on_as_one_of_1_1() {
    let (upstream, server) = front();
    let answer = answer_to(&server, "GET /up/x HTTP/1.0", "\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\n/up/x"), "{answer}");
    let seen = upstream.only();
    assert_eq!(seen.line(), "GET /up/x HTTP/1.1");
    assert_eq!(seen.all("Host"), [upstream.addr().to_string()]);
    assert_eq!(seen.header("X-Forwarded-Host"), None);
}

#[test]
fn a_name_with_underscores_passes_unless_an_upstream_would_read_it_as_one_of_the_servers() {
    let (upstream, server) = front();
    // CGI and its heirs make one variable of `X-A` and of `X_A`.
    let forged = ["X_Forwarded_For", "X-Forwarded_Host", "Bgrs_Report", "Content_Length", "Transfer_Encoding"];
    let call = forged.iter().fold(server.call("GET", "/up/x"), |call, name| call.header(name, "1"));
    call.header("X_Custom", "1").send().expect(200);
    let seen = upstream.only();
    assert_eq!(seen.all("X_Custom"), ["1"]);
    for name in forged {
        assert_eq!(seen.header(name), None, "{name}");
    }
}
