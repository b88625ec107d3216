//! Secrets of stored calls: in clear nowhere, and gone at the end.

use std::fs;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, mpsc};

use serde_json::json;

use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer, ok};
use crate::common::{Call, TestServer, assert_submitted, error_of, until};

/// All that is secret here has this in it, to be looked for.
const MARK: &str = "Xyzzy";

const KIMS: &str = "Xyzzy-password";
const COOKIE: &str = "session=Xyzzy-cookie; a=b";
const PROXY: &str = "Bearer Xyzzy-proxy";

const FORWARD: &str = "auth = \"forward\"\nauth_check = \"/who\"\nauth_user = \"/id\"\n";

/// An upstream that knows `kim`, and holds all other answers back until the sender is dropped; then `/up/fails` gets
/// none.
fn holding() -> (mpsc::Sender<()>, Upstream) {
    let (gate, opened) = mpsc::channel();
    let (opened, kim) = (Mutex::new(opened), basic("kim", KIMS));
    let upstream = Upstream::start(move |seen, stream| match seen.target() {
        "/who" if seen.header("Authorization") == Some(kim.as_str()) => {
            answer(stream, "200 OK", "", "{\"id\": \"kim\"}")
        }
        "/who" => answer(stream, "401 Unauthorized", "", ""),
        target => {
            let _ = opened.lock().unwrap().recv();
            if target == "/up/fails" {
                let _ = stream.shutdown(Shutdown::Both);
            } else {
                ok(stream, "done");
            }
        }
    });
    (gate, upstream)
}

/// Login and password as they stand in a header.
fn encoded(login: &str, password: &str) -> String {
    basic(login, password)["Basic ".len()..].to_owned()
}

#[track_caller]
fn in_no_file(server: &TestServer, secrets: &[String]) {
    for secret in secrets {
        let files = server.files_with(secret);
        assert!(files.is_empty(), "{secret} in {files:?}");
    }
}

/// What the row of a request has of secrets: a `blob`, or `null`.
fn secrets_of(server: &TestServer, rid: &str) -> String {
    let sql = "SELECT typeof(secrets) FROM bgrs WHERE rid = ?";
    server.db().query_row(sql, [rid], |row| row.get(0)).expect("a row")
}

fn nothing_but_results_is_left(server: &TestServer) {
    until("nothing but results is left", || server.media_files().iter().all(|name| name.contains(".result.")));
}

