//! Section 6, and what section 1 says of wrong credentials.

use serde_json::json;

use crate::common::http::basic;
use crate::common::{Response, TestServer, error_of};

const CHALLENGE: &str = r#"Basic realm="BEAR API", charset="UTF-8""#;

#[track_caller]
fn assert_challenged(answer: &Response) {
    error_of(answer, 401);
    assert_eq!(answer.header("WWW-Authenticate"), Some(CHALLENGE));
}

fn me(server: &TestServer, login: &str, password: &str) -> Response {
    let call = server.call("GET", "/v2.5/users/me");
    call.auth(login, password).send()
}

#[test]
fn every_broken_form_of_credentials_is_401_with_the_challenge() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    let right = basic("admin", "secret");
    let encoded = right.strip_prefix("Basic ").expect("a scheme");
    let paths = ["/v2.5/users/me".to_owned(), format!("/bgrs/{}", "0".repeat(32))];
    for value in [
        "".to_owned(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic !!!".to_owned(),
        "Basic YWRtaW4".to_owned(),
        "Basic YWRtaW4=".to_owned(),
        "Basic Og==".to_owned(),
        "Basic OnNlY3JldA==".to_owned(),
        "Basic //79/A==".to_owned(),
        "Basic admin:secret".to_owned(),
        encoded.to_owned(),
        format!("Bearer {encoded}"),
        format!("Digest {encoded}"),
        format!("Basic{encoded}"),
        format!("Basic {encoded} {encoded}"),
        format!("Basic {encoded}, {right}"),
        basic("admin", ""),
        basic("admin", "secret\0"),
        basic("admin", "Secret"),
        basic("admin", "secret "),
        basic("admin ", "secret"),
        basic("kim", "secret"),
    ] {
        for path in &paths {
            let call = server.call("GET", path).no_auth();
            let answer = call.header("Authorization", &value).send();
            assert_eq!(answer.status, 401, "{value:?}: {}", answer.lossy());
            assert_challenged(&answer);
        }
    }
    for path in &paths {
        assert_challenged(&server.call("GET", path).no_auth().send());
    }
    assert_eq!(server.get("/v2.5/users/me").status, 200);
}

#[test]
fn the_scheme_is_matched_without_regard_to_case() {
    let server = TestServer::start();
    let right = basic("admin", "secret");
    for scheme in ["basic", "BASIC", "bAsIc"] {
        let value = right.replace("Basic", scheme);
        let call = server.call("GET", "/users/me").no_auth();
        assert_eq!(call.header("Authorization", &value).send().status, 200);
    }
}

#[test]
fn a_password_may_hold_colons_spaces_and_any_letter() {
    let server = TestServer::start();
    for (login, password) in [
        ("colons", "a:b::c:"),
        ("spaces", " a  b "),
        ("letters", "pässwörd-密码-🔑"),
        ("lögin", "password"),
        ("long", &"x".repeat(64)),
    ] {
        server.add_user(login, password);
        let answer = me(&server, login, password);
        assert_eq!(answer.status, 200, "{login}: {}", answer.lossy());
        assert_eq!(answer.json()["login"], login);
        assert_challenged(&me(&server, login, &password[..1]));
    }
}

/// Tries wrong passwords until it is told to stop; gives how many got a 401 before.
fn guess_until_stopped(server: &TestServer, login: &str) -> usize {
    for guess in 0..60 {
        let answer = me(server, login, &format!("guess {guess}"));
        if answer.status == 429 {
            error_of(&answer, 429);
            let after = answer.header("Retry-After").expect("Retry-After");
            assert!(after.parse::<u32>().is_ok_and(|n| n >= 1), "{after}");
            return guess;
        }
        assert_challenged(&answer);
    }
    panic!("60 wrong passwords for {login}, and nobody cares");
}

