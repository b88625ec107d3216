//! Section 14: campaigns and scans, as their owners, other users and administrators see them.

use serde_json::{Value, json};

use crate::common::{Response, TestServer, error_of};

const KIM: (&str, &str) = ("kim", "password of kim");

fn server() -> TestServer {
    let server = TestServer::start();
    server.add_user(KIM.0, KIM.1);
    server
}

fn as_kim(server: &TestServer, method: &str, target: &str, body: Option<&Value>) -> Response {
    let call = server.call(method, target).auth(KIM.0, KIM.1);
    match body {
        Some(body) => call.json(body).send(),
        None => call.send(),
    }
}

fn campaign(server: &TestServer, name: &str) -> i64 {
    let made = server.post("/v2.5/campaigns", &json!({ "name": name })).expect(200).json();
    made["id"].as_i64().expect("an id")
}

fn scan(server: &TestServer, fields: Value) -> Value {
    server.post("/v2.5/scans", &fields).expect(200).json()
}

#[test]
fn a_campaign_is_made_with_its_name_alone_and_changed_and_removed() {
    let server = server();
    let made = server.post("/v2.5/campaigns", &json!({"name": "spring"})).expect(200);
    let keys = ["id", "user_id", "type", "name", "description", "active", "created_dt", "updated_dt"];
    assert_eq!(crate::common::keys_in_order(&made.text()), keys);
    let made = made.json();
    assert_eq!((&made["user_id"], &made["type"], &made["active"]), (&json!(1), &json!(1), &json!(true)));
    let id = made["id"].as_i64().expect("an id");
    let path = format!("/v2.5/campaigns/{id}");
    let changed = server.put(&path, &json!({"id": id, "type": 3, "active": false, "description": "d"})).expect(200);
    assert_eq!(server.get(&path).expect(200).json(), changed.json());
    assert_eq!((&changed.json()["type"], &changed.json()["active"]), (&json!(3), &json!(false)));
    let by_query = server.call("PUT", &format!("/campaigns/{id}?name=summer&active=1")).send().expect(200).json();
    assert_eq!((&by_query["name"], &by_query["active"]), (&json!("summer"), &json!(true)));
    scan(&server, json!({ "campaign_id": id }));
    assert_eq!(server.delete(&path).status, 204);
    assert_eq!(server.get(&path).status, 404);
    assert_eq!(server.get("/v2.5/scans").json(), json!([]), "its scans went with it");
    assert!(campaign(&server, "next") > id, "an id is never used again");
}

#[test]
fn what_is_wrong_with_a_campaign_or_a_scan_is_400_and_named() {
    let server = server();
    let id = campaign(&server, "spring");
    for (target, body, field) in [
        ("/campaigns", json!({}), "name"),
        ("/campaigns", json!({"name": ""}), "name"),
        ("/campaigns", json!({"name": 5}), "name"),
        ("/campaigns", json!({"name": "a", "type": "x"}), "type"),
        ("/campaigns", json!({"name": "a", "type": 1.5}), "type"),
        ("/campaigns", json!({"name": "a", "id": 7}), "id"),
        ("/campaigns", json!({"name": "a", "created_dt": "x"}), "created_dt"),
        ("/campaigns", json!({"name": "a", "colour": 1}), "colour"),
        ("/campaigns", json!({"name": "a", "user_id": 99}), "user_id"),
        ("/campaigns", json!({"name": "a".repeat(1001)}), "name"),
        ("/scans", json!({}), "campaign_id"),
        ("/scans", json!({"campaign_id": id, "dt": "yesterday"}), "dt"),
        ("/scans", json!({"campaign_id": id, "matched": 1}), "matched"),
        ("/scans", json!({"campaign_id": id, "device": 1}), "device"),
    ] {
        let description = error_of(&server.post(target, &body), 400);
        assert!(description.contains(field), "{body}: {description}");
    }
    error_of(&server.post("/scans", &json!({"campaign_id": 99})), 404);
    for target in ["/scans?since=x", "/scans?until=2026", "/scans?campaign_id=x", "/scans?limit=0", "/scans?t=xml"] {
        error_of(&server.get(target), 400);
    }
}

