//! Connections that break off: a stand-in for the server says what it is told to.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{call, home};
use crate::common::upstream::{Seen, Upstream, answer};

const RID: &str = "019ab23c8f0de88e83cce3f1caa15090";

const WHOLE: &str = "0123456789";

/// A server with one finished request, whose result is read as this says, the so-manieth time.
fn standing_in(result: impl Fn(usize, &Seen, &mut TcpStream) + Send + Sync + 'static) -> Upstream {
    let times = AtomicUsize::new(0);
    Upstream::start(move |seen, stream| match place(seen) {
        "call" => answer(stream, "202 Accepted", &format!("Location: /bgrs/{RID}\r\n"), "{}"),
        "result" => result(times.fetch_add(1, Ordering::SeqCst), seen, stream),
        "details" => {
            answer(stream, "200 OK", "", &format!("[{{\"id\":\"7\",\"rid\":\"{RID}\",\"details\":\"done\"}}]"))
        }
        _ => answer(stream, "200 OK", "", &information()),
    })
}

fn information() -> String {
    format!("[{{\"rid\":\"{RID}\",\"status_name\":\"finished\",\"progress\":\"100.00\"}}]")
}

/// The last segment of the path.
fn place(seen: &Seen) -> &str {
    let path = seen.target().split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

fn url(upstream: &Upstream) -> String {
    format!("http://{}/call", upstream.addr())
}

/// A part of a result, as much of it as `body` is; then the connection is closed.
fn part(stream: &mut TcpStream, status: &str, tag: &str, headers: &str, length: usize, body: &str) {
    let head = format!("Bgrs-Request: {RID}\r\nETag: \"{tag}\"\r\nContent-Length: {length}\r\n{headers}");
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n{body}");
    hang_up(stream);
}

fn hang_up(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

fn results(upstream: &Upstream) -> Vec<Seen> {
    upstream.seen().into_iter().filter(|seen| place(seen) == "result").collect()
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let upstream = || {
        standing_in(|time, _, stream| match time {
            0 => part(stream, "200 OK", "tag", "", 10, "0123"),
            1 => part(stream, "206 Partial Content", "tag", "Content-Range: bytes 4-9/10\r\n", 6, "45"),
            _ => part(stream, "206 Partial Content", "tag", "Content-Range: bytes 6-9/10\r\n", 4, "6789"),
        })
    };
    let (first, second, home) = (upstream(), upstream(), home());
    assert_eq!(call(&home, &[&url(&first)]).expect(0).stdout, WHOLE);
    assert_eq!(call(&home, &["-o", "out.txt", &url(&second)]).expect(0).stdout, "");
    assert_eq!(std::fs::read_to_string(home.path().join("out.txt")).unwrap(), WHOLE);
    for upstream in [first, second] {
        let seen = results(&upstream);
        let asked: Vec<_> = seen.iter().map(|seen| (seen.header("Range"), seen.header("If-Range"))).collect();
        let tag = Some("\"tag\"");
        assert_eq!(asked, [(None, None), (Some("bytes=4-"), tag), (Some("bytes=6-"), tag)]);
    }
}

#[test]
fn where_the_whole_comes_again_nothing_is_written_twice() {
    for status in ["200 OK", "201 Created"] {
        let upstream = standing_in(move |time, _, stream| {
            let body = if time < 2 { &WHOLE[..4 + 2 * time] } else { WHOLE };
            part(stream, status, "tag", "", 10, body);
        });
        assert_eq!(call(&home(), &[&url(&upstream)]).expect(0).stdout, WHOLE, "{status}");
        // Of a status of the API's own there are no parts.
        let asked = results(&upstream)[1].header("Range").is_some();
        assert_eq!(asked, status == "200 OK");
    }
}

#[test]
fn another_result_begins_anew_in_a_file_and_is_never_joined_to_what_was_written() {
    let upstream = || {
        standing_in(|time, _, stream| match time {
            0 => part(stream, "200 OK", "one", "", 10, "0123"),
            _ => part(stream, "200 OK", "other", "", 7, "another"),
        })
    };
    let (first, second, home) = (upstream(), upstream(), home());
    call(&home, &["-o", "out.txt", &url(&first)]).expect(0);
    assert_eq!(std::fs::read_to_string(home.path().join("out.txt")).unwrap(), "another");
    let ended = call(&home, &[&url(&second)]).expect(3);
    assert_eq!(ended.stdout, "0123");
    assert!(ended.stderr.contains(&format!("call --attach {RID} -u admin http://")), "{ended:?}");
}

#[test]
fn a_part_that_is_not_the_missing_one_is_refused() {
    let upstream = standing_in(|time, _, stream| match time {
        0 => part(stream, "200 OK", "tag", "", 10, "0123"),
        _ => part(stream, "206 Partial Content", "tag", "Content-Range: bytes 5-9/10\r\n", 5, "56789"),
    });
    assert_eq!(call(&home(), &[&url(&upstream)]).expect(3).stdout, "0123");
}

#[test]
fn a_lost_answer_is_asked_for_again_where_the_call_may_be_made_twice() {
    let (calls, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let upstream = Upstream::start(move |seen, stream| {
        let is_first = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::SeqCst) == 0;
        match place(seen) {
            "call" if is_first(&calls) => hang_up(stream),
            "call" => answer(stream, "202 Accepted", &format!("Location: /bgrs/{RID}\r\n"), "{}"),
            "details" => answer(stream, "200 OK", "", "[]"),
            "result" => part(stream, "200 OK", "tag", "", 10, WHOLE),
            _ if is_first(&reads) => hang_up(stream),
            _ => answer(stream, "200 OK", "", &information()),
        }
    });
    let ended = call(&home(), &["-X", "PUT", "-d", "again", &url(&upstream)]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.complaints()), (WHOLE, vec!["100.00% finished"]));
    let calls: Vec<_> = upstream.seen().into_iter().filter(|seen| place(seen) == "call").collect();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].header("Idempotency-Key"), calls[1].header("Idempotency-Key"));
    assert!(calls.iter().all(|call| call.body == b"again" && call.header("Idempotency-Key").is_some()));

    let upstream = Upstream::start(|_, stream| hang_up(stream));
    let ended = call(&home(), &["-d", "once", &url(&upstream)]).expect(3);
    assert!(ended.stderr.contains("whether the call was accepted is not known"), "{ended:?}");
    assert_eq!(upstream.seen().len(), 1);
}
