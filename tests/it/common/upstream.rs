//! An API behind the server, which says exactly what a test tells it to, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::eventually;

/// A request as it arrived, byte for byte.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

type Answer = dyn Fn(&Seen, &mut TcpStream) + Send + Sync;

/// The running upstream.
pub struct Upstream {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Upstream {
    /// Answers each request with what `answer` writes; the connection stays open unless it shuts it down.
    pub fn start(answer: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let this = Self { addr, seen: Arc::default(), connections: Arc::default(), closed: Arc::default() };
        let (seen, connections, closed) = (this.seen.clone(), this.connections.clone(), this.closed.clone());
        let answer: Arc<Answer> = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let (seen, closed, answer) = (seen.clone(), closed.clone(), answer.clone());
                thread::spawn(move || {
                    serve(stream, &seen, &*answer);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        this
    }

    /// Answers everything with 200 and this body.
    pub fn saying(body: &'static str) -> Self {
        Self::start(move |_, stream| ok(stream, body))
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The configuration's table for it.
    pub fn table(&self, prefix: &str) -> String {
        format!("[[upstream]]\nprefix = \"{prefix}\"\nurl = \"http://{}\"\n", self.addr)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("what was seen").clone()
    }

    /// The one request that has arrived.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// Waits until so many requests have arrived.
    pub fn wait_for(&self, count: usize) -> Vec<Seen> {
        eventually("requests at the upstream", || Some(self.seen()).filter(|seen| seen.len() >= count))
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that have come to their end.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

/// Writes an answer with its length.
pub fn ok(stream: &mut TcpStream, body: &str) {
    answer(stream, "200 OK", "Content-Type: text/plain\r\n", body);
}

pub fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
}

/// Reads until the other end has closed the connection.
pub fn wait_for_close(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, answer: &Answer) {
    let mut rest = Vec::new();
    while let Some(request) = read(&mut stream, &mut rest) {
        seen.lock().expect("what was seen").push(request.clone());
        answer(&request, &mut stream);
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        match rest.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => break at,
            None => more(stream, rest)?,
        }
    };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    rest.drain(..end + 4);
    let mut seen = Seen { head, body: Vec::new() };
    if let Some(length) = seen.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        while rest.len() < length {
            more(stream, rest)?;
        }
        seen.body = rest.drain(..length).collect();
    } else if seen.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&line(stream, rest)?, 16).ok()?;
            while rest.len() < size + 2 {
                more(stream, rest)?;
            }
            seen.body.extend(rest.drain(..size));
            rest.drain(..2);
            if size == 0 {
                break;
            }
        }
    }
    Some(seen)
}

fn line(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..at]).into_owned();
            rest.drain(..at + 2);
            return Some(line);
        }
        more(stream, rest)?;
    }
}

fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
    rest.extend(&buffer[..read]);
    Some(())
}
