//! Callers whom an upstream knows: `auth = "forward"`.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::http::basic;
use crate::common::server::PASSWORD;
use crate::common::upstream::{Seen, Upstream, answer, ok, wait_for_close};
use crate::common::{Call, TestServer, assert_submitted, error_of, until};

/// Where the upstreams are asked who somebody is.
const CHECK: &str = "/who?brief=1";

const FORWARD: &str = "auth = \"forward\"\nauth_check = \"/who?brief=1\"\nauth_user = \"/user/id\"\n";

fn start(config: &str) -> TestServer {
    TestServer::options().config(config).start()
}

fn forward(upstream: &Upstream, prefix: &str) -> String {
    upstream.table(prefix) + FORWARD
}

fn password_of(login: &str) -> String {
    format!("password of {login}")
}

/// What a user is known by: a password, a token, or a cookie.
fn credentials_of(login: &str) -> [(&'static str, String); 3] {
    [
        ("Authorization", basic(login, &password_of(login))),
        ("Authorization", format!("Bearer token-of-{login}")),
        ("Cookie", format!("session=of-{login}")),
    ]
}

/// The call with these credentials alone.
fn by((name, value): &(&str, String), call: Call) -> Call {
    call.no_auth().header(name, value)
}

/// Answers who it is: this user, whose id is 1, or nobody.
fn say_who(login: &str, seen: &Seen, stream: &mut TcpStream) {
    if credentials_of(login).iter().any(|(name, value)| seen.header(name) == Some(value.as_str())) {
        answer(stream, "200 OK", "", "{\"user\": {\"id\": 1}}");
    } else {
        answer(stream, "401 Unauthorized", "", "who?");
    }
}

/// An upstream that knows this one user; `otherwise` answers everything but the question who it is.
fn knowing(login: &'static str, otherwise: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |seen, stream| match seen.target() {
        target if target.ends_with(CHECK) => say_who(login, seen, stream),
        _ => otherwise(seen, stream),
    })
}

/// An upstream that knows `kim`, but answers the question who it is with this status while the flag is set.
fn wavering(status: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let flag = Arc::new(AtomicBool::new(false));
    let is_set = flag.clone();
    let upstream = Upstream::start(move |seen, stream| match seen.target() {
        CHECK if is_set.load(Ordering::SeqCst) => answer(stream, status, "", ""),
        CHECK => say_who("kim", seen, stream),
        _ => ok(stream, "mine"),
    });
    (upstream, flag)
}

/// How often an upstream was asked who it is.
fn asked(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.target() == CHECK).count()
}

#[test]
fn the_upstream_is_asked_once_for_many_calls_and_gets_the_credentials_with_each() {
    let upstream = knowing("kim", |_, stream| ok(stream, "mine"));
    let server = start(&forward(&upstream, "/up"));
    let call = server.call("GET", "/up").auth("kim", &password_of("kim")).header("Cookie", "theme=dark; a=b");
    // All at once: those that come while the question is under way wait for its answer.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(call.send().expect(200).text(), "mine"));
        }
    });
    assert_eq!((asked(&upstream), upstream.seen().len()), (1, 9));
    for seen in upstream.seen() {
        assert_eq!(seen.all("Authorization"), [basic("kim", &password_of("kim"))]);
        assert_eq!(seen.all("Cookie"), ["theme=dark; a=b"]);
    }
}

#[test]
fn a_yes_counts_for_auth_ttl_and_no_longer() {
    let (upstream, blocked) = wavering("403 Forbidden");
    let server = start(&(forward(&upstream, "/long") + &forward(&upstream, "/short") + "auth_ttl = \"50ms\"\n"));
    let kim = |path: &str| server.call("GET", path).auth("kim", &password_of("kim"));
    kim("/long").send().expect(200);
    kim("/short").send().expect(200);
    assert_eq!(asked(&upstream), 2);
    blocked.store(true, Ordering::SeqCst);
    until("the yes is forgotten", || kim("/short").send().status == 401);
    kim("/long").send().expect(200);
    assert_eq!(asked(&upstream), 3);
}

#[test]
fn credentials_that_the_upstream_does_not_know_are_401_and_nothing_passes_or_is_stored() {
    let upstream = knowing("kim", |_, stream| ok(stream, "mine"));
    let server = start(&forward(&upstream, "/up"));
    for target in ["/up", "/up?bgrs=yes"] {
        let call = || server.call("POST", target).no_auth().body("a/b", "sent");
        for (call, times) in [
            (call(), 0),
            (call().auth("kim", "wrong"), 1),
            // The server's own users are others than the upstream's.
            (call().auth("admin", PASSWORD), 1),
            (call().header("Authorization", "Bearer wrong"), 1),
            (call().header("Cookie", "session=wrong"), 1),
        ] {
            let before = asked(&upstream);
            let refused = server.leaves_nothing(|| call.send());
            error_of(&refused, 401);
            assert_eq!(refused.header("WWW-Authenticate"), Some("Basic realm=\"BEAR API\", charset=\"UTF-8\""));
            assert_eq!(asked(&upstream) - before, times);
        }
    }
    assert_eq!(upstream.seen().len(), asked(&upstream));
}

