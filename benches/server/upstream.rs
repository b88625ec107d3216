//! What the gateway is measured with: a fast API to stand in front of, a process of its own, and nginx in front of it.
//!
//! | call | answer |
//! | --- | --- |
//! | `/up/bytes/N` | so many bytes, made as they are sent |
//! | `/up/held` | none until `/release` was called |
//! | `/waiting` | how many calls have been held |
//! | any other | how long its body was, or without one [`SMALL`] |

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::bench::Bench;
use crate::http;
use crate::process::{Process, argument};

/// The body of most answers.
pub const SMALL: &str =
    r#"{"id":1603,"name":"a campaign of the summer","active":true,"type":1,"dt":"2026-01-01 00:00:00"}"#;

const READ: usize = 16 * 1024;
const PIECE: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(120);

/// One process, so that nothing is left of it when it is killed. By default it closes a connection after 1,000 calls.
const NGINX: &str = "
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {
    worker_connections 1024;
}
http {
    access_log off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    upstream api {
        server $UPSTREAM;
        keepalive 64;
        keepalive_requests 1000000000;
    }
    server {
        listen $ADDRESS;
        location / {
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }
    }
}
";

/// Starts the upstream.
pub fn start(bench: &Bench<'_>) -> anyhow::Result<Process> {
    Process::start_self(&["upstream", "0"], &bench.dir.join("upstream.log"))
}

/// Waits until so many calls are held there.
pub fn wait_for(upstream: &Process, count: u64) -> anyhow::Result<()> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let answer = http::get(upstream.addr, "/waiting")?.expect(200)?.json()?;
        let waiting = answer["waiting"].as_u64().context("the upstream does not say how many calls it holds")?;
        if waiting >= count {
            return Ok(());
        }
        ensure!(Instant::now() < limit, "{waiting} of {count} calls have come to the upstream");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Has it answer what it holds.
pub fn release(upstream: &Process) -> anyhow::Result<()> {
    http::get(upstream.addr, "/release")?.expect(200).map(|_| ())
}

/// nginx in front of the upstream; `None` where it is not installed.
pub fn nginx(bench: &Bench<'_>, upstream: &Process) -> anyhow::Result<Option<Process>> {
    let Some(program) = find_nginx() else {
        let all = std::env::var_os("BGRS_TESTS").is_some_and(|value| value == "all");
        ensure!(!all, "nginx is not installed, and nothing may be left out");
        println!("left out: the pass-through beside nginx; it needs nginx");
        return Ok(None);
    };
    let version = Command::new(&program).arg("-v").output()?;
    println!("  {}", String::from_utf8_lossy(&version.stderr).trim());
    let dir = bench.fresh("nginx");
    fs::create_dir(&dir)?;
    let addr = free_address()?.to_string();
    let config = NGINX.replace("$ADDRESS", &addr).replace("$UPSTREAM", &upstream.addr.to_string());
    fs::write(dir.join("nginx.conf"), config)?;
    // nginx does not say where it listens.
    let script = "echo \"listening on http://$1\"; exec \"$2\" -p \"$3\" -c nginx.conf -e stderr";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &addr, argument(&program)?, argument(&dir)?]);
    Process::start(command, &bench.dir.join("nginx.log")).map(Some)
}

fn find_nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts servers where an ordinary user's PATH does not lead.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

/// An address for a program that cannot say which it got, below the ports that the system gives out by itself.
fn free_address() -> anyhow::Result<SocketAddr> {
    let mut addresses = (20_000_u16..30_000).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|addr| std::net::TcpListener::bind(addr).is_ok()).context("no port is free")
}

/// Serves until it is killed; prints where it listens.
pub fn serve(port: u16) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let gate = Arc::new(Gate { waiting: AtomicU64::new(0), open: watch::Sender::new(false) });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(converse(stream, Arc::clone(&gate)));
        }
    })
}

