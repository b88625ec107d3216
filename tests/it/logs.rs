//! What the log says of a request, and what it never says.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, wait_for_close};
use crate::common::{TestServer, assert_submitted, until};

#[test]
fn a_submission_is_a_line_with_its_rid_and_its_status() {
    let server = TestServer::start();
    let rid = server.submit("GET", "/v2.5/users/me");
    server.finished(&rid);
    until("a line with the rid and 202", || {
        let log = server.stderr();
        let mut lines = log.lines().filter(|line| line.contains(&rid));
        lines.any(|line| line.replace(&rid, "").contains("202"))
    });
}

#[test]
fn each_request_is_one_line() {
    let server = TestServer::start();
    for n in 0..5 {
        server.get(&format!("/v2.5/users/me?mark={n}")).expect(200);
    }
    server.get("/v2.5/no-such-thing").expect(404);
    let lines = |part: &str| {
        let log = server.stderr();
        let lines = log.lines().filter(|line| line.contains(part));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    until("as many lines as requests", || lines("/v2.5/users/me").len() >= 5);
    until("the unknown route has its line", || {
        let lines = lines("no-such-thing");
        lines.iter().any(|line| line.contains("404"))
    });
    assert_eq!(lines("/v2.5/users/me").len(), 5, "{}", server.stderr());
}

#[test]
fn a_call_whose_caller_hangs_up_has_its_line_too() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let mut call = TcpStream::connect(server.addr()).unwrap();
    write!(call, "GET /up/slow HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", basic("admin", PASSWORD)).unwrap();
    upstream.wait_for(1);
    drop(call);
    until("its line", || server.stderr().contains("call GET /up/slow status=499 "));
}

#[test]
fn no_password_and_no_credentials_are_in_the_log() {
    let mut server = TestServer::start();
    let user = json!({ "login": "kim", "password": "open-sesame" });
    server.post("/users", &user).expect(200);
    let user = json!({ "login": "lee", "password": "open-sesame" });
    let rid = assert_submitted(&server.post("/users?bgrs=yes", &user));
    server.finished(&rid);
    let kim = server.call("GET", "/users/me");
    kim.auth("kim", "open-sesame").send().expect(200);
    let wrong = server.call("GET", "/users/me");
    wrong.auth("kim", "wrong-sesame").send().expect(401);
    for query in ["password=query-sesame", "p%61ssword=query-sesame&bgrs=yes"] {
        let put = server.call("PUT", &format!("/users/1?{query}"));
        put.send().expect(400);
    }
    let broken = server.call("POST", "/users");
    let broken = broken.body("application/json", "{\"password\": \"json-sesame\"");
    broken.send().expect(400);
    server.stop();

    let log = server.stderr() + &server.stdout();
    assert!(log.contains(&rid), "there is a log");
    let credentials = [basic("admin", "secret"), basic("kim", "open-sesame"), basic("kim", "wrong-sesame")];
    let encoded = credentials.iter().map(|value| &value["Basic ".len()..]);
    for never in encoded.chain(["sesame", "$argon2"]) {
        assert!(!log.contains(never), "{never} in {log}");
    }
}
