//! The program's own `call`, events, downloads, and what is done with many requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::way::{REPORT, Told, Trick, Way, last_rid};
use super::{Ran, bash, browse, chromium, cors, execute, node, page, recipe, rows, url};
use crate::common::TestServer;
use crate::common::data_dir::exit_code;
use crate::common::events::{Reporter, holding};
use crate::common::rows::{add_details, finished};
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, ok, wait_for_close};
use crate::peer::{command, find};

#[test]
fn the_program_makes_a_call_and_comes_back_to_it() {
    let Some(bash) = find("the recipes for the program itself", &["bash"]) else { return };
    let server = TestServer::start();
    let folder = Path::new(env!("CARGO_BIN_EXE_bgrs-server")).parent().expect("a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path"));
    let mut variables = vec![("BGRS_URL", url(server.addr())), ("PATH", path)];
    let export = Some(server.get("/v2.5/scans/export?t=csv").expect(200).text());
    let ran = execute(&bash, "recipe.sh", recipe("call"), &variables).expect(0);
    assert_eq!(ran.file, export);
    variables.push(("BGRS_RID", finished(&server).remove(0)));
    let ran = execute(&bash, "recipe.sh", recipe("call-attach"), &variables).expect(0);
    assert_eq!(ran.file, export);
    assert_eq!(server.rows(), 1);
}

#[test]
fn curl_prefers_a_result_and_is_told_where_it_will_be() {
    let Some(bash) = bash() else { return };
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/fast" => ok(stream, &rows()),
        _ => wait_for_close(stream),
    });
    let config = format!("{}[background]\nmax_wait = \"1s\"\n", upstream.table("/up"));
    let server = TestServer::options().config(&config).start();
    let call = |path: &str, password: &str| {
        let variables =
            [("BGRS_URL", url(server.addr())), ("BGRS_CALL", path.into()), ("BGRS_PASSWORD", password.into())];
        execute(&bash, "recipe.sh", recipe("curl-prefer"), &variables)
    };
    assert!(call("/up/fast", PASSWORD).expect(0).file == Some(rows()));
    let slow = call("/up/slow", PASSWORD).expect(0);
    assert_eq!(slow.said, format!("still running: {}/bgrs/{}\n", url(server.addr()), last_rid(&upstream)));
    assert!(slow.file.is_none());
    call("/up/fast", "wrong").expect(1).says("Unauthorized");
}

#[test]
fn curl_shows_events_as_they_come() {
    let Some(bash) = bash() else { return };
    let (gate, upstream) = holding();
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let rid = server.submit("GET", "/up/import");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    let mut command = command(&bash);
    command.args(["-c", recipe("curl-events")]).env("BGRS_URL", url(server.addr())).env("BGRS_RID", &rid);
    let mut curl = command.stderr(Stdio::inherit()).spawn().expect("bash starts");
    let mut lines = BufReader::new(curl.stdout.take().expect("standard output")).lines().map_while(Result::ok);
    assert!(lines.next().is_some_and(|line| line.starts_with("status {")));
    reporter.say(&json!({ "details": REPORT }));
    assert!(lines.any(|line| line.starts_with("detail {") && line.contains(REPORT)));
    assert_eq!(server.info(&rid)["status_name"], "running");
    drop(gate);
    let end = lines.last().expect("an event");
    assert!(end.starts_with("end {") && end.contains("\"status_name\":\"finished\""), "{end}");
    assert_eq!(exit_code(&mut curl), Some(0));
}

