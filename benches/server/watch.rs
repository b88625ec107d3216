//! Who watches a request: callers that wait for its end, and streams of its events. What each costs in memory, and how
//! soon each knows of the end.
//!
//! The upstream and the watchers are in this process, so that one clock takes all the times.

use std::fs::File;
use std::io::Write;
use std::iter::repeat_n;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

use crate::bench::Bench;
use crate::held::{self, Call, Held};
use crate::home::Home;
use crate::http::{self, AS_ADMIN};
use crate::load::read_answer;
use crate::process::Process;
use crate::report::{Report, millis};

/// KiB that each watcher may add.
const ADDED: f64 = 16.0;
const REACH: Duration = Duration::from_millis(50);
/// From one end to the next.
const PACE: Duration = Duration::from_millis(20);
/// Connections that are made without a rest: the queue of a listening socket is short, and a full one costs a second.
const BURST: usize = 100;
const REST: Duration = Duration::from_millis(5);
/// Longer than the callers wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// Open files beside those of connections and requests.
const OTHER_FILES: usize = 100;
const ANSWER: usize = 4096;
const PIECE: usize = 1024;

pub fn measure(bench: &Bench<'_>, smoke: bool, report: &mut Report) -> anyhow::Result<()> {
    println!("watchers");
    let amounts = Amounts::new(smoke);
    raise_open_files(amounts)?;
    let upstream = Held::start()?;
    let home = prepare(bench, upstream.addr, amounts)?;
    let server = home.start(&bench.settings)?;
    let setting = Setting { bench, upstream, server, amounts };
    setting.spread(report)?;
    setting.crowd(report)?;
    setting.server.stop()?;
    home.remove()
}

#[derive(Clone, Copy)]
struct Amounts {
    /// Requests that are watched at once.
    requests: u16,
    /// Watchers of each kind that each of them has.
    each: u16,
}

impl Amounts {
    fn new(smoke: bool) -> Self {
        if smoke { Self { requests: 10, each: 2 } } else { Self { requests: 1_000, each: 5 } }
    }

    /// All watchers of one kind.
    fn of_a_kind(self) -> usize {
        usize::from(self.requests) * usize::from(self.each)
    }
}

/// To what the system allows at most; the server does so by itself, and needs more: beside a connection for each
/// watcher, one to the upstream and a file for each request.
fn raise_open_files(amounts: Amounts) -> anyhow::Result<()> {
    let needed = 2 * (amounts.of_a_kind() + usize::from(amounts.requests)) + OTHER_FILES;
    let most = getrlimit(Resource::Nofile).maximum;
    let enough = most.is_none_or(|most| most >= needed as u64);
    ensure!(enough, "{needed} open files are needed, more than the system allows (ulimit -Hn)");
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?)
}

/// A folder of a server that runs all the requests at once.
fn prepare(bench: &Bench<'_>, upstream: SocketAddr, amounts: Amounts) -> anyhow::Result<Home> {
    let home = Home::create(bench.fresh("watch"), u32::from(amounts.requests))?;
    let config = format!("\n[[upstream]]\nprefix = \"/up\"\nurl = \"http://{upstream}\"\nauth = \"local\"\n");
    File::options().append(true).open(home.path().join("bgrs.toml"))?.write_all(config.as_bytes())?;
    Ok(home)
}

struct Setting<'a> {
    bench: &'a Bench<'a>,
    upstream: Held,
    server: Process,
    amounts: Amounts,
}

/// What came of it.
struct Seen {
    /// `VmRSS` before there are watchers, with the callers that wait, and with the event streams too.
    resident: [u64; 3],
    /// From the upstream's answer until each caller that waits has its own, the quickest first.
    waiting: Vec<Duration>,
    /// The same for the `end` of each event stream.
    streaming: Vec<Duration>,
    /// The processor's time that the watchers took for the ends.
    client: Duration,
}

impl Seen {
    fn all(&self) -> Vec<Duration> {
        let mut all = [self.waiting.as_slice(), self.streaming.as_slice()].concat();
        all.sort_unstable();
        all
    }
}

