//! Section 9: a submission that is sent again with its `Idempotency-Key` is the request that there is already.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::common::upstream::{Upstream, ok, wait_for_close};
use crate::common::{Call, Response, TestServer, assert_submitted, error_of, until};

const KEY: &str = "Idempotency-Key";

const KIM: (&str, &str) = ("kim", "password of kim");

/// Answers what is fast, and never the rest.
fn upstream() -> Upstream {
    Upstream::start(|seen, stream| match seen.target() {
        target if target.starts_with("/up/fast") => ok(stream, "done"),
        _ => wait_for_close(stream),
    })
}

fn start(background: &str, upstream: &Upstream) -> TestServer {
    TestServer::options().config(&format!("[background]\n{background}\n{}", upstream.table("/up"))).start()
}

/// A submission with a key and a body.
fn keyed(server: &TestServer, target: &str, key: &str, body: &str) -> Call {
    server.call("POST", target).header(KEY, key).body("a/b", body)
}

fn is_replayed(answer: &Response) -> bool {
    let said = answer.header("Idempotency-Replayed");
    assert!(matches!(said, None | Some("true")), "{said:?}");
    said.is_some()
}

/// The rid of a request that is accepted now.
#[track_caller]
fn first(answer: &Response) -> String {
    let rid = assert_submitted(answer);
    assert!(!is_replayed(answer), "it was there already");
    rid
}

/// The rid of a request that was accepted before.
#[track_caller]
fn replayed(answer: &Response) -> String {
    let rid = assert_submitted(answer);
    assert!(is_replayed(answer), "it is another one");
    rid
}

/// What so many callers get who call at the same moment.
fn at_once(count: usize, call: impl Fn(usize) -> Response + Sync) -> Vec<Response> {
    let barrier = Barrier::new(count);
    let send = |n: usize| {
        barrier.wait();
        call(n)
    };
    let send = &send;
    thread::scope(|scope| {
        let callers: Vec<_> = (0..count).map(|n| scope.spawn(move || send(n))).collect();
        callers.into_iter().map(|caller| caller.join().expect("an answer")).collect()
    })
}

fn bodies(server: &TestServer) -> usize {
    server.media_files().iter().filter(|name| name.ends_with(".body")).count()
}

#[test]
fn the_same_call_with_the_same_key_is_the_same_request_whatever_has_become_of_it() {
    let upstream = upstream();
    let route = "[[route]]\npath = \"/up/fast/always\"\nbgrs = \"always\"\n";
    let server = TestServer::options().config(&(upstream.table("/up") + route)).start();
    let put = server.call("PUT", "/users/1?first_name=Kim&bgrs=yes").header(KEY, "put");
    let calls = [
        server.call("GET", "/up/fast?bgrs=yes").header(KEY, "get"),
        keyed(&server, "/up/fast?bgrs=yes", "post", "sent"),
        keyed(&server, "/up/fast/always", "always", "sent"),
        server.call("DELETE", "/up/fast?bgrs=yes").header(KEY, "\"8e03978e-40d5-43dd-bc93-6894a57f9324\""),
        put,
    ];
    let rids = calls.each_ref().map(|call| {
        let rid = first(&call.send());
        assert_eq!(replayed(&call.send()), rid);
        server.finished(&rid);
        rid
    });
    assert_eq!(rids.iter().collect::<HashSet<_>>().len(), rids.len());
    for (call, rid) in calls.iter().zip(&rids) {
        let answer = server.leaves_nothing(|| call.send());
        assert_eq!(replayed(&answer), *rid);
    }
    let head = server.call("HEAD", "/users/me?bgrs=yes").header(KEY, "head");
    let locations = [head.send(), head.send()].map(|answer| (answer.header("Location").map(str::to_owned), answer));
    assert!(locations[0].0.is_some() && locations[0].0 == locations[1].0, "{locations:?}");
    assert_eq!(locations.each_ref().map(|(_, answer)| is_replayed(answer)), [false, true]);

    // What ran, and what was cancelled, is the same request too.
    let slow = keyed(&server, "/up/slow?bgrs=yes", "slow", "sent");
    let rid = first(&slow.send());
    until("it runs", || server.info(&rid)["status_name"] == "running");
    assert_eq!(replayed(&slow.send()), rid);
    server.delete(&format!("/bgrs/{rid}")).expect(200);
    assert_eq!(replayed(&slow.send()), rid);
    assert_eq!(server.rows(), 7);
    let targets: Vec<_> = upstream.seen().iter().map(|seen| seen.line().to_owned()).collect();
    assert_eq!(targets.iter().collect::<HashSet<_>>().len(), targets.len(), "one came twice: {targets:?}");
}

