//! Section 12: how the server ends.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::common::http::basic;
use crate::common::rows::pin_running;
use crate::common::server::{PASSWORD, send_signal};
use crate::common::{TestServer, assert_submitted, until};

#[test]
fn sigterm_and_sigint_end_the_server_with_exit_code_0() {
    let mut server = TestServer::start();
    for signal in ["TERM", "INT"] {
        let rid = server.finished_get("/users/me");
        assert_eq!(server.signal(signal), Some(0), "{}", server.stderr());
        server.start_again();
        assert_eq!(server.info(&rid)["status_name"], "finished");
    }
}

#[test]
fn who_waits_for_a_request_is_answered_at_once_when_the_server_ends() {
    let mut server = TestServer::options().server("shutdown_timeout = \"1s\"").start();
    let rid = server.finished_get("/users/me");
    pin_running(&server, &rid);
    let mut waiting = TcpStream::connect(server.addr()).expect("a connection");
    let credentials = basic("admin", PASSWORD);
    let call = format!("GET /bgrs/{rid}?wait=60 HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\n\r\n");
    waiting.write_all(call.as_bytes()).expect("a call");
    // Connections are taken in turn: the wait is under way once a later one is answered.
    server.get("/users/me").expect(200);
    assert_eq!(server.signal("TERM"), Some(0), "{}", server.stderr());
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"running\""), "{answer}");
}

#[test]
fn a_second_signal_cuts_off_what_the_first_one_lets_end() {
    let times = "shutdown_timeout = \"10m\"\nread_timeout = \"10m\"";
    let mut server = TestServer::options().server(times).start();
    let mut stalled = TcpStream::connect(server.addr()).expect("a connection");
    let credentials = basic("admin", PASSWORD);
    let call = format!(
        "POST /campaigns HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\nContent-Type: application/json\r\n\
         Content-Length: 20\r\n\r\n{{"
    );
    stalled.write_all(call.as_bytes()).expect("half a call");
    // Connections are taken in turn: the call is under way once a later one is answered.
    server.get("/users/me").expect(200);
    send_signal(server.pid(), "TERM");
    until("the end has begun", || server.stderr().contains("shutting down"));
    assert_eq!(server.signal("TERM"), Some(0), "{}", server.stderr());
}

#[test]
fn what_is_left_at_the_end_goes_on_at_the_next_start() {
    let mut server =
        TestServer::options().server("shutdown_timeout = \"1s\"").config("[background]\nconcurrency = 1").start();
    let mut rids = Vec::new();
    for n in 0..10 {
        let user = json!({ "login": format!("user{n}"), "password": "some password" });
        rids.push(assert_submitted(&server.post("/users?bgrs=yes", &user)));
        rids.push(server.submit("GET", "/users/me"));
    }
    server.stop();
    server.start_again();
    for rid in rids {
        let info = server.ended(&rid);
        if info["status_name"] != "finished" {
            let name = info["name"].as_str().expect("a name");
            assert!(name.starts_with("/users?"), "a GET was lost: {info}");
            assert_eq!(info["status_name"], "failed");
        }
    }
}

#[test]
fn users_and_results_outlive_a_restart() {
    let mut server = TestServer::start();
    server.add_user("kim", "password of kim");
    let rid = server.finished_get("/users");
    let path = format!("/bgrs/{rid}/result");
    let before = server.get(&path).expect(200);
    let info = server.info(&rid);
    server.stop();
    server.start_again();
    let after = server.get(&path).expect(200);
    assert_eq!(after.body, before.body);
    assert_eq!(after.header("ETag"), before.header("ETag"));
    assert_eq!(server.info(&rid), info);
    let kim = server.call("GET", "/users/me").auth("kim", "password of kim");
    kim.send().expect(200);
}