#[test]
fn ten_wrong_passwords_are_free_and_then_it_is_429_for_that_login_only() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    assert!(guess_until_stopped(&server, "admin") >= 10);
    // A credential that is known to be right is never slowed, nor is another login.
    assert_eq!(me(&server, "admin", "secret").status, 200);
    assert_eq!(server.get("/users/me?bgrs=yes").status, 202);
    assert_eq!(me(&server, "kim", "password of kim").status, 200);
}

#[test]
fn an_unknown_login_is_slowed_as_a_known_one_is() {
    let server = TestServer::start();
    assert!(guess_until_stopped(&server, "nobody") >= 10);
    assert_eq!(me(&server, "admin", "secret").status, 200);
}

#[test]
fn a_right_password_in_between_gives_no_new_guesses() {
    let server = TestServer::start();
    for guess in 0..60 {
        let answer = me(&server, "admin", &format!("guess {guess}"));
        if answer.status == 429 {
            assert!(guess >= 10, "only {guess} were free");
            return;
        }
        assert_challenged(&answer);
        assert_eq!(me(&server, "admin", "secret").status, 200);
    }
    panic!("the right password wiped the slate clean");
}

#[test]
fn a_submission_with_one_wrong_password_too_many_is_429_and_leaves_nothing() {
    let server = TestServer::start();
    let answer = server.leaves_nothing(|| {
        guess_until_stopped(&server, "nobody");
        let call = server.call("GET", "/v2.5/users/me?bgrs=yes");
        call.auth("nobody", "yet another").send()
    });
    assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
}

#[test]
fn a_changed_password_makes_the_old_one_worthless_at_once() {
    let server = TestServer::start();
    let kim = format!("/v2.5/users/{}", server.add_user("kim", "first"));
    assert_eq!(me(&server, "kim", "first").status, 200);

    let by_kim = server.call("PUT", &kim).auth("kim", "first");
    by_kim.json(&json!({ "password": "second" })).send().expect(200);
    assert_challenged(&me(&server, "kim", "first"));
    assert_eq!(me(&server, "kim", "second").status, 200);

    server.put(&kim, &json!({ "password": "third" })).expect(200);
    assert_challenged(&me(&server, "kim", "second"));
    assert_eq!(me(&server, "kim", "third").status, 200);

    server.run(&["user", "passwd", "kim"], "fourth\n").expect(0);
    assert_challenged(&me(&server, "kim", "third"));
    assert_eq!(me(&server, "kim", "fourth").status, 200);
}

#[test]
fn a_submission_with_a_password_that_was_right_a_moment_ago_is_refused_and_leaves_nothing() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "first");
    let submit = |password| server.call("GET", "/users/me?bgrs=yes").auth("kim", password).send();
    submit("first").expect(202);
    server.run(&["user", "passwd", "kim"], "second\n").expect(0);
    assert_challenged(&submit("first"));
    submit("second").expect(202);
    server.put(&format!("/users/{kim}"), &json!({ "password": "third" })).expect(200);
    assert_challenged(&submit("second"));
    assert_eq!(server.rows(), 2);
}

#[test]
fn a_removed_user_is_nobody_at_once() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    server.add_user("lee", "password of lee");
    assert_eq!(me(&server, "kim", "password of kim").status, 200);
    assert_eq!(me(&server, "lee", "password of lee").status, 200);

    server.delete(&format!("/v2.5/users/{kim}")).expect(204);
    assert_challenged(&me(&server, "kim", "password of kim"));
    server.run(&["user", "remove", "lee"], "").expect(0);
    assert_challenged(&me(&server, "lee", "password of lee"));
    let submission = server.call("GET", "/users/me?bgrs=yes");
    assert_challenged(&submission.auth("lee", "password of lee").send());
}

#[test]
fn a_new_user_of_an_old_name_does_not_come_in_with_the_old_password() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "first");
    assert_eq!(me(&server, "kim", "first").status, 200);
    server.delete(&format!("/v2.5/users/{kim}")).expect(204);
    server.add_user("kim", "second");
    assert_challenged(&me(&server, "kim", "first"));
    assert_eq!(me(&server, "kim", "second").status, 200);
}
