//! Section 12: the `user` commands, and the first start.

use serde_json::Value;

use crate::common::{DataDir, TestServer, assert_submitted};

fn sign_in(server: &TestServer, login: &str, password: &str) -> Option<Value> {
    let call = server.call("GET", "/users/me").auth(login, password);
    let answer = call.send();
    (answer.status == 200).then(|| answer.json())
}

#[test]
fn users_are_added_listed_and_removed_while_the_server_runs() {
    let server = TestServer::start();
    server.run(&["user", "add", "kim"], "pass of kim\n").expect(0);
    let root = ["user", "add", "root", "--admin"];
    server.run(&root, "pass of root\n").expect(0);
    let kim = sign_in(&server, "kim", "pass of kim").expect("kim signs in");
    assert_eq!(kim["is_admin"], false);
    let root = sign_in(&server, "root", "pass of root").expect("root signs in");
    assert_eq!(root["is_admin"], true);

    let list = server.run(&["user", "list"], "").expect(0).stdout;
    for login in ["admin", "kim", "root"] {
        let lines = list.lines().filter(|line| line.split('\t').any(|column| column == login));
        assert_eq!(lines.count(), 1, "{login} in {list}");
    }
    assert!(!list.contains("$argon2"), "{list}");

    server.run(&["user", "remove", "kim"], "").expect(0);
    assert!(sign_in(&server, "kim", "pass of kim").is_none());
    let list = server.run(&["user", "list"], "").expect(0).stdout;
    assert!(!list.contains("kim"), "{list}");
    assert_eq!(server.get("/users").expect(200).json()[1]["login"], "root");
}

#[test]
fn the_password_is_the_first_line_of_standard_input() {
    let server = TestServer::start();
    for (login, input, password) in [
        ("one", "first line\nsecond line\n", "first line"),
        ("two", "without a line's end", "without a line's end"),
        ("three", " spaces stay \n", " spaces stay "),
        ("four", "pässwörd\n", "pässwörd"),
    ] {
        server.run(&["user", "add", login], input).expect(0);
        assert!(sign_in(&server, login, password).is_some(), "{login}");
    }
}

#[test]
fn the_password_is_never_an_argument() {
    let server = TestServer::start();
    for args in [
        &["user", "add", "kim", "secret"][..],
        &["user", "add", "kim", "--password", "secret"],
        &["user", "passwd", "admin", "other"],
    ] {
        assert_eq!(server.run(args, "x y z\n").code, Some(2), "{args:?}");
    }
    assert_eq!(server.count("users"), 1);
    assert!(sign_in(&server, "admin", "secret").is_some());
}

#[test]
fn what_the_api_refuses_the_commands_refuse_too() {
    let server = TestServer::start();
    server.run(&["user", "add", "kim"], "pass of kim\n").expect(0);
    for (args, input) in [
        (&["user", "add", "lee"][..], ""),
        (&["user", "add", "lee"], "\n"),
        (&["user", "add", ""], "pass\n"),
        (&["user", "add", "a:b"], "pass\n"),
        (&["user", "add", "kim"], "another\n"),
        (&["user", "passwd", "kim"], ""),
        (&["user", "passwd", "kim"], "\nsecond line\n"),
        (&["user", "passwd", "nobody"], "pass\n"),
        (&["user", "remove", "nobody"], ""),
        (&["user", "remove", "admin"], ""),
    ] {
        let ended = server.run(args, input);
        assert!(ended.code.is_some_and(|code| code != 0), "{args:?}: {ended:?}");
        assert_eq!(ended.complaints().len(), 1, "{args:?}: {ended:?}");
    }
    assert_eq!(server.count("users"), 2);
    assert!(sign_in(&server, "kim", "pass of kim").is_some());
    assert!(sign_in(&server, "admin", "secret").is_some());
}