#[test]
fn an_upstream_that_cannot_say_who_it_is_is_502_and_never_a_yes() {
    const ANSWERS: [(&str, &str); 6] = [
        ("500 Oh no", "{\"user\": {\"id\": 1}}"),
        ("503 Service Unavailable", ""),
        ("429 Too Many Requests", ""),
        ("302 Found", "{\"user\": {\"id\": 1}}"),
        ("200 OK", "{\"user\": {\"id\": null}, \"id\": 1}"),
        ("200 OK", "<h1>Hello, kim</h1>"),
    ];
    let upstream = Upstream::start(|seen, stream| {
        let case = seen.header("Cookie").and_then(|cookie| cookie.strip_prefix("case=")?.parse::<usize>().ok());
        let (status, body) = ANSWERS[case.expect("a case")];
        answer(stream, status, "", body);
    });
    // Not of 127.0.0.1: nothing else takes a port of it meanwhile.
    let nobody = TcpListener::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    let nowhere = format!("[[upstream]]\nprefix = \"/nowhere\"\nurl = \"http://{nobody}\"\n{FORWARD}");
    let server = start(&(forward(&upstream, "/up") + &nowhere));
    for (path, case) in (0..ANSWERS.len()).map(|case| ("/up", case)).chain([("/nowhere", 0)]) {
        for bgrs in ["", "?bgrs=yes"] {
            let call =
                server.call("POST", &format!("{path}{bgrs}")).no_auth().header("Cookie", &format!("case={case}"));
            let refused = server.leaves_nothing(|| call.body("a/b", "sent").send());
            let description = error_of(&refused, 502);
            assert!(description.contains("credentials"), "{description}");
            assert!(!description.contains("127.0.0") && !description.contains("/who"), "{description}");
            assert!(refused.header("Retry-After").is_some(), "{path} {case}");
        }
    }
    assert_eq!((asked(&upstream), upstream.seen().len()), (2 * ANSWERS.len(), 2 * ANSWERS.len()));
}

#[test]
fn who_polls_while_the_upstream_cannot_say_who_it_is_is_told_so_and_not_refused() {
    let (upstream, down) = wavering("503 Service Unavailable");
    let server = start(&(forward(&upstream, "/up") + "auth_ttl = \"50ms\"\n"));
    let kim = |target: &str| server.call("GET", target).auth("kim", &password_of("kim"));
    let rid = assert_submitted(&kim("/up?bgrs=yes").send());
    let poll = kim(&format!("/bgrs/{rid}"));
    poll.send().expect(200);
    down.store(true, Ordering::SeqCst);
    until("the yes is forgotten", || poll.send().status != 200);
    // A 401 would tell a client to give its request up.
    error_of(&poll.send(), 502);
    server.get(&format!("/bgrs/{rid}")).expect(200);
    down.store(false, Ordering::SeqCst);
    poll.send().expect(200);
}

#[test]
fn too_many_wrong_passwords_are_429_and_what_is_known_to_be_right_is_never_slowed() {
    let upstream = knowing("kim", |_, stream| ok(stream, "mine"));
    let server = start(&forward(&upstream, "/up"));
    let right = server.call("GET", "/up").auth("kim", &password_of("kim"));
    let guess = |login: &str, n: usize| server.call("GET", "/up").auth(login, &format!("guess {n}")).send();
    for n in 0..10 {
        if n == 5 {
            // In between, it gives no new ones.
            right.send().expect(200);
        }
        error_of(&guess("kim", n), 401);
    }
    let slowed = guess("kim", 10);
    error_of(&slowed, 429);
    let seconds: u64 = slowed.header("Retry-After").and_then(|value| value.parse().ok()).expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(asked(&upstream), 11, "the upstream is not bothered with the last one");
    right.send().expect(200);
    error_of(&guess("lee", 0), 401);
}

#[test]
fn guesses_that_come_at_once_are_counted_one_by_one() {
    let upstream = Upstream::start(|_, stream| {
        // So slow that all of them would be under way together.
        thread::sleep(Duration::from_millis(100));
        answer(stream, "401 Unauthorized", "", "");
    });
    let server = start(&forward(&upstream, "/up"));
    let guess = |n: usize| {
        let call = server.call("GET", "/up").auth("kim", &format!("guess {n}"));
        thread::spawn(move || call.send().status)
    };
    let guesses: Vec<_> = (0..30).map(guess).collect();
    let statuses: Vec<_> = guesses.into_iter().map(|guess| guess.join().unwrap()).collect();
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(401), count(429), asked(&upstream)), (10, 20, 10));
}

