//! Progress while it runs; Ctrl-C and SIGTERM; a terminal.

use std::path::Path;

use super::{Running, call, command, holding, home, in_front_of, url};
use crate::common::data_dir::clean_command;
use crate::common::left_out::left_out;
use crate::common::server::PASSWORD;
use crate::common::upstream::Seen;
use crate::common::{Call, TestServer};

/// What the upstream reports of a call that it has seen.
fn report(server: &TestServer, seen: &Seen, body: &str) {
    let header = |name| seen.header(name).expect("a header");
    let path = format!("/bgrs/{}/report", header("Bgrs-Request"));
    let token = format!("Bearer {}", header("Bgrs-Report-Token"));
    Call::new(server.addr(), "POST", &path)
        .header("Authorization", &token)
        .body("application/json", body)
        .send()
        .expect(204);
}

#[test]
fn progress_is_plain_lines_and_what_a_terminal_would_obey_is_made_harmless() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let home = home();
    let mut running = Running::start(command(&home, &["-u", "admin", &url(&server, "/up")]));
    let seen = upstream.wait_for(1).remove(0);
    running.stderr.wait_for("0.00% running\n");
    report(&server, &seen, "{\"progress\": 42.5, \"details\": \"425\\u001b[31m of\\u202e 1000\\nimported\"}");
    running.stderr.wait_for("42.50% 425\u{FFFD}[31m of\u{FFFD} 1000 imported\n");
    report(&server, &seen, "{\"progress\": 50}");
    running.stderr.wait_for("50.00% 425\u{FFFD}[31m of\u{FFFD} 1000 imported\n");
    drop(gate);
    let ended = running.ended().expect(0);
    assert_eq!(ended.stdout, "held");
    let mut lines = ended.complaints();
    assert_eq!(lines.last(), Some(&"100.00% done"));
    let count = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), count, "{lines:?}");
}

#[test]
fn an_interrupted_call_goes_on_and_says_how_to_come_back() {
    let (gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let home = home();
    let before = home.files();
    let mut ways_back = Vec::new();
    for (at, signal) in ["INT", "TERM"].into_iter().enumerate() {
        let out = format!("out {signal}.txt");
        let mut running = Running::start(command(&home, &["-u", "admin", "-o", &out, &url(&server, "/up")]));
        upstream.wait_for(at + 1);
        running.stderr.wait_for("0.00% running\n");
        running.signal(signal);
        let ended = running.ended().expect(130);
        assert_eq!((ended.stdout.as_str(), home.files()), ("", before.clone()));
        let rid = upstream.seen()[at].header("Bgrs-Request").expect("a request").to_owned();
        assert_eq!(server.info(&rid)["status_name"], "running");
        let back = format!("--attach {rid} -u admin -o '{out}' {}", url(&server, ""));
        let said = format!("It goes on. Come back with: bgrs-server call {back}");
        assert_eq!(ended.complaints().last(), Some(&said.as_str()));
        ways_back.push((rid, out));
    }
    drop(gate);
    for (rid, out) in ways_back {
        call(&home, &["--attach", &rid, "-o", &out, &url(&server, "")]).expect(0);
        assert_eq!(std::fs::read_to_string(home.path().join(out)).unwrap(), "held");
    }
}

#[test]
fn at_a_terminal_the_password_is_asked_for_and_ctrl_c_asks_what_to_do() {
    let script = Path::new("/usr/bin/script");
    if !script.is_file() || !cfg!(target_os = "linux") {
        return left_out("a call from a terminal", "script, of util-linux");
    }
    let (_gate, upstream) = holding();
    let server = in_front_of(&upstream);
    let home = home();
    let line = format!("exec {} call -u admin {}", env!("CARGO_BIN_EXE_bgrs-server"), url(&server, "/up"));
    for (at, (answer, said, state)) in [
        ("n\n", "It goes on. Come back with: bgrs-server call --attach ", "running"),
        ("\u{3}", "It goes on. Come back with: bgrs-server call --attach ", "running"),
        ("y\n", "It is cancelled.", "cancelled"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = clean_command(script);
        command.args(["-q", "-e", "-f", "-c", &line, "/dev/null"]).current_dir(home.path());
        command.env("HOME", home.path()).env_remove("NETRC").env("SHELL", "/bin/sh").env("TERM", "xterm");
        let mut running = Running::start(command);
        running.stdout.wait_for("Password of admin: ");
        running.type_in(&format!("{PASSWORD}\n"));
        upstream.wait_for(at + 1);
        running.stdout.wait_for("0.00% running");
        running.type_in("\u{3}");
        running.stdout.wait_for("Cancel the request? [y/N] ");
        running.type_in(answer);
        let ended = running.ended().expect(130);
        assert!(ended.stdout.contains(said), "{answer:?}: {ended:?}");
        let rid = upstream.seen()[at].header("Bgrs-Request").expect("a request").to_owned();
        assert_eq!(server.info(&rid)["status_name"], state, "{answer:?}");
    }
}
