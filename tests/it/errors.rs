//! Section 2: every error of the server's own is JSON, and HTTP that is none is refused.

use crate::common::http::basic;
use crate::common::{Response, TestServer, error_of};

#[test]
fn an_unknown_route_is_404() {
    let server = TestServer::start();
    for path in ["/", "/nothing", "/v2.5/nothing", "/bgrs/a/b/c", "/users/1/2"] {
        error_of(&server.get(path), 404);
    }
}

#[test]
fn a_known_route_with_a_wrong_method_is_405_and_says_what_is_allowed() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let media = server.info(&rid)["result"].as_str().map(str::to_owned);
    let media = format!("/{}", media.expect("a result"));
    let cases = [
        ("PATCH", "/v2.5/users".to_owned(), vec!["GET", "POST"]),
        ("PATCH", "/v2.5/users/1".to_owned(), vec!["GET", "PUT", "DELETE"]),
        ("POST", "/users/1".to_owned(), vec!["GET", "PUT", "DELETE"]),
        ("POST", "/users/me".to_owned(), vec!["GET"]),
        ("POST", format!("/bgrs/{rid}"), vec!["GET"]),
        ("PUT", format!("/v2.5/bgrs/{rid}"), vec!["GET"]),
        ("POST", format!("/bgrs/{rid}/details"), vec!["GET"]),
        ("PUT", format!("/bgrs/{rid}/result"), vec!["GET", "HEAD"]),
        ("DELETE", format!("/bgrs/{rid}/result"), vec!["GET", "HEAD"]),
        ("POST", media.clone(), vec!["GET"]),
        ("DELETE", media, vec!["GET"]),
        ("POST", "/healthz".to_owned(), vec!["GET"]),
        ("DELETE", "/readyz".to_owned(), vec!["GET"]),
    ];
    for (method, path, allowed) in cases {
        let answer = server.call(method, &path).send();
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.lossy());
        error_of(&answer, 405);
        let allow = answer.header("Allow").expect("405 comes with Allow");
        let listed: Vec<_> = allow.split(',').map(str::trim).collect();
        for one in allowed {
            assert!(listed.contains(&one), "{method} {path}: Allow: {allow}");
        }
        assert!(!listed.contains(&method), "{method} {path}: Allow: {allow}");
    }
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).status, 200);
}

/// Sends what HTTP forbids: it is 400, and the connection is closed.
fn assert_forbidden(server: &TestServer, what: &str, request: &str) {
    let received = server.leaves_nothing(|| server.raw(request.as_bytes()));
    let answer = Response::parse(&received, false);
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.status, 400, "{what}: {}", answer.lossy());
    if !answer.body.is_empty() {
        error_of(&answer, 400);
    }
}

#[test]
fn both_content_length_and_transfer_encoding_are_400_and_the_connection_is_closed() {
    let server = TestServer::start();
    let authorization = basic("admin", "secret");
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        for query in ["", "?bgrs=yes"] {
            let request = format!(
                "POST /v2.5/users{query} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\
                 Content-Type: application/json\r\n{framing}\r\n0\r\n\r\n\
                 GET /v2.5/users/me HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n"
            );
            assert_forbidden(&server, framing, &request);
        }
    }
}

#[test]
fn what_http_forbids_is_400_and_the_connection_is_closed() {
    let server = TestServer::start();
    let line = "GET /healthz HTTP/1.1\r\n";
    let post = "POST /v2.5/users?bgrs=yes HTTP/1.1\r\nHost: a\r\n";
    let cases = [
        ("no host", format!("{line}\r\n")),
        ("two hosts", format!("{line}Host: a\r\nHost: b\r\n\r\n")),
        ("no request", "hello there\r\n\r\n".to_owned()),
        ("no method", " / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("no such version", "GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n".to_owned()),
        ("a space before the colon", format!("{line}Host: a\r\nContent-Length : 0\r\n\r\n")),
        ("a control character in a header", format!("{line}Host: a\r\nX: b\u{1}c\r\n\r\n")),
        ("two lengths", format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}")),
        ("a negative length", format!("{post}Content-Length: -2\r\n\r\n{{}}")),
        ("a length with a sign", format!("{post}Content-Length: +2\r\n\r\n{{}}")),
        ("a length that is none", format!("{post}Content-Length: two\r\n\r\n{{}}")),
        ("a length beyond all numbers", format!("{post}Content-Length: 99999999999999999999999\r\n\r\n{{}}")),
        ("chunked is not the last coding", format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n")),
    ];
    for (what, request) in cases {
        assert_forbidden(&server, what, &request);
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn health_and_readiness_need_no_credentials_and_everything_else_does() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let media = server.info(&rid)["result"].as_str().map(str::to_owned);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.call("GET", path).no_auth().send().status, 200);
        let wrong = server.call("GET", path).auth("admin", "wrong").send();
        assert_eq!(wrong.status, 200, "{path} does not look at credentials");
    }
    for path in [
        "/v2.5/users/me".to_owned(),
        "/users/me".to_owned(),
        "/users".to_owned(),
        "/users/1".to_owned(),
        format!("/bgrs/{rid}"),
        format!("/v2.5/bgrs/{rid}"),
        format!("/bgrs/{rid}/details"),
        format!("/bgrs/{rid}/result"),
        format!("/bgrs/{}", "0".repeat(32)),
        format!("/{}", media.expect("a result")),
    ] {
        let answer = server.call("GET", &path).no_auth().send();
        assert_eq!(answer.status, 401, "{path}: {}", answer.lossy());
        error_of(&answer, 401);
    }
}
