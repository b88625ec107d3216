//! Section 9: the same call once more, as a new background request of whoever asks.

use std::collections::HashSet;
use std::fs;
use std::net::Shutdown;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::common::http::basic;
use crate::common::server::one_object;
use crate::common::upstream::{Seen, Upstream, answer, ok, wait_for_close};
use crate::common::{Call, Response, TestServer, assert_submitted, error_of, until};

const KIM: (&str, &str) = ("kim", "password of kim");

/// The headers that tell one background call from another.
const OF_ONE: [&str; 3] = ["bgrs-request", "bgrs-report", "bgrs-report-token"];

fn start(background: &str, upstream: &Upstream) -> TestServer {
    TestServer::options().config(&format!("[background]\n{background}\n{}", upstream.table("/up"))).start()
}

fn call(server: &TestServer, rid: &str) -> Call {
    server.call("POST", &format!("/bgrs/{rid}/rerun"))
}

/// Asks for the same call once more, and gives the new request's id.
#[track_caller]
fn rerun(server: &TestServer, rid: &str) -> String {
    let again = assert_submitted(&call(server, rid).send());
    assert_ne!(again, rid);
    again
}

fn result(server: &TestServer, rid: &str) -> Response {
    server.get(&format!("/bgrs/{rid}/result"))
}

/// All that is shown of a request that has ended.
fn shown(server: &TestServer, rid: &str) -> (Value, Vec<Value>, Vec<u8>) {
    let info = one_object(&server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200));
    (info, server.details(rid), result(server, rid).body)
}

/// The headers that arrived, in no order, less those that are of one call alone.
fn headers(seen: &Seen) -> Vec<String> {
    let fields = seen.head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value));
    let kept = fields.filter(|(name, _)| !OF_ONE.contains(&name.as_str()));
    let mut kept: Vec<_> = kept.map(|(name, value)| format!("{name}: {value}")).collect();
    kept.sort_unstable();
    kept
}

fn bodies(server: &TestServer) -> Vec<String> {
    server.media_files().into_iter().filter(|name| name.ends_with(".body")).collect()
}

#[test]
fn the_same_call_reaches_the_upstream_once_more_and_the_first_request_stays_as_it_is() {
    let upstream = Upstream::saying("done");
    let server = start("", &upstream);
    let large: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let odd = server
        .call("PATCH", "/up/a%2Fb//c/.;p=1?x=%20+&&y=%C3%A9&bgrs=yes&x=2")
        .header("X-Twice", "1")
        .header("X-Twice", "2")
        .header("Accept-Encoding", "gzip")
        .header("Range", "bytes=0-1")
        .body("text/x", [0_u8, 255, 10, 13]);
    for call in [
        odd,
        server.call("GET", "/up?bgrs=yes"),
        server.call("DELETE", "/up?bgrs=yes").header("Accept", "text/x"),
        server.call("POST", "/up?bgrs=yes").body("a/b", large.clone()),
        server.call("PUT", "/up?bgrs=yes").body("a/b", large.clone()).chunked(),
    ] {
        let rid = assert_submitted(&call.send());
        server.finished(&rid);
        let before = shown(&server, &rid);
        let again = rerun(&server, &rid);
        let info = server.finished(&again);
        assert_eq!((&info["name"], &info["user_id"]), (&before.0["name"], &before.0["user_id"]));
        assert_eq!(shown(&server, &again).0["method"], before.0["method"]);
        assert_eq!(result(&server, &again).expect(200).text(), "done");
        assert_eq!(shown(&server, &rid), before);
        let seen = upstream.seen();
        let [first, second] = &seen[seen.len() - 2..] else { panic!("two calls") };
        assert_eq!((second.line(), headers(second)), (first.line(), headers(first)));
        assert!(second.body == first.body, "{}", first.line());
        assert_eq!(second.all("Bgrs-Request"), [again.as_str()]);
    }
    let sizes: Vec<_> = upstream.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(sizes, [4, 4, 0, 0, 0, 0, large.len(), large.len(), large.len(), large.len()]);
}

