//! Section 3: the general information about a background request.

use serde_json::{Value, json};

use crate::common::rows::pin_running;
use crate::common::server::one_object;
use crate::common::{TestServer, assert_submitted, error_of, is_date_time, keys_in_order};

const KEYS: [&str; 12] = [
    "id",
    "rid",
    "user_id",
    "name",
    "created_dt",
    "status_id",
    "status_name",
    "progress",
    "finished_dt",
    "status",
    "content_type",
    "result",
];

const VERBOSE_KEYS: [&str; 5] = ["method", "started_dt", "attempts", "size", "expires_dt"];

/// SQLite's idea of the time, in the contract's own format.
fn now(server: &TestServer) -> String {
    let sql = "SELECT strftime('%Y-%m-%d %H:%M:%S', 'now')";
    server.db().query_row(sql, [], |row| row.get(0)).expect("a time")
}

#[test]
fn a_finished_request_is_an_array_of_one_object_with_exactly_these_strings() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let answer = server.get(&format!("/bgrs/{rid}")).expect(200);
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Retry-After"), None);
    let content_type = answer.header("Content-Type").expect("a content type");
    assert_eq!(content_type, "application/json; charset=utf-8");
    assert_eq!(keys_in_order(&answer.text()), KEYS);

    let info = one_object(&answer);
    let id = info["id"].as_str().expect("id is a string");
    assert!(id.parse::<u64>().is_ok_and(|id| id > 0), "{id}");
    assert!(is_date_time(&info["created_dt"]), "{info}");
    assert!(is_date_time(&info["finished_dt"]), "{info}");
    let expected = json!({
        "id": id,
        "rid": rid,
        "user_id": "1",
        "name": "/v2.5/users/me?bgrs=yes",
        "created_dt": info["created_dt"],
        "status_id": "4",
        "status_name": "finished",
        "progress": "100.00",
        "finished_dt": info["finished_dt"],
        "status": "200",
        "content_type": "application/json; charset=utf-8",
        "result": format!("media/keep1m.bgrs.{rid}.result.json"),
    });
    assert_eq!(info, expected);
}

#[test]
fn times_are_utc_wherever_the_server_stands() {
    let server = TestServer::options().env("TZ", "Pacific/Kiritimati").start();
    let before = now(&server);
    let rid = server.finished_get("/v2.5/users/me");
    let info = server.info(&rid);
    let after = now(&server);
    for key in ["created_dt", "finished_dt"] {
        let time = info[key].as_str().expect("a time");
        let between = before.as_str()..=after.as_str();
        assert!(between.contains(&time), "{key} {time}, {between:?}");
    }
    assert!(info["created_dt"].as_str() <= info["finished_dt"].as_str());
}

#[test]
fn verbose_adds_its_keys_after_the_others() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let plain = server.info(&rid);
    let answer = server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200);
    let keys = keys_in_order(&answer.text());
    assert_eq!(keys[..KEYS.len()], KEYS);
    assert_eq!(keys[KEYS.len()..], VERBOSE_KEYS);

    let info = one_object(&answer);
    for key in KEYS {
        assert_eq!(info[key], plain[key], "{key}");
    }
    assert_eq!(info["method"], "GET");
    assert_eq!(info["attempts"], "1");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert_eq!(info["size"], result.body.len().to_string());
    for key in ["started_dt", "expires_dt"] {
        assert!(is_date_time(&info[key]), "{key} in {info}");
    }
    assert!(info["created_dt"].as_str() <= info["started_dt"].as_str());
    assert!(info["started_dt"].as_str() <= info["finished_dt"].as_str());
    assert!(info["expires_dt"].as_str() > info["finished_dt"].as_str());
}

#[test]
fn a_request_is_there_as_soon_as_its_rid_is_known_and_every_value_is_a_string_or_null() {
    let server = TestServer::start();
    let mut last = 0;
    for _ in 0..30 {
        let rid = server.submit("GET", "/v2.5/users");
        let answer = server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200);
        let info = one_object(&answer);
        let all = info.as_object().expect("an object").values();
        for value in all {
            assert!(value.is_string() || value.is_null(), "{info}");
        }
        let ended = info["status_id"] == "4";
        assert_eq!(answer.header("Retry-After").is_none(), ended, "{info}");
        let progress = info["progress"].as_str().expect("a progress");
        let (whole, decimals) = progress.split_once('.').expect("a point");
        assert!(whole.parse::<u8>().is_ok_and(|n| n <= 100), "{progress}");
        assert_eq!(decimals.len(), 2, "{progress}");
        let id = info["id"].as_str().and_then(|id| id.parse().ok());
        let id: u64 = id.expect("a number");
        assert!(id > last, "ids grow");
        last = id;
    }
}

