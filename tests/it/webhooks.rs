//! Callbacks: who is told of a request's end, signed how, how often, and where none ever goes.

use std::fs;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::common::upstream::{Seen, Upstream, answer, ok, wait_for_close};
use crate::common::{Call, TestServer, assert_submitted, error_of, eventually, is_date_time, keys_in_order};

/// Receivers of the tests are at home.
const ALLOWED: &str = "[webhooks]\nallow = [\"127.0.0.0/8\"]\n";

/// What a test makes a background request of, where it does not matter.
const CALL: &str = "/v2.5/users/me";

/// A server that may call this machine; with more lines of that section, or further ones.
fn server(more: &str) -> TestServer {
    TestServer::options().config(&format!("{ALLOWED}{more}")).start()
}

fn hook(receiver: &Upstream) -> String {
    format!("http://{}/hook", receiver.addr())
}

/// Submits a call whose end this URL is told of, and waits for it.
#[track_caller]
fn told(server: &TestServer, url: &str) -> String {
    let rid = server.submit("GET", &format!("{CALL}?bgrs_callback={url}"));
    server.finished(&rid);
    rid
}

#[track_caller]
fn deliveries(server: &TestServer, rid: &str) -> Vec<Value> {
    let answer = server.get(&format!("/bgrs/{rid}/callbacks")).expect(200);
    answer.json().as_array().expect("an array").clone()
}

/// Waits until so many deliveries of the request were made, and gives all that there are.
#[track_caller]
fn made(server: &TestServer, rid: &str, count: usize) -> Vec<Value> {
    eventually("deliveries", || {
        let all = deliveries(server, rid);
        (all.iter().filter(|delivery| !delivery["sent_dt"].is_null()).count() >= count).then_some(all)
    })
}

/// Attempt and status of each.
fn outcomes(deliveries: &[Value]) -> Vec<(&str, Option<&str>)> {
    deliveries.iter().map(|delivery| (delivery["attempt"].as_str().unwrap(), delivery["status"].as_str())).collect()
}

/// What was sent, where its signature is right.
#[track_caller]
fn verified(seen: &Seen, secret: &str) -> Value {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, seen.header(name).expect("a header").parse().unwrap());
    }
    Webhook::new(secret).unwrap().verify(&seen.body, &headers).expect("the right signature");
    serde_json::from_slice(&seen.body).unwrap()
}

/// Submissions with this callback: as a parameter, and as a header.
fn asking(server: &TestServer, url: &str) -> [Call; 2] {
    let encoded: String = form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let by_header = server.call("GET", &format!("{CALL}?bgrs=yes")).header("Bgrs-Callback", url);
    [server.call("GET", &format!("{CALL}?bgrs=yes&bgrs_callback={encoded}")), by_header]
}

#[track_caller]
fn refused_and_nothing_left(server: &TestServer, call: &Call) -> String {
    server.leaves_nothing(|| error_of(&call.send(), 400))
}

#[test]
fn an_end_is_posted_to_the_callback_signed_with_the_secret_that_the_first_start_made() {
    let receiver = Upstream::saying("thanks");
    let server = server("");
    let file = server.path().join("bgrs.whsec");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&file).unwrap();
    let rid = told(&server, &hook(&receiver));

    let seen = receiver.wait_for(1).remove(0);
    assert_eq!(seen.line(), "POST /hook HTTP/1.1");
    assert_eq!(seen.header("Host"), Some(receiver.addr().to_string().as_str()));
    assert_eq!(seen.header("Content-Type"), Some("application/json"));
    assert!(seen.header("User-Agent").unwrap().starts_with("bgrs-server/"));
    assert_eq!(seen.header("webhook-id"), Some(format!("msg_{rid}").as_str()));
    assert_eq!((seen.header("Authorization"), seen.header("Cookie")), (None, None));
    assert_eq!(verified(&seen, secret.trim_end()), server.info(&rid));
    let shown = server.get(&format!("/bgrs/{rid}")).text();
    assert_eq!(keys_in_order(&String::from_utf8(seen.body).unwrap()), keys_in_order(&shown));

    let all = made(&server, &rid, 1);
    let (id, due, sent) = (&all[0]["id"], &all[0]["due_dt"], &all[0]["sent_dt"]);
    assert!(id.as_str().unwrap().parse::<i64>().is_ok() && is_date_time(due) && is_date_time(sent), "{all:?}");
    let expected = json!([{
        "id": id, "rid": rid, "url": hook(&receiver), "attempt": "1", "due_dt": due, "sent_dt": sent,
        "status": "200", "error": null,
    }]);
    assert_eq!(json!(all), expected);
    let listed = server.get(&format!("/v2.5/bgrs/{rid}/callbacks")).expect(200);
    assert_eq!(listed.header("Cache-Control"), Some("no-store"));
    let keys = ["id", "rid", "url", "attempt", "due_dt", "sent_dt", "status", "error"];
    assert_eq!(keys_in_order(&listed.text()), keys);
    assert_eq!(receiver.seen().len(), 1);
}

