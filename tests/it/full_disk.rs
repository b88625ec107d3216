//! What happens on a disk that is really full: a small tmpfs, mounted in a mount namespace of the server's own.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::data_dir::clean_command;
use crate::common::left_out::left_out;
use crate::common::rows::add_users;
use crate::common::{TestServer, assert_submitted, error_of};

/// Mounts a tmpfs of `$1` on `$2`, then becomes the rest of the arguments.
const ON_TMPFS: &str = r#"mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@""#;

/// `unshare` with the options by which this user may mount; `None` where there are none.
fn unshare() -> Option<Vec<&'static str>> {
    let ways = [vec!["unshare", "-m"], vec!["unshare", "-r", "-m"]];
    ways.into_iter().find(|way| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["sh", "-c", ON_TMPFS, "sh", "64k", "/mnt", "true"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}

/// Starts the server again, with a tmpfs of that size on `folder`; `None`, and a word about it, where nobody may mount.
fn on_small_disk(server: &mut TestServer, folder: &str, size: &str) -> Option<()> {
    let Some(way) = unshare() else {
        left_out("a really full disk", "the right to mount a tmpfs (root, or user namespaces)");
        return None;
    };
    server.stop();
    let plain = server.command(&[]);
    let mut command = clean_command(way[0]);
    command.current_dir(server.path());
    command.args(&way[1..]).args(["sh", "-c", ON_TMPFS, "sh", size]).arg(server.path().join(folder));
    command.arg(plain.get_program()).args(plain.get_args());
    server.start_by(command);
    Some(())
}

#[test]
fn a_body_that_does_not_fit_is_507_and_a_result_that_does_not_is_a_failed_request() {
    let mut server = TestServer::start();
    add_users(&server, 1, 900);
    if on_small_disk(&mut server, "media", "128k").is_none() {
        return;
    }
    let large = json!({"login": "x".repeat(300_000), "password": "p"});
    server.leaves_nothing(|| error_of(&server.post("/users?bgrs=yes", &large), 507));

    let rid = server.submit("GET", "/users?limit=1000");
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    assert_eq!(server.last_detail(&rid), "the result could not be stored: no space is left for it");
    let description = error_of(&server.get(&format!("/bgrs/{rid}/result")), 502);
    assert_eq!(description, "the result could not be stored: no space is left for it");

    // What fits goes on.
    let rid = server.submit("GET", "/users/me");
    server.finished(&rid);
    server.get(&format!("/bgrs/{rid}/result")).expect(200);
}

#[test]
fn a_database_that_cannot_grow_refuses_with_507_and_what_was_accepted_is_there() {
    let mut server = TestServer::options().config("[store]\ndatabase = \"db/bgrs.sqlite3\"").folder("db").start();
    if on_small_disk(&mut server, "db", "600k").is_none() {
        return;
    }
    let mut accepted = Vec::new();
    let refusal = loop {
        let target = format!("/users/me?bgrs=yes&filler={}", "x".repeat(4000));
        let answer = server.call("GET", &target).send();
        if answer.status != 202 {
            break answer;
        }
        accepted.push(assert_submitted(&answer));
        assert!(accepted.len() < 1000, "the disk is never full");
    };
    error_of(&refusal, 507);
    assert!(!accepted.is_empty());
    for rid in &accepted {
        server.get(&format!("/bgrs/{rid}")).expect(200);
    }
    server.get("/healthz").expect(200);
}
