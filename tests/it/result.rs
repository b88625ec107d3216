//! Section 5: the result is the API's own answer.

use serde_json::{Value, json};

use crate::common::rows::pin_running;
use crate::common::server::one_object;
use crate::common::upstream::Upstream;
use crate::common::{Response, TestServer, assert_submitted, error_of};

/// The headers that are the server's on every result of its own: one each, and these values.
#[track_caller]
fn assert_own_headers(result: &Response, rid: &str) {
    assert_eq!(result.header("Bgrs-Request"), Some(rid));
    assert_eq!(result.header("Accept-Ranges"), Some("bytes"));
    let control = result.header("Cache-Control");
    assert_eq!(control, Some("private, no-cache"));
    assert_eq!(result.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(result.header("Content-Security-Policy"), Some("sandbox"));
    assert_eq!(result.header_all("Set-Cookie"), [""; 0]);
    assert!(result.header_all("Date").len() <= 1);
}

#[test]
fn the_result_is_the_foreground_answer_byte_for_byte() {
    let server = TestServer::start();
    let kim = format!("/users/{}", server.add_user("kim", "password of kim"));
    for target in ["/v2.5/users/me", "/v2.5/users", &kim, "/users?t=csv"] {
        let foreground = server.get(target).expect(200);
        let rid = server.finished_get(target);
        let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
        assert_eq!(result.body, foreground.body, "{target}");
        let content_type = foreground.header("Content-Type");
        assert_eq!(result.header("Content-Type"), content_type);
        assert_own_headers(&result, &rid);
        let etag = result.header("ETag").expect("an ETag");
        assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'));
        let length = result.header("Content-Length").map(str::parse);
        assert_eq!(length, Some(Ok(result.body.len())), "{target}");
    }
}

#[test]
fn head_gives_the_same_head_and_no_body() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users");
    let path = format!("/bgrs/{rid}/result");
    let get = server.get(&path).expect(200);
    let head = server.call("HEAD", &path).send().expect(200);
    for name in ["Content-Type", "Content-Length", "ETag"] {
        assert!(get.header(name).is_some(), "{name}");
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_own_headers(&head, &rid);
}

#[test]
fn the_same_bytes_have_the_same_etag_and_others_another() {
    let server = TestServer::start();
    let etag = |rid: &str| {
        let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
        result.header("ETag").expect("an ETag").to_owned()
    };
    let me = server.finished_get("/v2.5/users/me");
    let all = server.finished_get("/v2.5/users");
    assert_eq!(etag(&me), etag(&me));
    assert_ne!(etag(&me), etag(&all));
}

#[test]
fn an_error_of_the_api_is_a_result_like_any_other() {
    let server = TestServer::start();
    for (target, status) in [("/v2.5/users/999", 404), ("/v2.5/users?limit=0", 400), ("/v2.5/users?t=pdf", 400)] {
        let foreground = server.get(target).expect(status);
        let rid = server.submit("GET", target);
        let info = server.finished(&rid);
        assert_eq!(info["status"], status.to_string(), "{target}");
        assert_eq!(info["progress"], "100.00", "{target}");
        let content_type = foreground.header("Content-Type");
        assert_eq!(info["content_type"], json!(content_type), "{target}");
        let result = server.get(&format!("/bgrs/{rid}/result"));
        error_of(&result, status);
        assert_eq!(result.body, foreground.body, "{target}");
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));

        let file = info["result"].as_str().expect("a file");
        let media = server.get(&format!("/{file}")).expect(200);
        assert_eq!(media.body, foreground.body, "{target}");
    }
}

#[test]
fn what_only_administrators_may_do_is_403_in_the_background_too() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    let body = json!({ "login": "lee", "password": "password of lee" });
    let call = server.call("POST", "/v2.5/users?bgrs=yes").json(&body);
    let call = call.auth("kim", "password of kim");
    let rid = assert_submitted(&call.send());
    assert_eq!(server.finished(&rid)["status"], "403");
    error_of(&server.get(&format!("/bgrs/{rid}/result")), 403);
}

#[test]
fn an_answer_without_a_body_has_neither_content_type_nor_file() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    let rid = server.submit("DELETE", &format!("/v2.5/users/{kim}"));
    let info = server.finished(&rid);
    assert_eq!(info["status"], "204");
    assert_eq!(info["content_type"], Value::Null);
    assert_eq!(info["result"], Value::Null);
    let files = server.media_files();
    assert!(files.iter().all(|name| !name.contains(&rid)), "{files:?}");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(204);
    assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    assert_eq!(result.header("Content-Type"), None);
}

#[test]
fn a_200_without_a_body_has_an_etag_too() {
    let upstream = Upstream::saying("");
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let rid = server.finished_get("/up/x");
    let path = format!("/bgrs/{rid}/result");
    let result = server.get(&path).expect(200);
    assert_own_headers(&result, &rid);
    let etag = result.header("ETag").expect("an ETag").to_owned();
    assert!(result.body.is_empty());
    for known in [etag.as_str(), "*"] {
        let same = server.call("GET", &path).header("If-None-Match", known).send().expect(304);
        assert_eq!(same.header("ETag"), Some(etag.as_str()));
    }
    server.call("GET", &path).header("If-None-Match", "\"other\"").send().expect(200);
}

