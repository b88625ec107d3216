//! A reader of server-sent events that takes nothing on trust, and an upstream that makes them happen.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};

use serde_json::Value;

use super::DEADLINE;
use super::http::{Call, Response, basic};
use super::server::PASSWORD;
use super::upstream::{Seen, Upstream, ok};

/// One event as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Whether it is the detail with this text.
    pub fn says(&self, text: &str) -> bool {
        self.name == "detail" && self.json()["details"] == text
    }

    /// Whether it shows a request in this state, with this progress.
    pub fn shows(&self, status_name: &str, progress: &str) -> bool {
        let json = self.json();
        self.name == "status" && json["status_name"] == status_name && json["progress"] == progress
    }
}

/// A stream of events that is being read, each as it comes.
pub struct Events {
    /// The answer, less its body.
    pub head: Response,
    /// What was given so far.
    pub seen: Vec<Event>,
    /// Whether it has come to its end, and was not cut off.
    pub whole: bool,
    stream: TcpStream,
    raw: Vec<u8>,
    text: Vec<u8>,
}

impl Events {
    /// Asks for the events at this target, as the administrator; for those behind the `last` that was seen.
    #[track_caller]
    pub fn open(addr: SocketAddr, target: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let mut stream = begin(addr, target, &last);
        let mut raw: Vec<u8> = Vec::new();
        let end = loop {
            match raw.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert!(receive(&mut stream, &mut raw), "no whole head: {}", String::from_utf8_lossy(&raw)),
            }
        };
        let head = Response::parse(&raw[..end], true).expect("a head").expect(200);
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
        assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
        raw.drain(..end);
        let mut events = Self { head, seen: Vec::new(), whole: false, stream, raw, text: Vec::new() };
        events.decode();
        events
    }

    /// Reads on to the next comment, before which no event is to come.
    #[track_caller]
    pub fn comment(&mut self) {
        loop {
            let line = self.line().expect("a comment");
            if line.starts_with(':') {
                return;
            }
            assert_eq!(line, "", "an event where a comment was to be");
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let line = String::from_utf8(line).expect("events in UTF-8");
                return Some(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            self.more()?;
        }
    }

    /// Reads on; `None` at the end of the connection, which is that of the stream.
    fn more(&mut self) -> Option<()> {
        let more = receive(&mut self.stream, &mut self.raw);
        assert!(!(more && self.whole), "something came behind the end");
        self.decode();
        more.then_some(())
    }

    /// Takes the whole chunks out of what was received.
    fn decode(&mut self) {
        while let Some(at) = self.raw.windows(2).position(|window| window == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let (start, size) = (at + 2, size.expect("a chunk's size"));
            if self.raw.len() < start + size + 2 {
                return;
            }
            assert!(self.raw[start + size..].starts_with(b"\r\n"), "a chunk is longer than it says");
            self.text.extend(&self.raw[start..start + size]);
            self.raw.drain(..start + size + 2);
            self.whole |= size == 0;
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut fields = BTreeMap::new();
        loop {
            let Some(line) = self.line() else {
                assert!(!self.whole || fields.is_empty(), "the end is in the middle of an event: {fields:?}");
                return None;
            };
            match line.split_once(':') {
                Some(("", _)) => {}
                Some((name, value)) => {
                    let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                    let twice = fields.insert(name.to_owned(), value);
                    assert!(twice.is_none(), "{name} is there twice: {twice:?}, {fields:?}");
                }
                None => {
                    assert!(line.is_empty(), "no field: {line}");
                    if !fields.is_empty() {
                        break;
                    }
                }
            }
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or_else(|| panic!("an event without {name}"));
        let event = Event { name: take("event"), id: take("id"), data: take("data") };
        assert!(fields.is_empty(), "{fields:?}");
        self.seen.push(event.clone());
        Some(event)
    }
}

/// Reads once; `false`: the other end has closed the connection, or cut it off.
fn receive(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 * 1024];
    let read = match stream.read(&mut buffer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("nothing came in time")
        }
        read => read.unwrap_or(0),
    };
    into.extend(&buffer[..read]);
    read > 0
}

/// Begins a GET by the administrator, with these further header lines, on a connection of its own.
pub fn begin(addr: SocketAddr, target: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let auth = basic("admin", PASSWORD);
    let call =
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(call.as_bytes()).expect("a call");
    stream
}

/// An upstream that holds its answers back until the sender is dropped.
pub fn holding() -> (mpsc::Sender<()>, Upstream) {
    let (gate, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = opened.lock().unwrap().recv();
        ok(stream, "done");
    });
    (gate, upstream)
}

/// A background call as it has reached its upstream, which says how far it is.
pub struct Reporter {
    addr: SocketAddr,
    path: String,
    token: String,
}

impl Reporter {
    #[track_caller]
    pub fn of(seen: &Seen) -> Self {
        let url = seen.header("Bgrs-Report").and_then(|url| url.strip_prefix("http://")).expect("where to report");
        let (addr, path) = url.split_at(url.find('/').expect("a path"));
        let token = seen.header("Bgrs-Report-Token").expect("a token");
        Self { addr: addr.parse().expect("an address"), path: path.to_owned(), token: token.to_owned() }
    }

    #[track_caller]
    pub fn say(&self, report: &Value) {
        let call = Call::new(self.addr, "POST", &self.path).json(report);
        call.header("Authorization", &format!("Bearer {}", self.token)).send().expect(204);
    }
}
