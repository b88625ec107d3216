//! Section 1: how a call becomes a background request, and what its caller is told.

use std::collections::HashSet;

use serde_json::json;

use crate::common::events::holding;
use crate::common::{TestServer, assert_submitted, error_of};

#[test]
fn every_spelling_of_yes_is_answered_with_202_and_every_spelling_of_no_with_the_result() {
    let server = TestServer::start();
    let yes = [
        "bgrs=yes",
        "bgrs=1",
        "bgrs=true",
        "bgrs=YES",
        "bgrs=Yes",
        "bgrs=tRuE",
        "%62grs=yes",
        "b%67r%73=1",
        "%62%67%72%73=true",
        "bgrs=%79es",
        "bgrs=%59%45%53",
        "a=b&bgrs=yes",
        "bgrs=yes&a=b",
        "&&bgrs=yes&&",
        "bgrs=yes&bgrs=1&bgrs=TRUE",
        "BGRS=no&bgrs=yes",
    ];
    for query in yes {
        let answer = server.get(&format!("/v2.5/users/me?{query}"));
        assert_eq!(answer.status, 202, "{query}: {}", answer.lossy());
        server.finished(&assert_submitted(&answer));
    }
    assert_eq!(server.rows(), yes.len() as i64);

    let no = [
        "bgrs=no",
        "bgrs=0",
        "bgrs=false",
        "bgrs=NO",
        "bgrs=False",
        "%62grs=no",
        "bgrs=%6Eo",
        "bgrs=no&bgrs=0&bgrs=FALSE",
        "BGRS=yes",
        "Bgrs=yes",
        "%42grs=yes",
        "xbgrs=yes",
        "bgrs%20=yes",
        "bgrsx=yes",
    ];
    for query in no {
        let answer = server.get(&format!("/v2.5/users/me?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.lossy());
        assert_eq!(answer.json()["login"], "admin", "{query}");
    }
    assert_eq!(server.rows(), yes.len() as i64);
}

#[test]
fn any_other_value_and_two_that_contradict_are_refused() {
    let server = TestServer::start();
    let bad = [
        "bgrs",
        "bgrs=",
        "bgrs=autos",
        "bgrs=2",
        "bgrs=-1",
        "bgrs=y",
        "bgrs=yess",
        "bgrs=on",
        "bgrs=null",
        "bgrs=+yes",
        "bgrs=yes%20",
        "bgrs=yes%00",
        "bgrs=%FF",
        "bgrs=%zz",
        "bgrs=yes;a=b",
        "bgrs=yes?a=b",
        "bgrs=yes=yes",
        "%62grs",
        "bgrs=yes&bgrs=no",
        "bgrs=0&bgrs=1",
        "bgrs=yes&%62grs=no",
        "bgrs=yes&bgrs",
        "bgrs=no&bgrs=",
        "bgrs=yes&a=b&bgrs=maybe",
    ];
    for query in bad {
        let target = format!("/v2.5/users/me?{query}");
        let answer = server.leaves_nothing(|| server.get(&target));
        assert_eq!(answer.status, 400, "{query}: {}", answer.lossy());
        let description = error_of(&answer, 400);
        assert!(description.contains("bgrs"), "{query}: {description}");
    }
}

#[test]
fn the_answer_is_the_same_under_every_name_of_the_route_and_each_rid_is_new() {
    let server = TestServer::start();
    let mut rids = HashSet::new();
    for target in ["/v2.5/users/me?bgrs=yes", "/users/me?bgrs=yes", "/v2.5/users?bgrs=yes", "/users/1?bgrs=yes"] {
        for _ in 0..5 {
            let answer = server.get(target);
            assert!(answer.header("Bgrs-Request").is_none());
            assert!(rids.insert(assert_submitted(&answer)), "an rid came twice");
        }
    }
    let varied: HashSet<_> = rids.iter().map(|rid| &rid[12..]).collect();
    assert_eq!(varied.len(), rids.len(), "the last 80 bits are not random");
}

#[test]
fn a_post_a_put_and_a_delete_run_in_the_background() {
    let server = TestServer::start();
    let user = json!({ "login": "kim", "password": "one two three" });
    let made = assert_submitted(&server.post("/v2.5/users?bgrs=yes", &user));
    assert_eq!(server.finished(&made)["status"], "200");
    let made = server.get(&format!("/bgrs/{made}/result")).expect(200).json();
    let path = format!("/v2.5/users/{}", made["id"]);

    let change = json!({ "first_name": "Kim" });
    let put = assert_submitted(&server.put(&format!("{path}?bgrs=yes"), &change));
    assert_eq!(server.finished(&put)["status"], "200");
    assert_eq!(server.get(&path).expect(200).json()["first_name"], "Kim");

    let delete = server.submit("DELETE", &path);
    assert_eq!(server.finished(&delete)["status"], "204");
    assert_eq!(server.get(&path).status, 404);
}

#[test]
fn a_head_request_becomes_a_background_request_and_its_202_has_no_body() {
    let server = TestServer::start();
    let answer = server.call("HEAD", "/v2.5/users/me?bgrs=yes").send();
    assert_eq!(answer.status, 202);
    let location = answer.header("Location").expect("a location").to_owned();
    let rid = location.strip_prefix("/bgrs/").expect("the canonical path");
    server.finished(rid);
    assert_eq!(server.get(&format!("{location}?verbose=1")).status, 200);
}

#[test]
fn a_call_with_a_body_in_chunks_runs_with_that_body() {
    let server = TestServer::start();
    let change = json!({ "first_name": "Chunky" }).to_string();
    let call = server.call("PUT", "/v2.5/users/1?bgrs=yes");
    let call = call.body("application/json", format!("{change:>5000}"));
    let rid = assert_submitted(&call.chunked().send());
    assert_eq!(server.finished(&rid)["status"], "200");
    let me = server.get("/v2.5/users/me").expect(200).json();
    assert_eq!(me["first_name"], "Chunky");
}

#[test]
fn the_parameter_is_ignored_on_the_servers_own_routes() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let result = server.info(&rid)["result"].as_str().map(str::to_owned);
    let known = [
        format!("/bgrs/{rid}"),
        format!("/v2.5/bgrs/{rid}"),
        format!("/bgrs/{rid}/details"),
        format!("/bgrs/{rid}/result"),
        format!("/{}", result.expect("a result")),
        "/healthz".into(),
        "/readyz".into(),
    ];
    for path in known {
        for query in ["bgrs=yes", "bgrs=nonsense", "bgrs=yes&bgrs=no"] {
            let answer = server.get(&format!("{path}?{query}"));
            assert_eq!(answer.status, 200, "{path}?{query}: {}", answer.lossy());
        }
    }
    for path in ["/ui", "/ui/", "/metrics", "/openapi.json", "/bgrs", "/media"] {
        let plain = server.get(path).status;
        assert_eq!(server.get(&format!("{path}?bgrs=yes")).status, plain);
        assert_eq!(server.get(&format!("{path}?bgrs=nonsense")).status, plain);
    }
    assert_eq!(server.rows(), 1);
}

#[test]
fn the_parameter_is_ignored_on_options() {
    let server = TestServer::start();
    let plain = server.call("OPTIONS", "/v2.5/users/me").send().status;
    for query in ["bgrs=yes", "bgrs=nonsense"] {
        let target = format!("/v2.5/users/me?{query}");
        assert_eq!(server.call("OPTIONS", &target).send().status, plain);
    }
    assert_ne!(plain, 202);
    assert_eq!(server.rows(), 0);
}

#[test]
fn trace_connect_and_upgrade_cannot_be_put_off() {
    let server = TestServer::start();
    for method in ["TRACE", "CONNECT"] {
        let answer = server.leaves_nothing(|| {
            let call = server.call(method, "/v2.5/users/me?bgrs=yes");
            call.send()
        });
        assert_eq!(answer.status, 400, "{method}: {}", answer.lossy());
    }
    for protocol in ["websocket", "h2c", "x-anything"] {
        let answer = server.leaves_nothing(|| {
            let call = server.call("GET", "/v2.5/users/me?bgrs=yes");
            let call = call.header("Connection", "close, Upgrade");
            call.header("Upgrade", protocol).send()
        });
        error_of(&answer, 400);
    }
}

#[test]
fn a_caller_who_hangs_up_after_submitting_cancels_nothing() {
    let server = TestServer::start();
    let rids: Vec<_> = (0..20).map(|_| server.submit("GET", "/v2.5/users")).collect();
    for rid in rids {
        assert_eq!(server.finished(&rid)["status"], "200");
    }
}

#[test]
fn where_a_worker_is_free_what_may_be_made_twice_runs_from_the_moment_it_is_accepted() {
    let (gate, upstream) = holding();
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let submit = |method: &&str| {
        let rid = server.submit(method, "/up");
        assert_eq!(server.get(&format!("/bgrs/{rid}")).expect(200).json()[0]["status_name"], "running", "{method}");
        rid
    };
    let rids: Vec<_> = ["GET", "PUT", "DELETE", "GET"].iter().map(submit).collect();
    drop(gate);
    for rid in rids {
        assert_eq!(server.ended(&rid)["status_name"], "finished");
    }
}
