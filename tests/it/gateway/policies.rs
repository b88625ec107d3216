//! Route policies: which holds for a call, what it does, and how an operator is told.

use std::net::Shutdown;
use std::thread;

use serde_json::{Value, json};

use super::rescue::Gate;
use crate::common::upstream::{Upstream, answer, ok, wait_for_close};
use crate::common::{DataDir, TestServer, assert_submitted, error_of};

fn route(path: &str, keys: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\n{keys}\n")
}

fn start(config: &str) -> TestServer {
    TestServer::options().config(config).start()
}

#[test]
fn never_refuses_who_asks_for_the_background_and_makes_no_background_request_by_itself() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen, stream| {
        if seen.target() == "/up/rescued" {
            return wait_for_close(stream);
        }
        held.wait();
        ok(stream, "slow");
    });
    let never = "bgrs = \"never\"\nrescue_after = \"50ms\"\nbatch = true";
    let server = start(
        &[
            upstream.table("/up"),
            route("/up", "rescue_after = \"50ms\""),
            route("/up/n", never),
            route("/scans", never),
        ]
        .concat(),
    );
    for target in ["/up/n?bgrs=yes", "/up/n/below?bgrs=1", "/scans?bgrs=yes"] {
        error_of(&server.leaves_nothing(|| server.get(target)), 400);
    }
    assert!(upstream.seen().is_empty());
    let slow = server.call("GET", "/up/n");
    let slow = thread::spawn(move || slow.send());
    upstream.wait_for(1);
    // A call that began later is rescued: the time of this one has passed.
    assert_submitted(&server.get("/up/rescued"));
    gate.open();
    assert_eq!(slow.join().unwrap().expect(200).text(), "slow");
    for target in ["/up/n", "/scans"] {
        let done = server.post(target, &json!([{ "campaign_id": 9 }])).expect(200).json();
        assert!(done[0]["status"].is_number(), "{done}");
    }
    assert_eq!(server.rows(), 1);
}

#[test]
fn auto_answers_with_the_result_itself_where_it_is_there_in_time_and_else_with_202() {
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/slow" => wait_for_close(stream),
        _ => answer(stream, "201 Made", "Content-Type: a/b\r\nX-Made: 1\r\n", "made"),
    });
    let waiting = |wait: &str| {
        let background = format!("[background]\nauto_wait = \"{wait}\"\n");
        start(&[background, upstream.table("/up"), route("/up", "bgrs = \"auto\"")].concat())
    };
    let server = waiting("1m");
    let response = server.post("/up/fast", &json!({ "a": 1 })).expect(201);
    assert_eq!((response.text().as_str(), response.header("X-Made")), ("made", Some("1")));
    let rid = response.header("Bgrs-Request").expect("an rid");
    assert_eq!(server.finished(rid)["name"], "/up/fast");
    let foreground = server.get("/up/fast?bgrs=no").expect(201);
    assert_eq!((foreground.header("Bgrs-Request"), server.rows()), (None, 1));
    let server = waiting("50ms");
    assert_submitted(&server.get("/up/slow"));
    assert_eq!((server.rows(), upstream.wait_for(3).len()), (1, 3));
}

#[test]
fn the_most_specific_policy_holds_by_whole_segments_and_in_any_spelling() {
    let upstream = Upstream::saying("");
    let config = [
        upstream.table("/up"),
        route("/up", "bgrs = \"always\""),
        route("/up/a", "bgrs = \"ask\""),
        route("/up/{any}/b", "bgrs = \"ask\""),
        route("/up/a/b", "bgrs = \"always\""),
        route("/up/m", "bgrs = \"ask\"\nmethods = [\"POST\", \"PUT\"]"),
    ];
    let server = start(&config.concat());
    for (method, target, status) in [
        ("GET", "/up", 202),
        ("DELETE", "/up/x?q", 202),
        ("GET", "/up/x?bgrs=no", 200),
        ("OPTIONS", "/up/x", 200),
        ("GET", "/up/a", 200),
        ("GET", "/up/%61/x", 200),
        ("GET", "/up/a?bgrs=yes", 202),
        ("GET", "/up/ab", 202),
        ("GET", "/up/a%2Fx", 202),
        ("GET", "/up/z/b/c", 200),
        ("GET", "/up/%7a/%62", 200),
        ("GET", "/up//b", 202),
        ("GET", "/up/a/b/c", 202),
        ("POST", "/up/m", 200),
        ("PUT", "/up/m/x", 200),
        ("GET", "/up/m", 202),
    ] {
        assert_eq!(server.call(method, target).send().status, status, "{method} {target}");
    }
}

