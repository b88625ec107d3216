//! Single calls, one connection each: to prepare, to check, and to move large bodies in constant memory.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The administrator's credentials, `admin:secret`, as a header field.
pub const AS_ADMIN: &str = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
pub const PASSWORD: &str = "secret";

const TIMEOUT: Duration = Duration::from_secs(120);
const PIECE: usize = 64 * 1024;

/// An answer whose body is still to be read.
pub struct Answer {
    pub status: u16,
    head: String,
    length: Option<u64>,
    body: BufReader<TcpStream>,
}

/// How a body is sent.
#[derive(Clone, Copy)]
pub enum Framing {
    ContentLength,
    Chunked,
}

impl Answer {
    /// Fails on any other status.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        ensure!(self.status == status, "an answer has the status {} instead of {status}: {}", self.status, self.head);
        Ok(self)
    }

    /// The body as JSON.
    pub fn json(mut self) -> anyhow::Result<Value> {
        let length = self.length.context("an answer without Content-Length")?;
        let mut body = Vec::new();
        self.body.by_ref().take(length).read_to_end(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Reads the body to its end and gives its length; the body is not kept.
    pub fn drain(mut self) -> anyhow::Result<u64> {
        let length = self.length.context("an answer without Content-Length")?;
        let got = io::copy(&mut self.body.by_ref().take(length), &mut io::sink())?;
        ensure!(got == length, "{got} bytes came instead of {length}");
        Ok(got)
    }
}

/// `GET`, as the administrator.
pub fn get(addr: SocketAddr, target: &str) -> anyhow::Result<Answer> {
    call(addr, "GET", target, AS_ADMIN, |_| Ok(()))
}

/// `DELETE`, as the administrator.
pub fn delete(addr: SocketAddr, target: &str) -> anyhow::Result<Answer> {
    call(addr, "DELETE", target, AS_ADMIN, |_| Ok(()))
}

/// `POST` of JSON, as the administrator.
pub fn post(addr: SocketAddr, target: &str, json: &Value) -> anyhow::Result<Answer> {
    let body = json.to_string();
    let headers = format!("{AS_ADMIN}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    call(addr, "POST", target, &headers, |stream| stream.write_all(body.as_bytes()))
}

/// `POST` of a JSON object of so many bytes, as the administrator.
pub fn upload(addr: SocketAddr, target: &str, length: u64, framing: Framing) -> anyhow::Result<Answer> {
    let framed = match framing {
        Framing::ContentLength => format!("Content-Length: {length}"),
        Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    let headers = format!("{AS_ADMIN}Content-Type: application/json\r\n{framed}\r\n");
    call(addr, "POST", target, &headers, |stream| send_object(stream, length, framing))
}

/// Waits for the end of a background request and gives its information.
pub fn ended(addr: SocketAddr, rid: &str) -> anyhow::Result<Value> {
    let limit = Instant::now() + Duration::from_secs(600);
    while Instant::now() < limit {
        let info = get(addr, &format!("/bgrs/{rid}?wait=20"))?.expect(200)?.json()?;
        match info[0]["status_name"].as_str() {
            Some("finished") => return Ok(info[0].clone()),
            Some("failed" | "cancelled") => bail!("a background request did not finish: {info}"),
            _ => {}
        }
    }
    bail!("the background request {rid} does not end")
}

/// The rid in a submission's answer.
pub fn submitted(answer: Answer) -> anyhow::Result<String> {
    let body = answer.expect(202)?.json()?;
    let rid = body["request"].as_str();
    Ok(rid.context("a 202 without a rid")?.to_owned())
}

/// Whether `GET /readyz` answers 200; it takes no credentials.
pub fn is_ready(addr: SocketAddr) -> bool {
    call(addr, "GET", "/readyz", "", |_| Ok(())).is_ok_and(|answer| answer.status == 200)
}

fn call(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    send_body: impl FnOnce(&mut TcpStream) -> io::Result<()>,
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: bench.invalid\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes())?;
    // Who refuses a body may close before it is sent; the answer says why.
    let sent = send_body(&mut stream);
    let answer = read_head(BufReader::new(stream));
    match (sent, answer) {
        (_, Ok(answer)) => Ok(answer),
        (Err(error), Err(_)) => Err(error).context("the body could not be sent"),
        (Ok(()), Err(error)) => Err(error),
    }
}

fn send_object(stream: &mut TcpStream, length: u64, framing: Framing) -> io::Result<()> {
    const OPEN: &[u8] = br#"{"display_name":""#;
    const CLOSE: &[u8] = br#""}"#;
    let filling = vec![b'a'; PIECE];
    send_piece(stream, OPEN, framing)?;
    let around = u64::try_from(OPEN.len() + CLOSE.len()).map_err(io::Error::other)?;
    let mut left = length.saturating_sub(around);
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        send_piece(stream, &filling[..piece], framing)?;
        left -= u64::try_from(piece).map_err(io::Error::other)?;
    }
    send_piece(stream, CLOSE, framing)?;
    match framing {
        Framing::ContentLength => Ok(()),
        Framing::Chunked => stream.write_all(b"0\r\n\r\n"),
    }
}

fn send_piece(stream: &mut TcpStream, piece: &[u8], framing: Framing) -> io::Result<()> {
    match framing {
        Framing::ContentLength => stream.write_all(piece),
        Framing::Chunked => {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")
        }
    }
}

fn read_head(mut from: BufReader<TcpStream>) -> anyhow::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = from.read_line(&mut head)?;
        ensure!(read > 0, "the connection was closed in the middle of a head");
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Answer { status: status.context("an answer without a status line")?, head, length, body: from })
}
