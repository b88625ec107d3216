//! A slow program behind nginx, by FastCGI: it says what it was asked, after a while.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long it takes: longer than the CDN in front waits.
pub const TAKES: Duration = Duration::from_secs(3);

/// Kinds of records (FastCGI 1.0, section 8).
const END: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;

/// What nginx says of a call: its method, its target, its headers as `HTTP_…`.
pub type Params = BTreeMap<String, String>;

pub struct FastCgi {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Params>>>,
}

impl FastCgi {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<Params>>>::default();
        let seen_too = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen_too.clone();
                thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { addr, seen }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The calls that have arrived.
    pub fn seen(&self) -> Vec<Params> {
        self.seen.lock().expect("what was seen").clone()
    }
}

/// One call: nginx makes a connection for each.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Params>>) -> Option<()> {
    let (mut params, mut received) = (Vec::new(), 0);
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).ok()?;
        let mut content = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]]))];
        stream.read_exact(&mut content).ok()?;
        stream.read_exact(&mut vec![0; usize::from(head[6])]).ok()?;
        match head[1] {
            PARAMS => params.extend(content),
            STDIN if content.is_empty() => break,
            STDIN => received += content.len(),
            _ => {}
        }
    }
    let params = pairs(&params)?;
    seen.lock().expect("what was seen").push(params.clone());
    thread::sleep(TAKES);
    let line = format!("{} {} with {received} bytes", params["REQUEST_METHOD"], params["REQUEST_URI"]);
    let answer = format!("Content-Type: text/plain\r\n\r\n{line}");
    let records = [record(STDOUT, answer.as_bytes()), record(STDOUT, b""), record(END, &[0; 8])];
    // Who has given up waiting has closed the connection.
    stream.write_all(&records.concat()).ok()
}

/// A record of request 1, the only one of its connection.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short content").to_be_bytes();
    [[1, kind, 0, 1, length[0], length[1], 0, 0].as_slice(), content].concat()
}

/// Names and values, each behind the two lengths.
fn pairs(mut bytes: &[u8]) -> Option<Params> {
    let mut params = Params::new();
    while !bytes.is_empty() {
        let (name, value) = (length(&mut bytes)?, length(&mut bytes)?);
        let (name, rest) = bytes.split_at_checked(name)?;
        let (value, rest) = rest.split_at_checked(value)?;
        bytes = rest;
        params.insert(String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned());
    }
    Some(params)
}

/// One byte, or four whose first bit is set.
fn length(bytes: &mut &[u8]) -> Option<usize> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(usize::from(first));
    }
    let (four, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    usize::try_from(u32::from_be_bytes(*four) & 0x7fff_ffff).ok()
}
