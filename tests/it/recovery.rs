//! Section 13: what a crash leaves behind, and what becomes of it at the next start.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::common::rows::{finished, force_running, is_queued};
use crate::common::server::send_signal;
use crate::common::{TestServer, assert_submitted, error_of, until};

const INTERRUPTED: &str = "interrupted by a restart; POST is not repeated";

/// One worker only, so that what is behind slow requests stays in the queue.
fn one_worker() -> TestServer {
    let background = "[background]\nconcurrency = 1";
    TestServer::options().config(background).start()
}

fn submit_user(server: &TestServer, login: &str) -> String {
    let user = json!({ "login": login, "password": "some password" });
    assert_submitted(&server.post("/v2.5/users?bgrs=yes", &user))
}

/// Submits what `submit` submits behind requests that take their time, and kills the server while it waits.
fn killed_with_one_queued(submit: impl Fn(&TestServer) -> String) -> (TestServer, String) {
    let mut server = one_worker();
    for turn in 0..10 {
        for n in 0..10 {
            submit_user(&server, &format!("slow-{turn}-{n}"));
        }
        let rid = submit(&server);
        server.kill();
        if is_queued(&server, &rid) {
            return (server, rid);
        }
        server.start_again();
    }
    panic!("the worker is faster than ten submissions");
}

fn verbose(server: &TestServer, rid: &str) -> Value {
    let answer = server.get(&format!("/bgrs/{rid}?verbose=1")).expect(200);
    answer.json()[0].clone()
}

/// Every finished request that has a result has it as a file, too.
fn assert_every_result_is_there(server: &TestServer) {
    for rid in finished(server) {
        if let Some(file) = server.info(&rid)["result"].as_str() {
            assert!(server.path().join(file).exists(), "no {file}");
        }
    }
}

#[test]
fn every_acknowledged_request_reaches_its_end_after_a_kill() {
    kill_while_many_submit(TestServer::start());
}

#[test]
fn without_syncs_too_a_kill_loses_nothing() {
    kill_while_many_submit(TestServer::options().config("[store]\ndurability = \"normal\"").start());
}

