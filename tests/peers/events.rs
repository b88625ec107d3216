//! Events through an nginx that buffers what it passes on, and in a browser's `EventSource`.

use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::Browser;
use crate::common::events::{Event, Events, Reporter, holding};
use crate::common::server::PASSWORD;
use crate::common::upstream::{Upstream, answer, ok};
use crate::common::{Call, TestServer, eventually};
use crate::nginx::nginx;
use crate::peer::find;

const BUFFERING: &str = "
        location / {
            proxy_pass http://$ADDRESS;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering on;
        }";

/// Submits a call, follows it, and says what it hears: each time, and once the browser does not come back any more.
const PAGE: &str = r#"<!doctype html>
<title>A page that follows a background request</title>
<script>
// Its own URL has the password in it, which fetch does not take: no relative ones.
const at = location.origin;
const say = (where, what) => fetch(at + "/up/" + where, { method: "POST", body: JSON.stringify(what) });
async function follow() {
  const accepted = await fetch(at + "/up/import?bgrs=yes", { method: "POST" });
  const heard = [];
  const hear = (name, what) => {
    heard.push([name, what]);
    say("heard", heard);
  };
  const events = new EventSource(at + accepted.headers.get("Location") + "/events");
  events.addEventListener("detail", (event) => hear("detail", JSON.parse(event.data).details));
  events.addEventListener("end", (event) => hear("end", JSON.parse(event.data).status_name));
  events.onerror = () => events.readyState === EventSource.CLOSED && say("closed", heard);
}
follow().catch((error) => say("closed", String(error)));
</script>
"#;

#[test]
fn through_nginx_with_buffering_events_come_one_by_one_and_who_is_cut_off_goes_on_where_that_was() {
    let Some(program) = find("nginx in front of events", &["nginx"]) else { return };
    let (gate, upstream) = holding();
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let rid = server.submit("GET", "/up");
    let reporter = Reporter::of(&upstream.wait_for(1)[0]);
    let location = BUFFERING.replace("$ADDRESS", &server.addr().to_string());
    let front = || nginx(&program, TempDir::new().expect("a temporary folder"), &location);
    let target = format!("/bgrs/{rid}/events");

    let first = front();
    let mut events = Events::open(first.addr(), &target, None);
    assert!(events.next().is_some_and(|event| event.shows("running", "0.00")));
    for said in ["one", "two", "three"] {
        reporter.say(&json!({ "details": said }));
        assert!(events.next().is_some_and(|event| event.says(said)), "{said}: {:?}", events.seen);
    }
    drop(first);
    assert_eq!((events.next(), events.whole), (None, false));
    let last = events.seen.last().map(|event| event.id.clone());
    // While nobody listens.
    reporter.say(&json!({ "details": "four", "progress": 50 }));

    let second = front();
    let mut rest = Events::open(second.addr(), &target, last.as_deref());
    rest.find(|event| event.says("four")).expect("what was missed");
    drop(gate);
    rest.by_ref().for_each(drop);
    assert!(rest.whole);
    let all: Vec<Event> = events.seen.into_iter().chain(rest.seen).collect();
    let details: Vec<Value> = all.iter().filter(|event| event.name == "detail").map(Event::json).collect();
    assert_eq!(details, server.details(&rid));
    assert_eq!(all.iter().position(|event| event.name == "end"), Some(all.len() - 1));
    let end = &all[all.len() - 1];
    assert_eq!(end.json(), server.info(&rid));
    let again = Call::new(second.addr(), "GET", &target).auth("admin", PASSWORD).header("Last-Event-ID", &end.id);
    again.send().expect(204);
}

#[test]
fn a_browsers_eventsource_hears_of_everything_as_it_happens_and_once_and_stops_at_the_end() {
    let Some(program) = find("a browser's EventSource", &["chromium", "chromium-browser", "google-chrome"]) else {
        return;
    };
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |seen, stream| match seen.target() {
        "/up/page" => answer(stream, "200 OK", "Content-Type: text/html; charset=utf-8\r\n", PAGE),
        "/up/import" => {
            let _ = opened.lock().unwrap().recv();
            ok(stream, "imported");
        }
        _ => ok(stream, ""),
    });
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let first_at = |path: &str| {
        eventually("a word of the page", || upstream.seen().into_iter().find(|seen| seen.target() == path))
    };
    let said = |path: &str| -> Value { serde_json::from_slice(&first_at(path).body).expect("JSON") };
    let _browser = Browser::open(&program, &format!("http://admin:{PASSWORD}@{}/up/page", server.addr()));
    Reporter::of(&first_at("/up/import")).say(&json!({ "progress": 50, "details": "half of it" }));
    assert_eq!(said("/up/heard"), json!([["detail", "half of it"]]));
    drop(gate);
    let all = json!([["detail", "half of it"], ["detail", "done"], ["end", "finished"]]);
    assert_eq!(said("/up/closed"), all);
}
