//! The process dies at each place where it matters, and the next start sets right what it left.
//!
//! Needs the feature `failpoints`: `cargo test --features failpoints --test planned_failures`.

#[cfg(not(feature = "failpoints"))]
#[test]
fn left_out_without_the_feature_failpoints() {
    println!("left out: the planned failures; run cargo test --features failpoints --test planned_failures");
}

#[cfg(feature = "failpoints")]
#[path = "it/common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other tests, which use the rest")]
mod common;

#[cfg(feature = "failpoints")]
mod with_failpoints {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::common::upstream::Upstream;
    use super::common::{TestServer, until};

    const DEADLINE: Duration = Duration::from_secs(30);

    fn armed(place: &str) -> TestServer {
        TestServer::options().env("BGRS_FAILPOINT", &format!("{place}:hold")).start()
    }

    /// Waits until the server has come to the place.
    fn reach(server: &TestServer, place: &str) {
        let begun = Instant::now();
        while !server.stdout().contains(&format!("failpoint {place}")) {
            assert!(begun.elapsed() < DEADLINE, "it never came to {place}: {}", server.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the server has come to the place, then kills it there and starts it again without the plan.
    fn die_there(server: &mut TestServer, place: &str) {
        reach(server, place);
        server.kill();
        server.env("BGRS_FAILPOINT", "none:hold");
        server.start_again();
    }

    /// Sends a call whose answer may never come.
    fn send(server: &TestServer, method: &str, target: &str, body: &str) -> std::thread::JoinHandle<()> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(server.addr()).unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::spawn(move || {
            let _ = stream.read(&mut [0; 1000]);
        })
    }

    fn files(server: &TestServer, part: &str) -> Vec<String> {
        std::fs::read_dir(server.path().join("media"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(part))
            .collect()
    }

    fn user() -> String {
        json!({"login": "kim", "password": "pass of kim"}).to_string()
    }

    #[test]
    fn a_body_without_a_row_is_swept() {
        let mut server = armed("before-insert");
        let sent = send(&server, "POST", "/v2.5/users?bgrs=yes", &user());
        die_there(&mut server, "before-insert");
        sent.join().unwrap();
        assert_eq!(server.rows(), 0);
        assert!(files(&server, "bgrs.").is_empty(), "{:?}", files(&server, "bgrs."));
    }

    #[test]
    fn a_row_without_its_202_runs_all_the_same() {
        for (method, target, body) in [("GET", "/v2.5/users/me", ""), ("POST", "/v2.5/users", user().as_str())] {
            let mut server = armed("after-insert");
            let sent = send(&server, method, &format!("{target}?bgrs=yes"), body);
            die_there(&mut server, "after-insert");
            sent.join().unwrap();
            let rid: String =
                server.db().query_row("SELECT rid FROM bgrs", [], |row| row.get(0)).expect("the row is there");
            server.finished(&rid);
        }
    }

    #[test]
    fn a_claimed_get_runs_again_and_a_claimed_post_fails() {
        for (method, target, body, state) in
            [("GET", "/v2.5/users/me", "", "finished"), ("POST", "/v2.5/users", user().as_str(), "failed")]
        {
            let mut server = armed("claimed");
            let sent = send(&server, method, &format!("{target}?bgrs=yes"), body);
            die_there(&mut server, "claimed");
            sent.join().unwrap();
            let rid: String = server.db().query_row("SELECT rid FROM bgrs", [], |row| row.get(0)).unwrap();
            assert_eq!(server.ended(&rid)["status_name"], state);
            assert!(files(&server, ".body").is_empty());
        }
    }

    #[test]
    fn a_result_without_its_row_is_made_again() {
        let mut server = armed("result-without-row");
        let sent = send(&server, "GET", "/v2.5/users/me?bgrs=yes", "");
        die_there(&mut server, "result-without-row");
        sent.join().unwrap();
        let rid: String = server.db().query_row("SELECT rid FROM bgrs", [], |row| row.get(0)).unwrap();
        server.finished(&rid);
        assert_eq!(files(&server, ".result.").len(), 1);
        assert_eq!(server.details(&rid).len(), 2, "the interruption and the end");
    }

    #[test]
    fn a_half_written_result_is_made_again_from_its_start() {
        let mut server = armed("half-result");
        // More than goes into one piece of a file.
        super::common::rows::add_users(&server, 1, 900);
        let sent = send(&server, "GET", "/v2.5/users?limit=1000&bgrs=yes", "");
        die_there(&mut server, "half-result");
        sent.join().unwrap();
        let rid: String = server.db().query_row("SELECT rid FROM bgrs", [], |row| row.get(0)).unwrap();
        server.finished(&rid);
        assert_eq!(files(&server, ".part"), Vec::<String>::new());
        let users = server.get(&format!("/bgrs/{rid}/result")).json();
        assert_eq!(users.as_array().map(Vec::len), Some(901));
    }

    #[test]
    fn a_small_result_that_a_power_cut_took_is_there_after_the_next_start() {
        for took in ["all", "bytes", "nothing"] {
            let mut server = armed("unsettled");
            let rid = server.submit("GET", "/v2.5/users/me?bgrs=yes");
            server.finished(&rid);
            let before = server.get(&format!("/bgrs/{rid}/result"));
            let file = server.path().join("media").join(&files(&server, ".result.")[0]);
            reach(&server, "unsettled");
            match took {
                "all" => std::fs::remove_file(&file).unwrap(),
                // As ext4 leaves a file whose data was not synced.
                "bytes" => std::fs::write(&file, vec![0; before.body.len()]).unwrap(),
                _ => {}
            }
            die_there(&mut server, "unsettled");
            let after = server.get(&format!("/bgrs/{rid}/result"));
            assert_eq!((after.status, &after.body), (200, &before.body), "{took}");
            let copies: i64 = server.db().query_row("SELECT count(*) FROM bgrs_copies", [], |row| row.get(0)).unwrap();
            assert_eq!(copies, 0, "what is durable is not kept twice");
        }
    }

    #[test]
    fn a_file_whose_row_has_expired_goes_with_the_next_start() {
        let mut server = TestServer::start();
        let rid = server.submit("GET", "/v2.5/users/me?bgrs=yes");
        server.finished(&rid);
        server.stop();
        server.db().execute("UPDATE bgrs SET expires_dt = '2000-01-01 00:00:00'", []).unwrap();
        server.env("BGRS_FAILPOINT", "expired-with-file:hold");
        server.start_again();
        reach(&server, "expired-with-file");
        assert_eq!((server.rows(), files(&server, ".result.").len()), (0, 1));
        die_there(&mut server, "expired-with-file");
        assert_eq!(files(&server, ".result.").len(), 0);
        assert_eq!(server.get(&format!("/bgrs/{rid}")).status, 404);
    }

    #[test]
    fn a_body_that_outlived_its_request_is_wiped() {
        let mut server = armed("ended-with-body");
        let sent = send(&server, "POST", "/v2.5/users?bgrs=yes", &user());
        die_there(&mut server, "ended-with-body");
        sent.join().unwrap();
        assert!(files(&server, ".body").is_empty());
        let rid: String = server.db().query_row("SELECT rid FROM bgrs", [], |row| row.get(0)).unwrap();
        server.finished(&rid);
    }

    #[test]
    fn a_callback_that_was_sent_when_the_process_died_is_sent_again() {
        let receiver = Upstream::saying("");
        let mut server = TestServer::options()
            .env("BGRS_FAILPOINT", "webhook-sent:hold")
            .config("[webhooks]\nallow = [\"127.0.0.0/8\"]\n")
            .start();
        let rid = server.finished_get(&format!("/users/me?bgrs_callback=http://{}/", receiver.addr()));
        die_there(&mut server, "webhook-sent");
        let ids =
            receiver.wait_for(2).iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids, [format!("msg_{rid}"), format!("msg_{rid}")]);
        until("the delivery is noted", || {
            let all = server.get(&format!("/bgrs/{rid}/callbacks")).expect(200).json();
            all.as_array().is_some_and(|all| all.len() == 1) && all[0]["status"] == "200"
        });
    }
}