#[test]
fn what_failed_and_what_was_cancelled_is_told_too_and_the_api_sees_nothing_of_the_callback() {
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let receiver = Upstream::saying("");
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/fails?x=1" => drop(stream.shutdown(Shutdown::Both)),
        _ => wait_for_close(stream),
    });
    let server = server(&format!("secret = \"{secret}\"\n{}", upstream.table("/up")));
    assert!(!server.path().join("bgrs.whsec").exists());
    let url = hook(&receiver);

    let failed = server.submit("POST", &format!("/up/fails?bgrs_callback={url}&x=1"));
    assert_eq!(server.ended(&failed)["status_name"], "failed");
    let cancelled = server.call("GET", "/up/slow?bgrs=yes").header("Bgrs-Callback", &url);
    let cancelled = assert_submitted(&cancelled.send());
    upstream.wait_for(2);
    server.delete(&format!("/bgrs/{cancelled}")).expect(200);

    let told: Vec<_> = receiver.wait_for(2).iter().map(|seen| verified(seen, secret)).collect();
    for (rid, name) in [(&failed, "failed"), (&cancelled, "cancelled")] {
        let object = told.iter().find(|object| object["rid"] == **rid).expect("a callback");
        assert_eq!((object["status_name"].as_str(), object), (Some(name), &server.info(rid)));
    }
    let seen = upstream.seen();
    let targets: Vec<_> = seen.iter().map(Seen::target).collect();
    assert_eq!(targets, ["/up/fails?x=1", "/up/slow"]);
    assert!(seen.iter().all(|seen| seen.header("Bgrs-Callback").is_none()));
}

#[test]
fn a_delivery_is_made_again_after_an_error_and_not_before_the_receiver_wants_it() {
    let arrivals = Mutex::new(Vec::new());
    let receiver = Upstream::start(move |_, stream| {
        let mut arrivals = arrivals.lock().unwrap();
        arrivals.push(Instant::now());
        match &arrivals[..] {
            [_] => answer(stream, "503 Service Unavailable", "Retry-After: 4\r\n", "later"),
            // A moment's tolerance: what is due is kept in milliseconds.
            [first, second] if *second - *first >= Duration::from_millis(3990) => ok(stream, ""),
            _ => answer(stream, "418 Too Early", "", ""),
        }
    });
    let server = server("");
    let rid = told(&server, &hook(&receiver));
    let all = made(&server, &rid, 2);
    assert_eq!(outcomes(&all), [("1", Some("503")), ("2", Some("200"))]);
    let secret = fs::read_to_string(server.path().join("bgrs.whsec")).unwrap();
    let seen = receiver.seen();
    for seen in &seen {
        assert_eq!(verified(seen, secret.trim_end()), server.info(&rid));
    }
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("webhook-id")).collect();
    assert_eq!(ids, [Some(format!("msg_{rid}").as_str()); 2]);
}

