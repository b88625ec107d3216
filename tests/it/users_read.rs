//! Section 14: reading users, paging, versions.

use serde_json::{Value, json};

use crate::common::rows::add_users;
use crate::common::{TestServer, error_of, is_date_time, keys_in_order};

pub const KEYS: [&str; 8] =
    ["id", "login", "display_name", "first_name", "last_name", "email", "is_admin", "created_dt"];

fn ids(list: &Value) -> Vec<i64> {
    let list = list.as_array().expect("an array").iter();
    list.map(|user| user["id"].as_i64().expect("an id")).collect()
}

#[test]
fn the_first_administrator_has_id_1_and_sees_all_fields_but_the_password() {
    let server = TestServer::start();
    let answer = server.get("/v2.5/users/me").expect(200);
    let content_type = answer.header("Content-Type");
    assert_eq!(content_type, Some("application/json; charset=utf-8"));
    assert_eq!(keys_in_order(&answer.text()), KEYS);
    let me = answer.json();
    assert_eq!(me["id"], 1);
    assert_eq!(me["login"], "admin");
    assert_eq!(me["is_admin"], true);
    assert!(is_date_time(&me["created_dt"]), "{me}");
    assert_eq!(server.get("/v2.5/users/1").expect(200).json(), me);
    assert_eq!(server.get("/v2.5/users").expect(200).json(), json!([me]));
}

#[test]
fn without_a_version_the_newest_answers() {
    let server = TestServer::start();
    for path in ["/users/me", "/users", "/users/1", "/users?t=csv"] {
        let newest = server.get(&format!("/v2.5{path}")).expect(200);
        assert_eq!(server.get(path).expect(200).body, newest.body, "{path}");
    }
}

#[test]
fn another_version_is_404_and_the_description_names_those_there_are() {
    let server = TestServer::start();
    for version in ["v1.0", "v2.4", "v2", "v3.0", "v2.50", "v99.99"] {
        let answer = server.get(&format!("/{version}/users/me"));
        let description = error_of(&answer, 404);
        assert!(description.contains("v2.5"), "{version}: {description}");
    }
}

#[test]
fn a_user_that_is_not_there_is_404() {
    let server = TestServer::start();
    for id in ["2", "0", "-1", "99999999999999999999", "1x", "x", "1.0", "%31x"] {
        for method in ["GET", "DELETE"] {
            let path = format!("/v2.5/users/{id}");
            error_of(&server.call(method, &path).send(), 404);
        }
        let put = server.put(&format!("/v2.5/users/{id}"), &json!({"first_name": "x"}));
        error_of(&put, 404);
    }
}

#[test]
fn parameters_that_a_get_does_not_know_are_ignored() {
    let server = TestServer::start();
    let plain = server.get("/v2.5/users/me").body;
    let answer = server.get("/v2.5/users/me?foo=bar&limited=0&x&&=y");
    assert_eq!(answer.expect(200).body, plain);
}

#[test]
fn the_format_is_json_or_csv_and_nothing_else() {
    let server = TestServer::start();
    let plain = server.get("/v2.5/users/me").body;
    let json = server.get("/v2.5/users/me?t=json").expect(200);
    assert_eq!(json.body, plain);
    for t in ["xml", "", "CSVX", "csv,json", "html"] {
        for path in ["/v2.5/users/me", "/v2.5/users", "/v2.5/users/1"] {
            error_of(&server.get(&format!("{path}?t={t}")), 400);
        }
    }
}

#[test]
fn pages_follow_one_another_by_their_links() {
    let server = TestServer::start();
    for n in 0..6 {
        server.add_user(&format!("user{n}"), "some password");
    }
    let all = server.get("/v2.5/users").expect(200);
    assert_eq!(all.header("Link"), None);
    let all = all.json();
    let all_ids = ids(&all);
    assert_eq!(all_ids.len(), 7);
    assert!(all_ids.is_sorted());

    for start in ["/v2.5/users?limit=3", "/users?limit=3&t=json"] {
        let mut paged = Vec::new();
        let mut next = Some(start.to_owned());
        while let Some(target) = next {
            let page = server.get(&target).expect(200);
            next = page.next_link();
            let users = page.json().as_array().cloned().expect("an array");
            assert!(users.len() == 3 || next.is_none(), "{target}");
            paged.extend(users);
            assert!(paged.len() <= 7, "{target} leads in a circle");
        }
        assert_eq!(json!(paged), all, "{start}");
    }
    let rest = server.get(&format!("/v2.5/users?after={}", all_ids[2]));
    assert_eq!(ids(&rest.expect(200).json()), all_ids[3..]);
    let two = server.get(&format!("/v2.5/users?after={}&limit=2", all_ids[2]));
    assert_eq!(ids(&two.expect(200).json()), all_ids[3..5]);
    let none = server.get("/v2.5/users?after=1000000").expect(200);
    assert_eq!(none.json(), json!([]));
    assert_eq!(none.header("Link"), None);
}

#[test]
fn pages_in_csv_lead_on_to_pages_in_csv() {
    let server = TestServer::start();
    server.add_user("kim", "some password");
    let page = server.get("/v2.5/users?t=csv&limit=1").expect(200);
    let next = page.next_link().expect("a second page");
    let next = server.get(&next).expect(200);
    assert_eq!(next.header("Content-Type"), Some("text/csv; charset=utf-8"));
    assert!(next.text().contains("kim"));
}

#[test]
fn a_limit_is_a_number_from_1_to_1000() {
    let server = TestServer::start();
    for limit in ["1", "100", "1000"] {
        server.get(&format!("/v2.5/users?limit={limit}")).expect(200);
    }
    for limit in ["0", "1001", "-1", "abc", "", "1.5", "99999999999999999999"] {
        let answer = server.get(&format!("/v2.5/users?limit={limit}"));
        assert!(error_of(&answer, 400).contains("limit"), "limit={limit}");
    }
    let after = server.get("/v2.5/users?after=abc");
    assert!(error_of(&after, 400).contains("after"));
}

#[test]
fn a_list_stops_at_100_unless_told_otherwise() {
    let server = TestServer::start();
    add_users(&server, 1, 120);
    let page = server.get("/v2.5/users").expect(200);
    assert_eq!(ids(&page.json()).len(), 100);
    let rest = server.get(&page.next_link().expect("a second page"));
    assert_eq!(ids(&rest.expect(200).json()).len(), 21);
    let all = server.get("/v2.5/users?limit=1000").expect(200);
    assert_eq!(ids(&all.json()).len(), 121);
}