#[test]
fn a_call_is_its_method_target_and_body_and_the_servers_parameters_and_headers_are_none_of_it() {
    let upstream = upstream();
    let server = start("", &upstream);
    let rid = first(&keyed(&server, "/up/fast?x=1&bgrs=yes", "k", "sent").send());
    server.finished(&rid);
    for target in ["/up/fast?bgrs=TRUE&x=1", "/up/fast?x=1&%62grs=1&bgrs_timeout=9s"] {
        assert_eq!(replayed(&keyed(&server, target, "k", "sent").send()), rid, "{target}");
    }
    let other_headers = keyed(&server, "/up/fast?x=1&bgrs=yes", "k", "sent").header("X-A", "1").chunked();
    assert_eq!(replayed(&other_headers.send()), rid);
    let put = server.call("PUT", "/up/fast?x=1&bgrs=yes").header(KEY, "k").body("a/b", "sent");
    let no_body = server.call("POST", "/up/fast?x=1&bgrs=yes").header(KEY, "k");
    let hosted = server.call("GET", "/users/me?bgrs=yes").header(KEY, "k");
    for call in [
        put,
        no_body,
        hosted,
        keyed(&server, "/up/fast?x=2&bgrs=yes", "k", "sent"),
        keyed(&server, "/up/fast?bgrs=yes", "k", "sent"),
        keyed(&server, "/up/fast/?x=1&bgrs=yes", "k", "sent"),
        keyed(&server, "/up/fast?x=1&bgrs=yes", "k", "Sent"),
        keyed(&server, "/up/fast?x=1&bgrs=yes", "k", "sent "),
        keyed(&server, "/up/fast?x=1&bgrs=yes", "k", ""),
    ] {
        server.leaves_nothing(|| error_of(&call.send(), 422));
    }
    assert_eq!((server.rows(), upstream.seen().len()), (1, 1));
    first(&keyed(&server, "/up/fast?x=2&bgrs=yes", "K", "sent").send());
}

#[test]
fn of_many_at_once_one_is_accepted_and_made_and_the_others_are_told_of_it() {
    let upstream = upstream();
    let server = start("", &upstream);
    // From here on the caller is remembered: twenty passwords at once are not what this is about.
    server.get("/users/me").expect(200);
    let large = "x".repeat(100_000);
    let calls = [
        server.call("GET", "/up/fast?bgrs=yes").header(KEY, "get"),
        keyed(&server, "/up/fast?bgrs=yes", "post", &large),
    ];
    for call in &calls {
        let answers = at_once(20, |_| call.send());
        let rids: HashSet<_> = answers.iter().map(assert_submitted).collect();
        assert_eq!((rids.len(), answers.iter().filter(|answer| is_replayed(answer)).count()), (1, 19));
        rids.iter().for_each(|rid| drop(server.finished(rid)));
    }
    let of_twenty = |n: usize| keyed(&server, "/up/fast?bgrs=yes", "different", &format!("body {n}")).send();
    let answers = at_once(20, of_twenty);
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert_eq!((accepted.len(), refused.len()), (1, 19));
    refused.iter().for_each(|answer| drop(error_of(answer, 422)));
    server.finished(&first(accepted[0]));
    assert_eq!((server.rows(), upstream.seen().len()), (3, 3));
    until("the bodies of the two that have one are left", || bodies(&server) == 2);
}

#[test]
fn a_key_holds_over_a_kill_whether_its_request_has_ended_or_runs_or_waits() {
    let upstream = upstream();
    let mut server = start("concurrency = 1", &upstream);
    let submit =
        |server: &TestServer, path: &str, body: &str| keyed(server, &format!("{path}?bgrs=yes"), path, body).send();
    let ended = first(&submit(&server, "/up/fast", "sent"));
    server.finished(&ended);
    let running = first(&submit(&server, "/up/slow", "sent"));
    upstream.wait_for(2);
    let queued = first(&submit(&server, "/up/queued", "sent"));
    server.kill();
    server.start_again();
    for (path, rid) in [("/up/fast", &ended), ("/up/slow", &running), ("/up/queued", &queued)] {
        assert_eq!(replayed(&submit(&server, path, "sent")), *rid);
        error_of(&submit(&server, path, "Sent"), 422);
    }
    assert_eq!((server.rows(), bodies(&server)), (3, 3));
    assert_eq!(upstream.seen().iter().filter(|seen| seen.target() == "/up/fast").count(), 1);
}

