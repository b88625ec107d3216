//! Section 14: a password is written, never read, and nowhere to be found.

use serde_json::json;

use crate::common::{TestServer, assert_submitted, error_of};

#[test]
fn no_answer_shows_a_password_or_its_hash() {
    let server = TestServer::start();
    let body = json!({ "login": "kim", "password": "open sesame" });
    let made = server.post("/v2.5/users", &body).expect(200);
    let path = format!("/v2.5/users/{}", made.json()["id"]);
    let changed = server.put(&path, &json!({ "password": "close sesame" }));
    let answers = [
        made,
        changed.expect(200),
        server.get(&path).expect(200),
        server.get("/v2.5/users").expect(200),
        server.get("/v2.5/users?t=csv").expect(200),
        server.get("/v2.5/users/me").expect(200),
    ];
    for answer in answers {
        let text = answer.text();
        for trace in ["password", "sesame", "$argon2", "hash", "salt"] {
            assert!(!text.contains(trace), "{trace} in {text}");
        }
    }
}

#[test]
fn a_password_in_a_query_is_400_and_leaves_nothing() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    for query in [
        "password=open-sesame",
        "first_name=Kim&password=open-sesame",
        "p%61ssword=open-sesame",
        "%70%61%73%73%77%6f%72%64=open-sesame",
        "password=open-sesame&password=open-sesame",
        "password=",
        "password",
    ] {
        for bgrs in ["", "&bgrs=yes"] {
            let target = format!("/v2.5/users/{kim}?{query}{bgrs}");
            let answer = server.leaves_nothing(|| server.call("PUT", &target).send());
            assert_eq!(answer.status, 400, "{target}: {}", answer.lossy());
            let description = error_of(&answer, 400);
            assert!(description.contains("password"), "{description}");
            assert!(!description.contains("sesame"), "{description}");
        }
    }
    assert_eq!(server.files_with("open-sesame"), [""; 0]);
    let still = server.call("GET", "/users/me");
    still.auth("kim", "password of kim").send().expect(200);
}

#[test]
fn a_password_in_a_stored_body_is_in_no_file_at_any_time() {
    let background = "[background]\nconcurrency = 1";
    let server = TestServer::options().config(background).start();
    let password = |n: usize| format!("Xyzzy-{n}-open-sesame");
    // The second one is what admin:secret looks like in a header.
    let assert_nowhere = |when: &str| {
        for needle in ["open-sesame", "YWRtaW46c2VjcmV0"] {
            let files = server.files_with(needle);
            assert!(files.is_empty(), "{when}: {needle} in {files:?}");
        }
    };
    let submit = |n: usize| {
        let body = json!({ "login": format!("user{n}"), "password": password(n) });
        let rid = assert_submitted(&server.post("/v2.5/users?bgrs=yes", &body));
        assert_nowhere("queued");
        rid
    };
    let rids: Vec<_> = (0..8).map(submit).collect();
    for rid in &rids {
        assert_eq!(server.finished(rid)["status"], "200");
        assert_nowhere("ended");
    }
    for n in 0..rids.len() {
        let me = server.call("GET", "/users/me");
        let me = me.auth(&format!("user{n}"), &password(n));
        assert_eq!(me.send().status, 200);
    }
}

#[test]
fn a_password_change_in_the_background_works_and_leaves_no_trace() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "first");
    let put = server.call("PUT", &format!("/v2.5/users/{kim}?bgrs=yes"));
    let put = put.auth("kim", "first");
    let put = put.json(&json!({ "password": "open-sesame", "first_name": "Kim" }));
    let rid = assert_submitted(&put.send());
    assert_eq!(server.finished(&rid)["status"], "200");
    assert_eq!(server.files_with("open-sesame"), [""; 0]);
    let me = |password| server.call("GET", "/users/me").auth("kim", password);
    assert_eq!(me("open-sesame").send().expect(200).json()["first_name"], "Kim");
    error_of(&me("first").send(), 401);
}

#[test]
fn a_stored_body_with_a_password_survives_a_kill_and_is_in_no_file_meanwhile() {
    let background = "[background]\nconcurrency = 1";
    let mut server = TestServer::options().config(background).start();
    let rids: Vec<_> = (0..8)
        .map(|n| {
            let body = json!({ "login": format!("user{n}"), "password": "open-sesame" });
            assert_submitted(&server.post("/v2.5/users?bgrs=yes", &body))
        })
        .collect();
    server.kill();
    assert_eq!(server.files_with("open-sesame"), [""; 0]);
    server.start_again();
    for (n, rid) in rids.iter().enumerate() {
        let info = server.ended(rid);
        if info["status_name"] == "finished" {
            assert_eq!(info["status"], "200", "{info}");
            let me = server.call("GET", "/users/me");
            let me = me.auth(&format!("user{n}"), "open-sesame");
            assert_eq!(me.send().status, 200);
        } else {
            let reason = "interrupted by a restart; POST is not repeated";
            assert_eq!(server.last_detail(rid), reason);
        }
    }
    assert_eq!(server.files_with("open-sesame"), [""; 0]);
}
