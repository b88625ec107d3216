//! What an upstream says of its progress, and what the length of its answer does.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

use super::in_front_of;
use crate::common::server::{PASSWORD, send_signal};
use crate::common::upstream::{Upstream, ok};
use crate::common::{Call, TestServer, assert_submitted, error_of, until};

/// The headers of a background call that are for the upstream alone.
const OURS: [&str; 3] = ["Bgrs-Request", "Bgrs-Report", "Bgrs-Report-Token"];

/// An upstream that holds its answers back until the sender is dropped.
fn holding() -> (mpsc::Sender<()>, Upstream) {
    let (gate, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = opened.lock().unwrap().recv();
        ok(stream, "done");
    });
    (gate, upstream)
}

/// The call that reports to this URL, with this token.
fn report(url: &str, token: &str, body: &str) -> Call {
    let rest = url.strip_prefix("http://").expect("plain http");
    let (addr, path) = rest.split_at(rest.find('/').expect("a path"));
    let call = Call::new(addr.parse().expect("an address"), "POST", path);
    call.header("Authorization", &format!("Bearer {token}")).body("application/json", body)
}

fn details(server: &TestServer, rid: &str) -> Vec<String> {
    let details = server.details(rid).into_iter();
    details.map(|detail| detail["details"].as_str().expect("a string").to_owned()).collect()
}

#[test]
fn a_report_moves_the_progress_upwards_and_its_details_are_kept_in_any_case() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("POST", "/up");
    let seen = upstream.wait_for(1).remove(0);
    let url = format!("http://{}/bgrs/{rid}/report", server.addr());
    let token = seen.header("Bgrs-Report-Token").expect("a token");
    assert_eq!((seen.all("Bgrs-Request"), seen.all("Bgrs-Report")), (vec![rid.as_str()], vec![url.as_str()]));
    let mut told = Vec::new();
    for (body, progress, detail) in [
        ("{\"progress\": 0}", "0.00", None),
        ("{\"progress\": 42.5, \"details\": \"425 of 1000 imported\"}", "42.50", Some("425 of 1000 imported")),
        ("{\"progress\": 42}", "42.50", None),
        ("{\"progress\": 7, \"details\": \"once more\"}", "42.50", Some("once more")),
        ("{\"details\": \"caf\\u00e9\\n\"}", "42.50", Some("café\n")),
        ("{\"progress\": 100}", "100.00", None),
        ("{\"progress\": 0, \"details\": \"looks it through\"}", "100.00", Some("looks it through")),
    ] {
        let accepted = report(&url, token, body).send().expect(204);
        assert!(accepted.body.is_empty());
        told.extend(detail);
        let info = server.info(&rid);
        assert_eq!((info["progress"].as_str(), info["status_name"].as_str()), (Some(progress), Some("running")));
        assert_eq!(details(&server, &rid), told);
    }
    drop(gate);
    server.finished(&rid);
    told.push("done");
    assert_eq!(details(&server, &rid), told);
}

#[test]
fn a_percentage_is_shown_as_it_was_reported_to_its_hundredth() {
    let (_gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("POST", "/up");
    let seen = upstream.wait_for(1).remove(0);
    let [_, url, token] = OURS.map(|name| seen.header(name).unwrap());
    // Numbers of which a hundredfold, as computers have them, is a bit less than whole.
    for progress in ["0.29", "1.13", "2.26", "4.06"] {
        report(url, token, &format!("{{\"progress\": {progress}}}")).send().expect(204);
        assert_eq!(server.info(&rid)["progress"], progress);
    }
}

#[test]
fn only_a_background_call_says_where_to_report_and_nothing_that_a_caller_made_up_arrives() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    let call = |target: &str| {
        let call = server.call("GET", target);
        OURS.iter().fold(call, |call, name| call.header(name, "http://made.up/"))
    };
    call("/up").send().expect(200);
    let rid = assert_submitted(&call("/up?bgrs=yes").send());
    server.finished(&rid);
    let seen = upstream.seen();
    for name in OURS {
        assert_eq!(seen[0].header(name), None, "{name}");
        let said = seen[1].all(name);
        assert!(said.len() == 1 && !said[0].contains("made.up"), "{name}: {said:?}");
    }
}

