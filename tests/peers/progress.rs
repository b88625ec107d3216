//! The README's ten lines of Python and of PHP, in an API behind the server.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::common::{TestServer, until};
use crate::peer::{Peer, command, find, free_port, python};

const IN_PYTHON: &str = r#"
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from report import report

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        report(self.headers, 42.5, "425 of 1000 imported")
        while not os.path.exists("gate"):
            time.sleep(0.01)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"imported")

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api).serve_forever()
"#;

const IN_PHP: &str = r#"<?php
require 'report.php';
report(42.5, '425 of 1000 imported');
while (!file_exists(__DIR__ . '/gate')) {
    usleep(10000);
    clearstatcache();
}
echo 'imported';
"#;

/// The code in this language that the README shows.
fn snippet(language: &str) -> &'static str {
    let mut sections = include_str!("../../README.md").split("\n## ");
    let section = sections.find(|section| section.starts_with("Progress from your API\n")).expect("the section");
    let (_, code) = section.split_once(&format!("```{language}\n")).expect("the code");
    code.split_once("```").expect("its end").0
}

/// A folder with these two files.
fn folder(report: (&str, &str), api: (&str, &str)) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    for (name, text) in [report, api] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

/// Asserts that what the API says while it is at work is seen by then.
fn assert_reports(dir: TempDir, command: Command, port: u16) {
    let api = Peer::start(dir, command, port);
    let server = TestServer::options().config(&api.table()).start();
    let rid = server.submit("GET", "/up/import");
    until("the report", || server.info(&rid)["progress"] == "42.50");
    assert_eq!(server.info(&rid)["status_name"], "running");
    assert_eq!(server.last_detail(&rid), "425 of 1000 imported");
    fs::write(api.path().join("gate"), "").expect("a gate");
    assert_eq!(server.finished(&rid)["progress"], "100.00");
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), "imported");
    // In the foreground nobody is told.
    assert_eq!(server.get("/up/import").expect(200).text(), "imported");
}

#[test]
fn the_readmes_python_reports_its_progress() {
    let Some(python) = python("the README's Python", "urllib.request") else { return };
    let port = free_port();
    let dir = folder(("report.py", snippet("python")), ("api.py", IN_PYTHON));
    let mut command = command(&python);
    command.args(["api.py", &port.to_string()]);
    assert_reports(dir, command, port);
}

#[test]
fn the_readmes_php_reports_its_progress() {
    let Some(php) = find("the README's PHP", &["php"]) else { return };
    let port = free_port();
    let dir = folder(("report.php", snippet("php")), ("index.php", IN_PHP));
    let mut command = command(&php);
    command.args(["-S", &format!("127.0.0.1:{port}"), "index.php"]);
    assert_reports(dir, command, port);
}
