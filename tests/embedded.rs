//! An API of one's own behind the library: handlers that are slow, large, or break, which the hosted API has not.

#[path = "it/common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other tests, which use the rest")]
mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use bgrs::clock::Manual;
use bgrs::{Builder, Caller, Config, Progress, resource};
use bytes::Bytes;
use common::{Call, Response, assert_submitted, error_of, eventually, until};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

/// What the handlers and the test share.
struct Api {
    /// Calls of `/gate` end when the test opens it.
    gate: Semaphore,
    /// Calls of `/gate` that have begun.
    begun: AtomicUsize,
    clock: Manual,
}

/// A running server with the API of these tests, in this process.
struct Embedded {
    addr: SocketAddr,
    api: Arc<Api>,
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<std::thread::JoinHandle<()>>,
    look: std::sync::mpsc::Sender<std::sync::mpsc::Sender<()>>,
}

async fn gate(api: web::Data<Api>) -> HttpResponse {
    api.begun.fetch_add(1, Ordering::SeqCst);
    let _pass = api.gate.acquire().await;
    HttpResponse::Ok().json("through")
}

/// Reports before and behind the gate, a million times in all.
async fn reports(api: web::Data<Api>, progress: Progress) -> HttpResponse {
    progress.set(50.0);
    progress.set(20.0);
    progress.detail("half");
    api.begun.fetch_add(1, Ordering::SeqCst);
    let _pass = api.gate.acquire().await;
    for n in 0..1_000_000 {
        progress.set(50.0 + f64::from(n) / 100_000.0);
    }
    (0..3000).for_each(|n| progress.detail(n.to_string()));
    HttpResponse::Ok().json(progress.cancelled())
}

/// Panics, or waits at the gate, if it is told to.
async fn item(api: web::Data<Api>, item: web::Json<Value>) -> HttpResponse {
    api.begun.fetch_add(1, Ordering::SeqCst);
    match item["do"].as_str() {
        Some("panic") => panic!("a planned panic of an element"),
        Some("wait") => drop(api.gate.acquire().await),
        _ => {}
    }
    HttpResponse::Ok().json(item.into_inner())
}

async fn panics() -> HttpResponse {
    panic!("a planned panic of a handler")
}

async fn bytes(req: actix_web::HttpRequest) -> HttpResponse {
    let count: usize = req.match_info().query("mebibytes").parse().unwrap();
    let pieces =
        futures_util::stream::iter(0..count * 16).map(|n| Ok::<_, actix_web::Error>(vec![n as u8; 65536].into()));
    HttpResponse::Ok().content_type("application/octet-stream").streaming(pieces)
}

async fn breaks_off() -> HttpResponse {
    let pieces = [Ok(Bytes::from_static(b"half")), Err(actix_web::error::ErrorInternalServerError("broken"))];
    HttpResponse::Ok().content_type("text/plain").streaming(futures_util::stream::iter(pieces))
}

async fn echo(caller: Caller, req: actix_web::HttpRequest, mut body: web::Payload) -> HttpResponse {
    let mut length = 0;
    let mut digest = blake3::Hasher::new();
    while let Some(piece) = body.next().await {
        let piece = piece.unwrap();
        length += piece.len();
        digest.update(&piece);
    }
    let headers: Vec<_> = req.headers().iter().map(|(n, v)| json!([n.as_str(), v.to_str().unwrap()])).collect();
    HttpResponse::Created()
        .insert_header(("Set-Cookie", "a=b"))
        .insert_header(("ETag", "\"mine\""))
        .append_header(("X-Two", "1"))
        .append_header(("X-Two", "2"))
        .json(json!({
            "user": caller.user_id, "uri": req.uri().to_string(), "headers": headers,
            "length": length, "digest": digest.finalize().to_string(),
        }))
}

fn routes(api: &Arc<Api>) -> impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static {
    let api = api.clone();
    move |cfg| {
        cfg.app_data(web::Data::from(api.clone()))
            .service(resource("/gate").get(gate).post(gate).build())
            .service(resource("/reports").get(reports).build())
            .service(resource("/items").post(item).build())
            .service(resource("/panics").get(panics).build())
            .service(resource("/bytes/{mebibytes}").get(bytes).build())
            .service(resource("/breaks-off").get(breaks_off).build())
            .service(resource("/echo").post(echo).put(echo).build());
    }
}

