//! Sections 1 and 3: callers who would rather wait, or rather not: `Prefer` (RFC 7240), `bgrs=auto`, `?wait=`.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::common::events::{begin, holding};
use crate::common::http::read_to_end;
use crate::common::upstream::{Upstream, answer, wait_for_close};
use crate::common::{Response, TestServer, assert_submitted, error_of};

/// So long that whoever is held in vain does not get an answer in time.
const LONG: &str = "auto_wait = \"10m\"\nmax_wait = \"10m\"";

/// A server in front of this upstream, with these lines of `[background]` and these routes.
fn start(upstream: &Upstream, background: &str, routes: &str) -> TestServer {
    let config = format!("[background]\n{background}\n{}{routes}", upstream.table("/up"));
    TestServer::options().config(&config).start()
}

fn route(path: &str, mode: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nbgrs = \"{mode}\"\n")
}

fn prefer(server: &TestServer, target: &str, preference: &str) -> Response {
    server.call("GET", target).header("Prefer", preference).send()
}

fn applied(response: &Response) -> Option<&str> {
    response.header("Preference-Applied")
}

/// The answer to a call that was begun.
fn answered(mut stream: TcpStream) -> Response {
    let received = read_to_end(&mut stream).expect("an answer");
    Response::parse(&received, false).expect("a whole answer")
}

/// Every header but the date, in order.
fn headers(response: &Response) -> Vec<(String, String)> {
    let headers = response.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| name != "date").collect();
    headers.sort();
    headers
}

#[test]
fn respond_async_in_any_spelling_is_a_submission_and_the_answer_says_so() {
    let upstream = Upstream::saying("done");
    let server = start(&upstream, LONG, "");
    let all = [
        &["respond-async"][..],
        &["Respond-Async"],
        &[" \tRESPOND-ASYNC "],
        &["return=minimal,respond-async"],
        &["return=minimal", "respond-async"],
        &["respond-async", "handling=lenient"],
        &["handling=lenient ,\trespond-async ; foo=1;; bar , x"],
        &["respond-async; foo=\"a, wait=9\""],
        &["x=\"a\\\", b\", respond-async"],
        &[", ,respond-async,,"],
        &["", "respond-async, respond-async"],
        // A wait that is none is ignored.
        &["respond-async, wait"],
        &["wait=, respond-async"],
        &["respond-async, wait=-1"],
        &["respond-async, wait=1.5"],
        &["respond-async, wait=5s"],
        &["wait=\"\"", "respond-async"],
    ];
    for fields in all {
        let call = fields.iter().fold(server.call("GET", "/up"), |call, field| call.header("Prefer", field));
        let response = call.send();
        let rid = assert_submitted(&response);
        assert_eq!(applied(&response), Some("respond-async"), "{fields:?}");
        assert_eq!(server.finished(&rid)["name"], "/up");
    }
    assert_eq!(server.rows(), all.len() as i64);
    let response = prefer(&server, "/v2.5/users/me", "respond-async");
    assert_eq!(applied(&response), Some("respond-async"));
    let rid = assert_submitted(&response);
    server.finished(&rid);
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).json()["login"], "admin");
}

#[test]
fn what_was_done_of_a_preference_is_not_the_apis_to_do_again() {
    let upstream = Upstream::saying("done");
    let server = start(&upstream, LONG, "");
    for (sent, arrived) in [("respond-async", None), ("return=minimal; x, respond-async", Some("return=minimal; x"))] {
        server.finished(&assert_submitted(&prefer(&server, "/up", sent)));
        assert_eq!(upstream.seen().pop().unwrap().header("Prefer"), arrived, "{sent}");
    }
}

#[test]
fn with_wait_the_answer_is_held_and_of_several_waits_the_first_counts() {
    let upstream = Upstream::start(|_, stream| answer(stream, "201 Made", "X-Made: 1\r\n", "made"));
    let server = start(&upstream, LONG, "");
    for fields in [
        &["respond-async, wait=60"][..],
        &["wait=60,respond-async"],
        &["respond-async; foo=1, wait=60"],
        &["Respond-Async , WAIT = \"60\" ; x"],
        &["respond-async", "wait=60"],
        &["wait=60, wait=0", "respond-async", "wait=1"],
    ] {
        let call = fields.iter().fold(server.call("POST", "/up"), |call, field| call.header("Prefer", field));
        let response = call.send().expect(201);
        assert_eq!((response.text().as_str(), response.header("X-Made")), ("made", Some("1")));
        assert_eq!(applied(&response), Some("wait=60"), "{fields:?}");
        server.finished(response.header("Bgrs-Request").expect("an rid"));
    }
    let response = prefer(&server, "/v2.5/users/999", "respond-async, wait=60");
    error_of(&response, 404);
    assert!(response.header("Bgrs-Request").is_some() && applied(&response) == Some("wait=60"));
}