/// Breaks the connection off in the middle of the events.
fn assert_shows_each_event_once(config: &str, run: impl Fn(&[(&str, String)]) -> Ran) {
    let server = TestServer::options().config(config).start();
    let way = Way::start(server.addr(), &Told::default());
    let rid = server.finished_get("/v2.5/users/me");
    add_details(&server, &rid, 20);
    way.play(Trick::Cuts("/events"));
    let ran = run(&[("BGRS_URL", way.url()), ("BGRS_RID", rid.clone())]).expect(0);
    way.assert_played();
    let mut lines = vec!["status finished 100.00 %".to_owned()];
    lines.extend(server.details(&rid).iter().map(|detail| format!("detail {}", detail["details"].as_str().unwrap())));
    lines.push("end finished 100.00 %".to_owned());
    assert_eq!(ran.said.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn javascript_shows_each_event_once_in_a_page() {
    let Some(chromium) = chromium() else { return };
    let page = page(recipe("javascript-events"));
    assert_shows_each_event_once(&cors(&page), |variables| browse(&chromium, &page, variables));
}

#[test]
fn javascript_shows_each_event_once_in_node() {
    let Some(node) = node() else { return };
    let recipe = recipe("javascript-events");
    assert_shows_each_event_once("", |variables| execute(&node, "recipe.mjs", recipe, variables));
}

#[test]
fn curl_goes_on_with_a_download_that_broke_off() {
    let Some(bash) = bash() else { return };
    let upstream = Upstream::start(|_, stream| ok(stream, &rows()));
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let way = Way::start(server.addr(), &Told::default());
    let variables = [("BGRS_URL", way.url()), ("BGRS_RID", server.finished_get("/up/rows"))];
    way.play(Trick::Cuts("/result"));
    let ran = execute(&bash, "recipe.sh", recipe("curl-resume"), &variables).expect(0);
    assert!(ran.file == Some(rows()));
    let seen = way.relay.seen();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.header("Range")).collect();
    assert!(matches!(ranges[..], [None, Some(range)] if range.starts_with("bytes=")), "{ranges:?}");
}

#[test]
fn curl_cancels_a_request_and_removes_it() {
    let Some(bash) = bash() else { return };
    let (_gate, upstream) = holding();
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let rid = server.submit("GET", "/up/import");
    let variables = [("BGRS_URL", url(server.addr())), ("BGRS_RID", rid.clone())];
    let delete = || execute(&bash, "recipe.sh", recipe("curl-cancel"), &variables);
    delete().expect(0).says("\"status_name\":\"cancelled\"");
    assert_eq!(server.info(&rid)["status_name"], "cancelled");
    assert_eq!(delete().expect(0).said, "");
    assert_eq!(server.rows(), 0);
    delete().expect(22).says("Not Found");
}

#[test]
fn curl_runs_each_failed_request_again_once() {
    let Some(bash) = bash() else { return };
    let healed = Arc::new(AtomicBool::new(false));
    let is_healed = healed.clone();
    let upstream = Upstream::start(move |_, stream| {
        if is_healed.load(Ordering::SeqCst) {
            ok(stream, "done");
        } else {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let config = format!("{}[[route]]\npath = \"/up\"\nretry = {{ attempts = 1 }}\n", upstream.table("/up"));
    let server = TestServer::options().config(&config).start();
    let mut failed: Vec<String> = (0..3).map(|_| server.submit("GET", "/up/import")).collect();
    for rid in &failed {
        assert_eq!(server.ended(rid)["status_name"], "failed");
    }
    healed.store(true, Ordering::SeqCst);
    let again = || -> BTreeMap<String, String> {
        let variables = [("BGRS_URL", url(server.addr())), ("BGRS_QUERY", "status=failed&limit=2".to_owned())];
        let ran = execute(&bash, "recipe.sh", recipe("curl-rerun"), &variables).expect(0);
        let new = |json: &str| serde_json::from_str::<Value>(json).ok()?["request"].as_str().map(str::to_owned);
        let line = |line: &str| line.split_once(": ").and_then(|(rid, json)| Some((rid.to_owned(), new(json)?)));
        ran.said.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
    };
    let first = again();
    failed.sort();
    assert_eq!(first.keys().cloned().collect::<Vec<_>>(), failed);
    for rid in first.values() {
        server.finished(rid);
    }
    assert_eq!(again(), first);
    assert_eq!(server.rows(), 6);
}