impl Setting<'_> {
    /// Many requests with a few watchers each, ended one after the other.
    fn spread(&self, report: &mut Report) -> anyhow::Result<()> {
        let seen = self.watched(self.amounts.requests.into(), self.amounts.each.into())?;
        let [before, waiting, streaming] = seen.resident;
        let count = self.amounts.of_a_kind();
        cost(format!("memory, {count} callers waiting (VmRSS)"), [before, waiting], count, report);
        cost(format!("memory, {count} event streams beside them (VmRSS)"), [waiting, streaming], count, report);
        let all = seen.all();
        let p99 = part(&all, 99);
        report.judge(
            format!("from the upstream's answer to each of a request's {} watchers, p99", 2 * self.amounts.each),
            "<= 50 ms",
            format!(
                "{} (p50 {}, max {}; p99 of callers waiting {}, of event streams {})",
                millis(p99),
                millis(part(&all, 50)),
                millis(part(&all, 100)),
                millis(part(&seen.waiting, 99)),
                millis(part(&seen.streaming, 99))
            ),
            p99 <= REACH,
        );
        Ok(())
    }

    /// One request that all watch.
    fn crowd(&self, report: &mut Report) -> anyhow::Result<()> {
        let seen = self.watched(1, self.amounts.of_a_kind())?;
        let all = seen.all();
        report.note(
            format!("from the upstream's answer to the {} watchers of one request", all.len()),
            format!(
                "{} to 50 %, {} to 99 %, {} to all (the load client's own processor time {})",
                millis(part(&all, 50)),
                millis(part(&all, 99)),
                millis(part(&all, 100)),
                millis(seen.client)
            ),
        );
        Ok(())
    }

    /// Submits so many requests, has them watched, and ends them.
    fn watched(&self, requests: usize, each: usize) -> anyhow::Result<Seen> {
        let rids = (0..requests).map(|number| self.submit(number)).collect::<anyhow::Result<Vec<_>>>()?;
        let calls = self.upstream.take(requests)?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let watch = self.watch(&rids, each, calls);
            timeout(PATIENCE, watch).await.context("not all watchers come to know of the end")?
        })
    }

    fn submit(&self, number: usize) -> anyhow::Result<String> {
        let target = format!("{}?bgrs=yes", held::target(number));
        http::submitted(http::get(self.server.addr, &target)?)
    }

    async fn watch(&self, rids: &[String], each: usize, calls: Vec<Call>) -> anyhow::Result<Seen> {
        let before = self.settled().await?;
        let waiting = attach(self.server.addr, Way::Wait, rids, each).await?;
        let with_waiting = self.settled().await?;
        let streaming = attach(self.server.addr, Way::Events, rids, each).await?;
        let with_streaming = self.settled().await?;
        let used = processor_time()?;
        let ended = end(calls).await?;
        let waiting = times(waiting, &ended).await?;
        let streaming = times(streaming, &ended).await?;
        let client = processor_time()?.saturating_sub(used);
        Ok(Seen { resident: [before, with_waiting, with_streaming], waiting, streaming, client })
    }

    /// `VmRSS` after a rest.
    async fn settled(&self) -> anyhow::Result<u64> {
        sleep(self.bench.scale.settle).await;
        Ok(self.server.memory()?.resident)
    }
}

fn cost(what: String, [before, after]: [u64; 2], count: usize, report: &mut Report) {
    let added = (after as f64 - before as f64) / 1024.0;
    let each = added / count as f64;
    let measured = format!("{each:.1} KiB each ({:+.1} MiB)", added / 1024.0);
    report.judge(what, "adds <= 16 KiB each", measured, each <= ADDED);
}

/// So many hundredths of the times are no longer than this one; the shortest comes first.
fn part(times: &[Duration], percent: usize) -> Duration {
    let index = times.len().saturating_sub(1) * percent / 100;
    times.get(index).copied().unwrap_or_default()
}

