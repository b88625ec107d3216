//! What is not done: wrong usage, credentials that are missing or wrong, servers that are not there or are none.

use std::fs;
use std::net::TcpListener;

use super::{call, command, home, in_front_of, url};
use crate::common::data_dir::run;
use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer};
use crate::common::{DataDir, TestServer};

const RID: &str = "019ab23c8f0de88e83cce3f1caa15090";

#[test]
fn wrong_usage_is_said_in_a_line_and_nothing_is_sent() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    let home = home();
    let (url, no, auto) = (url(&server, "/up"), url(&server, "/up?bgrs=no"), url(&server, "/up?%62grs=auto"));
    let with_password = url.replace("//", "//admin:hidden@");
    let before = home.files();
    for (args, culprit) in [
        (&["-u", "kim:hidden", &*url][..], "bgrs_password"),
        (&["-u", "", &url], "login"),
        (&["-u", "admin", "-H", "Authorization: Bearer x", &url], "authorization"),
        (&[&*with_password], "-u"),
        (&["--json", "{", &url], "--json"),
        (&["-H", "nonsense", &url], "nonsense"),
        (&["-H", "Content-Length: 1", "-d", "1", &url], "content-length"),
        (&["-X", "a b", &url], "-x"),
        (&["-X", "OPTIONS", &url], "options"),
        (&["-d", "@missing", &url], "@missing"),
        (&["-o", "missing/file", &url], "missing/file"),
        (&["-o", ".", &url], "folder"),
        (&[&*no], "bgrs=no"),
        (&[&*auto], "bgrs=auto"),
        (&["ftp://127.0.0.1/"], "http"),
        (&["127.0.0.1:8080/up"], "url"),
    ] {
        let ended = run(command(&home, args), "");
        ended.expect_refusal(culprit);
        assert!(!ended.stderr.contains("hidden"), "{ended:?}");
    }
    // What the parser of arguments refuses takes more than a line.
    for args in [
        &[] as &[&str],
        &["--attach", "nonsense", &url],
        &["--attach", RID, "-d", "1", &url],
        &["--attach", RID, "-X", "GET", &url],
        &["--json", "1", "-d", "1", &url],
        &["--password", "hidden", &url],
        &[&url, &url],
    ] {
        assert_eq!(run(command(&home, args), "").code, Some(2), "{args:?}");
    }
    assert_eq!((server.rows(), upstream.seen().len()), (0, 0));
    assert_eq!(home.files(), before);
}

/// Who the server says is calling.
fn who(home: &DataDir, password: Option<&str>, args: &[&str], server: &TestServer) -> String {
    let mut command = command(home, &[args, &[&url(server, "/v2.5/users/me")]].concat());
    match password {
        Some(password) => command.env("BGRS_PASSWORD", password),
        None => command.env_remove("BGRS_PASSWORD"),
    };
    let ended = run(command, "").expect(0);
    let user: serde_json::Value = serde_json::from_str(&ended.stdout).expect("a user");
    user["login"].as_str().expect("a login").to_owned()
}

#[test]
fn the_password_comes_from_the_environment_or_netrc() {
    let server = TestServer::start();
    server.add_user("kim", "pass-of-kim");
    server.add_user("lee", "pass-of-lee");
    let home = home();
    let netrc = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
    netrc(".netrc", "machine other.example login x password y\nmachine 127.0.0.1 login kim password pass-of-kim\n");
    assert_eq!(who(&home, None, &[], &server), "kim");
    assert_eq!(who(&home, None, &["-u", "kim"], &server), "kim");
    assert_eq!(who(&home, Some(PASSWORD), &["-u", "admin"], &server), "admin");
    let given = format!("Authorization: {}", basic("lee", "pass-of-lee"));
    assert_eq!(who(&home, None, &["-H", &given], &server), "lee");

    netrc("others", "default login lee password pass-of-lee\n");
    let mut elsewhere = command(&home, &[&url(&server, "/v2.5/users/me")]);
    elsewhere.env("NETRC", home.path().join("others"));
    let ended = run(elsewhere, "").expect(0);
    assert!(ended.stdout.contains("\"lee\""), "{ended:?}");

    netrc(".netrc", "machine 127.0.0.1 login kim password pass of kim\n");
    let ended = run(command(&home, &[&url(&server, "/v2.5/users/me")]), "");
    ended.expect_refusal(".netrc");
}

#[test]
fn without_a_password_and_a_terminal_to_ask_for_it_nothing_is_sent() {
    let server = TestServer::start();
    let home = home();
    // The entry is another's.
    fs::write(home.path().join(".netrc"), "machine 127.0.0.1 login kim password pass-of-kim\n").unwrap();
    let mut command = command(&home, &["-u", "admin", &url(&server, "/v2.5/users/me")]);
    command.env_remove("BGRS_PASSWORD");
    run(command, "secret\n").expect_refusal("bgrs_password");
    assert_eq!(server.rows(), 0);
}

#[test]
fn what_the_server_refuses_is_said_in_its_words_with_exit_code_3() {
    let server = TestServer::start();
    let home = home();
    let me = url(&server, "/v2.5/users/me");
    for (password, args, said) in [
        ("wrong", &["-u", "admin", &*me][..], "401 Unauthorized"),
        (PASSWORD, &[&*me], "-u"),
        (PASSWORD, &["-u", "admin", &*url(&server, "/v2.5/nothing")], "404 Not Found: "),
        (PASSWORD, &["-u", "admin", "--attach", RID, &me], "404 Not Found: There is no background request"),
    ] {
        let mut command = command(&home, args);
        command.env("BGRS_PASSWORD", password);
        let ended = server.leaves_nothing(|| run(command, "")).expect(3);
        assert_eq!(ended.stdout, "");
        assert!(matches!(ended.complaints()[..], [line] if line.contains(said)), "{said}: {ended:?}");
    }
}

#[test]
fn a_server_out_of_reach_is_exit_code_3() {
    let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let ended = call(&home(), &["-o", "out.txt", &format!("http://{addr}/up")]).expect(3);
    assert!(matches!(ended.complaints()[..], [line] if line.contains("onnection refused")), "{ended:?}");
}

#[test]
fn no_redirect_is_followed_and_nobody_else_gets_the_credentials() {
    let elsewhere = Upstream::saying("stolen");
    let there = format!("http://{}", elsewhere.addr());
    for (status, location) in [
        ("302 Found", format!("{there}/up")),
        ("307 Temporary Redirect", format!("{there}/up")),
        ("202 Accepted", format!("{there}/bgrs/{RID}")),
        ("202 Accepted", "/jobs/1".to_owned()),
        ("200 OK", format!("/bgrs/{RID}")),
    ] {
        let headers = format!("Location: {location}\r\n");
        let upstream = Upstream::start(move |_, stream| answer(stream, status, &headers, "done"));
        let ended = call(&home(), &[&format!("http://{}/up", upstream.addr())]).expect(3);
        assert_eq!((ended.stdout.as_str(), ended.complaints().len()), ("", 1), "{status}: {ended:?}");
        assert_eq!(upstream.seen().len(), 1, "{status}");
    }
    assert_eq!(elsewhere.connections(), 0);
}