#[test]
fn a_report_that_is_none_is_refused_and_nothing_of_it_is_kept() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("POST", "/up");
    let seen = upstream.wait_for(1).remove(0);
    let [_, url, token] = OURS.map(|name| seen.header(name).unwrap());
    for body in [
        "{\"progress\": -1, \"details\": \"x\"}",
        "{\"progress\": -0.01}",
        "{\"progress\": 100.1, \"details\": \"x\"}",
        "{\"progress\": 1e999}",
        "{\"progress\": NaN}",
        "{\"progress\": \"NaN\"}",
        "{\"progress\": \"42\"}",
        "{\"progress\": 42, \"details\": 42}",
        "{\"progress\": 42, \"percent\": 42}",
        "{\"progress\": 42, \"progress\": 43}",
        "{\"progress\": 42",
        "progress=42",
        "[42, \"x\"]",
        "42",
        "null",
        "",
    ] {
        error_of(&report(url, token, body).send(), 400);
    }
    let long = format!("{{\"progress\": 42, \"details\": \"{}\"}}", "x".repeat(70_000));
    error_of(&report(url, token, &long).send(), 413);
    error_of(&report(url, token, &long).chunked().send(), 413);
    for method in ["GET", "PUT"] {
        let refused = server.call(method, &format!("/bgrs/{rid}/report")).send();
        error_of(&refused, 405);
        assert_eq!(refused.header("Allow"), Some("POST"));
    }
    assert_eq!((server.info(&rid)["progress"].as_str(), server.details(&rid).len()), (Some("0.00"), 0));
    drop(gate);
    let ended = server.finished(&rid);
    error_of(&report(url, token, "{\"progress\": 42, \"details\": \"too late\"}").send(), 409);
    assert_eq!(server.info(&rid), ended);
    assert_eq!(details(&server, &rid), ["done"]);
}

#[test]
fn while_the_server_shuts_down_what_is_running_may_still_report() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let rid = server.submit("POST", "/up");
    let seen = upstream.wait_for(1).remove(0);
    let [_, url, token] = OURS.map(|name| seen.header(name).unwrap());
    send_signal(server.pid(), "TERM");
    until("the server takes nothing new", || server.get(&format!("/bgrs/{rid}")).status == 503);
    report(url, token, "{\"details\": \"nearly there\"}").send().expect(204);
    let said = server.db().query_row("SELECT details FROM bgrs_details", [], |row| row.get::<_, String>(0));
    assert_eq!(said.unwrap(), "nearly there");
    drop(gate);
}

