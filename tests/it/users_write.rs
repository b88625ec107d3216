//! Section 14: making, changing and removing users.

use serde_json::json;

use crate::common::{Call, TestServer, error_of, keys_in_order};
use crate::users_read::KEYS;

fn post(server: &TestServer, body: &str) -> Call {
    let call = server.call("POST", "/v2.5/users");
    call.body("application/json", body)
}

fn put(server: &TestServer, body: &str) -> Call {
    let call = server.call("PUT", "/v2.5/users/1");
    call.body("application/json", body)
}

#[test]
fn a_post_makes_a_user_and_answers_200_with_the_object() {
    let server = TestServer::start();
    let body = json!({
        "login": "kim",
        "password": "password of kim",
        "display_name": "Kim D.",
        "first_name": "Kim",
        "last_name": "Döe",
        "email": "kim@example.com",
    });
    let answer = server.post("/v2.5/users", &body).expect(200);
    assert_eq!(keys_in_order(&answer.text()), KEYS);
    let made = answer.json();
    for key in ["login", "display_name", "first_name", "last_name", "email"] {
        assert_eq!(made[key], body[key], "{key}");
    }
    assert_eq!(made["is_admin"], false);
    let path = format!("/v2.5/users/{}", made["id"]);
    assert_eq!(server.get(&path).expect(200).json(), made);
    let me = server.call("GET", "/users/me");
    let me = me.auth("kim", "password of kim").send().expect(200);
    assert_eq!(me.json(), made);
}

#[test]
fn a_put_changes_what_it_names_and_nothing_else() {
    let server = TestServer::start();
    let id = server.add_user("kim", "password of kim");
    let path = format!("/v2.5/users/{id}");
    let names = json!({ "first_name": "Kim", "last_name": "Doe" });
    server.put(&path, &names).expect(200);
    let answer = server.put(&path, &json!({ "last_name": "Lee" })).expect(200);
    assert_eq!(keys_in_order(&answer.text()), KEYS);
    let user = answer.json();
    assert_eq!(user["first_name"], "Kim");
    assert_eq!(user["last_name"], "Lee");
    assert_eq!(user["login"], "kim");
    assert_eq!(server.get(&path).expect(200).json(), user);
    let as_kim = server.call("GET", "/users/me").auth("kim", "password of kim");
    as_kim.send().expect(200);
}

#[test]
fn a_put_takes_query_parameters_too() {
    let server = TestServer::start();
    let id = server.add_user("kim", "password of kim");
    let put = |query: &str| server.call("PUT", &format!("/v2.5/users/{id}?{query}"));
    let query = "first_name=Kim&last_name=von+der%20L%C3%BCtt&email=kim%40example.com";
    let user = put(query).send().expect(200).json();
    assert_eq!(user["first_name"], "Kim");
    assert_eq!(user["last_name"], "von der Lütt");
    assert_eq!(user["email"], "kim@example.com");
    for (query, name) in [
        ("shoe_size=44", "shoe_size"),
        ("id=77", "id"),
        ("created_dt=2020-01-01%2000:00:00", "created_dt"),
        ("is_admin=perhaps", "is_admin"),
        ("first_name=a&first_name=b", "first_name"),
        ("first_name=a&first%5fname=b", "first_name"),
    ] {
        let description = error_of(&put(query).send(), 400);
        assert!(description.contains(name), "{query}: {description}");
    }
    assert_eq!(server.get(&format!("/users/{id}")).json(), user);
}

#[test]
fn the_id_of_the_path_may_be_repeated() {
    let server = TestServer::start();
    let body = json!({ "id": 1, "first_name": "Ann" });
    let user = server.put("/v2.5/users/1", &body).expect(200).json();
    assert_eq!(user["first_name"], "Ann");
    let query = server.call("PUT", "/v2.5/users/1?id=1&first_name=Bob");
    assert_eq!(query.send().expect(200).json()["first_name"], "Bob");
}

