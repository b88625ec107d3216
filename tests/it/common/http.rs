//! A small HTTP/1.1 client that sends exactly what it is told to, and takes nothing of the answer on trust.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// No answer takes longer than this; a test that hits it fails.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

pub fn basic(login: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{login}:{password}")))
}

/// One call, put together step by step. Each goes over a connection of its own.
#[derive(Clone)]
pub struct Call {
    addr: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    chunked: bool,
}

impl Call {
    pub fn new(addr: SocketAddr, method: &str, target: &str) -> Self {
        Self { addr, method: method.into(), target: target.into(), headers: Vec::new(), body: None, chunked: false }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Takes the place of the credentials that the call had.
    pub fn auth(self, login: &str, password: &str) -> Self {
        let value = basic(login, password);
        self.no_auth().header("Authorization", &value)
    }

    pub fn no_auth(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "Authorization");
        self
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.header("Content-Type", content_type)
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sends the body in chunks instead of naming its length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    pub fn send(&self) -> Response {
        self.try_send().unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }

    /// For a server that may die in the middle: no complete answer is an error, not a panic.
    pub fn try_send(&self) -> Result<Response, String> {
        let received = exchange(self.addr, &self.bytes()).map_err(|error| error.to_string())?;
        Response::parse(&received, self.method == "HEAD")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.addr);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.headers.iter().any(|(name, _)| name == "Connection") {
            head.push_str("Connection: close\r\n");
        }
        let body = self.body.as_deref().unwrap_or_default();
        let mut bytes = match (&self.body, self.chunked) {
            (None, _) => head + "\r\n",
            (_, true) => head + "Transfer-Encoding: chunked\r\n\r\n",
            (_, false) => head + &format!("Content-Length: {}\r\n\r\n", body.len()),
        }
        .into_bytes();
        if self.chunked {
            for chunk in body.chunks(700) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            bytes.extend(body);
        }
        bytes
    }
}

/// Sends the bytes and reads until the server closes the connection.
///
/// A server may answer and close before it has read everything, so neither a failed write nor a reset after
/// the answer is an error; a connection that stays open is.
pub fn exchange(addr: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let _ = stream.write_all(bytes);
    read_to_end(&mut stream)
}

/// Sends the bytes, hangs up the sending half, and reads what still comes.
pub fn exchange_and_hang_up(addr: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    read_to_end(&mut stream)
}

pub fn read_to_end(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => Ok(received),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(received),
        Err(error) => Err(error),
    }
}

/// A whole answer. A body that is shorter or longer than its framing says does not become one.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn parse(received: &[u8], to_head: bool) -> Result<Self, String> {
        let split = received
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .ok_or_else(|| format!("no whole head: {:?}", String::from_utf8_lossy(received)))?;
        let head = std::str::from_utf8(&received[..split]).map_err(|error| error.to_string())?;
        let rest = &received[split + 4..];
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| format!("no status line: {head}"))?;
        if (100..200).contains(&status) && status != 101 {
            return Self::parse(rest, to_head);
        }
        let headers = lines
            .map(|line| match line.split_once(':') {
                Some((name, value)) => Ok((name.to_owned(), value.trim().to_owned())),
                None => Err(format!("no header: {line}")),
            })
            .collect::<Result<_, _>>()?;
        let mut response = Self { status, headers, body: Vec::new() };
        response.body = response.unframed(rest, to_head)?;
        Ok(response)
    }

    fn unframed(&self, rest: &[u8], to_head: bool) -> Result<Vec<u8>, String> {
        if to_head || self.status == 204 || self.status == 304 {
            return match rest {
                [] => Ok(Vec::new()),
                _ => Err(format!("{} came with a body", self.status)),
            };
        }
        if self.header("Transfer-Encoding") == Some("chunked") {
            return unchunked(rest);
        }
        match self.header("Content-Length").map(str::parse::<usize>) {
            Some(Ok(length)) if length != rest.len() => Err(format!("{} bytes instead of {length}", rest.len())),
            Some(Err(error)) => Err(error.to_string()),
            _ => Ok(rest.to_vec()),
        }
    }

    /// The one value of a header; a header that comes twice where one is asked for is an error.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.header_all(name);
        assert!(values.len() < 2, "{name} came more than once: {values:?}");
        values.first().copied()
    }

    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let named = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        let values = self.headers.iter().filter(named);
        values.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body in UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.lossy()))
    }

    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer itself, where it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the body was {}", self.lossy());
        self
    }

    /// Where `Link: <…>; rel="next"` leads, as path and query.
    pub fn next_link(&self) -> Option<String> {
        let link = self.header("Link")?;
        let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
        assert_eq!(parameters.trim(), "; rel=\"next\"", "in {link}");
        let after_scheme = target.split_once("://").map(|(_, rest)| rest);
        Some(match after_scheme {
            Some(rest) => rest[rest.find('/').expect("a path")..].to_owned(),
            None => target.to_owned(),
        })
    }
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n");
        let end = end.ok_or("the chunks break off")?;
        let size = std::str::from_utf8(&rest[..end]).map_err(|error| error.to_string())?;
        let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
        let chunk = rest.get(end + 2..end + 2 + size);
        body.extend(chunk.ok_or("a chunk breaks off")?);
        rest = rest.get(end + 2 + size + 2..).ok_or("no end of a chunk")?;
        if size == 0 {
            return Ok(body);
        }
    }
}
