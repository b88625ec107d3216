//! One call after the other on one keep-alive connection: how soon the result of a submission can be read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::http::AS_ADMIN;

const TIMEOUT: Duration = Duration::from_secs(60);

/// From a submission to the last byte of its result.
pub struct Times {
    pub p50: Duration,
    pub p99: Duration,
}

/// Submits a call so many times, each when the result before it is there; every result must be the expected one.
pub fn round_trips(addr: SocketAddr, target: &str, count: usize, expected: &[u8]) -> anyhow::Result<Times> {
    let submission = format!("{target}?bgrs=yes");
    let mut connection = Connection::open(addr)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let accepted: Value = serde_json::from_slice(&connection.get(&submission, 202)?)?;
        let rid = accepted["request"].as_str().context("a 202 without a rid")?;
        let result = connection.get(&format!("/bgrs/{rid}/result?wait=10"), 200)?;
        times.push(begun.elapsed());
        ensure!(result == expected, "a result is not what the call answers: {}", String::from_utf8_lossy(&result));
    }
    times.sort_unstable();
    let last = times.len().checked_sub(1).context("no time was taken")?;
    Ok(Times { p50: times[last / 2], p99: times[last * 99 / 100] })
}

/// A keep-alive connection, for one call after the other.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// `GET`, as the administrator: the body of the answer; fails on any other status.
    pub fn get(&mut self, target: &str, status: u16) -> anyhow::Result<Vec<u8>> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: bench.invalid\r\n{AS_ADMIN}Accept: */*\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes())?;
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut answer)?;
            ensure!(read > 0, "the connection was closed in the middle of a head");
        }
        let begin = format!("HTTP/1.1 {status} ");
        ensure!(answer.starts_with(&begin), "an answer has another status than {status}: {answer}");
        let mut fields = answer.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let (_, length) = length.context("an answer without Content-Length")?;
        let mut body = vec![0; length.parse()?];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }
}