#[test]
fn who_is_known_does_not_wait_behind_questions_about_strangers() {
    let given_up = Arc::new(AtomicBool::new(false));
    let gives_up = given_up.clone();
    let upstream = Upstream::start(move |seen, stream| match (seen.target(), seen.header("Authorization")) {
        (CHECK, Some(value)) if value.starts_with("Bearer guess") => {
            wait_for_close(stream);
            gives_up.store(true, Ordering::SeqCst);
        }
        (CHECK, _) => say_who("kim", seen, stream),
        _ => ok(stream, "mine"),
    });
    let server = start(&forward(&upstream, "/up"));
    let known = credentials_of("kim").map(|credentials| by(&credentials, server.call("GET", "/up")));
    for call in &known {
        call.send().expect(200);
    }
    // Many: whatever is shared among callers is in use, as far as can be told.
    let stranger = |n: usize| {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        write!(stream, "GET /up HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer guess-{n}\r\n\r\n").unwrap();
        stream
    };
    let strangers: Vec<_> = (0..150).map(stranger).collect();
    until("many questions to be under way", || asked(&upstream) >= known.len() + 32);
    for call in &known {
        call.send().expect(200);
    }
    assert!(!given_up.load(Ordering::SeqCst), "it has waited for the end of a question");
    drop(strangers);
}

#[test]
fn a_background_request_is_made_with_its_callers_credentials_and_whoever_is_known_may_read_it() {
    let upstream = knowing("kim", |_, stream| ok(stream, "mine"));
    let other = knowing("lee", |_, stream| ok(stream, "other"));
    let server = start(&(forward(&upstream, "/up") + &forward(&other, "/other")));
    let [lee, ..] = credentials_of("lee");
    let admin = ("Authorization", basic("admin", PASSWORD));
    for kim in &credentials_of("kim") {
        let call = by(kim, server.call("POST", "/up/x?bgrs=yes")).body("a/b", "sent");
        let rid = assert_submitted(&call.send());
        assert_eq!(server.finished(&rid)["user_id"], "1");
        let seen = upstream.seen().pop().unwrap();
        assert_eq!((seen.target(), seen.all(kim.0)), ("/up/x", vec![kim.1.as_str()]));
        let paths = ["", "/details", "/result"].map(|part| format!("/bgrs/{rid}{part}"));
        for path in &paths {
            for reader in [kim, &lee, &admin] {
                by(reader, server.call("GET", path)).send().expect(200);
            }
            error_of(&server.call("GET", path).no_auth().header("Cookie", "session=wrong").send(), 401);
        }
        assert_eq!(by(&lee, server.call("GET", &paths[2])).send().expect(200).text(), "mine");
    }
    assert_eq!(other.seen().len(), asked(&other), "no call of another's went there");
}

#[test]
fn users_of_different_sources_are_different_people_also_where_their_ids_are_alike() {
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let upstream = knowing("kim", move |_, stream| {
        let _ = opened.lock().unwrap().recv();
        ok(stream, "done");
    });
    let upstreams = upstream.table("/own") + &forward(&upstream, "/a") + &forward(&upstream, "/b");
    let server = start(&format!("[background]\nper_user = 1\n{upstreams}"));
    let kim = |target: &str| server.call("GET", target).auth("kim", &password_of("kim"));
    let calls = [server.call("GET", "/own?bgrs=yes"), kim("/a?bgrs=yes"), kim("/b?bgrs=yes")];
    let rids = calls.clone().map(|call| assert_submitted(&call.send()));
    for call in &calls {
        let full = server.leaves_nothing(|| call.send());
        error_of(&full, 429);
        assert!(full.header("Retry-After").is_some());
    }
    let db = server.db();
    let mut query = db.prepare("SELECT source, user_id FROM bgrs ORDER BY id").unwrap();
    let owners = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let owners: Vec<(String, String)> = owners.map(|owner| owner.unwrap()).collect();
    let expected = ["local", "upstream:/a", "upstream:/b"].map(|source| (source.to_owned(), "1".to_owned()));
    assert_eq!(owners, expected);
    drop(gate);
    for rid in &rids {
        assert_eq!(server.finished(rid)["user_id"], "1");
    }
}

#[test]
fn the_question_who_it_is_goes_behind_the_bases_path_without_the_prefix() {
    let upstream = knowing("kim", |_, stream| ok(stream, "mine"));
    let url = format!("url = \"http://{}/base/\"", upstream.addr());
    let server = start(&format!("[[upstream]]\nprefix = \"/up\"\n{url}\n{FORWARD}"));
    server.call("GET", "/up/x").auth("kim", &password_of("kim")).send().expect(200);
    let targets: Vec<_> = upstream.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/base/who?brief=1", "/base/up/x"]);
}
