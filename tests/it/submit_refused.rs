//! Section 1: a call that is refused leaves no row and no file behind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::common::http::{basic, exchange_and_hang_up};
use crate::common::server::PASSWORD;
use crate::common::{Response, TestServer, assert_submitted, error_of, until};

#[test]
fn a_submission_with_an_unknown_route_leaves_nothing() {
    let server = TestServer::start();
    for path in [
        "/nothing",
        "/",
        "/v2.5",
        "/v2.5/",
        "/v2.5/nothing",
        "/v2.5/users/me/nothing",
        "/v1.0/users/me",
        "/v2.5/v2.5/users/me",
        "/V2.5/users/me",
    ] {
        let answer = server.leaves_nothing(|| server.get(&format!("{path}?bgrs=yes")));
        assert_eq!(answer.status, 404, "{path}: {}", answer.lossy());
        error_of(&answer, 404);
    }
}

#[test]
fn a_submission_without_good_credentials_leaves_nothing() {
    let server = TestServer::start();
    let body = json!({ "login": "kim", "password": "pass of kim" });
    let calls = [
        server.call("GET", "/v2.5/users/me?bgrs=yes").no_auth(),
        server.call("GET", "/v2.5/users/me?bgrs=yes").auth("admin", "wrong"),
        server.call("GET", "/v2.5/users/me?bgrs=yes").auth("nobody", "secret"),
        server.call("POST", "/v2.5/users?bgrs=yes").json(&body).no_auth(),
    ];
    for call in calls {
        let answer = server.leaves_nothing(|| call.send());
        error_of(&answer, 401);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_with_413_and_leaves_nothing() {
    let server = TestServer::options().server("max_body = \"1 KiB\"").start();
    let post = |size: usize, query: &str| {
        let call = server.call("POST", &format!("/v2.5/users{query}"));
        call.body("application/json", vec![b' '; size])
    };
    for size in [1025, 2000, 40_000] {
        for query in ["?bgrs=yes", ""] {
            let whole = server.leaves_nothing(|| post(size, query).send());
            error_of(&whole, 413);
            let chunked = server.leaves_nothing(|| post(size, query).chunked().send());
            error_of(&chunked, 413);
        }
    }
}

#[test]
fn a_body_of_just_the_limit_is_accepted() {
    let server = TestServer::options().server("max_body = \"1 KiB\"").start();
    let user = json!({ "login": "kim", "password": "pass of kim" }).to_string();
    let body = format!("{user:1024}");
    assert_eq!(body.len(), 1024);
    for (login, chunked) in [("kim", false), ("lee", true)] {
        let body = body.replace("kim", login);
        let call = server.call("POST", "/v2.5/users?bgrs=yes");
        let call = call.body("application/json", body);
        let call = if chunked { call.chunked() } else { call };
        let rid = assert_submitted(&call.send());
        assert_eq!(server.finished(&rid)["status"], "200", "{login}");
    }
}

#[test]
fn a_body_that_breaks_off_leaves_nothing() {
    let server = TestServer::start();
    let authorization = basic("admin", "secret");
    let head = format!(
        "POST /v2.5/users?bgrs=yes HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/json\r\n"
    );
    for rest in [
        "Content-Length: 100\r\n\r\n{\"login\":",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"log\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfff\r\n{\"log",
    ] {
        let bytes = format!("{head}{rest}");
        let received =
            server.leaves_nothing(|| exchange_and_hang_up(server.addr(), bytes.as_bytes()).expect("it is closed"));
        if !received.is_empty() {
            let answer = Response::parse(&received, false).expect("an answer, if any");
            assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
    }
}

#[test]
fn a_body_with_a_chunk_that_is_none_leaves_nothing() {
    let server = TestServer::start();
    let authorization = basic("admin", "secret");
    let bytes = format!(
        "POST /v2.5/users?bgrs=yes HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"
    );
    let received = server.leaves_nothing(|| server.raw(bytes.as_bytes()));
    // The connection is closed; whether a 400 goes before it depends on how the bytes came in.
    if !received.is_empty() {
        assert_eq!(Response::parse(&received, false).expect("an answer").status, 400);
    }
}

#[test]
fn a_wrong_method_is_refused_or_is_the_apis_own_405() {
    let server = TestServer::start();
    let before = server.rows();
    let answer = server.call("PATCH", "/v2.5/users/1?bgrs=yes").send();
    let refused = match answer.status {
        202 => {
            let rid = assert_submitted(&answer);
            assert_eq!(server.finished(&rid)["status"], "405");
            server.get(&format!("/bgrs/{rid}/result"))
        }
        _ => {
            assert_eq!(server.rows(), before);
            answer
        }
    };
    error_of(&refused, 405);
    assert!(refused.header("Allow").expect("Allow").contains("PUT"));
}

/// Submits calls that take a while (a password has to be hashed) from many threads, until one is refused.
/// Gives the refusal; every acknowledged one is there, and no other.
fn submit_until_refused(server: &TestServer) -> Response {
    let refused = AtomicBool::new(false);
    let submit = |thread: usize| {
        let mut accepted = 0;
        for turn in 0..200 {
            if refused.load(Ordering::Relaxed) {
                break;
            }
            let user = json!({ "login": format!("user-{thread}-{turn}"), "password": "a b c d" });
            let answer = server.post("/v2.5/users?bgrs=yes", &user);
            if answer.status != 202 {
                refused.store(true, Ordering::Relaxed);
                return (accepted, Some(answer));
            }
            accepted += 1;
        }
        (accepted, None)
    };
    let submit = &submit;
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || submit(n))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|outcome| outcome.expect("no panic")).collect()
    });
    let accepted: i64 = outcomes.iter().map(|(accepted, _)| accepted).sum();
    assert_eq!(server.rows(), accepted, "each 202 has its row, no other has");
    let mut refusals = outcomes.into_iter().filter_map(|(_, refusal)| refusal);
    refusals.next().expect("one was refused")
}