#[test]
fn what_has_expired_is_404_also_before_it_is_swept_away() {
    let server = TestServer::start();
    let rid = server.finished_get("/users/me");
    let file = server.info(&rid)["result"].as_str().expect("a file").to_owned();
    let sql = "UPDATE bgrs SET expires_dt = '2020-01-31 10:00:00' WHERE rid = ?";
    assert_eq!(server.db().execute(sql, [&rid]).expect("an update"), 1);
    for path in ["", "?wait=1", "/details", "/result", "/events"] {
        error_of(&server.get(&format!("/bgrs/{rid}{path}")), 404);
    }
    error_of(&server.get(&format!("/{file}")), 404);
    error_of(&server.call("POST", &format!("/bgrs/{rid}/rerun")).send(), 404);
    error_of(&server.delete(&format!("/bgrs/{rid}")), 404);
}

#[test]
fn a_result_in_csv_is_a_csv_file() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users?t=csv");
    let info = server.info(&rid);
    assert_eq!(info["content_type"], "text/csv; charset=utf-8");
    let file = format!("media/keep1m.bgrs.{rid}.result.csv");
    assert_eq!(info["result"], file.as_str());
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    let on_disk = std::fs::read(server.path().join(&file)).expect("a file");
    assert_eq!(on_disk, result.body);
    let media = server.get(&format!("/{file}")).expect(200);
    assert_eq!(media.header("Content-Type"), Some("text/csv; charset=utf-8"));
    assert_eq!(media.body, result.body);
}

#[test]
fn the_result_of_a_request_that_runs_is_202_with_its_information() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    pin_running(&server, &rid);
    let path = format!("/bgrs/{rid}/result");
    for query in ["", "?wait=0", "?wait=1"] {
        let answer = server.get(&format!("{path}{query}")).expect(202);
        assert!(answer.header("Retry-After").is_some());
        assert_eq!(answer.header("Bgrs-Request"), None);
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert_eq!(one_object(&answer), server.info(&rid));
    }
    for wait in ["=", "=abc", "=-1", "=1.5"] {
        let answer = server.get(&format!("{path}?wait{wait}"));
        assert!(error_of(&answer, 400).contains("wait"));
    }
}

#[test]
fn a_result_can_be_waited_for() {
    let server = TestServer::start();
    for _ in 0..20 {
        let rid = server.submit("GET", "/v2.5/users/me");
        let answer = server.get(&format!("/bgrs/{rid}/result?wait=60"));
        assert_eq!(answer.expect(200).json()["login"], "admin");
    }
}

#[test]
fn any_valid_credentials_read_information_details_result_and_file() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    let rid = server.finished_get("/v2.5/users/me");
    let file = server.info(&rid)["result"].as_str().map(str::to_owned);
    for path in [
        format!("/bgrs/{rid}"),
        format!("/bgrs/{rid}/details"),
        format!("/bgrs/{rid}/result"),
        format!("/v2.5/bgrs/{rid}/result"),
        format!("/{}", file.expect("a file")),
    ] {
        let kims = server.call("GET", &path).auth("kim", "password of kim");
        assert_eq!(kims.send().expect(200).body, server.get(&path).body);
        error_of(&server.call("GET", &path).no_auth().send(), 401);
        let wrong = server.call("GET", &path).auth("kim", "wrong");
        error_of(&wrong.send(), 401);
    }
}

#[test]
fn under_a_version_everything_is_the_same() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    for rest in ["", "?verbose=1", "?wait=5", "/details", "/result"] {
        let plain = server.get(&format!("/bgrs/{rid}{rest}")).expect(200);
        let versioned = server.get(&format!("/v2.5/bgrs/{rid}{rest}")).expect(200);
        assert_eq!(versioned.body, plain.body, "{rest}");
        let bgrs_request = plain.header("Bgrs-Request");
        assert_eq!(versioned.header("Bgrs-Request"), bgrs_request);
    }
    let unknown = format!("/v2.5/bgrs/{}", "0".repeat(32));
    error_of(&server.get(&unknown), 404);
    error_of(&server.get(&format!("/v1.0/bgrs/{rid}")), 404);
}

#[test]
fn a_cancelled_requests_result_is_410() {
    let server = TestServer::start();
    let rid = server.finished_get("/users/me");
    let cancel = "UPDATE bgrs SET status_id = 6, status = NULL, content_type = NULL, head = NULL, result = NULL,
                      size = NULL, etag = NULL WHERE rid = ?";
    assert_eq!(server.db().execute(cancel, [&rid]).expect("an update"), 1);
    assert_eq!(server.info(&rid)["status_name"], "cancelled");
    server.get(&format!("/bgrs/{rid}/result")).expect(410);
}

#[test]
fn the_class_in_a_results_name_is_how_long_it_is_kept() {
    let server = TestServer::options().config("[media]\nkeep = \"1w\"").start();
    let rid = server.finished_get("/users/me");
    let info = server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200).json()[0].clone();
    assert_eq!(info["result"], format!("media/keep1w.bgrs.{rid}.result.json"));
    let days = "SELECT round(julianday(expires_dt) - julianday(finished_dt)) FROM bgrs WHERE rid = ?";
    let days: f64 = server.db().query_row(days, [&rid], |row| row.get(0)).expect("a row");
    assert_eq!(days as i64, 7);
}
