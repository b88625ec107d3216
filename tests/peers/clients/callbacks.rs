//! Callbacks: asked for, received, verified, sent again.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{bash, browse, chromium, execute, node, page, recipe, url};
use crate::common::upstream::Upstream;
use crate::common::{TestServer, assert_submitted, eventually, until};
use crate::peer::{Peer, command, find, free_port, python};

/// The server's secret, and another.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A server that signs with the secret, and calls receivers on this machine.
fn calling_back() -> TestServer {
    let config = format!("[webhooks]\nsecret = \"{SECRET}\"\nallow = [\"127.0.0.0/8\"]\n");
    TestServer::options().config(&config).start()
}

/// The first delivery of a request's callback, once it was made.
fn delivery(server: &TestServer, rid: &str) -> Value {
    eventually("a delivery", || {
        let deliveries = server.get(&format!("/bgrs/{rid}/callbacks")).expect(200).json();
        deliveries.as_array()?.iter().find(|delivery| !delivery["sent_dt"].is_null()).cloned()
    })
}

/// Asserts that a receiver takes what is signed with its own secret, and refuses the rest.
fn assert_verifies(name: &str, recipe: &str, start: impl Fn(u16) -> Command) {
    let server = calling_back();
    for (secret, status) in [(SECRET, "204"), (OTHER, "401")] {
        let (dir, port) = (TempDir::new().expect("a temporary folder"), free_port());
        fs::write(dir.path().join(name), recipe).expect("a file");
        let mut command = start(port);
        command.env("PORT", port.to_string()).env("BGRS_WEBHOOK_SECRET", secret);
        let receiver = Peer::start(dir, command, port);
        let call = server.call("GET", "/v2.5/users/me?bgrs=yes").header("Bgrs-Callback", &url(receiver.addr()));
        let rid = assert_submitted(&call.send());
        assert_eq!(delivery(&server, &rid)["status"], status);
        let word = if secret == SECRET { format!("{rid} finished 200") } else { "refused: the signature".to_owned() };
        let output = receiver.path().join("output.log");
        until("a word of the receiver", || fs::read_to_string(&output).is_ok_and(|said| said.contains(&word)));
    }
}

#[test]
fn the_receiver_in_python_takes_what_is_signed_and_nothing_else() {
    let Some(python) = python("the receiver in Python", "http.server") else { return };
    assert_verifies("receiver.py", recipe("webhook-python"), |_| {
        let mut command = command(&python);
        command.arg("receiver.py");
        command
    });
}

#[test]
fn the_receiver_in_php_takes_what_is_signed_and_nothing_else() {
    let Some(php) = find("the receiver in PHP", &["php"]) else { return };
    assert_verifies("receiver.php", recipe("webhook-php"), |port| {
        let mut command = command(&php);
        command.args(["-S", &format!("127.0.0.1:{port}"), "receiver.php"]);
        command
    });
}

#[test]
fn the_receiver_in_javascript_takes_what_is_signed_and_nothing_else_in_node() {
    let Some(node) = node() else { return };
    assert_verifies("receiver.mjs", recipe("webhook-javascript"), |_| {
        let mut command = command(&node);
        command.arg("receiver.mjs");
        command
    });
}

#[test]
fn the_receiver_in_javascript_takes_what_is_signed_and_nothing_else_in_a_page() {
    let Some(chromium) = chromium() else { return };
    let (server, hook) = (calling_back(), Upstream::saying(""));
    let call = server.call("GET", "/v2.5/users/me?bgrs=yes").header("Bgrs-Callback", &url(hook.addr()));
    let rid = assert_submitted(&call.send());
    let delivered = hook.wait_for(1).remove(0);
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: BTreeMap<_, _> = names.iter().map(|name| (name, delivered.header(name))).collect();
    let body = String::from_utf8(delivered.body.clone()).expect("a body in UTF-8");
    let page = page(recipe("webhook-javascript"));
    let said = |secret: &str, body: &str| {
        let delivery = json!({ "headers": headers, "body": body }).to_string();
        browse(&chromium, &page, &[("BGRS_WEBHOOK_SECRET", secret.to_owned()), ("DELIVERY", delivery)]).expect(0).said
    };
    let refused = "refused: the signature is not right\nanswered 401\n";
    assert_eq!(said(SECRET, &body), format!("{rid} finished 200\nanswered 204\n"));
    assert_eq!(said(OTHER, &body), refused);
    assert_eq!(said(SECRET, &body.replace("finished", "failed")), refused);
}

#[test]
fn curl_asks_for_a_callback_and_has_it_sent_again() {
    let Some(bash) = bash() else { return };
    let (server, hook) = (calling_back(), Upstream::saying(""));
    let callback = format!("{}/hook", url(hook.addr()));
    let mut variables = vec![("BGRS_URL", url(server.addr())), ("BGRS_CALLBACK", callback)];
    let ran = execute(&bash, "recipe.sh", recipe("curl-callback"), &variables).expect(0);
    let accepted: Value = serde_json::from_str(&ran.said).expect("JSON");
    let rid = accepted["request"].as_str().expect("an rid").to_owned();
    assert_eq!(delivery(&server, &rid)["status"], "200");
    variables.push(("BGRS_RID", rid.clone()));
    execute(&bash, "recipe.sh", recipe("curl-resend"), &variables).expect(0).says("\"status\":\"200\"");
    let id = format!("msg_{rid}");
    for seen in hook.wait_for(2) {
        assert_eq!((seen.target(), seen.header("webhook-id")), ("/hook", Some(id.as_str())));
    }
}