#[test]
fn what_is_not_yet_known_of_a_running_request_is_null() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    pin_running(&server, &rid);
    let answer = server.get(&format!("/bgrs/{rid}")).expect(200);
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(keys_in_order(&answer.text()), KEYS);
    let info = one_object(&answer);
    assert_eq!(info["status_id"], "2");
    assert_eq!(info["status_name"], "running");
    for key in ["finished_dt", "status", "content_type", "result"] {
        assert_eq!(info[key], Value::Null, "{key}");
    }
}

#[test]
fn a_wait_that_is_over_before_the_request_has_ended_answers_with_what_is_so_then() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    pin_running(&server, &rid);
    for wait in [0, 1] {
        let answer = server.get(&format!("/bgrs/{rid}?wait={wait}")).expect(200);
        assert!(answer.header("Retry-After").is_some());
        assert_eq!(one_object(&answer)["status_name"], "running");
    }
}

#[test]
fn a_wait_is_a_number_of_whole_seconds() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    for wait in ["0", "1", "60", "61", "4294967296", "99999999999999999999999"] {
        let answer = server.get(&format!("/bgrs/{rid}?wait={wait}"));
        assert_eq!(answer.status, 200, "wait={wait}");
        assert_eq!(one_object(&answer)["status_name"], "finished");
    }
    for wait in ["", "=", "=-1", "=abc", "=1.5", "=1s", "=0x1", "=1%200", "=+5"] {
        let answer = server.get(&format!("/bgrs/{rid}?wait{wait}"));
        assert_eq!(answer.status, 400, "wait{wait}");
        assert!(error_of(&answer, 400).contains("wait"));
    }
}

#[test]
fn a_wait_ends_with_the_request() {
    let server = TestServer::start();
    for _ in 0..20 {
        let rid = server.submit("GET", "/v2.5/users");
        let answer = server.get(&format!("/bgrs/{rid}?wait=60")).expect(200);
        assert_eq!(one_object(&answer)["status_name"], "finished");
    }
}

#[test]
fn an_unknown_or_malformed_rid_is_404() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let shorter = &rid[1..];
    let mut other = rid.clone();
    let last = if other.pop() == Some('0') { '1' } else { '0' };
    other.push(last);
    for bad in [
        "0".repeat(32),
        "f".repeat(32),
        "A".repeat(32),
        other,
        shorter.to_owned(),
        format!("{rid}0"),
        format!("{shorter}g"),
        format!("{shorter}%00"),
        format!("{shorter}%20"),
        format!("{rid}%0a"),
        "x".to_owned(),
        "1".to_owned(),
        "%2e%2e".to_owned(),
        "'%20or%20'1'%3d'1".to_owned(),
    ] {
        for rest in ["", "/details", "/result", "?wait=1", "?verbose=1"] {
            let answer = server.get(&format!("/bgrs/{bad}{rest}"));
            assert_eq!(answer.status, 404, "{bad}{rest}: {}", answer.lossy());
            error_of(&answer, 404);
            assert_eq!(answer.header("Bgrs-Request"), None);
        }
    }
    let upper = "ABCDEF0123456789".repeat(2);
    error_of(&server.get(&format!("/bgrs/{upper}")), 404);
    if rid != rid.to_uppercase() {
        let answer = server.get(&format!("/bgrs/{}", rid.to_uppercase()));
        error_of(&answer, 404);
    }
}

#[test]
fn no_cache_keeps_the_answer_for_a_rid_that_is_unknown() {
    let server = TestServer::start();
    let answer = server.get(&format!("/bgrs/{}", "0".repeat(32)));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
}

#[test]
fn the_user_id_is_the_submitters() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    let call = server.call("GET", "/v2.5/users/me?bgrs=yes");
    let answer = call.auth("kim", "password of kim").send();
    let rid = assert_submitted(&answer);
    assert_eq!(server.finished(&rid)["user_id"], kim.to_string());
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert_eq!(result.json()["login"], "kim");
}