#[test]
fn a_key_is_of_one_user_alone() {
    let upstream = upstream();
    let server = start("", &upstream);
    server.add_user(KIM.0, KIM.1);
    let call = keyed(&server, "/up/fast?bgrs=yes", "k", "sent");
    let by_kim = call.clone().auth(KIM.0, KIM.1);
    let admins = first(&call.send());
    let kims = first(&by_kim.send());
    assert_ne!(admins, kims);
    assert_eq!((replayed(&call.send()), replayed(&by_kim.send())), (admins.clone(), kims.clone()));
    // Nor is it to be found out whether another has used it.
    first(&keyed(&server, "/up/fast?bgrs=yes", "kim's", "sent").auth(KIM.0, KIM.1).send());
    first(&keyed(&server, "/up/fast?bgrs=yes", "kim's", "something else").send());
    for rid in [&admins, &kims] {
        server.finished(rid);
    }
    assert_eq!(server.rows(), 4);
}

#[test]
fn a_call_is_told_of_its_request_also_where_there_is_no_place_for_another() {
    for (limit, status) in [("queue = 1", 503), ("per_user = 2", 429)] {
        let upstream = upstream();
        let server = start(&format!("concurrency = 1\n{limit}"), &upstream);
        let running = server.call("GET", "/up/slow?bgrs=yes").header(KEY, "running");
        let running_rid = first(&running.send());
        upstream.wait_for(1);
        let queued = keyed(&server, "/up/queued?bgrs=yes", "queued", "sent");
        let queued_rid = first(&queued.send());
        let third = keyed(&server, "/up/fast?bgrs=yes", "third", "sent");
        for _ in 0..2 {
            server.leaves_nothing(|| error_of(&third.send(), status));
            let answers = server.leaves_nothing(|| [running.send(), queued.send(), queued.clone().chunked().send()]);
            assert_eq!(answers.each_ref().map(replayed), [&running_rid, &queued_rid, &queued_rid].map(String::clone));
            let another = keyed(&server, "/up/queued?bgrs=yes", "queued", "Sent");
            server.leaves_nothing(|| error_of(&another.send(), 422));
        }
        // A key of what was refused is not used.
        server.delete(&format!("/bgrs/{queued_rid}")).expect(200);
        first(&third.send());
    }
}

#[test]
fn the_key_of_a_request_that_was_removed_is_free() {
    let upstream = upstream();
    let server = start("", &upstream);
    let call = keyed(&server, "/up/fast?bgrs=yes", "k", "sent");
    let rid = first(&call.send());
    server.finished(&rid);
    server.delete(&format!("/bgrs/{rid}")).expect(204);
    let other = first(&keyed(&server, "/up/fast?bgrs=yes", "k", "something else").send());
    assert_ne!(other, rid);
    server.finished(&other);
    server.leaves_nothing(|| error_of(&call.send(), 422));
}

#[test]
fn what_is_no_key_is_400_and_leaves_nothing() {
    let upstream = upstream();
    let server = start("", &upstream);
    let longest = "k".repeat(255);
    for bad in ["", &format!("{longest}k"), "a b", "a\tb", "caf\u{e9}"] {
        let get = server.call("GET", "/up/fast?bgrs=yes").header(KEY, bad);
        let hosted = keyed(&server, "/users?bgrs=yes", bad, "{}");
        for call in [get, hosted, keyed(&server, "/up/fast?bgrs=yes", bad, "sent")] {
            let description = server.leaves_nothing(|| error_of(&call.send(), 400));
            assert!(description.contains(KEY), "{bad:?}: {description}");
        }
    }
    let two = keyed(&server, "/up/fast?bgrs=yes", "one", "sent");
    server.leaves_nothing(|| error_of(&two.clone().header(KEY, "two").send(), 400));
    assert!(upstream.seen().is_empty());
    let rid = first(&two.clone().header(KEY, "one").send());
    assert_eq!(replayed(&two.send()), rid);
    server.finished(&rid);
    for good in ["!", "~", "\"'#,;=", &longest] {
        server.finished(&first(&keyed(&server, "/up/fast?bgrs=yes", good, "sent").send()));
    }
    // What is refused for another reason does not use its key.
    let nowhere = server.call("GET", "/nothing?bgrs=yes").header(KEY, "free");
    server.leaves_nothing(|| error_of(&nowhere.send(), 404));
    first(&keyed(&server, "/up/fast?bgrs=yes", "free", "sent").send());
}

