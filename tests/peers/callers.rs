//! curl, as the README uses it, and Python's requests.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Mutex, mpsc};

use crate::common::TestServer;
use crate::common::data_dir::{exit_code, run};
use crate::common::upstream::{Upstream, ok};
use crate::peer::{command, find, python};

/// Submits, asks as often as it is told to, and shows the result.
const SCRIPT: &str = r#"
import sys, time
from urllib.parse import urljoin

import requests

session = requests.Session()
session.auth = ("admin", "secret")
accepted = session.post(sys.argv[1] + "/up/import?bgrs=yes", json={"rows": 1000})
accepted.raise_for_status()
request = urljoin(accepted.url, accepted.headers["Location"])
while True:
    answer = session.get(request + "/result")
    if "Bgrs-Request" in answer.headers:
        break
    print(answer.status_code, answer.headers["Retry-After"], flush=True)
    time.sleep(int(answer.headers["Retry-After"]))
print(accepted.status_code, answer.status_code, answer.text, flush=True)
"#;

#[test]
fn curl_submits_follows_the_location_and_takes_a_part_of_the_result() {
    let Some(program) = find("curl as a caller", &["curl"]) else { return };
    let upstream = Upstream::start(|seen, stream| ok(stream, &format!("{} bytes came", seen.body.len())));
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let curl = |args: &[&str]| {
        let mut command = command(&program);
        command.args(["-sS", "-u", "admin:secret"]).args(args);
        run(command, "").expect(0).stdout
    };
    let base = format!("http://{}", server.addr());
    assert_eq!(curl(&["-d", "12345", &format!("{base}/up/import")]), "5 bytes came");

    // From 1 MiB on curl asks first whether it may send the body.
    let upload = server.path().join("upload.bin");
    std::fs::write(&upload, vec![b'x'; 3 << 20]).expect("a file");
    let data = format!("@{}", upload.display());
    let accepted = curl(&["-i", "--data-binary", &data, &format!("{base}/up/import?bgrs=yes")]);
    assert!(accepted.contains("HTTP/1.1 202 "), "{accepted}");
    let location = accepted.lines().find_map(|line| line.to_lowercase().strip_prefix("location: ").map(str::to_owned));
    let request = format!("{base}{}", location.expect("a location"));
    let info = curl(&[&format!("{request}?wait=60")]);
    assert!(info.contains("\"status_name\":\"finished\""), "{info}");
    assert_eq!(curl(&[&format!("{request}/result")]), "3145728 bytes came");
    assert_eq!(curl(&["-r", "8-12", "-w", " %{http_code}", &format!("{request}/result")]), "bytes 206");
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn pythons_requests_submits_asks_after_retry_after_and_gets_the_result() {
    let Some(python) = python("Python's requests as a caller", "requests") else { return };
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |seen, stream| {
        let _ = opened.lock().unwrap().recv();
        ok(stream, &format!("got {}", String::from_utf8_lossy(&seen.body)));
    });
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let mut command = command(&python);
    command.args(["-c", SCRIPT, &format!("http://{}", server.addr())]).stderr(Stdio::inherit());
    let mut script = command.spawn().expect("Python starts");
    let mut lines = BufReader::new(script.stdout.take().expect("standard output")).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("202 1"), "it is told to come back");
    gate.send(()).unwrap();
    assert_eq!(lines.last().as_deref(), Some("202 200 got {\"rows\": 1000}"));
    assert_eq!(exit_code(&mut script), Some(0));
}