#[test]
fn a_wait_that_is_over_is_answered_with_202_and_none_is_longer_than_max_wait() {
    let (gate, upstream) = holding();
    let server = start(&upstream, "auto_wait = \"10m\"\nmax_wait = \"2s\"", "");
    let mut rids = Vec::new();
    for (preference, least) in [
        ("respond-async, wait=1, wait=2", 900),
        ("respond-async, wait=600", 1900),
        ("respond-async, wait=99999999999999999999999", 1900),
    ] {
        let begun = Instant::now();
        let response = prefer(&server, "/up", preference);
        let held = begun.elapsed();
        rids.push(assert_submitted(&response));
        assert_eq!(applied(&response), Some("respond-async"));
        assert!((Duration::from_millis(least)..Duration::from_secs(60)).contains(&held), "{preference}: {held:?}");
    }
    drop(gate);
    for rid in rids {
        server.finished(&rid);
    }
}

#[test]
fn a_preference_that_asks_for_nothing_or_where_it_may_not_is_passed_over() {
    let upstream = Upstream::saying("now");
    let server = start(&upstream, LONG, &route("/up/never", "never"));
    for (target, preference) in [
        ("/up", "wait=5"),
        ("/up", "wait=x, return=minimal"),
        ("/up", "respond-asynchronously"),
        ("/up", "x; respond-async"),
        ("/up", "x=respond-async"),
        ("/up", "x=\"a, respond-async, b\""),
        ("/up", "=;,"),
        ("/up?bgrs=no", "respond-async"),
        ("/up?bgrs=0", "respond-async, wait=5"),
        ("/up/never", "respond-async"),
        ("/up/never", "respond-async, wait=5"),
    ] {
        let response = prefer(&server, target, preference).expect(200);
        assert_eq!((response.text().as_str(), applied(&response)), ("now", None), "{target} {preference}");
        assert_eq!(response.header("Bgrs-Request"), None);
        assert_eq!(upstream.seen().pop().unwrap().all("Prefer"), [preference]);
    }
    // What cannot run in the background: a preference is no demand (RFC 7240 section 2).
    server.call("OPTIONS", "/up").header("Prefer", "respond-async").send().expect(200);
    let upgrade = server.call("GET", "/up").header("Prefer", "respond-async").header("Upgrade", "websocket");
    assert_eq!(upgrade.send().expect(200).text(), "now");
    assert_eq!(server.rows(), 0);
}

#[test]
fn bgrs_wins_over_prefer_and_prefer_over_a_policy() {
    let upstream = Upstream::saying("done");
    let routes = route("/up/always", "always") + &route("/up/auto", "auto");
    let server = start(&upstream, LONG, &routes);
    for (target, preference, status, expected) in [
        ("/up?bgrs=yes", "respond-async, wait=60", 202, None),
        ("/up?bgrs=auto", "respond-async", 200, None),
        ("/up/always", "respond-async", 202, Some("respond-async")),
        ("/up/always", "respond-async, wait=60", 200, Some("wait=60")),
        ("/up/always", "wait=60", 202, None),
        ("/up/auto", "respond-async", 202, Some("respond-async")),
        ("/up/auto", "wait=0", 200, None),
    ] {
        let response = prefer(&server, target, preference).expect(status);
        assert_eq!(applied(&response), expected, "{target} {preference}");
        let rid = match status {
            202 => assert_submitted(&response),
            _ => response.header("Bgrs-Request").expect("an rid").to_owned(),
        };
        server.finished(&rid);
    }
    for target in ["/up?bgrs=maybe", "/up?bgrs", "/up?bgrs=yes&bgrs=no"] {
        let refused = server.leaves_nothing(|| prefer(&server, target, "respond-async"));
        error_of(&refused, 400);
        assert_eq!(applied(&refused), None);
    }
}

