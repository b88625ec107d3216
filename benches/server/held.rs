//! An upstream in this process that holds each call until it is told to answer: the moment is known here.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::upstream::SMALL;

const PREFIX: &str = "/up/held/";
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest silence within a call's head.
const SILENCE: Duration = Duration::from_secs(5);

/// The upstream; it listens as long as this process lives.
pub struct Held {
    pub addr: SocketAddr,
    calls: Receiver<(usize, Call)>,
}

/// A call that is held; it has a connection of its own.
pub struct Call(TcpStream);

/// The target of a call.
pub fn target(number: usize) -> String {
    format!("{PREFIX}{number}")
}

impl Held {
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let (sender, calls) = mpsc::channel();
        thread::spawn(move || accept(&listener, &sender));
        Ok(Self { addr, calls })
    }

    /// Waits until so many calls, each with a number of its own, are held; gives them in the numbers' order.
    pub fn take(&self, count: usize) -> anyhow::Result<Vec<Call>> {
        let mut calls = BTreeMap::new();
        while calls.len() < count {
            let came = self.calls.recv_timeout(PATIENCE);
            let came = came.with_context(|| format!("{} of {count} calls have come to the upstream", calls.len()));
            let (number, call) = came?;
            calls.insert(number, call);
        }
        Ok(calls.into_values().collect())
    }
}

impl Call {
    /// Answers it, and gives the moment at which that began.
    pub fn answer(mut self) -> io::Result<Instant> {
        let fields = "Connection: close\r\nContent-Type: application/json; charset=utf-8";
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {}\r\n\r\n{SMALL}", SMALL.len());
        let begun = Instant::now();
        self.0.write_all(answer.as_bytes())?;
        Ok(begun)
    }
}

fn accept(listener: &TcpListener, calls: &Sender<(usize, Call)>) {
    for stream in listener.incoming().flatten() {
        // A broken connection is its caller's to complain about.
        if let Ok(call) = receive(stream) {
            let _ = calls.send(call);
        }
    }
}

/// Reads a call that has no body.
fn receive(mut stream: TcpStream) -> io::Result<(usize, Call)> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&piece[..read]);
    }
    let number = number(&head).ok_or(io::ErrorKind::InvalidData)?;
    Ok((number, Call(stream)))
}

fn number(head: &[u8]) -> Option<usize> {
    let target = str::from_utf8(head).ok()?.split(' ').nth(1)?;
    target.strip_prefix(PREFIX)?.parse().ok()
}