/// A broken connection is its caller's to complain about.
async fn converse(stream: TcpStream, gate: Arc<Gate>) -> io::Result<()> {
    let small = json(SMALL);
    let mut caller = Caller { stream, buffer: BytesMut::new() };
    while let Some(head) = caller.head().await? {
        let received = caller.discard(head.body).await?;
        match head.wanted {
            Wanted::Small if received == 0 => caller.say(&small).await?,
            Wanted::Small => caller.say(&json(&format!("{{\"received\":{received}}}"))).await?,
            Wanted::Bytes(length) => caller.generate(length).await?,
            Wanted::Held => {
                gate.pass().await;
                caller.say(&small).await?;
            }
            Wanted::Waiting => {
                let waiting = gate.waiting.load(Ordering::Relaxed);
                caller.say(&json(&format!("{{\"waiting\":{waiting}}}"))).await?;
            }
            Wanted::Release => {
                gate.open.send_replace(true);
                caller.say(&small).await?;
            }
        }
    }
    Ok(())
}

/// Where calls are held.
struct Gate {
    waiting: AtomicU64,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
}

enum Wanted {
    Small,
    Bytes(u64),
    Held,
    Waiting,
    Release,
}

impl Wanted {
    fn of(target: &str) -> Self {
        match target {
            "/up/held" => Self::Held,
            "/waiting" => Self::Waiting,
            "/release" => Self::Release,
            _ => {
                let length = target.strip_prefix("/up/bytes/").and_then(|length| length.parse().ok());
                length.map_or(Self::Small, Self::Bytes)
            }
        }
    }
}

enum Body {
    Sized(u64),
    Chunked,
}

struct Head {
    wanted: Wanted,
    body: Body,
}

impl Head {
    fn parse(head: &[u8]) -> io::Result<Self> {
        let head = str::from_utf8(head).map_err(io::Error::other)?;
        let mut lines = head.split("\r\n");
        let target = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or(io::ErrorKind::InvalidData)?;
        let mut body = Body::Sized(0);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body = Body::Sized(value.trim().parse().map_err(io::Error::other)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = Body::Chunked;
            }
        }
        Ok(Self { wanted: Wanted::of(target), body })
    }
}

/// A connection; what it has sent beyond the request that is being read stays in the buffer.
struct Caller {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Caller {
    /// The next request's head; `None` where the connection has ended.
    async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = Head::parse(&self.buffer[..end])?;
                self.buffer.advance(end + 4);
                return Ok(Some(head));
            }
            if self.read().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads a body to its end and gives its length.
    async fn discard(&mut self, body: Body) -> io::Result<u64> {
        match body {
            Body::Sized(length) => self.skip(length).await,
            Body::Chunked => self.skip_chunks().await,
        }
    }

    async fn skip(&mut self, length: u64) -> io::Result<u64> {
        let mut left = length;
        loop {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.advance(here);
            left -= here as u64;
            if left == 0 {
                return Ok(length);
            }
            self.more().await?;
        }
    }

    async fn skip_chunks(&mut self) -> io::Result<u64> {
        let mut received = 0;
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                // Trailers, if there are any, and the empty line.
                while !self.line().await?.is_empty() {}
                return Ok(received);
            }
            received += self.skip(size).await?;
            self.skip(2).await?;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.advance(end + 2);
                return Ok(line);
            }
            self.more().await?;
        }
    }

    /// Reads on in the middle of a request.
    async fn more(&mut self) -> io::Result<()> {
        if self.read().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ);
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn say(&mut self, answer: &str) -> io::Result<()> {
        self.stream.write_all(answer.as_bytes()).await
    }

    async fn generate(&mut self, length: u64) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n";
        self.say(&format!("{head}Content-Length: {length}\r\n\r\n")).await?;
        let piece = vec![b'z'; PIECE];
        let mut left = length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            self.stream.write_all(&piece[..part]).await?;
            left -= part as u64;
        }
        Ok(())
    }
}

fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/json; charset=utf-8\r\n\r\n{body}",
        body.len()
    )
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