/// What this thread has used: all watchers run on it.
fn processor_time() -> anyhow::Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))?)
}

/// Has the upstream answer one call after the other; gives the moments.
async fn end(calls: Vec<Call>) -> anyhow::Result<Vec<Instant>> {
    let mut pace = interval(PACE);
    let mut ended = Vec::with_capacity(calls.len());
    for call in calls {
        pace.tick().await;
        ended.push(call.answer()?);
    }
    Ok(ended)
}

/// From its request's end to each watcher's knowing of it, the shortest first.
async fn times(watching: Vec<Watching>, ended: &[Instant]) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(watching.len());
    for watching in watching {
        let (request, known) = watching.await??;
        times.push(known.duration_since(ended[request]));
    }
    times.sort_unstable();
    Ok(times)
}

/// Gives which of the requests it was, and when its end was known.
type Watching = JoinHandle<anyhow::Result<(usize, Instant)>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Wait,
    Events,
}

impl Way {
    fn head(self, rid: &str) -> String {
        let rest = match self {
            Self::Wait => "?wait=60",
            Self::Events => "/events",
        };
        format!("GET /bgrs/{rid}{rest} HTTP/1.1\r\nHost: bench.invalid\r\n{AS_ADMIN}Accept: */*\r\n\r\n")
    }
}

/// Gives each request so many watchers. Event streams have begun then; a caller who waits gives no sign of it.
async fn attach(addr: SocketAddr, way: Way, rids: &[String], each: usize) -> anyhow::Result<Vec<Watching>> {
    let mut watchers = Vec::with_capacity(rids.len() * each);
    for (request, rid) in rids.iter().enumerate().flat_map(|watched| repeat_n(watched, each)) {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        stream.write_all(way.head(rid).as_bytes()).await?;
        watchers.push(Watcher { request, way, stream, received: Vec::new() });
        if watchers.len().is_multiple_of(BURST) {
            sleep(REST).await;
        }
    }
    let mut watching = Vec::with_capacity(watchers.len());
    for mut watcher in watchers {
        if way == Way::Events {
            watcher.event(b"status").await?;
        }
        watching.push(tokio::spawn(watcher.end()));
    }
    Ok(watching)
}

struct Watcher {
    /// Which of the requests.
    request: usize,
    way: Way,
    stream: TcpStream,
    /// What has come of an event stream.
    received: Vec<u8>,
}

impl Watcher {
    async fn end(mut self) -> anyhow::Result<(usize, Instant)> {
        let known = match self.way {
            Way::Wait => self.answer().await?,
            Way::Events => self.event(b"end").await?,
        };
        Ok((self.request, known))
    }

    /// The moment at which the whole answer is there.
    async fn answer(&mut self) -> anyhow::Result<Instant> {
        let mut buffer = vec![0; ANSWER];
        let (status, length) = read_answer(&mut self.stream, &mut buffer).await?;
        let known = Instant::now();
        let text = str::from_utf8(&buffer[..length])?;
        ensure!(status == 200 && text.contains("\"finished\""), "a wait was over before its request: {text}");
        Ok(known)
    }

    /// The moment at which such an event is there, whole.
    async fn event(&mut self, name: &[u8]) -> anyhow::Result<Instant> {
        while !has_event(&self.received, name) {
            self.received.reserve(PIECE);
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(
                read > 0 && self.received.starts_with(b"HTTP/1.1 200 "),
                "no event stream, or one that breaks off: {}",
                String::from_utf8_lossy(&self.received)
            );
        }
        Ok(Instant::now())
    }
}

/// An empty line ends an event; the framing of chunks has none, but for its carriage return.
fn has_event(received: &[u8], name: &[u8]) -> bool {
    let mut lines = received.split_inclusive(|&byte| byte == b'\n');
    let named = |line: &[u8]| line.strip_prefix(b"event:").is_some_and(|value| value.trim_ascii() == name);
    lines.any(named) && lines.any(|line| line == b"\n")
}