#[test]
fn in_the_foreground_a_key_is_the_apis_own_affair() {
    let upstream = upstream();
    let server = start("", &upstream);
    for key in ["k", "k", "a b"] {
        server.call("POST", "/campaigns").header(KEY, key).json(&json!({ "name": "one" })).send().expect(200);
        keyed(&server, "/up/fast", key, "sent").send().expect(200);
    }
    assert_eq!((server.count("campaigns"), server.rows()), (3, 0));
    let seen = upstream.seen();
    assert_eq!(seen.iter().map(|seen| seen.header(KEY)).collect::<Vec<_>>(), [Some("k"), Some("k"), Some("a b")]);
    // In the background it gets the key as well.
    server.finished(&first(&keyed(&server, "/up/fast?bgrs=yes", "k", "sent").send()));
    assert_eq!(upstream.seen().last().and_then(|seen| seen.header(KEY).map(str::to_owned)).as_deref(), Some("k"));
}

#[test]
fn a_held_answer_is_given_again_and_says_so_and_whoever_holds_it_or_not_means_the_same_request() {
    let upstream = upstream();
    let server = start("", &upstream);
    let call = |target: &str, key: &str| server.call("GET", target).header(KEY, key);
    let held = call("/up/fast?bgrs=auto", "fast");
    let answers = [held.send(), held.send()].map(|answer| answer.expect(200));
    assert_eq!(answers.each_ref().map(is_replayed), [false, true]);
    let rid = answers[0].header("Bgrs-Request").expect("a rid").to_owned();
    for answer in &answers {
        assert_eq!((answer.text().as_str(), answer.header("Bgrs-Request")), ("done", Some(rid.as_str())));
    }
    assert_eq!(replayed(&call("/up/fast?bgrs=yes", "fast").send()), rid);
    let preferred = call("/up/fast", "fast").header("Prefer", "respond-async").send();
    assert_eq!(replayed(&preferred), rid);
    assert_eq!(preferred.header("Preference-Applied"), Some("respond-async"));
    assert_eq!(upstream.seen().len(), 1);

    let slow = call("/up/slow", "slow").header("Prefer", "respond-async, wait=1");
    let rid = first(&slow.send());
    assert_eq!(replayed(&slow.send()), rid);
    assert_eq!(replayed(&call("/up/slow?bgrs=1", "slow").send()), rid);
    server.leaves_nothing(|| error_of(&call("/up/fast?bgrs=auto", "slow").send(), 422));
    assert_eq!((server.rows(), upstream.seen().len()), (2, 2));
}

#[test]
fn a_batch_is_made_once_too() {
    let server = TestServer::start();
    let array = json!([{ "name": "one" }, { "name": "two" }, { "name": "three" }]);
    let call = |target: &str, array: &Value| server.call("POST", target).header(KEY, "batch").json(array).send();
    let rid = first(&call("/campaigns", &array));
    server.finished(&rid);
    for target in ["/campaigns", "/campaigns?bgrs=yes"] {
        let again = server.leaves_nothing(|| call(target, &array));
        assert_eq!(replayed(&again), rid);
    }
    server.leaves_nothing(|| error_of(&call("/campaigns", &json!([{ "name": "one" }])), 422));
    assert_eq!(server.count("campaigns"), 3);
    // In the foreground it is an ordinary call, again and again.
    assert!(!is_replayed(&call("/campaigns?bgrs=no", &array).expect(200)));
    assert_eq!((server.count("campaigns"), server.rows()), (6, 1));
}

#[test]
fn a_large_body_that_is_sent_again_leaves_no_file_and_is_compared_to_its_last_byte() {
    let upstream = upstream();
    let server = start("", &upstream);
    let body: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let call = |body: &[u8]| server.call("POST", "/up/fast?bgrs=yes").header(KEY, "large").body("a/b", body);
    let rid = first(&call(&body).send());
    server.finished(&rid);
    for call in [call(&body), call(&body).chunked()] {
        let again = server.leaves_nothing(|| call.send());
        assert_eq!(replayed(&again), rid);
    }
    let mut other = body.clone();
    other[body.len() - 1] ^= 1;
    for wrong in [&other[..], &body[..body.len() - 1]] {
        server.leaves_nothing(|| error_of(&call(wrong).send(), 422));
    }
    assert_eq!((server.rows(), upstream.seen().len(), bodies(&server)), (1, 1, 1));
    assert!(upstream.only().body == body);
}