#[test]
fn no_redirect_is_followed_and_a_receiver_that_is_gone_is_not_asked_again() {
    let other = Upstream::saying("");
    let moved = format!("Location: {}\r\n", hook(&other));
    let receiver = Upstream::start(move |seen, stream| match seen.target() {
        "/moved" => answer(stream, "307 Temporary Redirect", &moved, ""),
        _ => answer(stream, "410 Gone", "", ""),
    });
    let server = server("");
    let url = |path: &str| format!("http://{}{path}", receiver.addr());
    let all = made(&server, &told(&server, &url("/moved")), 1);
    assert_eq!(outcomes(&all)[0], ("1", Some("307")));
    assert!(all.len() > 1, "no other attempt is due: {all:?}");
    assert_eq!(outcomes(&made(&server, &told(&server, &url("/gone")), 1)), [("1", Some("410"))]);
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_delivery_that_was_under_way_when_the_server_was_killed_is_made_again_and_those_before_are_not() {
    let count = AtomicUsize::new(0);
    let receiver = Upstream::start(move |_, stream| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(stream, "500 Internal Server Error", "", ""),
        1 => wait_for_close(stream),
        _ => ok(stream, ""),
    });
    let mut server = server("");
    let rid = told(&server, &hook(&receiver));
    receiver.wait_for(2);
    server.kill();
    server.start_again();
    let all = made(&server, &rid, 2);
    assert_eq!(outcomes(&all), [("1", Some("500")), ("2", Some("200"))]);
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3);
    for again in &seen[1..] {
        assert_eq!((again.header("webhook-id"), &again.body), (seen[0].header("webhook-id"), &seen[0].body));
    }
}

#[test]
fn a_delivery_is_sent_again_when_its_owner_or_an_administrator_asks_and_to_nobody_else() {
    let receiver = Upstream::saying("");
    let server = server("");
    server.add_user("kim", "kims");
    let rid = told(&server, &hook(&receiver));
    let first = made(&server, &rid, 1).remove(0);
    let path = |rid: &str, id: &str| format!("/bgrs/{rid}/callbacks/{id}/resend");
    let resend = path(&rid, first["id"].as_str().unwrap());
    let silent = server.finished_get(CALL);
    assert!(deliveries(&server, &silent).is_empty());

    error_of(&server.call("GET", &format!("/bgrs/{rid}/callbacks")).auth("kim", "kims").send(), 403);
    error_of(&server.call("POST", &resend).auth("kim", "kims").send(), 403);
    error_of(&server.call("POST", &resend).no_auth().send(), 401);
    error_of(&server.get(&resend), 405);
    let nobody = "4ff7cc2d88b1de88e83cce3f1caa1509";
    for unknown in [format!("/bgrs/{nobody}/callbacks"), "/bgrs/x/callbacks".to_owned()] {
        error_of(&server.get(&unknown), 404);
    }
    let id = first["id"].as_str().unwrap();
    for (rid, id) in [(&*rid, "0"), (&*rid, "999999"), (&*rid, "x"), (&*silent, id), (nobody, id)] {
        error_of(&server.call("POST", &path(rid, id)).send(), 404);
    }
    assert_eq!((server.count("bgrs_callbacks"), receiver.seen().len()), (1, 1));

    let again = server.call("POST", &resend).send().expect(202).json();
    let again = &again.as_array().unwrap()[..];
    assert_eq!((outcomes(again), &again[0]["sent_dt"]), (vec![("1", None)], &Value::Null));
    assert_ne!(again[0]["id"], first["id"]);
    let all = made(&server, &rid, 2);
    assert_eq!(outcomes(&all), [("1", Some("200")); 2]);
    let seen = receiver.seen();
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));

    let kims = server.call("GET", &format!("{CALL}?bgrs=yes&bgrs_callback={}", hook(&receiver))).auth("kim", "kims");
    let kims = assert_submitted(&kims.send());
    let id = made(&server, &kims, 1)[0]["id"].as_str().unwrap().to_owned();
    server.call("POST", &path(&kims, &id)).auth("kim", "kims").send().expect(202);
    receiver.wait_for(4);
}