#[test]
fn policies_hold_for_the_hosted_api_and_never_for_the_servers_own_routes() {
    let server = start(&[route("/", "bgrs = \"always\""), route("/v2.5/users/{id}", "bgrs = \"ask\"")].concat());
    for target in ["/v2.5/users", "/users", "/campaigns", "/v2.5/%75sers"] {
        let rid = assert_submitted(&server.get(target));
        let info = server.finished(&rid);
        assert_eq!((&info["name"], &info["status"]), (&json!(target), &json!("200")));
        server.get(&format!("/bgrs/{rid}/result")).expect(200);
    }
    // Without a version it is the same route.
    for target in ["/v2.5/users/me", "/v2.5/users/%6de", "/users/me", "/users?bgrs=no"] {
        server.get(target).expect(200);
    }
    server.call("OPTIONS", "/users").send().expect(405);
    error_of(&server.leaves_nothing(|| server.get("/nothing")), 404);
    assert_eq!(server.rows(), 4);
}

#[test]
fn repeat_after_crash_overrules_the_method() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |_, stream| {
        held.wait();
        ok(stream, "done");
    });
    let mut server = start(
        &[
            upstream.table("/up"),
            route("/up", "methods = [\"POST\"]\nrepeat_after_crash = true"),
            route("/up", "methods = [\"GET\"]\nrepeat_after_crash = false"),
        ]
        .concat(),
    );
    let post = assert_submitted(&server.call("POST", "/up?bgrs=yes").body("a/b", "body").send());
    let get = server.submit("GET", "/up");
    upstream.wait_for(2);
    server.kill();
    gate.open();
    server.start_again();
    assert_eq!(server.finished(&post)["status"], "200");
    assert_eq!(server.ended(&get)["status_name"], "failed");
    assert_eq!(server.last_detail(&get), "interrupted by a restart; GET is not repeated");
    let (posts, gets): (Vec<_>, Vec<_>) = upstream.seen().into_iter().partition(|seen| seen.line().starts_with("POST"));
    assert!(posts.iter().all(|seen| seen.body == b"body"));
    assert_eq!((posts.len(), gets.len()), (2, 1));
}

#[test]
fn a_timeout_holds_for_background_requests_of_the_hosted_api() {
    let server = start(&route("/campaigns", "timeout = \"10ms\""));
    let many: Value = (0..5000).map(|number| json!({ "name": format!("number {number}") })).collect();
    let rid = assert_submitted(&server.post("/campaigns", &many));
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    assert_eq!(error_of(&server.get(&format!("/bgrs/{rid}/result")), 504), "timed out after 10ms");
}

/// An API of items: it says what it got, or that it does not want it.
fn items() -> Upstream {
    Upstream::start(|seen, stream| {
        let body = String::from_utf8_lossy(&seen.body);
        if seen.target() == "/me" {
            answer(stream, "200 OK", "", "{\"id\": \"kim\"}");
        } else if body.contains("break") {
            let _ = stream.shutdown(Shutdown::Both);
        } else if body.contains("bad") {
            answer(stream, "422 No", "", "{\"description\":\"not this one\"}");
        } else {
            answer(stream, "201 Made", "", &body);
        }
    })
}

