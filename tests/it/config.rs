//! Section 12: the configuration, and what is refused before anything is opened.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use crate::common::data_dir::{Ended, bare_command, run};
use crate::common::http::read_to_end;
use crate::common::{Call, DataDir, Response, TestServer, until};

/// Both `check` and the server itself refuse it, name the culprit and leave nothing behind.
fn assert_refused(config: &str, env: &[(&str, &str)], culprit: &str) {
    for args in [&["check"][..], &[], &["serve"]] {
        let dir = DataDir::new(config);
        let mut command = dir.command(args);
        command.envs(env.iter().copied());
        run(command, "").expect_refusal(culprit);
        assert_eq!(dir.files().len(), 1, "{culprit}: {:?}", dir.files());
        assert!(!dir.media().exists(), "{culprit}");
    }
}

/// It does not start, says why, and does not panic about it.
fn assert_not_started(ended: &Ended) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(!ended.complaints().is_empty(), "not a word");
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn an_unknown_key_is_refused_by_its_name() {
    for (config, culprit) in [
        ("[server]\nlisten_on = \"127.0.0.1:0\"", "listen_on"),
        ("[background]\nconcurency = 1", "concurency"),
        ("[backgruond]\nconcurrency = 1", "backgruond"),
        ("[store]\ndatabse = \"x\"", "databse"),
        ("[media]\nfolder = \"x\"", "folder"),
        ("shoe_size = 44", "shoe_size"),
    ] {
        assert_refused(config, &[], culprit);
    }
}

