//! Section 4: the details of a background request.

use serde_json::{Value, json};

use crate::common::rows::add_details;
use crate::common::{TestServer, error_of, is_date_time, keys_in_order};

fn ids(details: &Value) -> Vec<u64> {
    let details = details.as_array().expect("an array").iter();
    let id = |detail: &Value| detail["id"].as_str()?.parse().ok();
    details.map(|detail| id(detail).expect("an id")).collect()
}

#[test]
fn a_finished_request_ends_with_a_record_done() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let answer = server.get(&format!("/bgrs/{rid}/details")).expect(200);
    let content_type = answer.header("Content-Type").expect("a content type");
    assert_eq!(content_type, "application/json; charset=utf-8");
    let keys = keys_in_order(&answer.text());
    assert_eq!(keys, ["id", "rid", "dt", "details"]);

    let details = answer.json();
    let details = details.as_array().expect("an array");
    for detail in details {
        assert!(detail["id"].is_string(), "{detail}");
        assert_eq!(detail["rid"], rid.as_str());
        assert!(is_date_time(&detail["dt"]), "{detail}");
    }
    let last = details.last().expect("at least one record");
    let expected = json!({ "id": last["id"], "rid": rid, "dt": last["dt"], "details": "done" });
    assert_eq!(last, &expected);
    let done = details.iter().filter(|detail| detail["details"] == "done");
    assert_eq!(done.count(), 1);
}

#[test]
fn a_request_that_the_api_refused_is_done_all_the_same() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/999");
    assert_eq!(server.last_detail(&rid), "done");
}

#[test]
fn after_and_limit_page_through_the_details() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let other = server.finished_get("/v2.5/users/me");
    add_details(&server, &rid, 7);
    add_details(&server, &other, 3);
    let path = format!("/bgrs/{rid}/details");
    let all = server.get(&path).expect(200).json();
    let all_ids = ids(&all);
    assert!(all_ids.len() >= 8);
    assert!(all_ids.is_sorted(), "oldest first: {all_ids:?}");

    let mut paged = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = server.get(&format!("{path}{query}")).expect(200).json();
        let page_ids = ids(&page);
        assert!(page_ids.len() <= 3);
        let Some(last) = page_ids.last() else { break };
        query = format!("?after={last}&limit=3");
        paged.extend(page.as_array().cloned().expect("an array"));
    }
    assert_eq!(json!(paged), all);

    let rest = server.get(&format!("{path}?after={}", all_ids[1]));
    assert_eq!(ids(&rest.expect(200).json()), all_ids[2..]);
    let none = server.get(&format!("{path}?after={}", u32::MAX));
    assert_eq!(none.expect(200).json(), json!([]));
}

#[test]
fn without_a_limit_all_records_come_however_many() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let before = server.details(&rid).len();
    add_details(&server, &rid, 25_000);
    let details = server.get(&format!("/bgrs/{rid}/details")).expect(200);
    let ids = ids(&details.json());
    assert_eq!(ids.len(), before + 25_000);
    assert!(ids.is_sorted_by(|one, next| one < next));
}

#[test]
fn a_bad_after_or_limit_is_refused() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    for (name, value) in [("after", "abc"), ("limit", "abc"), ("limit", "-1")] {
        let answer = server.get(&format!("/bgrs/{rid}/details?{name}={value}"));
        assert!(error_of(&answer, 400).contains(name));
    }
}