#[test]
fn an_array_to_an_upstream_is_one_call_for_each_element_in_the_background_and_in_the_foreground() {
    let upstream = items();
    let server = start(&[upstream.table("/up"), route("/up/items", "batch = true")].concat());
    let array = json!([{ "name": "one" }, { "name": "bad" }, { "name": "break" }, { "name": "four" }]);
    let post = |target: &str| {
        let call = server.call("POST", target).header("Accept-Encoding", "gzip").header("Idempotency-Key", "\"k\"");
        call.header("X-Kept", "1").json(&array).send()
    };
    let rid = assert_submitted(&post("/up/items?x=1"));
    server.finished(&rid);
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200).json();
    let statuses: Vec<_> = result.as_array().unwrap().iter().map(|element| element["status"].clone()).collect();
    assert_eq!(statuses, [201, 422, 502, 201]);
    assert_eq!((&result[0]["body"], &result[3]["body"]), (&json!(array[0].to_string()), &json!(array[3].to_string())));
    assert_eq!(result[1]["body"], "{\"description\":\"not this one\"}");
    let details = server.details(&rid);
    let said = |text: &str| details.iter().any(|detail| detail["details"] == text);
    assert!(said("element 2 of 4 failed with 422: not this one"), "{details:?}");
    assert!(said("4 of 4 elements done, 2 failed"), "{details:?}");
    assert_eq!(server.info(&rid)["progress"], "100.00");

    let mut foreground = post("/up/items?bgrs=no&x=1").expect(200).json();
    assert_eq!(foreground[2]["status"], 502);
    // In what words a connection broke off is not ours to say.
    foreground[2] = result[2].clone();
    assert_eq!(foreground, result);
    assert_eq!(server.rows(), 1);
    let (seen, mut keys) = (upstream.seen(), Vec::new());
    for seen in &seen {
        assert_eq!(seen.line(), "POST /up/items?x=1 HTTP/1.1");
        assert_eq!(seen.all("Content-Length"), [seen.body.len().to_string()]);
        assert_eq!((seen.all("Content-Type"), seen.all("X-Kept")), (vec!["application/json"], vec!["1"]));
        assert_eq!((seen.header("Accept-Encoding"), seen.header("Authorization")), (None, None));
        keys.push(seen.header("Idempotency-Key").unwrap().to_owned());
    }
    // Each element is a call of its own, in both batches.
    keys.sort();
    assert_eq!(keys, ["\"k-1\"", "\"k-1\"", "\"k-2\"", "\"k-2\"", "\"k-3\"", "\"k-3\"", "\"k-4\"", "\"k-4\""]);
}

#[test]
fn elements_for_an_upstream_name_their_objects_and_none_leads_out_of_the_collection() {
    let upstream = items();
    let server = start(&[upstream.table("/up"), route("/up/items", "batch = true")].concat());
    let statuses = |method: &str, target: &str, array: &Value| -> Vec<Value> {
        let done = server.call(method, target).json(array).send().expect(200).json();
        done.as_array().unwrap().iter().map(|element| element["status"].clone()).collect()
    };
    let array = json!([
        { "id": 1 }, { "name": "nobody's" }, { "id": "x/y?" }, { "id": ".." }, { "id": "." }, { "id": "../../z" },
        { "id": ".;a" }, { "id": "a/" }, { "id": "..\\z" }
    ]);
    assert_eq!(statuses("PUT", "/up/items?bgrs=no&q", &array), [201, 400, 201, 400, 400, 400, 400, 400, 400]);
    assert_eq!(statuses("DELETE", "/up/items/?bgrs=no", &json!([{ "id": "é" }])), [201]);
    let mut seen = upstream.seen();
    seen.sort_by_key(|seen| seen.line().to_owned());
    let lines: Vec<_> = seen.iter().map(|seen| seen.line()).collect();
    let (delete, put) = ("DELETE /up/items/%C3%A9 HTTP/1.1", "PUT /up/items/1?q HTTP/1.1");
    assert_eq!(lines, [delete, put, "PUT /up/items/x%2Fy%3F?q HTTP/1.1"]);
    assert_eq!((seen[0].body.as_slice(), seen[1].body.as_slice()), (b"".as_slice(), b"{\"id\":1}".as_slice()));
    assert_eq!(seen[0].header("Content-Length"), None);
}