#[test]
fn what_is_refused_has_nothing_applied_and_leaves_nothing() {
    let server = TestServer::start();
    for preference in ["respond-async", "respond-async, wait=60"] {
        let nowhere = server.leaves_nothing(|| prefer(&server, "/nothing", preference));
        error_of(&nowhere, 404);
        let stranger = server.call("GET", "/users/me").no_auth().header("Prefer", preference);
        let stranger = server.leaves_nothing(|| stranger.send());
        error_of(&stranger, 401);
        assert_eq!((applied(&nowhere), applied(&stranger)), (None, None));
    }
}

#[test]
fn the_servers_own_routes_know_neither_prefer_nor_auto() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    for path in ["", "?wait=1", "/details", "/result", "/events"] {
        let plain = server.get(&format!("/bgrs/{rid}{path}")).expect(200);
        let joint = if path.contains('?') { '&' } else { '?' };
        for prefix in ["", "/v2.5"] {
            let path = format!("{prefix}/bgrs/{rid}{path}");
            let preferred = prefer(&server, &path, "respond-async, wait=60").expect(200);
            assert_eq!((&preferred.body, applied(&preferred)), (&plain.body, None), "{path}");
            assert_eq!(server.get(&format!("{path}{joint}bgrs=auto")).expect(200).body, plain.body, "{path}");
        }
    }
    let file = server.info(&rid)["result"].as_str().map(|file| format!("/{file}")).expect("a file");
    for path in ["/healthz", "/readyz", &file] {
        assert_eq!(applied(&prefer(&server, path, "respond-async").expect(200)), None, "{path}");
        server.get(&format!("{path}?bgrs=auto")).expect(200);
    }
    error_of(&prefer(&server, &format!("/bgrs/{}?bgrs=auto", "0".repeat(32)), "respond-async"), 404);
    assert_eq!(server.rows(), 1);
}

#[test]
fn auto_gives_a_fast_calls_result_itself_exactly_as_the_results_own_path_does() {
    let upstream = Upstream::start(|seen, stream| match seen.line() {
        "POST /up/break HTTP/1.1" => drop(stream.shutdown(Shutdown::Both)),
        "GET /up/none HTTP/1.1" => drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nX-Made: 1\r\n\r\n")),
        "HEAD /up/head HTTP/1.1" => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Made: 1\r\n\r\n"));
        }
        _ => answer(stream, "404 Not here", "Content-Type: a/b\r\nX-Made: 1\r\nSet-Cookie: c=d\r\n", "none of mine"),
    });
    let server = start(&upstream, LONG, "");
    for (method, target, status) in [
        ("GET", "/v2.5/users/me?bgrs=auto", 200),
        ("GET", "/v2.5/users/999?bgrs=AUTO", 404),
        ("GET", "/up/x?x=%20&bgrs=auto&bgrs=Auto&y", 404),
        ("PUT", "/up/x?%62grs=%61uto", 404),
        ("GET", "/up/none?bgrs=auto", 204),
        ("HEAD", "/up/head?bgrs=auto", 200),
        ("POST", "/up/break?bgrs=auto", 502),
    ] {
        let answer = server.call(method, target).send().expect(status);
        let rid = answer.header("Bgrs-Request").unwrap_or_else(|| panic!("no rid: {target}"));
        let reader = if method == "HEAD" { "HEAD" } else { "GET" };
        let result = server.call(reader, &format!("/bgrs/{rid}/result")).send().expect(status);
        assert_eq!(answer.body, result.body, "{target}");
        assert_eq!(headers(&answer), headers(&result), "{target}");
        assert_eq!(server.info(rid)["name"], target);
        assert_eq!(answer.header("X-Made").is_some(), target.starts_with("/up/") && status != 502, "{target}");
        if status == 502 {
            assert_eq!(error_of(&answer, 502), server.last_detail(rid));
        }
    }
    let targets: Vec<_> = upstream.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/up/x?x=%20&y", "/up/x", "/up/none", "/up/head", "/up/break"]);
}