#[test]
fn a_value_out_of_range_is_refused_by_its_key() {
    for (config, culprit) in [
        ("[server]\nlisten = \"nowhere\"", "listen"),
        ("[server]\nlisten = \"127.0.0.1:99999\"", "listen"),
        ("[server]\nlisten = []", "listen"),
        ("[server]\nlisten = 8080", "listen"),
        ("[server]\nmax_body = \"plenty\"", "max_body"),
        ("[server]\nmax_body = \"-1\"", "max_body"),
        ("[server]\nshutdown_timeout = \"soon\"", "shutdown_timeout"),
        ("[store]\ndurability = \"perhaps\"", "durability"),
        ("[media]\nkeep = \"2m\"", "keep"),
        ("[media]\nkeep = \"forever\"", "keep"),
        ("[media]\nmax_size = \"-1\"", "max_size"),
        ("[background]\nconcurrency = 0", "concurrency"),
        ("[background]\nconcurrency = -1", "concurrency"),
        ("[background]\nconcurrency = \"many\"", "concurrency"),
        ("[background]\nqueue = -1", "queue"),
        ("[background]\nper_user = -1", "per_user"),
        ("[background]\ntimeout = \"never\"", "timeout"),
        ("[background]\nmax_wait = \"60 potatoes\"", "max_wait"),
    ] {
        assert_refused(config, &[], culprit);
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_in_one_line() {
    for config in ["[server", "listen = ", "[server]\nlisten = \"a", "= 5"] {
        assert_refused(config, &[], "");
    }
}

#[test]
fn a_file_that_is_not_there_is_refused_by_its_name() {
    let dir = DataDir::new("");
    let mut command = bare_command();
    command.current_dir(dir.path());
    command.args(["--config", "no-such-file.toml", "check"]);
    run(command, "").expect_refusal("no-such-file.toml");
}

#[test]
fn a_variable_for_a_key_that_is_unknown_or_out_of_range_is_refused() {
    for (name, value, culprit) in [
        ("BGRS_SERVER__LISTN", "127.0.0.1:0", "listn"),
        ("BGRS_SERVR__LISTEN", "127.0.0.1:0", "servr"),
        ("BGRS_BACKGROUND__CONCURRENCY", "0", "concurrency"),
        ("BGRS_BACKGROUND__CONCURRENCY", "many", "concurrency"),
        ("BGRS_MEDIA__KEEP", "3w", "keep"),
    ] {
        assert_refused("", &[(name, value)], culprit);
    }
}

#[test]
fn a_variable_wins_over_the_file() {
    let server = TestServer::options()
        .server("max_body = \"1 MiB\"")
        .config("[media]\nkeep = \"1y\"\n[background]\nconcurrency = 3")
        .env("BGRS_SERVER__MAX_BODY", "1 KiB")
        .env("BGRS_MEDIA__KEEP", "1d")
        .env("BGRS_BACKGROUND__CONCURRENCY", "2")
        .start();
    let rid = server.finished_get("/users/me");
    let result = format!("media/keep1d.bgrs.{rid}.result.json");
    assert_eq!(server.info(&rid)["result"], result);
    let call = server.call("POST", "/users?bgrs=yes");
    let call = call.body("application/json", vec![b' '; 2000]);
    assert_eq!(call.send().status, 413);
}

#[test]
fn check_finds_no_fault_with_a_good_file_and_touches_nothing() {
    let shown = "[server]\nlisten = [\"127.0.0.1:0\", \"unix:bgrs.sock\"]\nmax_body = \"1 GiB\"\n\
        shutdown_timeout = \"30s\"\n[store]\ndatabase = \"bgrs.sqlite3\"\ndurability = \"normal\"\n\
        [media]\ndir = \"media\"\nkeep = \"1w\"\nmax_size = \"0\"\n[background]\nconcurrency = 64\n\
        queue = 100000\nper_user = 10000\ntimeout = \"6h\"\nmax_wait = \"60s\"\n";
    for config in ["", shown] {
        let dir = DataDir::new(config);
        dir.run(&["check"], "").expect(0);
        assert_eq!(dir.files().len(), 1, "{:?}", dir.files());
    }
}

#[test]
fn the_file_stands_before_or_after_the_sub_command() {
    let dir = DataDir::new("[background]\nconcurrency = 0");
    let config = dir.config().display().to_string();
    for args in [
        vec!["--config", &config, "check"],
        vec!["check", "--config", &config],
        vec!["--config", &config, "serve"],
        vec!["serve", "--config", &config],
        vec!["--config", &config, "user", "list"],
        vec!["user", "list", "--config", &config],
    ] {
        let mut command = bare_command();
        command.current_dir("/").args(args);
        run(command, "").expect_refusal("concurrency");
    }
}

#[test]
fn a_wrong_use_of_the_command_line_is_2() {
    let dir = DataDir::new("");
    for args in [&["frobnicate"][..], &["user"], &["check", "--frobnicate"]] {
        assert_eq!(dir.run(args, "").code, Some(2), "{args:?}");
    }
    assert_eq!(dir.files().len(), 1);
}

#[test]
fn relative_paths_are_relative_to_the_file_wherever_the_server_is_started() {
    let mut server = TestServer::start();
    server.stop();
    let elsewhere = DataDir::new("");
    let mut command = bare_command();
    command.arg("serve").arg("--config").arg(server.config());
    command.current_dir(elsewhere.path());
    server.start_by(command);
    server.finished_get("/users/me");
    assert!(server.database().exists() && server.media().exists());
    assert_eq!(elsewhere.files().len(), 1, "{:?}", elsewhere.files());
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_opened() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address");
    let dir = DataDir::with(&format!("listen = \"{addr}\""), "");
    dir.run(&[], "").expect_refusal("listen");
    assert_eq!(dir.files().len(), 1, "{:?}", dir.files());
}

#[test]
fn several_addresses_and_a_unix_socket_are_listened_on() {
    let listen = "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"unix:bgrs.sock\"]";
    let mut server = TestServer::options().server(listen).start();
    for _ in 0..2 {
        until("both addresses are announced", || server.addrs().len() == 2);
        for addr in server.addrs() {
            let call = Call::new(addr, "GET", "/users/me");
            assert_eq!(call.auth("admin", "secret").send().status, 200);
        }
        let socket = server.path().join("bgrs.sock");
        let mut stream = UnixStream::connect(socket).expect("a socket");
        let request = b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("a request is taken");
        let received = read_to_end(&mut stream).expect("an answer");
        let answer = Response::parse(&received, false).expect("an answer");
        assert_eq!(answer.status, 200);
        // The socket that a killed server leaves behind is in nobody's way.
        server.kill();
        server.start_again();
    }
}

#[test]
fn a_database_that_is_none_is_refused_and_left_alone() {
    let dir = DataDir::with("", "");
    let text = "This is not a database, but somebody's diary. ".repeat(100);
    fs::write(dir.database(), &text).expect("a file");
    assert_not_started(&dir.run(&[], ""));
    assert_eq!(fs::read_to_string(dir.database()).expect("a file"), text);
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let mut server = TestServer::start();
    let rid = server.finished_get("/users/me");
    server.stop();
    let version = |server: &TestServer| -> i64 {
        let sql = "PRAGMA user_version";
        let version = server.db().query_row(sql, [], |row| row.get(0));
        version.expect("a version")
    };
    let own = version(&server);
    let set = |server: &TestServer, to: i64| {
        let pragma = server.db().pragma_update(None, "user_version", to);
        pragma.expect("a version");
    };
    set(&server, 9999);
    assert_not_started(&server.run(&[], ""));
    assert_eq!(version(&server), 9999);
    set(&server, own);
    server.start_again();
    assert_eq!(server.info(&rid)["status_name"], "finished");
}

#[test]
fn a_media_folder_that_cannot_be_one_is_refused() {
    let dir = DataDir::with("", "");
    fs::write(dir.media(), "in the way").expect("a file");
    let ended = dir.run(&[], "");
    assert_not_started(&ended);
    assert!(ended.stderr.contains("media"), "{}", ended.stderr);
    let left = fs::read_to_string(dir.media()).expect("a file");
    assert_eq!(left, "in the way");
}

#[test]
fn a_second_server_on_the_same_database_is_refused() {
    let mut server = TestServer::start();
    let rid = server.finished_get("/users/me");
    assert_not_started(&server.run(&[], ""));
    server.finished_get("/users/me");
    assert_eq!(server.info(&rid)["status_name"], "finished");
    // The lock dies with the process, however it dies.
    server.kill();
    server.start_again();
    assert_eq!(server.info(&rid)["status_name"], "finished");
}
