//! The load client: many keep-alive connections on one thread, one request at a time on each.
//!
//! It writes bytes that were made beforehand and reads of an answer no more than the status and the length. Any
//! status but the expected one ends the run with an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::AS_ADMIN;

/// The largest answer, head and all, that the client takes.
const BUFFER: usize = 16 * 1024;
/// How long a run may take beyond its measured time, or in all where only the count is given.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is sent.
pub enum Requests {
    /// The same bytes each time.
    Same(Vec<u8>),
    /// A read of one of these rids, any of them equally likely.
    AnyOf { rids: Arc<Vec<Rid>>, rest: Vec<u8> },
    /// The same bytes but for an `Idempotency-Key` at the end, each time a fresh one.
    Keyed(Vec<u8>),
}

/// A rid as it stands in a path.
pub type Rid = [u8; 32];

/// When it ends.
#[derive(Clone, Copy)]
pub enum Extent {
    /// Requests for a time; what is answered in `warm_up` is not measured.
    Time { warm_up: Duration, measured: Duration },
    /// So many requests.
    Count(u64),
    /// So many requests, one each time this has passed, however fast the answers are.
    Paced { count: u64, each: Duration },
}

/// One run.
pub struct Load {
    pub connections: usize,
    pub extent: Extent,
    pub expected: u16,
}

/// What came of a run.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// All answers, those of the warm-up too.
    pub answers: u64,
    /// Measured answers a second.
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
}

impl Requests {
    /// The submission that is measured.
    pub fn submission() -> Self {
        Self::Same(format!("{}\r\n", submission_fields()).into_bytes())
    }

    /// The same with an `Idempotency-Key`.
    pub fn keyed_submission() -> Self {
        Self::Keyed(submission_fields().into_bytes())
    }

    /// An ordinary call in the foreground.
    pub fn me() -> Self {
        Self::get("/v2.5/users/me")
    }

    /// A call of this target.
    pub fn get(target: &str) -> Self {
        let head = format!("GET {target} HTTP/1.1\r\nHost: bench.invalid\r\n{AS_ADMIN}Accept: */*\r\n\r\n");
        Self::Same(head.into_bytes())
    }

    /// Reads of `GET /bgrs/{rid}`.
    pub fn reads(rids: Arc<Vec<Rid>>) -> Self {
        let rest = format!(" HTTP/1.1\r\nHost: bench.invalid\r\n{AS_ADMIN}Accept: */*\r\n\r\n");
        Self::AnyOf { rids, rest: rest.into_bytes() }
    }

    fn write<'a>(&'a self, buffer: &'a mut Vec<u8>, dice: &mut Dice) -> &'a [u8] {
        match self {
            Self::Same(bytes) => bytes,
            Self::AnyOf { rids, rest } => {
                buffer.clear();
                buffer.extend_from_slice(b"GET /bgrs/");
                buffer.extend_from_slice(&rids[dice.below(rids.len())]);
                buffer.extend_from_slice(rest);
                buffer
            }
            Self::Keyed(fields) => {
                let key = format!("Idempotency-Key: {:016x}{:016x}\r\n\r\n", dice.roll(), dice.roll());
                buffer.clear();
                buffer.extend_from_slice(fields);
                buffer.extend_from_slice(key.as_bytes());
                buffer
            }
        }
    }
}

/// The submission that is measured, up to the empty line.
fn submission_fields() -> String {
    format!("GET /v2.5/users/me?bgrs=yes HTTP/1.1\r\nHost: bench.invalid\r\n{AS_ADMIN}Accept: */*\r\n")
}

/// Sends `requests` to `addr`.
///
/// # Errors
/// Any answer but the expected one, a connection that is closed, a run that does not end.
pub fn run(addr: SocketAddr, load: &Load, requests: Requests) -> anyhow::Result<Figures> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let run = converse_all(addr, load, Arc::new(requests));
        let limit = load.extent.measured() + PATIENCE;
        tokio::time::timeout(limit, run).await.context("the load does not come to its end")?
    })
}

async fn converse_all(addr: SocketAddr, load: &Load, requests: Arc<Requests>) -> anyhow::Result<Figures> {
    let mut streams = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let pace = Arc::new(Pace::new(load.extent));
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|stream| tokio::spawn(converse(stream, Arc::clone(&requests), Arc::clone(&pace), load.expected)))
        .collect();
    let mut all = Tally::default();
    for tally in try_join_all(tasks).await? {
        all.add(tally?);
    }
    all.figures(load.extent, pace.from.elapsed())
}

