//! The dashboard's overview: what the server does and has done, in figures.

use std::net::Shutdown;

use serde_json::{Value, json};

use crate::common::events::holding;
use crate::common::upstream::Upstream;
use crate::common::{TestServer, error_of, eventually, is_date_time, keys_in_order};

/// What is counted.
const COUNTS: [&str; 4] = ["submitted", "finished", "failed", "cancelled"];

/// Each span with its step in seconds, and its points.
const SPANS: [(&str, i64, usize); 3] = [("hour", 60, 60), ("day", 600, 144), ("week", 3600, 168)];

#[track_caller]
fn overview(server: &TestServer, span: &str) -> Value {
    server.get(&format!("/ui/overview?span={span}")).expect(200).json()
}

/// How much there was of each in the whole span.
#[track_caller]
fn counts(overview: &Value) -> [i64; 4] {
    let points = overview["points"].as_array().expect("points");
    COUNTS.map(|name| points.iter().map(|point| point[name].as_i64().expect("a number")).sum())
}

/// Waits until so much was counted.
#[track_caller]
fn until_counted(server: &TestServer, expected: [i64; 4]) -> Value {
    eventually("the figures", || Some(overview(server, "hour")).filter(|overview| counts(overview) == expected))
}

#[test]
fn what_was_done_is_counted_minute_by_minute_and_is_still_known_after_a_restart() {
    let (gate, held) = holding();
    let broken = Upstream::start(|_, stream| drop(stream.shutdown(Shutdown::Both)));
    let mut server = TestServer::options().config(&(held.table("/held") + &broken.table("/broken"))).start();
    assert_eq!(counts(&overview(&server, "week")), [0; 4]);
    for target in ["/v2.5/users/1", "/v2.5/users/1?x=2"] {
        server.finished_get(target);
    }
    let failed = server.submit("POST", "/broken");
    assert_eq!(server.ended(&failed)["status_name"], "failed");
    let cancelled = server.submit("GET", "/held");
    held.wait_for(1);
    server.delete(&format!("/bgrs/{cancelled}")).expect(200);
    drop(gate);
    let before = until_counted(&server, [4, 2, 1, 1]);
    let route = |name: &str| {
        let routes = before["routes"].as_array().expect("routes");
        routes.iter().find(|route| route["route"] == name).unwrap_or_else(|| panic!("no {name} in {routes:?}")).clone()
    };
    let (users, broken) = (route("/v2.5/users/{}"), route("/broken"));
    assert_eq!((users["count"].as_i64(), broken["count"].as_i64()), (Some(2), Some(1)));
    assert!(users["p50_ms"].as_u64() <= users["p95_ms"].as_u64() && users["p95_ms"].is_u64(), "{users}");
    let bytes: i64 = server.db().query_row("SELECT sum(size) FROM bgrs", [], |row| row.get(0)).expect("a sum");
    assert!(bytes > 0);

    server.stop();
    server.start_again();
    for (span, step, steps) in SPANS {
        let shown = overview(&server, span);
        assert_eq!((&shown["span"], &shown["step"]), (&json!(span), &json!(step)));
        assert_eq!(shown["points"].as_array().map(Vec::len), Some(steps));
        assert_eq!(counts(&shown), [4, 2, 1, 1], "{span}");
        assert_eq!(shown["routes"], before["routes"], "{span}");
        assert_eq!(shown["now"]["result_bytes"], bytes);
    }
}

#[test]
fn what_runs_and_waits_now_is_shown_with_the_age_of_the_oldest_that_waits() {
    let (gate, upstream) = holding();
    let config = format!("[background]\nconcurrency = 1\n{}", upstream.table("/up"));
    let server = TestServer::options().config(&config).start();
    let idle = json!({ "running": 0, "waiting": 0, "sleeping": 0, "oldest_waiting_s": null, "result_bytes": 0 });
    assert_eq!(overview(&server, "hour")["now"], idle);
    let rids = [server.submit("GET", "/up"), server.submit("GET", "/up"), server.submit("GET", "/up")];
    upstream.wait_for(1);
    for (span, ..) in SPANS {
        let shown = overview(&server, span);
        let now = &shown["now"];
        assert_eq!((&now["running"], &now["waiting"], &now["sleeping"]), (&json!(1), &json!(2), &json!(0)));
        assert!(now["oldest_waiting_s"].as_i64().is_some_and(|seconds| (0..600).contains(&seconds)), "{now}");
        let last = shown["points"].as_array().and_then(|points| points.last()).expect("a point");
        assert_eq!((&last["running"], &last["waiting"]), (&json!(1), &json!(2)));
    }
    drop(gate);
    rids.iter().for_each(|rid| drop(server.finished(rid)));
    let now = || overview(&server, "hour")["now"].clone();
    let ended = eventually("nothing runs", || Some(now()).filter(|now| now["running"] == 0));
    assert_eq!((&ended["waiting"], &ended["oldest_waiting_s"]), (&json!(0), &Value::Null));
}

#[test]
fn the_overview_has_its_keys_in_order_and_its_points_a_step_apart() {
    let server = TestServer::start();
    let answer = server.get("/ui/overview").expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(keys_in_order(&answer.text()), ["span", "step", "points", "now", "routes"]);
    let shown = answer.json();
    assert_eq!(shown["span"], "hour");
    let points = shown["points"].as_array().expect("points");
    assert!(points.iter().all(|point| is_date_time(&point["at"])), "{points:?}");
    let times: Vec<_> = points.iter().map(|point| point["at"].as_str().expect("a time")).collect();
    assert!(times.iter().all(|time| time.ends_with(":00")), "{times:?}");
    assert!(times.is_sorted() && times.windows(2).all(|pair| pair[0] != pair[1]), "{times:?}");
}

#[test]
fn the_overview_is_for_administrators_and_of_spans_that_there_are() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    let call = server.call("GET", "/ui/overview");
    error_of(&call.clone().no_auth().send(), 401);
    error_of(&call.auth("kim", "password of kim").send(), 403);
    for span in ["", "month", "Hour", "60"] {
        error_of(&server.get(&format!("/ui/overview?span={span}")), 400);
    }
    error_of(&server.call("POST", "/ui/overview").send(), 405);
}