#[test]
fn what_cannot_be_written_is_400_and_named() {
    let server = TestServer::start();
    let before = server.get("/v2.5/users").body;
    let whole = r#""login": "kim", "password": "password of kim""#;
    for (field, name) in [
        (r#""shoe_size": 44"#, "shoe_size"),
        (r#""id": 5"#, "id"),
        (r#""created_dt": "2020-01-01 00:00:00""#, "created_dt"),
        (r#""is_admin": "perhaps""#, "is_admin"),
        (r#""is_admin": 7"#, "is_admin"),
        (r#""email": 5"#, "email"),
        (r#""first_name": true"#, "first_name"),
        (r#""first_name": ["a"]"#, "first_name"),
        (r#""last_name": {"a": 1}"#, "last_name"),
        (r#""first_name": "a", "first_name": "a""#, "first_name"),
        (r#""first_name": "a", "first\u005fname": "b""#, "first_name"),
    ] {
        let made = post(&server, &format!("{{{whole}, {field}}}")).send();
        assert_eq!(made.status, 400, "POST {field}: {}", made.lossy());
        assert!(error_of(&made, 400).contains(name), "POST {field}");
        let changed = put(&server, &format!("{{{field}}}")).send();
        assert_eq!(changed.status, 400, "PUT {field}: {}", changed.lossy());
        assert!(error_of(&changed, 400).contains(name), "PUT {field}");
    }
    for (body, name) in [
        (r#"{"password": "password of kim"}"#, "login"),
        (r#"{"login": "", "password": "p a s s"}"#, "login"),
        (r#"{"login": null, "password": "p a s s"}"#, "login"),
        (r#"{"login": 5, "password": "p a s s"}"#, "login"),
        (r#"{"login": "a:b", "password": "p a s s"}"#, "login"),
        (r#"{"login": "a\u0000b", "password": "p a s s"}"#, "login"),
        (r#"{"login": "a\nb", "password": "p a s s"}"#, "login"),
        (r#"{"login": "kim", "password": ""}"#, "password"),
        (r#"{"login": "kim", "password": 12345678}"#, "password"),
        (r#"{"login": "kim", "login": "lee", "password": "p a s s"}"#, "login"),
    ] {
        let made = post(&server, body).send();
        assert_eq!(made.status, 400, "{body}: {}", made.lossy());
        assert!(error_of(&made, 400).contains(name), "{body}");
    }
    assert_eq!(server.get("/v2.5/users").body, before);
}

#[test]
fn a_body_that_is_no_json_object_is_400() {
    let server = TestServer::start();
    for body in [
        "",
        " ",
        "{",
        "null",
        "5",
        "\"login\"",
        "{\"login\": \"kim\", \"password\": \"p a s s\"} x",
        "{\"login\": \"kim\", \"password\": \"p a s s\",}",
        "{'login': 'kim'}",
        "login=kim&password=pass",
        "\u{feff}x",
    ] {
        error_of(&post(&server, body).send(), 400);
    }
    let call = server.call("POST", "/v2.5/users");
    let latin = b"{\"login\": \"k\xefm\", \"password\": \"p a s s\"}";
    error_of(&call.body("application/json", latin).send(), 400);
    assert_eq!(server.count("users"), 1);
}

#[test]
fn nesting_without_end_is_400() {
    let server = TestServer::start();
    let arrays = format!("{{\"first_name\": {}", "[".repeat(100_000));
    let closed = format!("{arrays}{}}}", "]".repeat(100_000));
    let objects = "{\"first_name\":".repeat(10_000);
    for body in [arrays, closed, objects] {
        error_of(&put(&server, &body).send(), 400);
        error_of(&post(&server, &body).send(), 400);
    }
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn another_content_type_is_415() {
    let server = TestServer::start();
    let body = json!({ "login": "kim", "password": "p a s s" }).to_string();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonx",
        "nonsense",
    ] {
        let call = |method, path| server.call(method, path).body(content_type, body.as_str());
        error_of(&call("POST", "/v2.5/users").send(), 415);
        error_of(&call("PUT", "/v2.5/users/1").send(), 415);
    }
    assert_eq!(server.count("users"), 1);
    for (login, content_type) in [
        ("a", "application/json; charset=utf-8"),
        ("b", "Application/JSON"),
        ("c", "application/json;charset=\"UTF-8\""),
    ] {
        let body = json!({ "login": login, "password": "p a s s" }).to_string();
        let call = server.call("POST", "/v2.5/users").body(content_type, body);
        call.send().expect(200);
    }
}

#[test]
fn a_login_that_is_taken_is_409() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    let again = json!({ "login": "kim", "password": "another one" });
    error_of(&server.post("/v2.5/users", &again), 409);
    let path = format!("/v2.5/users/{kim}");
    error_of(&server.put(&path, &json!({ "login": "admin" })), 409);
    let as_kim = server.call("GET", "/users/me").auth("kim", "password of kim");
    assert_eq!(as_kim.send().expect(200).json()["login"], "kim");
}

#[test]
fn the_last_administrator_stays() {
    let server = TestServer::start();
    error_of(&server.delete("/v2.5/users/1"), 409);
    error_of(&server.put("/v2.5/users/1", &json!({"is_admin": false})), 409);
    assert_eq!(server.get("/users/me").expect(200).json()["is_admin"], true);

    let kim = server.add_user("kim", "password of kim");
    error_of(&server.delete("/v2.5/users/1"), 409);
    let admin = json!({ "is_admin": true });
    let made = server.put(&format!("/v2.5/users/{kim}"), &admin);
    assert_eq!(made.expect(200).json()["is_admin"], true);
    server.delete("/v2.5/users/1").expect(204);
    let as_kim = server.call("GET", "/users").auth("kim", "password of kim");
    assert_eq!(as_kim.send().expect(200).json().as_array().map(Vec::len), Some(1));
    let delete = server.call("DELETE", &format!("/users/{kim}"));
    error_of(&delete.auth("kim", "password of kim").send(), 409);
}

#[test]
fn an_id_is_never_used_again() {
    let mut server = TestServer::start();
    let first = server.add_user("kim", "password of kim");
    server.delete(&format!("/v2.5/users/{first}")).expect(204);
    error_of(&server.get(&format!("/v2.5/users/{first}")), 404);
    error_of(&server.delete(&format!("/v2.5/users/{first}")), 404);
    let second = server.add_user("kim", "password of kim");
    assert!(second > first);
    server.delete(&format!("/v2.5/users/{second}")).expect(204);
    server.stop();
    server.start_again();
    assert!(server.add_user("kim", "password of kim") > second);
}