#[test]
fn it_is_made_by_and_with_the_credentials_of_the_one_who_asks() {
    let server = TestServer::start();
    let kims_id = server.add_user(KIM.0, KIM.1);
    let rid = assert_submitted(&server.call("GET", "/users/me?bgrs=yes").auth(KIM.0, KIM.1).send());
    server.finished(&rid);
    let by_kim = assert_submitted(&call(&server, &rid).auth(KIM.0, KIM.1).send());
    let by_admin = rerun(&server, &rid);
    for (again, login, user_id) in [(&by_kim, "kim", kims_id), (&by_admin, "admin", 1)] {
        assert_eq!(server.finished(again)["user_id"], user_id.to_string());
        assert_eq!(result(&server, again).expect(200).json()["login"], login);
    }
    // Whose it is has nothing to do with whose call it was at first.
    error_of(&call(&server, &by_admin).auth(KIM.0, KIM.1).send(), 403);
}

#[test]
fn an_upstream_gets_the_credentials_of_the_one_who_asks_and_no_others() {
    let password = basic("lee", "password of lee");
    let known = [password.clone(), "Bearer token of lee".to_owned()];
    let upstream = Upstream::start(move |seen, stream| {
        let is_known = seen.header("Authorization").is_some_and(|value| known.iter().any(|known| known == value));
        match (seen.target(), is_known) {
            ("/who", true) => answer(stream, "200 OK", "", "{\"id\": 7}"),
            ("/who", false) => answer(stream, "401 Unauthorized", "", ""),
            _ => ok(stream, "done"),
        }
    });
    let forward = "auth = \"forward\"\nauth_check = \"/who\"\nauth_user = \"/id\"\n";
    let config = upstream.table("/up") + forward + &upstream.table("/own");
    let server = TestServer::options().config(&config).start();
    let last = || upstream.seen().into_iter().rfind(|seen| seen.target() != "/who").expect("a call");
    let as_lee = |call: Call, how: &str| call.no_auth().header("Authorization", how);

    let first = as_lee(server.call("POST", "/up?bgrs=yes"), &password).header("Cookie", "c=first").body("a/b", "sent");
    let first = assert_submitted(&first.send());
    server.finished(&first);
    let token = "Bearer token of lee";
    let again = as_lee(call(&server, &first), token).header("Cookie", "c=second");
    let again = assert_submitted(&again.send());
    assert_eq!(server.finished(&again)["user_id"], "7");
    let seen = last();
    assert_eq!((seen.all("Authorization"), seen.all("Cookie")), (vec![token], vec!["c=second"]));
    assert_eq!(seen.body, b"sent");

    // Where the server's own users are known, their passwords are nobody else's.
    let first = server.call("GET", "/own?bgrs=yes").header("Cookie", "c=first").header("X-A", "1");
    let first = assert_submitted(&first.send());
    server.finished(&first);
    assert_eq!(last().all("Cookie"), ["c=first"]);
    server.finished(&rerun(&server, &first));
    let seen = last();
    assert_eq!((seen.header("Authorization"), seen.header("Cookie"), seen.header("X-A")), (None, None, Some("1")));
}

#[test]
fn whoever_is_neither_the_owner_nor_an_administrator_gets_403_and_an_unknown_request_is_404() {
    let server = TestServer::start();
    server.add_user(KIM.0, KIM.1);
    let rid = server.finished_get("/users/me");
    let refused = |call: Call, status: u16| drop(server.leaves_nothing(|| error_of(&call.send(), status)));
    refused(call(&server, &rid).auth(KIM.0, KIM.1), 403);
    refused(call(&server, &rid).no_auth(), 401);
    for unknown in ["0".repeat(32), "A".repeat(32), "x".to_owned()] {
        refused(call(&server, &unknown), 404);
    }
    let wrong = server.get(&format!("/bgrs/{rid}/rerun"));
    error_of(&wrong, 405);
    assert!(wrong.header("Allow").is_some_and(|allow| allow.contains("POST")));
}