#[test]
fn elements_for_an_upstream_that_knows_the_caller_carry_the_callers_credentials() {
    let upstream = items();
    let forward = "auth = \"forward\"\nauth_check = \"/me\"\nauth_user = \"/id\"\n".to_owned();
    let server = start(&[upstream.table("/up"), forward, route("/up", "batch = true")].concat());
    let call = |target: &str| server.call("POST", target).auth("kim", "at the upstream").json(&json!([1, 2])).send();
    let rid = assert_submitted(&call("/up"));
    assert_eq!(server.finished(&rid)["user_id"], "kim");
    assert_eq!(call("/up?bgrs=no").expect(200).json()[1], json!({ "status": 201, "body": "2" }));
    let elements: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.line().starts_with("POST")).collect();
    let kim = crate::common::http::basic("kim", "at the upstream");
    assert_eq!(elements.len(), 4);
    assert!(elements.iter().all(|seen| seen.all("Authorization") == [kim.as_str()]), "{elements:?}");
}

#[test]
fn what_is_no_batch_passes_as_it_is_and_a_batch_is_bound_like_what_is_stored() {
    let upstream = items();
    let config = [upstream.table("/up"), route("/up/items", "batch = true"), route("/campaigns", "batch = true")];
    let server = TestServer::options().server("max_body = \"1000\"").config(&config.concat()).start();
    let (long, object) = (format!("[\"{}\"]", "a".repeat(3000)), format!("{{\"a\":\"{}\"}}", "a".repeat(3000)));
    for (method, target, content_type, body) in [
        ("POST", "/up/items", "application/json", object.as_str()),
        ("POST", "/up/items", "text/plain", long.as_str()),
        ("PATCH", "/up/items", "application/json", long.as_str()),
        ("POST", "/up/other", "application/json", long.as_str()),
    ] {
        let passed = server.call(method, target).body(content_type, body).send().expect(201);
        assert_eq!(passed.text(), body, "{method} {target} {content_type}");
    }
    let passed = upstream.seen().len();
    for target in ["/up/items", "/up/items?bgrs=no"] {
        let call = server.call("POST", target).body("application/json", long.as_str());
        error_of(&server.leaves_nothing(|| call.send()), 413);
        error_of(&server.leaves_nothing(|| call.clone().chunked().send()), 413);
        let torn = server.call("POST", target).body("application/json", "[1, 2");
        error_of(&server.leaves_nothing(|| torn.send()), 400);
    }
    assert_eq!((upstream.seen().len(), server.rows()), (passed, 0));
    let hosted = server.post("/campaigns?bgrs=no", &json!([{ "name": "one" }])).expect(200).json();
    assert_eq!(hosted[0]["status"], 200);
    server.put("/campaigns/1", &json!([{ "name": "two" }])).expect(400);
}

