//! Section 14: what an ordinary user may see and do.

use serde_json::json;

use crate::common::{Call, TestServer, error_of};

fn as_kim(server: &TestServer, method: &str, target: &str) -> Call {
    server.call(method, target).auth("kim", "password of kim")
}

fn with_kim() -> (TestServer, String) {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    (server, format!("/v2.5/users/{kim}"))
}

#[test]
fn an_ordinary_user_sees_only_themself() {
    let (server, path) = with_kim();
    server.add_user("lee", "password of lee");
    let admin = server.get("/v2.5/users/1").expect(200).body;
    let me = as_kim(&server, "GET", "/v2.5/users/me").send().expect(200);
    assert_eq!(me.json()["login"], "kim");
    let list = as_kim(&server, "GET", "/v2.5/users").send().expect(200);
    assert_eq!(list.json(), json!([me.json()]));
    assert_eq!(list.header("Link"), None);
    assert_eq!(as_kim(&server, "GET", &path).send().expect(200).body, me.body);
    let csv = as_kim(&server, "GET", "/users?t=csv").send().expect(200);
    assert!(csv.text().contains("kim") && !csv.text().contains("lee"));
    for other in ["/v2.5/users/1", "/v2.5/users/3", "/v2.5/users/999"] {
        error_of(&as_kim(&server, "GET", other).send(), 404);
        let put = as_kim(&server, "PUT", other).json(&json!({ "first_name": "x" }));
        error_of(&put.send(), 404);
    }
    let after = as_kim(&server, "GET", "/users?after=0&limit=1").send();
    assert_eq!(after.expect(200).json(), json!([me.json()]));
    assert_eq!(server.get("/v2.5/users/1").expect(200).body, admin);
}

#[test]
fn an_ordinary_user_changes_themself() {
    let (server, path) = with_kim();
    let put = as_kim(&server, "PUT", &path).json(&json!({ "first_name": "Kim" }));
    assert_eq!(put.send().expect(200).json()["first_name"], "Kim");
    let put = as_kim(&server, "PUT", &format!("{path}?last_name=Doe"));
    assert_eq!(put.send().expect(200).json()["last_name"], "Doe");
}

#[test]
fn what_only_administrators_may_do_is_403() {
    let (server, path) = with_kim();
    let lee = json!({ "login": "lee", "password": "password of lee" });
    let post = as_kim(&server, "POST", "/v2.5/users").json(&lee);
    error_of(&post.send(), 403);
    error_of(&as_kim(&server, "DELETE", &path).send(), 403);
    assert_eq!(server.count("users"), 2);
}

#[test]
fn an_ordinary_user_does_not_make_themself_an_administrator() {
    let (server, path) = with_kim();
    let json = as_kim(&server, "PUT", &path).json(&json!({ "is_admin": true }));
    error_of(&json.send(), 403);
    let mixed = json!({ "first_name": "Kim", "is_admin": true });
    error_of(&as_kim(&server, "PUT", &path).json(&mixed).send(), 403);
    let query = format!("{path}?is_admin=true");
    error_of(&as_kim(&server, "PUT", &query).send(), 403);
    let kim = server.get(&path).expect(200).json();
    assert_eq!(kim["is_admin"], false);
    assert_ne!(kim["first_name"], "Kim", "not even in part");
}

#[test]
fn rights_are_those_of_the_moment() {
    let (server, path) = with_kim();
    let post = |login: &str| {
        let body = json!({ "login": login, "password": "some password" });
        let call = as_kim(&server, "POST", "/v2.5/users").json(&body);
        call.send().status
    };
    assert_eq!(post("one"), 403);
    server.put(&path, &json!({ "is_admin": true })).expect(200);
    assert_eq!(post("one"), 200);
    server.put(&path, &json!({ "is_admin": false })).expect(200);
    assert_eq!(post("two"), 403);
    let answer = as_kim(&server, "GET", "/v2.5/users/1").send();
    error_of(&answer, 404);
}

#[test]
fn an_administrator_can_be_made_at_once() {
    let server = TestServer::start();
    let body = json!({ "login": "kim", "password": "password of kim", "is_admin": true });
    let made = server.post("/v2.5/users", &body).expect(200).json();
    assert_eq!(made["is_admin"], true);
    let list = as_kim(&server, "GET", "/v2.5/users").send().expect(200);
    assert_eq!(list.json().as_array().map(Vec::len), Some(2));
}