#[test]
fn an_ordinary_user_sees_and_changes_only_what_is_theirs() {
    let server = server();
    let foreign = campaign(&server, "the administrator's");
    scan(&server, json!({ "campaign_id": foreign }));
    let own = as_kim(&server, "POST", "/campaigns", Some(&json!({"name": "mine"}))).expect(200).json();
    let own = own["id"].as_i64().expect("an id");
    as_kim(&server, "POST", "/scans", Some(&json!({ "campaign_id": own }))).expect(200);
    let ids = |target: &str| -> Vec<i64> {
        let list = as_kim(&server, "GET", target, None).expect(200).json();
        list.as_array().expect("a list").iter().map(|one| one["id"].as_i64().expect("an id")).collect()
    };
    assert_eq!(ids("/campaigns"), [own]);
    assert_eq!((ids("/scans").len(), ids("/scans/export").len()), (1, 1));
    for (method, target) in [
        ("GET", format!("/campaigns/{foreign}")),
        ("PUT", format!("/campaigns/{foreign}?name=x")),
        ("DELETE", format!("/campaigns/{foreign}")),
        ("GET", format!("/campaigns/{foreign}/statistics?by=day")),
        ("GET", format!("/scans?campaign_id={foreign}")),
        ("GET", format!("/scans/export?campaign_id={foreign}")),
        ("GET", "/campaigns/x".to_owned()),
    ] {
        error_of(&as_kim(&server, method, &target, None), 404);
    }
    error_of(&as_kim(&server, "POST", "/scans", Some(&json!({ "campaign_id": foreign }))), 404);
    error_of(&as_kim(&server, "PUT", &format!("/campaigns/{own}?user_id=1"), None), 403);
    // An administrator may give it away; who owns none may go.
    error_of(&server.delete("/users/2"), 409);
    server.put(&format!("/campaigns/{own}"), &json!({"user_id": 1})).expect(200);
    assert_eq!(server.delete("/users/2").status, 204);
}

#[test]
fn scans_are_found_by_campaign_and_time_and_come_in_pages() {
    let server = server();
    let (one, two) = (campaign(&server, "one"), campaign(&server, "two"));
    for (campaign, dt) in [
        (one, "2026-01-01 00:00:00"),
        (one, "2026-01-01T12:00:00+02:00"),
        (two, "2026-01-02 00:00:00"),
        (one, "2026-01-03 00:00:00"),
    ] {
        scan(&server, json!({ "campaign_id": campaign, "dt": dt, "device": "phone", "country": "DE" }));
    }
    let times = |target: &str| -> Vec<String> {
        let list = server.get(target).expect(200).json();
        list.as_array().expect("a list").iter().map(|one| one["dt"].as_str().expect("a time").to_owned()).collect()
    };
    assert_eq!(times(&format!("/scans?campaign_id={one}")).len(), 3);
    let span = "since=2026-01-01%2010:00:00&until=2026-01-03T00:00:00Z";
    assert_eq!(times(&format!("/scans?{span}")), ["2026-01-01 10:00:00", "2026-01-02 00:00:00"]);
    assert_eq!(times(&format!("/scans/export?{span}&campaign_id={one}")), ["2026-01-01 10:00:00"]);
    let mut page = server.get("/scans?limit=3").expect(200);
    assert_eq!(page.json().as_array().map(Vec::len), Some(3));
    page = server.get(&page.next_link().expect("a next page")).expect(200);
    assert_eq!(page.json().as_array().map(Vec::len), Some(1));
    assert_eq!(page.next_link(), None);
}

