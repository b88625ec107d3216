//! Signing in on the dashboard: its cookie and what that counts for, and users who may only look.

use serde_json::json;

use crate::common::check::is_rid;
use crate::common::events::holding;
use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer, ok};
use crate::common::{Call, Response, TestServer, assert_submitted, error_of, until};

const LOOK_ONLY: &str = "You may only look here; ask an administrator for more rights.";

fn sign_in_call(server: &TestServer, login: &str, password: &str) -> Call {
    let sent = json!({ "login": login, "password": password });
    server.call("POST", &format!("{}/ui/session", server.mount())).no_auth().json(&sent)
}

fn sign_in(server: &TestServer, login: &str, password: &str) -> Response {
    sign_in_call(server, login, password).send()
}

/// Signs in and gives the cookie, as a browser sends it.
#[track_caller]
fn signed_in(server: &TestServer, login: &str, password: &str) -> String {
    cookie_of(&sign_in(server, login, password).expect(204))
}

#[track_caller]
fn cookie_of(answer: &Response) -> String {
    let cookie = answer.header("Set-Cookie").expect("a cookie");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

fn secret_of(cookie: &str) -> &str {
    cookie.strip_prefix("bgrs_session=").expect("the session's cookie")
}

/// A call with this cookie, as any site can have a browser make it.
fn by(server: &TestServer, method: &str, target: &str, cookie: &str) -> Call {
    server.call(method, target).no_auth().header("Cookie", cookie)
}

/// The same, as only the dashboard's own script can make it.
fn from_page(server: &TestServer, method: &str, target: &str, cookie: &str) -> Call {
    by(server, method, target, cookie).header("Bgrs-Ui", "1")
}

fn look(server: &TestServer, cookie: &str) -> Response {
    by(server, "GET", "/ui/session", cookie).send()
}

/// Asserts a 401 that asks the browser for nothing.
#[track_caller]
fn assert_quiet(answer: &Response) {
    error_of(answer, 401);
    assert_eq!(answer.header("WWW-Authenticate"), None);
    assert_eq!(answer.header("Set-Cookie"), None);
}

#[test]
fn who_signs_in_gets_a_cookie_for_half_a_day_and_is_known_by_it_on_every_route() {
    let server = TestServer::start();
    // Nobody has said that this is a proxy to be believed.
    let signed = sign_in_call(&server, "admin", PASSWORD).header("X-Forwarded-Proto", "https").send().expect(204);
    let cookie = cookie_of(&signed);
    assert!(is_rid(secret_of(&cookie)), "{cookie}");
    let whole = format!("{cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200");
    assert_eq!(signed.header("Set-Cookie"), Some(whole.as_str()));
    assert_eq!(signed.header("Cache-Control"), Some("no-store"));
    let me = look(&server, &cookie).expect(200);
    assert_eq!(me.header("Cache-Control"), Some("no-store"));
    let expected = json!({
        "login": "admin", "user_id": "1", "source": "local", "is_admin": true, "read_only": false,
        "versions": ["2.5"], "mount": ""
    });
    assert_eq!(me.json(), expected);

    assert_eq!(by(&server, "GET", "/users/me", &cookie).send().expect(200).json()["login"], "admin");
    // What leaves something behind takes more than a link that somebody follows.
    for target in ["/users/me?bgrs=yes", "/users/me?bgrs=auto"] {
        error_of(&server.leaves_nothing(|| by(&server, "GET", target, &cookie).send()), 401);
    }
    let rid = assert_submitted(&from_page(&server, "GET", "/users/me?bgrs=yes", &cookie).send());
    server.finished(&rid);
    for target in [format!("/bgrs/{rid}"), format!("/bgrs/{rid}/result"), "/bgrs?user_id=all".to_owned()] {
        by(&server, "GET", &target, &cookie).send().expect(200);
    }
    from_page(&server, "DELETE", &format!("/bgrs/{rid}"), &cookie).send().expect(204);
    assert_ne!(signed_in(&server, "admin", PASSWORD), cookie);
}

#[test]
fn the_cookie_is_for_the_mount_and_behind_a_trusted_proxy_with_tls_for_tls_alone() {
    let lines = "mount = \"/own\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let server = TestServer::options().server(lines).start();
    let signed = sign_in_call(&server, "admin", PASSWORD).header("X-Forwarded-Proto", "https").send().expect(204);
    let cookie = cookie_of(&signed);
    let whole = format!("{cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200; Secure");
    assert_eq!(signed.header("Set-Cookie"), Some(whole.as_str()));
    let me = by(&server, "GET", "/own/ui/session", &cookie).send().expect(200);
    assert_eq!(me.json()["mount"], "/own");
    error_of(&server.get("/ui/session"), 404);
    let out = from_page(&server, "DELETE", "/own/ui/session", &cookie).send().expect(204);
    let cleared = "bgrs_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0";
    assert_eq!(out.header("Set-Cookie"), Some(cleared));
    error_of(&by(&server, "GET", "/own/ui/session", &cookie).send(), 401);
}

#[test]
fn who_signs_out_is_signed_out_on_the_server_too() {
    let server = TestServer::start();
    let (cookie, other) = (signed_in(&server, "admin", PASSWORD), signed_in(&server, "admin", PASSWORD));
    look(&server, &cookie).expect(200);
    assert_quiet(&by(&server, "DELETE", "/ui/session", &cookie).send());
    look(&server, &cookie).expect(200);
    for _ in 0..2 {
        let out = from_page(&server, "DELETE", "/ui/session", &cookie).send().expect(204);
        let cleared = "bgrs_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0";
        assert_eq!(out.header("Set-Cookie"), Some(cleared));
        assert_quiet(&look(&server, &cookie));
    }
    look(&server, &other).expect(200);
    assert_eq!(server.count("sessions"), 1);
    // Whoever signs in anew leaves the session that the browser had.
    let again = cookie_of(&sign_in_call(&server, "admin", PASSWORD).header("Cookie", &other).send().expect(204));
    assert_quiet(&look(&server, &other));
    look(&server, &again).expect(200);
    assert_eq!(server.count("sessions"), 1);
}

#[test]
fn a_wrong_password_is_401_without_a_challenge_and_too_many_of_them_are_429() {
    let server = TestServer::start();
    server.add_user("kim", "a:b");
    for guess in 0..10 {
        assert_quiet(&sign_in(&server, "lee", &format!("guess {guess}")));
    }
    let slowed = sign_in(&server, "lee", "guess 10");
    error_of(&slowed, 429);
    assert!(slowed.header("Retry-After").is_some());
    assert_eq!(slowed.header("Set-Cookie"), None);
    for (login, password) in [("kim", "A:b"), ("kim:a", "b"), ("", "a:b"), ("kim", "")] {
        assert_quiet(&sign_in(&server, login, password));
    }
    let post = || server.call("POST", "/ui/session").no_auth();
    for body in ["", "{}", "[]", "{\"login\": \"kim\"}", "{\"login\": \"kim\", \"password\": 1}"] {
        error_of(&post().body("application/json", body).send(), 400);
    }
    error_of(&sign_in(&server, "kim", &"x".repeat(9000)), 413);
    assert_eq!(server.count("sessions"), 0);
    signed_in(&server, "kim", "a:b");
}

#[test]
fn what_another_site_may_have_a_browser_send_counts_for_nothing() {
    let server = TestServer::start();
    let cookie = signed_in(&server, "admin", PASSWORD);
    let rid = server.finished_get("/users/me");
    let lee = json!({ "login": "lee", "password": "lees" });
    let refused = by(&server, "POST", "/v2.5/users", &cookie).json(&lee).send();
    error_of(&refused, 401);
    assert!(refused.header("WWW-Authenticate").is_some());
    for (method, target) in [
        ("POST", "/v2.5/users?bgrs=yes".to_owned()),
        ("PUT", "/v2.5/users/1?first_name=x".to_owned()),
        ("POST", format!("/bgrs/{rid}/rerun")),
        ("DELETE", format!("/bgrs/{rid}")),
    ] {
        let call = by(&server, method, &target, &cookie);
        server.leaves_nothing(|| error_of(&call.send(), 401));
        error_of(&call.header("Bgrs-Ui", "true").send(), 401);
    }
    for (site, status) in [("cross-site", 401), ("same-site", 401), ("same-origin", 200), ("none", 200)] {
        by(&server, "GET", "/users/me", &cookie).header("Sec-Fetch-Site", site).send().expect(status);
    }
    assert_eq!(server.count("users"), 1);
    from_page(&server, "POST", "/v2.5/users", &cookie).json(&lee).send().expect(200);

    // Nor does a form of another site sign anybody in.
    let form = || server.call("POST", "/ui/session").no_auth().body("text/plain", lee.to_string());
    error_of(&form().send(), 415);
    form().header("Bgrs-Ui", "1").send().expect(204);
}

#[test]
fn a_script_that_is_refused_is_not_asked_for_a_password_and_credentials_of_the_calls_own_go_first() {
    let server = TestServer::start();
    server.add_user("kim", "kims");
    let cookie = signed_in(&server, "admin", PASSWORD);
    let unknown = format!("bgrs_session={}", "0".repeat(32));
    for target in ["/users/me", "/bgrs", "/users/me?bgrs=yes"] {
        assert_quiet(&from_page(&server, "GET", target, &unknown).send());
        let asked = by(&server, "GET", target, &unknown).send();
        error_of(&asked, 401);
        assert!(asked.header("WWW-Authenticate").is_some());
    }
    assert_quiet(&look(&server, &unknown));
    assert_quiet(&server.call("GET", "/ui/session").no_auth().send());
    let kim = look_as(&server, &cookie, "kims").expect(200).json();
    assert_eq!((&kim["login"], &kim["is_admin"]), (&json!("kim"), &json!(false)));
    assert_quiet(&look_as(&server, &cookie, "wrong"));
}

fn look_as(server: &TestServer, cookie: &str, password: &str) -> Response {
    by(server, "GET", "/ui/session", cookie).auth("kim", password).send()
}

#[test]
fn nobody_behind_the_server_sees_the_cookie() {
    let upstream = Upstream::saying("seen");
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let cookie = signed_in(&server, "admin", PASSWORD);
    let among = format!("a=b;c=d; {cookie}; e=f");
    for (sent, passed) in [(&among, &["a=b; c=d; e=f"][..]), (&cookie, &[])] {
        by(&server, "GET", "/up", sent).send().expect(200);
        let rid = assert_submitted(&from_page(&server, "GET", "/up?bgrs=yes", sent).send());
        server.finished(&rid);
        // Also where it does not count.
        server.call("POST", "/up").header("Cookie", sent).send().expect(200);
        for seen in upstream.seen().iter().rev().take(3) {
            assert_eq!(seen.all("Cookie"), passed);
            assert_eq!(seen.all("Authorization"), [""; 0]);
        }
    }
    assert_eq!(upstream.seen().len(), 6);
    // What is another's stays as it was sent.
    server.call("GET", "/up").header("Cookie", "a=b;c=d").send().expect(200);
    assert_eq!(upstream.seen()[6].all("Cookie"), ["a=b;c=d"]);
}

#[test]
fn a_session_outlives_a_restart_but_neither_its_time_nor_its_password() {
    let mut server = TestServer::start();
    server.add_user("kim", "kims");
    let (cookie, kims) = (signed_in(&server, "admin", PASSWORD), signed_in(&server, "kim", "kims"));
    look(&server, &cookie).expect(200);
    server.stop();
    server.start_again();
    look(&server, &cookie).expect(200);
    look(&server, &kims).expect(200);
    server.run(&["user", "passwd", "kim"], "others\n").expect(0);
    assert_quiet(&look(&server, &kims));

    let ended = signed_in(&server, "admin", PASSWORD);
    let sql = "SELECT (julianday(max(expires_dt)) - julianday('now')) * 24 FROM sessions";
    let hours: f64 = server.db().query_row(sql, [], |row| row.get(0)).expect("hours");
    assert!((11.5..=12.01).contains(&hours), "{hours}");
    let sql = "UPDATE sessions SET expires_dt = '2020-01-31 10:00:00'";
    assert_eq!(server.db().execute(sql, []).expect("an update"), 3);
    assert_quiet(&look(&server, &ended));
    server.stop();
    server.start_again();
    until("sessions past their time are removed", || server.count("sessions") == 0);
    assert_quiet(&look(&server, &cookie));
}

#[test]
fn neither_the_database_nor_the_log_holds_what_lets_somebody_in() {
    let mut server = TestServer::start();
    server.add_user("kim", "Xyzzy-password");
    let cookie = signed_in(&server, "kim", "Xyzzy-password");
    look(&server, &cookie).expect(200);
    let id: String = server.db().query_row("SELECT id FROM sessions", [], |row| row.get(0)).expect("a session");
    for guess in [&id[..], &id[..32], &id[32..]] {
        assert_quiet(&look(&server, &format!("bgrs_session={guess}")));
    }
    let basic = basic("kim", "Xyzzy-password");
    let secrets = [secret_of(&cookie), "Xyzzy", &basic["Basic ".len()..]];
    for running in [true, false] {
        for secret in secrets {
            assert_eq!(server.files_with(secret), [""; 0], "{secret}");
        }
        if running {
            server.stop();
        }
    }
    until("the log to its end", || server.stderr().contains("stopped"));
    let log = server.stderr() + &server.stdout();
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn who_may_only_look_changes_nothing_and_submits_nothing() {
    let (gate, upstream) = holding();
    let server = TestServer::options().config(&upstream.table("/up")).start();
    server.run(&["user", "add", "eve", "--admin", "--read-only"], "eves\n").expect(0);
    server.run(&["user", "add", "kim", "--read-only"], "kims\n").expect(0);
    let list = server.run(&["user", "list"], "").expect(0).stdout;
    for line in [
        "\tadmin\tis_admin=true\tread_only=false\t",
        "\teve\tis_admin=true\tread_only=true\t",
        "\tkim\tis_admin=false\tread_only=true\t",
    ] {
        assert!(list.contains(line), "{line} in {list}");
    }
    let done = server.finished_get("/users/me");
    let running = server.submit("GET", "/up/x");
    upstream.wait_for(1);

    let eve = |method: &str, target: &str| server.call(method, target).auth("eve", "eves");
    let of = |rid: &str, part: &str| format!("/bgrs/{rid}{part}");
    for target in ["/users/me", "/users", "/bgrs?user_id=all", "/openapi.json"] {
        eve("GET", target).send().expect(200);
    }
    for part in ["", "/details", "/result", "/callbacks"] {
        eve("GET", &of(&done, part)).send().expect(200);
    }
    eve("HEAD", "/users/me").send().expect(200);
    let me = eve("GET", "/users/me").send().json();
    assert_eq!((&me["login"], me.get("read_only")), (&json!("eve"), None));

    let cookie = signed_in(&server, "eve", "eves");
    let lee = json!({ "login": "lee", "password": "lees" });
    let refused = [
        eve("GET", "/users/me?bgrs=yes"),
        eve("GET", "/users/me?bgrs=auto"),
        eve("GET", "/users/me").header("Prefer", "respond-async"),
        eve("POST", "/v2.5/users").json(&lee),
        eve("POST", "/v2.5/users?bgrs=yes").json(&lee),
        eve("POST", "/v2.5/users?bgrs=no").json(&json!([lee])),
        eve("PUT", "/v2.5/users/1?first_name=x"),
        eve("DELETE", "/v2.5/users/3"),
        server.call("PUT", "/v2.5/users/3").auth("kim", "kims").json(&json!({ "password": "mine" })),
        eve("POST", "/up").body("text/plain", "sent"),
        eve("GET", "/up?bgrs=yes"),
        eve("DELETE", &of(&running, "")),
        eve("DELETE", &of(&done, "")),
        eve("POST", &of(&done, "/rerun")),
        eve("POST", &of(&done, "/callbacks/1/resend")),
        from_page(&server, "POST", "/v2.5/users", &cookie).json(&lee),
        from_page(&server, "DELETE", &of(&done, ""), &cookie),
    ];
    server.leaves_nothing(|| {
        for call in &refused {
            assert_eq!(error_of(&call.send(), 403), LOOK_ONLY);
        }
    });
    assert_eq!(server.info(&running)["status_name"], "running");
    assert_eq!((server.count("users"), server.get("/users/1").json()["first_name"].clone()), (3, json!(null)));
    // Nobody would be left who can act as one.
    error_of(&server.delete("/v2.5/users/1"), 409);

    drop(gate);
    server.finished(&running);
    eve("GET", "/up/y").send().expect(200);
    let targets: Vec<_> = upstream.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/up/x", "/up/y"]);

    let me = look(&server, &cookie).expect(200).json();
    assert_eq!((&me["is_admin"], &me["read_only"]), (&json!(true), &json!(true)));
    from_page(&server, "DELETE", "/ui/session", &cookie).send().expect(204);
    assert_quiet(&look(&server, &cookie));
}

#[test]
fn users_of_an_upstream_sign_in_too_and_no_password_is_shown_to_whom_it_is_not_for() {
    let kim = basic("kim", "kims");
    let known = kim.clone();
    let upstream = Upstream::start(move |seen, stream| match seen.target() {
        "/who" if seen.header("Authorization") == Some(known.as_str()) => answer(stream, "200 OK", "", "{\"id\": 7}"),
        "/who" => answer(stream, "401 Unauthorized", "", ""),
        _ => ok(stream, "mine"),
    });
    let forward = "auth = \"forward\"\nauth_check = \"/who\"\nauth_user = \"/id\"\n";
    let server = TestServer::options().config(&(upstream.table("/up") + forward)).start();
    assert_quiet(&sign_in(&server, "kim", "wrong"));
    let cookie = signed_in(&server, "kim", "kims");
    let expected = json!({
        "login": null, "user_id": "7", "source": "upstream:/up", "is_admin": false, "read_only": false,
        "versions": ["2.5"], "mount": ""
    });
    assert_eq!(look(&server, &cookie).expect(200).json(), expected);
    assert_eq!(by(&server, "GET", "/up", &cookie).send().expect(200).text(), "mine");
    let rid = assert_submitted(&from_page(&server, "POST", "/up?bgrs=yes", &cookie).send());
    server.finished(&rid);
    for seen in upstream.seen().iter().filter(|seen| seen.target() == "/up") {
        assert_eq!((seen.all("Authorization"), seen.all("Cookie")), (vec![kim.as_str()], vec![]));
    }
    let listed = by(&server, "GET", "/bgrs", &cookie).send().expect(200).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    error_of(&by(&server, "GET", "/users/me", &cookie).send(), 401);

    let before = upstream.seen().len();
    let admin = signed_in(&server, "admin", PASSWORD);
    error_of(&by(&server, "GET", "/up", &admin).send(), 401);
    look(&server, &admin).expect(200);
    server.run(&["user", "passwd", "admin"], "another\n").expect(0);
    assert_quiet(&look(&server, &admin));
    assert_eq!(upstream.seen().len(), before, "the administrator's password has reached the upstream");
}