#[test]
fn a_call_whose_body_is_no_longer_kept_is_409_and_nothing_is_left() {
    let upstream = Upstream::saying("done");
    let server = start("", &upstream);
    let user = json!({ "login": "lee", "password": "open sesame" });
    let wiped = assert_submitted(&server.post("/users?bgrs=yes", &user));
    assert_eq!(server.finished(&wiped)["status"], "200");
    until("a body with a password is wiped at the end", || bodies(&server).is_empty());

    let lost = assert_submitted(&server.post("/campaigns?bgrs=yes", &json!({ "name": "one" })));
    server.finished(&lost);
    let again = rerun(&server, &lost);
    server.finished(&again);
    assert_eq!(server.count("campaigns"), 2);
    let body = bodies(&server).into_iter().find(|name| name.contains(&lost)).expect("a body that is kept");
    fs::remove_file(server.media().join(body)).expect("a body to remove");

    for rid in [&wiped, &lost] {
        let before = shown(&server, rid);
        server.leaves_nothing(|| error_of(&call(&server, rid).send(), 409));
        assert_eq!(shown(&server, rid), before);
    }
    // Each has a body of its own, and only a body for the hosted API is looked into.
    server.finished(&rerun(&server, &again));
    let others = assert_submitted(&server.post("/up?bgrs=yes", &user));
    server.finished(&others);
    server.finished(&rerun(&server, &others));
    assert!(upstream.seen().iter().all(|seen| seen.body == user.to_string().as_bytes()));
}

#[test]
fn a_body_is_kept_encrypted_as_long_as_its_request_also_over_a_kill() {
    let upstream = Upstream::saying("done");
    let mut server = start("", &upstream);
    let sent = "words that nobody reads";
    let rid = assert_submitted(&server.call("POST", "/up?bgrs=yes").body("a/b", sent).send());
    server.finished(&rid);
    server.kill();
    assert_eq!(server.files_with(sent), [""; 0]);
    server.start_again();
    let again = rerun(&server, &rid);
    server.finished(&again);
    let seen = upstream.seen();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.body == sent.as_bytes()), "{seen:?}");
    server.delete(&format!("/bgrs/{rid}")).expect(204);
    until("its body is gone", || bodies(&server).iter().all(|name| name.contains(&again)));
    error_of(&call(&server, &rid).send(), 404);
    // What was made of it is a request of its own.
    server.finished(&rerun(&server, &again));
}

#[test]
fn a_request_that_runs_has_failed_or_was_cancelled_can_be_made_once_more() {
    let known = Mutex::new(HashSet::new());
    let upstream = Upstream::start(move |seen, stream| {
        let is_first = known.lock().expect("a set").insert(seen.target().to_owned());
        match seen.target() {
            _ if !is_first => ok(stream, "second"),
            "/up/failed" => drop(stream.shutdown(Shutdown::Both)),
            _ => wait_for_close(stream),
        }
    });
    let server = start("", &upstream);
    for path in ["/up/running", "/up/failed", "/up/cancelled"] {
        let before = upstream.seen().len();
        let rid = assert_submitted(&server.call("POST", &format!("{path}?bgrs=yes")).body("a/b", "sent").send());
        upstream.wait_for(before + 1);
        let state = match path {
            "/up/running" => "running",
            "/up/failed" => {
                server.ended(&rid);
                "failed"
            }
            _ => {
                server.delete(&format!("/bgrs/{rid}")).expect(200);
                "cancelled"
            }
        };
        let info = server.info(&rid);
        assert_eq!(info["status_name"], state);
        let again = rerun(&server, &rid);
        server.finished(&again);
        assert_eq!(result(&server, &again).expect(200).text(), "second", "{path}");
        assert_eq!(server.info(&rid), info);
        let seen = upstream.seen();
        let of_path: Vec<_> = seen.iter().filter(|seen| seen.target() == path).collect();
        assert!(of_path.len() == 2 && of_path.iter().all(|seen| seen.body == b"sent"), "{of_path:?}");
    }
}