#[test]
fn a_statistic_counts_by_day_device_or_country_in_order() {
    let server = server();
    let id = campaign(&server, "one");
    for (dt, device, matched) in [
        ("2026-01-02 00:00:00", Some("b"), true),
        ("2026-01-01 10:00:00", Some("a"), true),
        ("2026-01-01 23:59:59", None, false),
    ] {
        scan(&server, json!({"campaign_id": id, "dt": dt, "device": device, "country": "DE", "matched": matched}));
    }
    let path = format!("/v2.5/campaigns/{id}/statistics");
    let get = |query: &str| server.get(&format!("{path}?{query}")).expect(200);
    let by_day =
        json!([{"day": "2026-01-01", "scans": 2, "matched": 1}, {"day": "2026-01-02", "scans": 1, "matched": 1}]);
    assert_eq!(get("by=day").json(), by_day);
    assert_eq!(get("by=device").json()[0], json!({"device": null, "scans": 1, "matched": 0}));
    assert_eq!(
        get("by=country&since=2026-01-02%2000:00:00").json(),
        json!([{"country": "DE", "scans": 1, "matched": 1}])
    );
    assert_eq!(get("by=country&t=csv").text(), "country,scans,matched\r\nDE,3,2\r\n");
    for query in ["", "?by=hour", "?by=day&since=x"] {
        error_of(&server.get(&format!("{path}{query}")), 400);
    }
}

#[test]
fn an_export_in_the_background_reports_its_progress_and_says_the_same_as_json_and_csv() {
    let server = server();
    let id = campaign(&server, "=1+1");
    scan(&server, json!({"campaign_id": id, "device": "=cmd|' /C calc'!A0", "country": "a,\"b\"\r\n"}));
    scan(&server, json!({"campaign_id": id, "device": "-5", "matched": false}));
    add_scans(&server, 5000);
    let json_rid = server.finished_get("/v2.5/scans/export");
    let rows = server.get(&format!("/bgrs/{json_rid}/result")).expect(200).json();
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 5002);
    let details: Vec<_> = server.details(&json_rid).iter().map(|one| one["details"].to_string()).collect();
    assert!(details.len() > 5 && details[0].contains("5002 scans to export"), "{details:?}");
    let csv_rid = server.finished_get("/v2.5/scans/export?t=csv");
    let result = server.get(&format!("/bgrs/{csv_rid}/result")).expect(200);
    assert_eq!(result.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(server.info(&csv_rid)["result"], format!("media/keep1m.bgrs.{csv_rid}.result.csv"));
    let mut reader = csv::Reader::from_reader(&*result.body);
    let header: Vec<String> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    assert_eq!(header, ["id", "campaign_id", "dt", "device", "country", "matched"]);
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("well-formed CSV");
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(rows) {
        for (name, cell) in header.iter().zip(record) {
            let value = match &row[name] {
                Value::Null => String::new(),
                Value::String(text) if text.starts_with('=') => format!("'{text}"),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(cell, value);
        }
    }
    assert_eq!(server.get("/scans/export?until=2000-01-01%2000:00:00").expect(200).text(), "[]");
    assert_eq!(server.get("/scans/export?t=csv&until=2000-01-01%2000:00:00").expect(200).text().lines().count(), 1);
}

fn add_scans(server: &TestServer, count: i64) {
    let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
               INSERT INTO scans (campaign_id, dt, device, country)
               SELECT campaign_id, dt, 'phone ' || n, 'DE' FROM scans, n WHERE id = 1";
    server.db().execute(sql, [count]).expect("rows");
}

#[test]
fn a_query_that_is_not_utf_8_changes_nothing() {
    let server = TestServer::start();
    let made = server.post("/campaigns", &json!({ "name": "one" })).expect(200).json();
    let path = format!("/campaigns/{}", made["id"]);
    error_of(&server.call("PUT", &format!("{path}?name=%ff")).send(), 400);
    assert_eq!(server.get(&path).expect(200).json()["name"], "one");
    server.call("PUT", &format!("{path}?name=%C3%A9")).send().expect(200);
    assert_eq!(server.get(&path).expect(200).json()["name"], "\u{e9}");
}