#[test]
fn auto_answers_a_slow_call_with_202_once_auto_wait_is_over() {
    let (gate, upstream) = holding();
    let server = start(&upstream, "auto_wait = \"300ms\"", &route("/up/never", "never"));
    let begun = Instant::now();
    let response = server.get("/up?bgrs=auto");
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let rid = assert_submitted(&response);
    assert_eq!((response.header("Bgrs-Request"), applied(&response)), (None, None));
    let head = server.call("HEAD", "/up?bgrs=auto").send().expect(202);
    assert!(head.header("Location").is_some_and(|location| location.starts_with("/bgrs/")));
    assert_eq!(server.info(&rid)["status_name"], "running");
    for target in [
        "/up?bgrs=auto&bgrs=yes",
        "/up?bgrs=no&bgrs=auto",
        "/up?bgrs=auto%20",
        "/up?bgrs=automatic",
        "/up/never?bgrs=auto",
    ] {
        error_of(&server.leaves_nothing(|| server.get(target)), 400);
    }
    drop(gate);
    server.finished(&rid);
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "done");
}

#[test]
fn who_hangs_up_while_the_answer_is_held_cancels_nothing() {
    let (gate, upstream) = holding();
    let server = start(&upstream, LONG, "");
    let held = begin(server.addr(), "/up?bgrs=auto", "");
    let seen = upstream.wait_for(1).remove(0);
    drop(held);
    // Connections are taken in turn: the server knows of the end once a later call is answered.
    server.get("/users/me").expect(200);
    drop(gate);
    let rid = seen.header("Bgrs-Request").expect("an rid");
    server.finished(rid);
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "done");
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn whoever_is_held_when_the_server_ends_gets_the_202_and_the_request_goes_on_at_the_next_start() {
    let (gate, upstream) = holding();
    let config = format!("[background]\n{LONG}\n{}", upstream.table("/up"));
    let mut server = TestServer::options().server("shutdown_timeout = \"1s\"").config(&config).start();
    let held = [("/up?bgrs=auto", ""), ("/up", "Prefer: respond-async, wait=500\r\n")];
    let held = held.map(|(target, headers)| begin(server.addr(), target, headers));
    upstream.wait_for(2);
    assert_eq!(server.signal("TERM"), Some(0), "{}", server.stderr());
    let rids = held.map(|held| assert_submitted(&answered(held)));
    drop(gate);
    server.start_again();
    for rid in rids {
        server.finished(&rid);
        assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "done");
    }
}

#[test]
fn all_who_wait_are_answered_when_the_request_ends() {
    let (gate, upstream) = holding();
    let server = start(&upstream, LONG, "");
    let rid = server.submit("GET", "/up");
    upstream.wait_for(1);
    let targets = [format!("/bgrs/{rid}?wait=60"), format!("/v2.5/bgrs/{rid}/result?wait=60")];
    let waiting: Vec<_> = (0..200).map(|at| begin(server.addr(), &targets[at % 2], "")).collect();
    // Connections are taken in turn: all wait once a later call is answered.
    assert_eq!(server.info(&rid)["status_name"], "running");
    let opened = Instant::now();
    drop(gate);
    for (at, waiting) in waiting.into_iter().enumerate() {
        let answer = answered(waiting).expect(200);
        if at % 2 == 0 {
            assert_eq!(answer.json()[0]["status_name"], "finished");
        } else {
            assert_eq!(answer.text(), "done");
        }
    }
    // Not because their time was over.
    assert!(opened.elapsed() < Duration::from_secs(40), "{:?}", opened.elapsed());
}

#[test]
fn a_cancel_answers_all_who_wait() {
    let upstream = Upstream::start(|_, stream| wait_for_close(stream));
    let server = start(&upstream, LONG, "");
    let held = begin(server.addr(), "/up?bgrs=auto", "");
    let rid = upstream.wait_for(1)[0].header("Bgrs-Request").expect("an rid").to_owned();
    let [information, result] = ["", "/result"].map(|of| begin(server.addr(), &format!("/bgrs/{rid}{of}?wait=60"), ""));
    // Connections are taken in turn: all wait once a later call is answered.
    assert_eq!(server.info(&rid)["status_name"], "running");
    let begun = Instant::now();
    server.delete(&format!("/bgrs/{rid}")).expect(200);
    assert_eq!(answered(information).expect(200).json()[0]["status_name"], "cancelled");
    for waiting in [held, result] {
        assert_eq!(answered(waiting).expect(410).header("Bgrs-Request"), Some(rid.as_str()));
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}