#[test]
fn what_a_waiting_call_has_of_secrets_is_in_clear_nowhere_and_is_wiped_at_its_end() {
    let (gate, upstream) = holding();
    let config = format!("[background]\nconcurrency = 1\n{}{FORWARD}", upstream.table("/up"));
    let mut server = TestServer::options().config(&config).start();
    let call = |target: &str| {
        let call = server.call("POST", target).auth("kim", KIMS);
        call.header("Cookie", COOKIE).header("Proxy-Authorization", PROXY).body("text/plain", "Xyzzy-body")
    };
    error_of(&call("/up?bgrs=yes").auth("kim", "Xyzzy-wrong").send(), 401);
    let finishes = assert_submitted(&call("/up/finishes?bgrs=yes").send());
    let running = upstream.wait_for(3).remove(2);
    let token = running.header("Bgrs-Report-Token").expect("a token").to_owned();
    let fails = assert_submitted(&call("/up/fails?bgrs=yes").send());
    let lee = json!({ "login": "lee", "password": "Xyzzy-lee" });
    let hosted = assert_submitted(&server.post("/v2.5/users?bgrs=yes", &lee));
    let rids = [&finishes, &fails, &hosted];
    let states = rids.map(|rid| server.info(rid)["status_name"].clone());
    assert_eq!(states, ["running", "queued", "queued"]);

    for rid in rids {
        assert!(server.media_files().contains(&format!("bgrs.{rid}.body")), "{rid}");
    }
    assert_eq!(rids.map(|rid| secrets_of(&server, rid)), ["blob", "blob", "null"]);
    // What is no secret is found in this way.
    assert_ne!(server.files_with("/up/fails"), [""; 0]);
    let secrets = [MARK.to_owned(), encoded("kim", KIMS), encoded("kim", "Xyzzy-wrong"), token.clone()];
    in_no_file(&server, &secrets);

    let report = |token: &str| {
        let call = Call::new(server.addr(), "POST", &format!("/bgrs/{finishes}/report"));
        call.header("Authorization", &format!("Bearer {token}")).body("application/json", "{\"progress\": 5}").send()
    };
    report(&token).expect(204);
    error_of(&report("Xyzzy-token"), 401);
    drop(gate);
    assert_eq!(server.finished(&finishes)["status"], "200");
    assert_eq!(server.ended(&fails)["status_name"], "failed");
    assert_eq!(server.finished(&hosted)["status"], "200");
    let seen = upstream.seen();
    let calls: Vec<_> = seen.iter().filter(|seen| seen.target() != "/who").collect();
    assert_eq!(calls.len(), 2);
    for seen in calls {
        assert_eq!(seen.all("Authorization"), [basic("kim", KIMS)]);
        assert_eq!(seen.all("Cookie"), [COOKIE]);
        // It is for the first proxy that has asked for it (RFC 9110 section 11.7.2), and this server has not.
        assert_eq!(seen.all("Proxy-Authorization"), [PROXY]);
        assert_eq!(seen.body, b"Xyzzy-body");
    }

    assert_eq!(rids.map(|rid| secrets_of(&server, rid)), ["null"; 3]);
    // Other bodies are kept, encrypted, for another run.
    until("the body with a password is wiped", || !server.media_files().contains(&format!("bgrs.{hosted}.body")));
    assert!(server.media_files().contains(&format!("bgrs.{finishes}.body")));
    for rid in rids {
        for part in ["?verbose=1", "/details", "/result"] {
            let text = server.get(&format!("/bgrs/{rid}{part}")).lossy();
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
        }
    }
    server.call("GET", "/users/me").auth("lee", "Xyzzy-lee").send().expect(200);
    server.stop();
    in_no_file(&server, &secrets);
    until("the log to its end", || server.stderr().contains("stopped"));
    let log = server.stderr() + &server.stdout();
    assert!(rids.iter().all(|rid| log.contains(rid.as_str())), "there is a log");
    for secret in secrets.iter().chain([&encoded("lee", "Xyzzy-lee"), &encoded("admin", PASSWORD)]) {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn a_rescued_calls_credentials_are_encrypted_too_and_outlive_a_kill() {
    let (gate, upstream) = holding();
    let policy = "[[route]]\npath = \"/up\"\nrescue_after = \"50ms\"\n";
    let config = format!("{}{FORWARD}{policy}", upstream.table("/up"));
    let mut server = TestServer::options().config(&config).start();
    let call = server.call("GET", "/up/x").auth("kim", KIMS).header("Cookie", COOKIE);
    let rid = assert_submitted(&call.send());
    let secrets = [MARK.to_owned(), encoded("kim", KIMS)];
    assert_eq!(secrets_of(&server, &rid), "blob");
    in_no_file(&server, &secrets);
    server.kill();
    drop(gate);
    server.start_again();
    server.finished(&rid);
    let seen = upstream.seen();
    let calls: Vec<_> = seen.iter().filter(|seen| seen.target() == "/up/x").collect();
    assert_eq!(calls.len(), 2);
    for seen in calls {
        assert_eq!((seen.all("Authorization"), seen.all("Cookie")), (vec![&*basic("kim", KIMS)], vec![COOKIE]));
    }
    assert_eq!(secrets_of(&server, &rid), "null");
    in_no_file(&server, &secrets);
}

#[test]
fn the_key_file_is_for_its_owner_alone_and_lies_where_the_configuration_says() {
    let mode = |server: &TestServer, name: &str| {
        let meta = fs::metadata(server.path().join(name)).expect("a key file");
        meta.permissions().mode() & 0o777
    };
    let server = TestServer::start();
    assert_eq!(mode(&server, "bgrs.key"), 0o600);
    let server = TestServer::options().folder("keys").config("[store]\nkey_file = \"keys/own.key\"").start();
    assert_eq!(mode(&server, "keys/own.key"), 0o600);
    assert!(!server.path().join("bgrs.key").exists());
}

/// A server that was killed while the calls that `submit` makes were waiting, and has another key since.
fn with_another_key<T>(submit: impl FnOnce(&TestServer) -> T) -> (Upstream, TestServer, T) {
    let (gate, upstream) = holding();
    let config = format!("[background]\nconcurrency = 1\n{}", upstream.table("/up"));
    let mut server = TestServer::options().config(&config).start();
    let plain = server.submit("GET", "/up/plain");
    upstream.wait_for(1);
    // The password of one of the server's own users ends here: there is nothing to keep.
    assert_eq!(secrets_of(&server, &plain), "null");
    let submitted = submit(&server);
    server.kill();
    drop(gate);
    server.env("BGRS_STORE__KEY_FILE", "other.key");
    server.start_again();
    server.finished(&plain);
    (upstream, server, submitted)
}

#[track_caller]
fn assert_failed(server: &TestServer, rid: &str, why: &str) {
    let info = server.ended(rid);
    assert_eq!(info["status_name"], "failed", "{info}");
    assert_eq!(server.last_detail(rid), why);
    assert_eq!(error_of(&server.get(&format!("/bgrs/{rid}/result")), 502), why);
    assert_eq!(secrets_of(server, rid), "null");
}

#[test]
fn with_another_key_file_a_call_with_stored_credentials_fails_and_says_why() {
    let (upstream, server, rid) = with_another_key(|server| {
        assert_submitted(&server.call("GET", "/up/cookie?bgrs=yes").header("Cookie", COOKIE).send())
    });
    assert_failed(&server, &rid, "its stored credentials cannot be read: the key file is another one");
    nothing_but_results_is_left(&server);
    assert!(upstream.seen().iter().all(|seen| seen.target() == "/up/plain"));
}

#[test]
fn with_another_key_file_a_call_with_a_stored_body_fails_and_says_why() {
    let (upstream, server, rids) = with_another_key(|server| {
        let lee = json!({ "login": "lee", "password": "Xyzzy-lee" });
        [
            assert_submitted(&server.call("PUT", "/up/body?bgrs=yes").body("text/plain", "Xyzzy-body").send()),
            assert_submitted(&server.post("/v2.5/users?bgrs=yes", &lee)),
        ]
    });
    let why = "its stored body: the stored body cannot be decrypted: \
               the key file is not the one it was stored with, or it was damaged";
    for rid in &rids {
        assert_failed(&server, rid, why);
    }
    assert!(upstream.seen().iter().all(|seen| seen.target() == "/up/plain"));
}