fn kill_while_many_submit(mut server: TestServer) {
    let acknowledged = Mutex::new(Vec::new());
    let down = AtomicBool::new(false);
    let call_of = |thread: usize, turn: usize| match thread {
        0 => {
            let login = format!("user-{turn}");
            let user = json!({ "login": login, "password": "some password" });
            server.call("POST", "/v2.5/users?bgrs=yes").json(&user)
        }
        1 => {
            let target = format!("/v2.5/users/1?first_name=Kim{turn}&bgrs=yes");
            server.call("PUT", &target)
        }
        _ => server.call("GET", "/v2.5/users/me?bgrs=yes"),
    };
    let submit = |thread: usize| {
        for turn in 0..2000 {
            let method = ["POST", "PUT", "GET"][thread.min(2)];
            match call_of(thread, turn).try_send() {
                Ok(answer) => {
                    let rid = assert_submitted(&answer);
                    let mut acknowledged = acknowledged.lock().expect("a list");
                    acknowledged.push((method, rid));
                }
                Err(_) if down.load(Ordering::SeqCst) => break,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let pid = server.pid();
    thread::scope(|scope| {
        for n in 0..8 {
            let submit = &submit;
            scope.spawn(move || submit(n));
        }
        until("enough requests are acknowledged", || acknowledged.lock().expect("a list").len() >= 200);
        down.store(true, Ordering::SeqCst);
        send_signal(pid, "KILL");
    });
    server.kill();
    server.start_again();

    let acknowledged = acknowledged.into_inner().expect("a list");
    for (method, rid) in &acknowledged {
        let info = server.ended(rid);
        if info["status_name"] == "failed" {
            assert_eq!(*method, "POST", "{info}");
            assert_eq!(server.last_detail(rid), INTERRUPTED);
            continue;
        }
        // A POST that ran twice would have met its own login.
        assert_eq!(info["status"], "200", "{info}");
        let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
        let file = info["result"].as_str().expect("a file");
        let on_disk = fs::read(server.path().join(file)).expect("a file");
        assert_eq!(on_disk, result.body);
        assert!(result.json()["login"].is_string());
        assert_eq!(server.last_detail(rid), "done");
    }
    assert_every_result_is_there(&server);
}

#[test]
fn what_was_queued_is_queued_and_runs_whatever_its_method() {
    let (mut server, rid) = killed_with_one_queued(|server| submit_user(server, "kim"));
    server.start_again();
    assert_eq!(server.finished(&rid)["status"], "200");
    assert_eq!(verbose(&server, &rid)["attempts"], "1");
}

#[test]
fn a_get_that_was_running_runs_again() {
    let (mut server, rid) = killed_with_one_queued(|server| server.submit("GET", "/users/me"));
    force_running(&server, &rid, 1);
    server.start_again();
    assert_eq!(server.finished(&rid)["status"], "200");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert_eq!(result.json()["login"], "admin");
    assert_eq!(verbose(&server, &rid)["attempts"], "2");
    assert_eq!(server.last_detail(&rid), "done");
}

#[test]
fn a_put_that_was_running_runs_again_with_its_body() {
    let (mut server, rid) = killed_with_one_queued(|server| {
        let body = json!({ "first_name": "Kim" });
        assert_submitted(&server.put("/users/1?bgrs=yes", &body))
    });
    force_running(&server, &rid, 1);
    server.start_again();
    assert_eq!(server.finished(&rid)["status"], "200");
    let me = server.get("/users/me").expect(200).json();
    assert_eq!(me["first_name"], "Kim");
}

#[test]
fn a_delete_that_was_running_runs_again() {
    let (mut server, rid) = killed_with_one_queued(|server| {
        server.submit("DELETE", "/users/999") // nobody has this id
    });
    force_running(&server, &rid, 1);
    server.start_again();
    assert_eq!(server.finished(&rid)["status"], "404");
}

#[test]
fn a_post_that_was_running_has_failed_and_is_not_repeated() {
    let (mut server, rid) = killed_with_one_queued(|server| submit_user(server, "kim"));
    force_running(&server, &rid, 1);
    server.start_again();
    let info = server.ended(&rid);
    assert_eq!(info["status_id"], "5");
    assert_eq!(info["status_name"], "failed");
    assert_eq!(info["status"], Value::Null);
    assert_eq!(info["result"], Value::Null);
    assert_eq!(server.last_detail(&rid), INTERRUPTED);

    let result = server.get(&format!("/bgrs/{rid}/result"));
    assert_eq!(error_of(&result, 502), INTERRUPTED);
    assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    let users = server.get("/users?limit=1000").expect(200).text();
    assert!(!users.contains("kim"), "it was repeated: {users}");

    // Nothing that ended runs again.
    server.stop();
    server.start_again();
    assert_eq!(server.info(&rid), info);
}

#[test]
fn a_request_that_was_running_at_its_last_attempt_has_failed() {
    let (mut server, rid) = killed_with_one_queued(|server| server.submit("GET", "/users/me"));
    force_running(&server, &rid, 3);
    server.start_again();
    let info = server.ended(&rid);
    assert_eq!(info["status_name"], "failed", "{info}");
    assert_eq!(verbose(&server, &rid)["attempts"], "3");
    let result = server.get(&format!("/bgrs/{rid}/result"));
    assert_eq!(error_of(&result, 502), server.last_detail(&rid));
    assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
}

#[test]
fn one_attempt_before_the_last_is_followed_by_the_last() {
    let (mut server, rid) = killed_with_one_queued(|server| server.submit("GET", "/users/me"));
    force_running(&server, &rid, 2);
    server.start_again();
    server.finished(&rid);
    assert_eq!(verbose(&server, &rid)["attempts"], "3");
}

#[test]
fn nothing_that_ended_runs_again() {
    let mut server = TestServer::start();
    let call = server.call("PUT", "/users/1?first_name=Kim&bgrs=yes");
    let rid = assert_submitted(&call.send());
    server.finished(&rid);
    let call = server.call("PUT", "/users/1?first_name=Lee");
    call.send().expect(200);
    let before = verbose(&server, &rid);
    for _ in 0..3 {
        server.kill();
        server.start_again();
        // What comes later in the queue has ended, so this would have, too.
        server.finished_get("/users/me");
        assert_eq!(verbose(&server, &rid), before);
        let me = server.get("/users/me").expect(200).json();
        assert_eq!(me["first_name"], "Lee");
    }
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing() {
    let mut server = one_worker();
    let mut rids = Vec::new();
    for n in 0..4 {
        submit_user(&server, &format!("slow-{n}"));
        rids.extend((0..5).map(|_| server.submit("GET", "/users/me")));
        server.kill();
        server.start_again();
    }
    for rid in rids {
        let info = server.ended(&rid);
        // Killed in the middle three times, it may be out of attempts, but never out of sight.
        let out_of_attempts = info["status_name"] == "failed";
        assert!(info["status"] == "200" || out_of_attempts, "{info}");
        assert!(!server.last_detail(&rid).is_empty());
    }
    assert_every_result_is_there(&server);
}

#[test]
fn no_result_file_without_a_row_is_left() {
    let mut server = TestServer::start();
    let rid = server.finished_get("/users/me");
    server.kill();
    let orphan = format!("keep1m.bgrs.{}.result.json", "0123456789abcdef".repeat(2));
    fs::write(server.media().join(&orphan), "{}").expect("a file");
    fs::write(server.media().join("holiday.jpg"), "not ours").expect("a file");
    server.start_again();
    until("the file without a row is gone", || !server.media().join(&orphan).exists());
    assert!(server.media().join("holiday.jpg").exists());
    let result = server.get(&format!("/bgrs/{rid}/result"));
    assert_eq!(result.expect(200).json()["login"], "admin");
}

#[test]
fn a_small_result_that_is_gone_right_after_a_crash_is_written_again() {
    let mut server = TestServer::start();
    let rid = server.finished_get("/users/me");
    let before = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    server.kill();
    if server.count("bgrs_copies") == 1 {
        let file = format!("keep1m.bgrs.{rid}.result.json");
        fs::remove_file(server.media().join(file)).expect("a file to remove");
    }
    server.start_again();
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).body, before.body);
    assert_every_result_is_there(&server);
}

#[test]
fn no_finished_row_without_its_file_is_left() {
    let mut server = TestServer::start();
    let lost = server.finished_get("/users/me");
    let kept = server.finished_get("/users/me");
    // Until the file is durable, its bytes are in the database too, and the start would write it again.
    until("the results are settled", || server.count("bgrs_copies") == 0);
    server.kill();
    let file = format!("keep1m.bgrs.{lost}.result.json");
    fs::remove_file(server.media().join(file)).expect("a file to remove");
    server.start_again();
    until("it is finished no more", || {
        let answer = server.get(&format!("/bgrs/{lost}"));
        answer.status == 404 || answer.json()[0]["status_name"] != "finished"
    });
    let result = server.get(&format!("/bgrs/{lost}/result"));
    assert!(matches!(result.status, 404 | 502), "{}", result.status);
    assert_eq!(server.info(&kept)["status_name"], "finished");
    assert_every_result_is_there(&server);
}