#[test]
fn what_is_wrong_with_an_upstream_or_a_route_is_named() {
    let upstream = |keys: &str| format!("[[upstream]]\nprefix = \"/a\"\n{keys}\n");
    let url = "url = \"http://127.0.0.1:9000\"\n";
    let forward = "auth = \"forward\"\nauth_check = \"/me\"\nauth_user = \"/id\"\n";
    let both = |more: &str| upstream(&format!("{url}{more}"));
    for (config, culprit) in [
        (upstream(""), "url"),
        (format!("[[upstream]]\n{url}"), "prefix"),
        (format!("[[upstream]]\nprefix = \"a\"\n{url}"), "upstream[0].prefix"),
        (format!("[[upstream]]\nprefix = \"/a/../b\"\n{url}"), "upstream[0].prefix"),
        (format!("[[upstream]]\nprefix = \"/{{id}}\"\n{url}"), "upstream[0].prefix"),
        (both("") + &both(""), "upstream: prefix /a is there twice"),
        (upstream("url = \"ftp://127.0.0.1\""), "upstream[0].url"),
        (upstream("url = \"http://a:b@127.0.0.1\""), "upstream[0].url"),
        (upstream("url = \"http://127.0.0.1/?q\""), "upstream[0].url"),
        (both("auth = \"none\""), "upstream[0].auth"),
        (both("auth_check = \"/me\""), "upstream[0].auth_check"),
        (both("auth_ttl = \"5m\""), "upstream[0].auth_ttl"),
        (both("auth = \"forward\"\nauth_user = \"/id\""), "upstream[0].auth_check"),
        (both("auth = \"forward\"\nauth_check = \"/me\""), "upstream[0].auth_user"),
        (both("auth = \"forward\"\nauth_check = \"me\"\nauth_user = \"/id\""), "upstream[0].auth_check"),
        (both("auth = \"forward\"\nauth_check = \"/me\"\nauth_user = \"id\""), "upstream[0].auth_user"),
        (both(&format!("{forward}auth_ttl = \"soon\"")), "upstream[0].auth_ttl"),
        (both("preserve_host = 5"), "upstream[0].preserve_host"),
        (both("strip_prefix = \"perhaps\""), "upstream[0].strip_prefix"),
        (both("ca = \"ca.pem\""), "upstream[0].ca"),
        (both("colour = 1"), "upstream[0].colour"),
        (route("a", ""), "route[0].path"),
        (route("/a/{b", ""), "route[0].path"),
        (route("/a", "") + &route("/a/", "methods = [\"get\"]"), "route[1].methods"),
        (route("/a", "") + &route("/a/", ""), "route: path"),
        (route("/a", "bgrs = \"yes\""), "route[0].bgrs"),
        (route("/a", "rescue_after = \"soon\""), "route[0].rescue_after"),
        (route("/a", "timeout = \"9s\"\nrescue_after = \"9s\""), "route[0].rescue_after"),
        (route("/a", "timeout = \"0s\""), "route[0].timeout"),
        (route("/a", "retry = { attempts = 101 }"), "route[0].retry.attempts"),
        (route("/a", "retry = { delay = 5 }"), "route[0].retry.delay"),
        (route("/a", "retry = { on = [302] }"), "route[0].retry.on"),
        (route("/a", "retry = { times = 3 }"), "route[0].retry.times"),
        (route("/a", "repeat_after_crash = 5"), "route[0].repeat_after_crash"),
        (route("/a", "batch = \"perhaps\""), "route[0].batch"),
        (route("/a", "colour = 1"), "route[0].colour"),
    ] {
        let dir = DataDir::new(&config);
        dir.run(&["check"], "").expect_refusal(culprit);
        assert_eq!(dir.files().len(), 1, "{culprit}: {:?}", dir.files());
    }
}

/// What `check --explain` says, on the way to which nothing is made.
fn explained(config: &str, method: &str, path: &str) -> String {
    let dir = DataDir::new(config);
    let said = dir.run(&["check", "--explain", method, path], "").expect(0).stdout;
    assert_eq!(dir.files().len(), 1, "{:?}", dir.files());
    said
}