fn assert_told_when_to_come_back(answer: &Response) {
    let seconds = answer.header("Retry-After").expect("Retry-After");
    assert!(seconds.parse::<u32>().is_ok_and(|n| n >= 1), "{seconds}");
}

#[test]
fn one_more_than_a_users_share_is_refused_with_429() {
    let background = "[background]\nconcurrency = 1\nper_user = 2";
    let server = TestServer::options().config(background).start();
    let refusal = submit_until_refused(&server);
    error_of(&refusal, 429);
    assert_told_when_to_come_back(&refusal);
    until("there is room again", || server.get("/v2.5/users/me?bgrs=yes").status == 202);
}

#[test]
fn one_more_than_the_queue_holds_is_refused_with_503() {
    let background = "[background]\nconcurrency = 1\nqueue = 2";
    let server = TestServer::options().config(background).start();
    let refusal = submit_until_refused(&server);
    error_of(&refusal, 503);
    assert_told_when_to_come_back(&refusal);
    until("there is room again", || server.get("/v2.5/users/me?bgrs=yes").status == 202);
}

#[test]
fn a_database_that_another_program_holds_is_507_and_leaves_nothing() {
    let server = TestServer::start();
    server.finished_get("/users/me");
    let db = server.db();
    db.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    server.get("/users/me?bgrs=yes").expect(507);
    db.execute_batch("ROLLBACK").expect("no lock");
    server.finished_get("/users/me");
    assert_eq!(server.rows(), 2);
}

#[test]
fn a_body_that_stalls_is_408_in_the_background_and_in_the_foreground() {
    let server = TestServer::options().server("read_timeout = \"1s\"").start();
    for target in ["/campaigns?bgrs=yes", "/campaigns"] {
        let credentials = basic("admin", PASSWORD);
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\nContent-Type: application/json\r\n\
             Content-Length: 20\r\n\r\n{{\"name\""
        );
        let mut connection = TcpStream::connect(server.addr()).expect("a connection");
        connection.write_all(head.as_bytes()).expect("half a call");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{target}: {answer}");
    }
    assert_eq!(server.rows(), 0);
}