impl Embedded {
    fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    fn start_in(dir: tempfile::TempDir, config: &str) -> Self {
        let file = dir.path().join("bgrs.toml");
        std::fs::write(&file, config).unwrap();
        let config = Config::load(Some(&file), std::iter::empty()).unwrap();
        let clock = Manual::at("2026-01-31T10:00:00Z".parse().unwrap());
        let api = Arc::new(Api { gate: Semaphore::new(0), begun: AtomicUsize::new(0), clock });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<Duration>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (look, looks) = std::sync::mpsc::channel::<std::sync::mpsc::Sender<()>>();
        let shared = api.clone();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let clock = shared.clone();
                let builder = Builder::new(config).api(routes(&shared)).clock(Arc::new(Clock(clock)));
                let bgrs = builder.start().await.unwrap();
                let password = bgrs.administrator().and_then(|made| made.password.clone());
                let mount = bgrs.mount();
                let server = HttpServer::new(move || {
                    let mount = mount.clone();
                    App::new().wrap(mount.middleware()).configure(|cfg| mount.configure(cfg))
                })
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
                let handle = server.handle();
                actix_web::rt::spawn(server);
                ready.send(password).unwrap();
                let maintenance = bgrs.maintenance().clone();
                actix_web::rt::spawn(async move {
                    loop {
                        while let Ok(done) = looks.try_recv() {
                            maintenance.look().await.unwrap();
                            done.send(()).unwrap();
                        }
                        actix_web::rt::time::sleep(Duration::from_millis(5)).await;
                    }
                });
                let grace = stopped.await.unwrap_or_default();
                bgrs.shut_down(grace).await;
                handle.stop(false).await;
            });
        });
        let password = is_ready.recv().unwrap();
        if let Some(password) = password {
            std::fs::write(dir.path().join("password"), password).unwrap();
        }
        Self { addr, api, dir, stop: Some(stop), thread: Some(thread), look }
    }

    fn call(&self, method: &str, target: &str) -> Call {
        let password = std::fs::read_to_string(self.dir.path().join("password")).unwrap();
        Call::new(self.addr, method, target).auth("admin", &password)
    }

    fn submit(&self, method: &str, target: &str) -> String {
        assert_submitted(&self.call(method, target).send())
    }

    fn info(&self, rid: &str) -> Value {
        self.call("GET", &format!("/bgrs/{rid}?verbose=1")).send().expect(200).json()[0].clone()
    }

    fn ended(&self, rid: &str) -> Value {
        eventually("the end", || {
            let info = self.call("GET", &format!("/bgrs/{rid}?wait=5")).send().expect(200).json()[0].clone();
            (!info["finished_dt"].is_null()).then_some(info)
        })
    }

    fn result(&self, rid: &str) -> Response {
        self.call("GET", &format!("/bgrs/{rid}/result")).send()
    }

    fn details(&self, rid: &str) -> Vec<String> {
        let details = self.call("GET", &format!("/bgrs/{rid}/details")).send().expect(200).json();
        details.as_array().unwrap().iter().map(|detail| detail["details"].as_str().unwrap().to_owned()).collect()
    }

    fn last_detail(&self, rid: &str) -> String {
        self.details(rid).pop().unwrap()
    }

    fn media(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("media")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn begun(&self, count: usize) {
        until("calls to begin", || self.api.begun.load(Ordering::SeqCst) == count);
    }

    /// Lets the upkeep look once.
    fn look(&self) {
        let (done, is_done) = std::sync::mpsc::channel();
        self.look.send(done).unwrap();
        is_done.recv_timeout(common::DEADLINE).unwrap();
    }

    /// Stops the server and gives its data back.
    fn stop(mut self, grace: Duration) -> tempfile::TempDir {
        self.end(grace);
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    fn end(&mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(grace);
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// The API's clock as the server's.
struct Clock(Arc<Api>);

impl bgrs::clock::Clock for Clock {
    fn now(&self) -> jiff::Timestamp {
        self.0.clock.now()
    }
}

#[test]
fn a_running_request_is_shown_as_running_and_its_result_as_not_there_yet() {
    let server = Embedded::start("");
    let rid = server.submit("GET", "/gate?bgrs=yes");
    server.begun(1);
    let info = server.info(&rid);
    assert_eq!((info["status_name"].as_str(), info["attempts"].as_str()), (Some("running"), Some("1")));
    assert_eq!((&info["finished_dt"], &info["status"], &info["result"]), (&Value::Null, &Value::Null, &Value::Null));
    let result = server.result(&rid).expect(202);
    assert_eq!(result.header("Bgrs-Request"), None);
    assert!(result.header("Retry-After").is_some());
    server.api.gate.add_permits(1);
    assert_eq!(server.ended(&rid)["status_name"], "finished");
    assert_eq!(server.result(&rid).expect(200).json(), "through");
}

#[test]
fn a_handlers_reports_are_seen_while_it_runs_and_none_of_its_details_is_lost() {
    let server = Embedded::start("");
    let rid = server.submit("GET", "/reports?bgrs=yes");
    server.begun(1);
    until("its progress to be seen", || server.info(&rid)["progress"] == "50.00");
    until("its detail to be seen", || server.details(&rid) == ["half"]);
    server.api.gate.add_permits(10);
    assert_eq!(server.ended(&rid)["progress"], "100.00");
    let mut expected = vec!["half".to_owned()];
    expected.extend((0..3000).map(|n| n.to_string()));
    expected.push("done".to_owned());
    assert_eq!(server.details(&rid), expected);
    assert_eq!(server.result(&rid).json(), false);
    assert_eq!(server.call("GET", "/reports").send().expect(200).json(), false);
}

#[test]
fn a_call_that_takes_too_long_fails_and_its_result_is_504() {
    let server = Embedded::start("[background]\ntimeout = \"1s\"");
    let rid = server.submit("GET", "/gate?bgrs=yes");
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    assert_eq!(server.last_detail(&rid), "timed out after 1s");
    let result = server.result(&rid);
    assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    assert!(error_of(&result, 504).contains("timed out"));
}

#[test]
fn a_panic_fails_its_request_and_is_500_in_the_foreground() {
    let server = Embedded::start("");
    let rid = server.submit("GET", "/panics?bgrs=yes");
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    assert!(server.last_detail(&rid).contains("broke down"));
    error_of(&server.result(&rid), 502);
    error_of(&server.call("GET", "/panics").send(), 500);
    server.api.gate.add_permits(1);
    let after = server.submit("GET", "/gate?bgrs=yes");
    assert_eq!(server.ended(&after)["status_name"], "finished");
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_and_leaves_no_file() {
    let server = Embedded::start("");
    let rid = server.submit("GET", "/breaks-off?bgrs=yes");
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    error_of(&server.result(&rid), 502);
    until("no file", || server.media().is_empty());
}

#[test]
fn the_api_sees_the_call_as_it_was_sent_less_the_parameter_and_what_is_of_the_hop() {
    let server = Embedded::start("");
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let call = server.call("POST", "/echo?a=%20b&bgrs=yes&a=2&%63");
    let call =
        call.header("X-Mine", "1").header("X-Mine", "2").header("Accept-Encoding", "gzip").header("Range", "bytes=0-1");
    let rid = assert_submitted(&call.body("application/x-thing", body.clone()).chunked().send());
    assert_eq!(server.ended(&rid)["status"], "201");
    let result = server.result(&rid).expect(201);
    let seen = result.json();
    assert_eq!(seen["uri"], "/echo?a=%20b&a=2&%63");
    assert_eq!((seen["user"].as_i64(), seen["length"].as_u64()), (Some(1), Some(300_000)));
    assert_eq!(seen["digest"], blake3::hash(&body).to_string());
    let headers: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
    let values = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!(values("x-mine"), ["1", "2"]);
    assert_eq!(values("content-type"), ["application/x-thing"]);
    for gone in ["authorization", "accept-encoding", "range", "transfer-encoding"] {
        assert!(values(gone).is_empty(), "{gone}");
    }
    assert_eq!(result.header_all("X-Two"), ["1", "2"]);
    assert_eq!(result.header("Set-Cookie"), None);
    assert_ne!(result.header("ETag"), Some("\"mine\""));
    assert!(server.media().iter().any(|name| name.ends_with(".body")), "kept for another run");
}

#[test]
fn a_large_result_comes_back_whole_and_in_parts() {
    let server = Embedded::start("");
    let rid = server.submit("GET", "/bytes/8?bgrs=yes");
    assert_eq!(server.ended(&rid)["status"], "200");
    let whole = server.result(&rid).expect(200).body;
    assert_eq!(whole.len(), 8 << 20);
    let part = server.call("GET", &format!("/bgrs/{rid}/result")).header("Range", "bytes=65000-200000").send();
    assert_eq!(part.expect(206).body, whole[65_000..=200_000]);
}

#[test]
fn a_full_share_is_429_and_a_full_queue_503_and_both_leave_nothing() {
    let server = Embedded::start("[background]\nconcurrency = 1\nper_user = 2");
    server.submit("GET", "/gate?bgrs=yes");
    server.submit("GET", "/gate?bgrs=yes");
    let refused = server.call("GET", "/gate?bgrs=yes").send();
    assert!(refused.header("Retry-After").is_some());
    error_of(&refused, 429);
    let server = Embedded::start("[background]\nconcurrency = 1\nqueue = 1");
    server.submit("GET", "/gate?bgrs=yes");
    server.begun(1);
    server.submit("GET", "/gate?bgrs=yes");
    let refused = server.call("POST", "/gate?bgrs=yes").body("text/plain", "x").send();
    assert!(refused.header("Retry-After").is_some());
    error_of(&refused, 503);
    assert!(server.media().is_empty());
    server.api.gate.add_permits(2);
}

#[test]
fn no_more_run_at_once_than_may() {
    let server = Embedded::start("[background]\nconcurrency = 3");
    let rids: Vec<_> = (0..6).map(|_| server.submit("GET", "/gate?bgrs=yes")).collect();
    server.begun(3);
    let running = rids.iter().filter(|rid| server.info(rid)["status_name"] == "running").count();
    assert_eq!((running, server.api.begun.load(Ordering::SeqCst)), (3, 3));
    server.api.gate.add_permits(6);
    for rid in rids {
        assert_eq!(server.ended(&rid)["status_name"], "finished");
    }
}

#[test]
fn results_beyond_the_media_limit_fail_and_submissions_get_507_while_it_is_reached() {
    let server = Embedded::start("[media]\nmax_size = \"1 MiB\"");
    let rid = server.submit("GET", "/bytes/2?bgrs=yes");
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    assert!(server.last_detail(&rid).contains("no space"));
    let rid = server.submit("GET", "/bytes/1?bgrs=yes");
    assert_eq!(server.ended(&rid)["status_name"], "finished");
    error_of(&server.call("GET", "/bytes/1?bgrs=yes").send(), 507);
}

#[test]
fn after_a_month_row_details_and_file_go_together() {
    let server = Embedded::start("");
    let rid = server.submit("GET", "/bytes/1?bgrs=yes");
    assert_eq!(server.ended(&rid)["status_name"], "finished");
    assert_eq!(server.info(&rid)["expires_dt"], "2026-02-28 10:00:00");
    server.look();
    assert_eq!(server.media().len(), 1);
    server.api.clock.advance(jiff::SignedDuration::from_hours(28 * 24 + 1));
    server.look();
    error_of(&server.call("GET", &format!("/bgrs/{rid}")).send(), 404);
    error_of(&server.result(&rid), 404);
    assert!(server.media().is_empty());
}

#[test]
fn a_shutdown_puts_back_what_may_run_again_and_ends_what_may_not() {
    let server = Embedded::start("");
    let (get, post) = (server.submit("GET", "/gate?bgrs=yes"), server.submit("POST", "/gate?bgrs=yes"));
    server.begun(2);
    let dir = server.stop(Duration::from_millis(100));
    let server = Embedded::start_in(dir, "");
    server.api.gate.add_permits(9);
    let info = server.ended(&get);
    assert_eq!(info["status_name"], "finished");
    assert_eq!(server.ended(&post)["status_name"], "failed");
    assert_eq!(server.last_detail(&post), "interrupted by a restart; POST is not repeated");
}

#[test]
fn a_shutdown_gives_what_runs_its_time() {
    let server = Embedded::start("");
    let rid = server.submit("POST", "/gate?bgrs=yes");
    server.begun(1);
    server.api.gate.add_permits(1);
    let dir = server.stop(Duration::from_secs(60));
    let server = Embedded::start_in(dir, "");
    assert_eq!(server.info(&rid)["status_name"], "finished");
}

#[test]
fn an_element_that_panics_is_one_failed_element_of_its_batch() {
    let server = Embedded::start("");
    let array = json!([{ "n": 1 }, { "do": "panic" }, { "n": 3 }]);
    let rid = assert_submitted(&server.call("POST", "/items").json(&array).send());
    assert_eq!(server.ended(&rid)["status_name"], "finished");
    let result = server.result(&rid).expect(200).json();
    let statuses: Vec<_> = result.as_array().unwrap().iter().map(|element| element["status"].clone()).collect();
    assert_eq!(statuses, [200, 500, 200]);
    assert_eq!(result[2]["body"], json!({ "n": 3 }).to_string());
    assert!(server.details(&rid).iter().any(|detail| detail.starts_with("element 2 of 3 failed with 500")));
}

#[test]
fn a_batch_that_is_given_up_begins_no_further_element() {
    let server = Embedded::start("[background]\ntimeout = \"1s\"");
    let array: Value = (0..1000).map(|_| json!({ "do": "wait" })).collect();
    let rid = assert_submitted(&server.call("POST", "/items").json(&array).send());
    assert_eq!(server.ended(&rid)["status_name"], "failed");
    let begun = server.api.begun.load(Ordering::SeqCst);
    assert!((1..1000).contains(&begun), "{begun}");
    server.api.gate.add_permits(2000);
    // What comes later is run; nothing of the batch is.
    let rid = assert_submitted(&server.call("POST", "/items").json(&json!([{}])).send());
    assert_eq!(server.ended(&rid)["status_name"], "finished");
    assert_eq!(server.api.begun.load(Ordering::SeqCst), begun + 1);
}