#[test]
fn an_address_that_is_not_public_is_400_however_it_is_written_and_nothing_is_left() {
    let receiver = Upstream::saying("");
    let port = receiver.addr().port();
    let server = TestServer::start();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.01",
        "%31%32%37.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "100.64.0.1",
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
    ] {
        for call in asking(&server, &format!("https://{host}:{port}/")) {
            let why = refused_and_nothing_left(&server, &call);
            assert!(why.contains("webhooks.allow"), "{host}: {why}");
        }
    }
    assert_eq!((receiver.connections(), server.count("bgrs_callbacks")), (0, 0));
}

#[test]
fn a_callback_that_is_no_https_url_is_400_and_so_are_two_different_ones_and_nothing_is_left() {
    let server = TestServer::start();
    let long = format!("https://example.org/{}", "x".repeat(2048));
    for url in [
        "",
        "hook",
        "//example.org/",
        "https://",
        "https://example.org:99999/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://example.org/",
        "http://8.8.8.8/",
        "http://127.0.0.1/",
        "https://login@example.org/",
        "https://login:word@example.org/",
        "https://example.org/#part",
        long.as_str(),
    ] {
        for call in asking(&server, url) {
            refused_and_nothing_left(&server, &call);
        }
    }
    let [parameter, header] = asking(&server, "https://one.example/");
    let twice = format!("{CALL}?bgrs=yes&bgrs_callback=https://one.example/&bgrs_callback=https://two.example/");
    for call in [
        parameter.header("Bgrs-Callback", "https://two.example/"),
        header.header("Bgrs-Callback", "https://two.example/"),
        server.call("GET", &twice),
    ] {
        refused_and_nothing_left(&server, &call);
    }
    assert_eq!(server.count("bgrs_callbacks"), 0);
}

#[test]
fn a_name_is_judged_by_the_addresses_that_it_has_when_it_is_connected_to() {
    let receiver = Upstream::saying("");
    let port = receiver.addr().port();
    for (config, scheme) in [
        ("", "https"),
        ("[webhooks]\nallow = [\"10.0.0.0/8\"]\n", "https"),
        ("[webhooks]\nallow = [\"10.0.0.0/8\"]\n", "http"),
    ] {
        let server = TestServer::options().config(config).start();
        let rid = told(&server, &format!("{scheme}://localhost:{port}/hook"));
        let first = made(&server, &rid, 1).remove(0);
        assert!(first["status"].is_null(), "{first}");
        assert!(first["error"].as_str().unwrap().contains("an address that callbacks may not go to"), "{first}");
    }
    assert_eq!(receiver.connections(), 0);
    let server = server("");
    let rid = told(&server, &format!("http://localhost:{port}/hook"));
    assert_eq!(outcomes(&made(&server, &rid, 1)), [("1", Some("200"))]);
}

#[test]
fn a_receiver_that_does_not_answer_holds_up_no_other() {
    let dead = Upstream::start(|_, stream| wait_for_close(stream));
    let server = server("");
    for _ in 0..20 {
        told(&server, &hook(&dead));
    }
    dead.wait_for(4);
    let receiver = Upstream::saying("");
    let rid = told(&server, &hook(&receiver));
    assert_eq!(outcomes(&made(&server, &rid, 1)), [("1", Some("200"))]);
    assert!(dead.connections() <= 4 + dead.closed(), "{} at once", dead.connections());
}

#[test]
fn why_there_was_no_answer_is_shown() {
    let server = server("");
    // Not of 127.0.0.1: nothing else takes a port of it meanwhile.
    let addr = std::net::TcpListener::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    let rid = told(&server, &format!("http://{addr}/"));
    let first = made(&server, &rid, 1).remove(0);
    assert_eq!(first["error"], "The receiver cannot be reached: connection refused.");
    let noise = Upstream::start(|_, stream| answer(stream, "nothing", "", ""));
    let rid = told(&server, &hook(&noise));
    let first = made(&server, &rid, 1).remove(0);
    assert_eq!(first["error"], "The receiver did not answer in HTTP.");
}