#[test]
fn check_explains_whose_a_call_is() {
    let config = "[server]\nmount = \"/own\"\n\
        [[upstream]]\nprefix = \"/up\"\nurl = \"http://127.0.0.1:9000/base\"\n\
        [[upstream]]\nprefix = \"/up/less\"\nurl = \"https://api.example\"\nstrip_prefix = true\n\
        auth = \"forward\"\nauth_check = \"/me\"\nauth_user = \"/id\"\n";
    for (path, said) in [
        ("/up/a%2Fb//c?x=1&bgrs=yes&y", "to the upstream /up, to http://127.0.0.1:9000/base/up/a%2Fb//c?x=1&y."),
        ("/up/a", "the server's own users"),
        ("/%75p/less/x?q", "to the upstream /up/less, to https://api.example/x?q."),
        ("/up/less", "it is asked at /me"),
        ("/up/x/%2e%2e/y", "refused with 400"),
        ("/v2.5/users/5?t=csv", "the hosted API's /v2.5/users/{id}."),
        ("/v2.5/%75sers", "the hosted API's /v2.5/users."),
        ("/campaigns/1/statistics", "the hosted API's /campaigns/{id}/statistics."),
        ("/own/bgrs/x", "one of the server's own routes"),
        ("/own/healthz", "open without credentials"),
        ("/upper", "It gets 404."),
        ("/bgrs/x", "It gets 404."),
        ("/v2.5/nothing", "It gets 404."),
    ] {
        let explained = explained(config, "GET", path);
        assert!(explained.contains(said), "{said} in\n{explained}");
        assert!(explained.starts_with(&format!("GET {path}\n")), "{explained}");
    }
    let alone = explained("[server]\nhosted_api = false\n", "get", "/users/me");
    assert!(alone.contains("no API is hosted") && alone.contains("It gets 404."), "{alone}");
}

#[test]
fn check_explains_which_route_holds_and_what_each_of_its_values_means() {
    let keys = "methods = [\"POST\", \"PUT\"]\nrescue_after = \"90s\"\ntimeout = \"2h\"\nbatch = true\n\
        retry = { attempts = 5, delay = \"2s\", on = [502, 504] }\nrepeat_after_crash = true";
    let config = [
        "[[upstream]]\nprefix = \"/up\"\nurl = \"http://127.0.0.1:9000\"\n".to_owned(),
        route("/up/{id}", keys),
        route("/users", "bgrs = \"auto\""),
        route("/scans", "bgrs = \"always\""),
    ]
    .concat();
    for (method, path, parts) in [
        (
            "post",
            "/up/5/x?bgrs=no",
            &[
                "path = \"/up/{id}\" and methods = [\"POST\", \"PUT\"] holds",
                "bgrs = \"ask\": ",
                "rescue_after = \"1m 30s\": ",
                "timeout = \"2h\": ",
                "POST is tried once, or 5 times in all with an Idempotency-Key",
                "or 502 (retry.on), or 504 (retry.on)",
                "after 2s (retry.delay)",
                "repeat_after_crash = true: ",
                "its body was not stored",
                "batch = true: ",
                "This call asks for the foreground.",
            ][..],
        ),
        ("PUT", "/up/5", &["PUT is tried 5 times in all"]),
        ("GET", "/up/5", &["No [[route]] holds for it; the defaults do:", "timeout = \"6h\"", "GET is safe to repeat"]),
        ("GET", "/users/me", &["path = \"/users\" and all methods holds", "within 20s (background.auto_wait)"]),
        ("GET", "/scans?bgrs=yes", &["bgrs = \"always\": ", "This call asks for the background."]),
        ("GET", "/scans?bgrs=perhaps", &["This call gets 400: "]),
        ("OPTIONS", "/scans", &["bgrs means nothing with OPTIONS"]),
    ] {
        let explained = explained(&config, method, path);
        for part in parts {
            assert!(explained.contains(part), "{part} in\n{explained}");
        }
    }
}

#[test]
fn check_wants_a_method_and_a_path() {
    for (named, culprit) in [
        (["G T", "/"], "method"),
        (["", "/"], "method"),
        (["GET", "users"], "path"),
        (["GET", "/a b"], "path"),
        (["GET", "http://a/b"], "path"),
    ] {
        DataDir::new("").run(&["check", "--explain", named[0], named[1]], "").expect_refusal(culprit);
    }
    DataDir::new("").run(&["check", "--explain", "GET"], "").expect(2);
}