async fn converse(
    mut stream: TcpStream,
    requests: Arc<Requests>,
    pace: Arc<Pace>,
    expected: u16,
) -> anyhow::Result<Tally> {
    let mut dice = Dice::new()?;
    let mut request = Vec::new();
    let mut answer = vec![0; BUFFER];
    let mut tally = Tally::default();
    while pace.goes_on().await {
        let bytes = requests.write(&mut request, &mut dice);
        let sent = Instant::now();
        stream.write_all(bytes).await?;
        let (status, length) = read_answer(&mut stream, &mut answer).await?;
        ensure!(
            status == expected,
            "an answer has the status {status} instead of {expected}: {}",
            String::from_utf8_lossy(&answer[..length])
        );
        let got = Instant::now();
        tally.answers += 1;
        if pace.measures(got) {
            let micros = u32::try_from(got.duration_since(sent).as_micros());
            tally.latencies.push(micros.unwrap_or(u32::MAX));
        }
    }
    Ok(tally)
}

/// The status of the next answer, and its length in the buffer, head and all.
pub async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<(u16, usize)> {
    let mut filled = 0;
    let mut head = None;
    loop {
        ensure!(filled < buffer.len(), "an answer is larger than {filled} bytes");
        let read = stream.read(&mut buffer[filled..]).await?;
        ensure!(
            read > 0,
            "the connection was closed instead of an answer, after {:?}",
            String::from_utf8_lossy(&buffer[..filled])
        );
        filled += read;
        if head.is_none() {
            head = parse_head(&buffer[..filled])?;
        }
        match head {
            Some((status, length)) if filled == length => return Ok((status, length)),
            Some((_, length)) => ensure!(filled < length, "an answer is longer than it says"),
            None => {}
        }
    }
}

/// The status, and the length of head and body, once the head is whole.
fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end];
    let status = head
        .get(9..12)
        .and_then(number)
        .and_then(|status| u16::try_from(status).ok())
        .context("an answer without a status line")?;
    let body = match content_length(head) {
        Some(length) => length,
        None if status == 204 => 0,
        None => bail!("an answer without Content-Length: {}", String::from_utf8_lossy(head)),
    };
    Ok(Some((status, end + 4 + body)))
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|&byte| byte == b'\n')
        .filter(|line| line.len() > NAME.len())
        .find(|line| line[..NAME.len()].eq_ignore_ascii_case(NAME))
        .and_then(|line| number(line[NAME.len()..].trim_ascii()))
}

fn number(digits: &[u8]) -> Option<usize> {
    str::from_utf8(digits).ok()?.parse().ok()
}

impl Extent {
    fn measured(self) -> Duration {
        match self {
            Self::Time { warm_up, measured } => warm_up + measured,
            Self::Count(_) => Duration::ZERO,
            Self::Paced { count, each } => each.mul_f64(count as f64),
        }
    }
}

/// Whether there is more to send, and whether an answer counts.
struct Pace {
    extent: Extent,
    from: Instant,
    sent: AtomicU64,
}

impl Pace {
    fn new(extent: Extent) -> Self {
        Self { extent, from: Instant::now(), sent: AtomicU64::new(0) }
    }

    /// Whether there is another one; returns when it is time for it.
    async fn goes_on(&self) -> bool {
        match self.extent {
            Extent::Time { .. } => self.from.elapsed() < self.extent.measured(),
            Extent::Count(count) => self.sent.fetch_add(1, Ordering::Relaxed) < count,
            Extent::Paced { count, each } => {
                let number = self.sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep_until((self.from + each.mul_f64(number as f64)).into()).await;
                number < count
            }
        }
    }

    fn measures(&self, got: Instant) -> bool {
        match self.extent {
            Extent::Time { warm_up, measured } => {
                let at = got.duration_since(self.from);
                at >= warm_up && at < warm_up + measured
            }
            Extent::Count(_) | Extent::Paced { .. } => true,
        }
    }
}

/// What one connection saw.
#[derive(Default)]
struct Tally {
    answers: u64,
    latencies: Vec<u32>,
}

impl Tally {
    fn add(&mut self, mut other: Self) {
        self.answers += other.answers;
        self.latencies.append(&mut other.latencies);
    }

    fn figures(mut self, extent: Extent, elapsed: Duration) -> anyhow::Result<Figures> {
        self.latencies.sort_unstable();
        let last = self.latencies.len().checked_sub(1).context("no answer in the measured time")?;
        let percentile = |n: usize| Duration::from_micros(u64::from(self.latencies[last * n / 100]));
        let time = match extent {
            Extent::Time { measured, .. } => measured,
            Extent::Count(_) | Extent::Paced { .. } => elapsed,
        };
        Ok(Figures {
            answers: self.answers,
            rate: f64::from(u32::try_from(self.latencies.len())?) / time.as_secs_f64(),
            p50: percentile(50),
            p99: percentile(99),
        })
    }
}

/// Xorshift: picks rids evenly enough, and gives no number twice, at no cost.
struct Dice(u64);

impl Dice {
    fn new() -> anyhow::Result<Self> {
        let seed = getrandom::u64().map_err(|error| anyhow::anyhow!("no random seed: {error}"))?;
        Ok(Self(seed | 1))
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.roll() % limit).unwrap_or_default()
    }
}