#[test]
fn only_a_requests_own_token_opens_it() {
    let (_gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let (rid, other) = (server.submit("POST", "/up"), server.submit("POST", "/up"));
    let seen = upstream.wait_for(2);
    let token_of = |rid: &str| {
        let seen = seen.iter().find(|seen| seen.header("Bgrs-Request") == Some(rid)).expect("a call");
        seen.header("Bgrs-Report-Token").expect("a token")
    };
    let (own, others) = (token_of(&rid), token_of(&other));
    let url = |rid: &str| format!("http://{}/bgrs/{rid}/report", server.addr());
    let body = "{\"progress\": 50, \"details\": \"guessed\"}";
    let bare = || report(&url(&rid), "", body).no_auth();
    for call in [
        bare(),
        report(&url(&rid), "", body),
        report(&url(&rid), "wrong", body),
        report(&url(&rid), &"0".repeat(own.len()), body),
        report(&url(&rid), &own[1..], body),
        report(&url(&rid), others, body),
        bare().header("Authorization", own),
        // An administrator, but not the upstream.
        bare().auth("admin", PASSWORD),
        report(&url(&"0".repeat(32)), own, body),
        report(&url("x"), own, body),
    ] {
        let refused = call.send();
        error_of(&refused, 401);
        let challenge = refused.header("WWW-Authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
    }
    for rid in [&rid, &other] {
        assert_eq!((server.info(rid)["progress"].as_str(), server.details(rid).len()), (Some("0.00"), 0));
    }
    // The scheme's case does not matter (RFC 9110 section 11.1).
    bare().header("Authorization", &format!("bearer {own}")).send().expect(204);
    assert_eq!(server.info(&rid)["progress"], "50.00");
}

#[test]
fn the_url_begins_with_public_url_and_mount_and_a_version_before_the_path_changes_nothing() {
    let (_gate, upstream) = holding();
    let server = TestServer::options()
        .server("mount = \"/background\"\npublic_url = \"https://api.example/base/\"")
        .config(&upstream.table("/up"))
        .start();
    let accepted = server.get("/up?bgrs=yes").expect(202).json();
    let rid = accepted["request"].as_str().expect("a string");
    let seen = upstream.wait_for(1).remove(0);
    let [_, url, token] = OURS.map(|name| seen.header(name).unwrap());
    assert_eq!(url, format!("https://api.example/base/background/bgrs/{rid}/report"));
    for (path, progress) in [("/background/bgrs", "42.50"), ("/background/v2.5/bgrs", "50.00")] {
        let url = format!("http://{}{path}/{rid}/report", server.addr());
        report(&url, token, &format!("{{\"progress\": {progress}}}")).send().expect(204);
        let info = server.get(&format!("/background/bgrs/{rid}")).expect(200).json();
        assert_eq!(info[0]["progress"], progress);
    }
}

#[test]
fn each_attempt_gets_the_same_url_and_token_and_the_callers_cookies() {
    let is_first = AtomicBool::new(true);
    let upstream = Upstream::start(move |_, stream| {
        if is_first.swap(false, Ordering::SeqCst) {
            let _ = stream.shutdown(Shutdown::Both);
        } else {
            ok(stream, "second");
        }
    });
    let config = upstream.table("/up") + "[[route]]\npath = \"/up\"\nretry = { delay = \"10ms\" }\n";
    let server = TestServer::options().config(&config).start();
    let rid = assert_submitted(&server.call("GET", "/up?bgrs=yes").header("Cookie", "a=b").send());
    server.finished(&rid);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for name in OURS.into_iter().chain(["Cookie"]) {
        assert_eq!(seen[0].all(name).len(), 1, "{name}");
        assert_eq!(seen[0].all(name), seen[1].all(name), "{name}");
    }
}

#[test]
fn an_answer_of_known_length_is_progress_by_itself_and_one_in_chunks_is_none() {
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |seen, stream| {
        let (head, half, rest) = match seen.target() {
            "/up/chunked" => ("Transfer-Encoding: chunked", "5\r\nfirst\r\n", "5\r\nlater\r\n0\r\n\r\n"),
            _ => ("Content-Length: 10", "first", "later"),
        };
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{half}");
        let _ = opened.lock().unwrap().recv();
        let _ = stream.write_all(rest.as_bytes());
    });
    let server = in_front_of(&upstream);
    let chunked = server.submit("GET", "/up/chunked");
    upstream.wait_for(1);
    // It comes later: once its half has arrived, the other's has.
    let sized = server.submit("GET", "/up/sized");
    until("the half of it to be there", || server.info(&sized)["progress"] == "50.00");
    for (rid, progress) in [(&sized, "50.00"), (&chunked, "0.00")] {
        let info = server.info(rid);
        assert_eq!((info["progress"].as_str(), info["status_name"].as_str()), (Some(progress), Some("running")));
    }
    drop(gate);
    for rid in [&sized, &chunked] {
        assert_eq!(server.finished(rid)["progress"], "100.00");
        assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "firstlater");
    }
}

#[test]
fn a_rescued_call_began_without_a_request_to_report_of_and_its_next_attempt_has_one() {
    let (gate, opened) = mpsc::channel::<()>();
    let (opened, is_first) = (Mutex::new(opened), AtomicBool::new(true));
    let upstream = Upstream::start(move |_, stream| {
        if is_first.swap(false, Ordering::SeqCst) {
            let _ = opened.lock().unwrap().recv();
            let _ = stream.shutdown(Shutdown::Both);
        } else {
            ok(stream, "second");
        }
    });
    let policy = "[[route]]\npath = \"/up\"\nrescue_after = \"50ms\"\nretry = { delay = \"10ms\" }\n";
    let server = TestServer::options().config(&(upstream.table("/up") + policy)).start();
    let rid = assert_submitted(&server.get("/up"));
    drop(gate);
    server.finished(&rid);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(OURS.map(|name| seen[0].header(name)), [None; 3]);
    assert_eq!(seen[1].header("Bgrs-Request"), Some(rid.as_str()));
    assert!(OURS.iter().all(|name| seen[1].header(name).is_some()), "{}", seen[1].head);
}