#[test]
fn a_removed_users_background_requests_go_too() {
    let server = TestServer::start();
    server.add_user("kim", "pass of kim");
    let call = server.call("GET", "/users/me?bgrs=yes");
    let answer = call.auth("kim", "pass of kim").send();
    let rid = assert_submitted(&answer);
    server.finished(&rid);
    server.run(&["user", "remove", "kim"], "").expect(0);
    assert_eq!(server.get(&format!("/bgrs/{rid}")).status, 404);
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).status, 404);
    let file = format!("/media/keep1m.bgrs.{rid}.result.json");
    assert_eq!(server.get(&file).status, 404);
    assert_eq!(server.rows(), 0);
}

#[test]
fn users_can_be_added_before_the_first_start() {
    let dir = DataDir::with("", "");
    dir.run(&["user", "add", "kim"], "pass of kim\n").expect(0);
    let env = vec![("BGRS_ADMIN_PASSWORD".into(), "secret".into())];
    let server = TestServer::start_in(dir, env);
    let kim = sign_in(&server, "kim", "pass of kim").expect("kim signs in");
    assert_eq!(kim["is_admin"], false);
    // There was no administrator, so one was made.
    let admin = sign_in(&server, "admin", "secret").expect("admin signs in");
    assert_eq!(admin["is_admin"], true);
}

#[test]
fn where_there_is_an_administrator_none_is_made() {
    let dir = DataDir::with("", "");
    let add = ["user", "add", "root", "--admin"];
    dir.run(&add, "pass of root\n").expect(0);
    let env = vec![("BGRS_ADMIN_PASSWORD".into(), "secret".into())];
    let server = TestServer::start_in(dir, env);
    let root = sign_in(&server, "root", "pass of root").expect("root signs in");
    assert_eq!(root["id"], 1);
    assert!(sign_in(&server, "admin", "secret").is_none());
    assert_eq!(server.count("users"), 1);
    assert!(!server.stdout().to_lowercase().contains("password"));
}

#[test]
fn the_first_start_prints_a_random_password_and_no_other_start_does() {
    let mut server = TestServer::start_in(DataDir::with("", ""), Vec::new());
    let stdout = server.stdout();
    let line = stdout.lines().find(|line| line.to_lowercase().contains("password"));
    let line = line.expect("a line with the password").to_owned();
    let words = line.split(|c: char| c.is_whitespace() || "\"'`".contains(c));
    let words = words.filter(|word| word.len() >= 12);
    let mut words = words.flat_map(|word| [word, word.trim_end_matches(['.', ',', ';', ')'])]);
    let password = words.find(|word| sign_in(&server, "admin", word).is_some());
    let password = password.expect("the password lets admin in");
    assert_eq!(stdout.matches(password).count(), 1);
    assert!(!server.stderr().contains(password), "it is in the log");
    assert_eq!(server.files_with(password), [""; 0]);
    let admin = sign_in(&server, "admin", password).expect("admin signs in");
    assert_eq!(admin["id"], 1);

    server.stop();
    server.start_again();
    assert!(sign_in(&server, "admin", password).is_some());
    let stdout = server.stdout();
    assert!(!stdout.to_lowercase().contains("password"), "{stdout}");
    let other = TestServer::start_in(DataDir::with("", ""), Vec::new());
    assert!(sign_in(&other, "admin", password).is_none(), "it is random");
}

#[test]
fn a_given_password_is_used_at_the_first_start_only_and_never_printed() {
    let mut server = TestServer::options().env("BGRS_ADMIN_PASSWORD", "open sesame").start();
    assert!(sign_in(&server, "admin", "open sesame").is_some());
    server.stop();
    assert!(!server.stdout().contains("sesame"));
    server.env("BGRS_ADMIN_PASSWORD", "another one");
    server.start_again();
    assert!(sign_in(&server, "admin", "open sesame").is_some());
    assert!(sign_in(&server, "admin", "another one").is_none());
    assert!(!server.stderr().contains("sesame"));
}