#[test]
fn a_batch_is_made_once_more_element_by_element() {
    let server = TestServer::start();
    let array = json!([{ "name": "one" }, { "nam": "two" }, { "name": "three" }]);
    let rid = assert_submitted(&server.post("/campaigns", &array));
    server.finished(&rid);
    let again = rerun(&server, &rid);
    server.finished(&again);
    let statuses = |rid: &str| -> Vec<Value> {
        let elements = result(&server, rid).expect(200).json();
        elements.as_array().expect("an array").iter().map(|element| element["status"].clone()).collect()
    };
    assert_eq!(statuses(&again), [200, 400, 200]);
    assert_eq!(statuses(&again), statuses(&rid));
    assert_eq!(server.count("campaigns"), 4);
    assert_eq!(server.details(&again).len(), server.details(&rid).len());
}

#[test]
fn it_is_refused_like_any_other_submission_where_there_is_no_place() {
    for (limit, status) in [("queue = 1", 503), ("per_user = 3", 429)] {
        let upstream = Upstream::start(|seen, stream| match seen.target() {
            "/up/fast" => ok(stream, "done"),
            _ => wait_for_close(stream),
        });
        let server = start(&format!("concurrency = 1\n{limit}"), &upstream);
        let rid = assert_submitted(&server.call("POST", "/up/fast?bgrs=yes").body("a/b", "sent").send());
        server.finished(&rid);
        server.submit("GET", "/up/slow");
        upstream.wait_for(2);
        if status == 429 {
            server.submit("GET", "/up/slow");
        }
        rerun(&server, &rid);
        let refused = server.leaves_nothing(|| call(&server, &rid).send());
        error_of(&refused, status);
        assert!(refused.header("Retry-After").is_some(), "{status}");
    }
}

#[test]
fn the_key_of_the_first_call_is_not_used_again_and_one_of_its_own_is() {
    let upstream = Upstream::saying("done");
    let server = start("", &upstream);
    let first = server.call("POST", "/up?bgrs=yes").header("Idempotency-Key", "first").body("a/b", "sent");
    let rid = assert_submitted(&first.send());
    server.finished(&rid);
    let again = rerun(&server, &rid);
    server.finished(&again);
    let seen = upstream.seen();
    assert_eq!((seen[0].header("Idempotency-Key"), seen[1].header("Idempotency-Key")), (Some("first"), None));
    assert_eq!(assert_submitted(&first.send()), rid);

    let keyed = call(&server, &rid).header("Idempotency-Key", "second");
    let third = assert_submitted(&keyed.send());
    server.finished(&third);
    let replayed = server.leaves_nothing(|| keyed.send());
    assert_eq!((assert_submitted(&replayed), replayed.header("Idempotency-Replayed")), (third, Some("true")));
    assert_eq!(upstream.seen().len(), 3);
    server.leaves_nothing(|| error_of(&call(&server, &rid).header("Idempotency-Key", "not one").send(), 400));
}

#[test]
fn under_a_version_and_behind_a_mount_requests_are_made_once_more_and_cancelled_and_removed() {
    for mount in ["", "/own"] {
        let upstream = Upstream::start(|_, stream| wait_for_close(stream));
        let options = TestServer::options().server(&format!("mount = \"{mount}\"")).config(&upstream.table("/up"));
        let server = options.start();
        for prefix in ["", "/v2.5"] {
            let rid = |accepted: &Response| {
                let location = accepted.header("Location").expect("a location");
                location.strip_prefix(&format!("{mount}/bgrs/")).expect("the canonical path").to_owned()
            };
            let first = rid(&server.get("/up?bgrs=yes").expect(202));
            let path = format!("{mount}{prefix}/bgrs/{first}");
            let again = rid(&server.call("POST", &format!("{path}/rerun")).send().expect(202));
            assert_ne!(again, first);
            for rid in [&first, &again] {
                let path = format!("{mount}{prefix}/bgrs/{rid}");
                let cancelled = server.delete(&path).expect(200);
                assert_eq!(one_object(&cancelled)["rid"], rid.as_str());
                assert_eq!(one_object(&cancelled)["status_name"], "cancelled");
                error_of(&server.get(&format!("{path}/result")), 410);
                server.delete(&path).expect(204);
                error_of(&server.get(&path), 404);
            }
        }
        assert_eq!(server.rows(), 0);
    }
}
