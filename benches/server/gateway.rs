//! The gateway: a foreground call beside nginx, what a rescue costs, memory, and background requests through it.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::bench::Bench;
use crate::home::{CONCURRENCY, Home};
use crate::http::{self, Framing};
use crate::latency::{self, Times};
use crate::load::{Extent, Figures, Load, Requests, Rid, run};
use crate::process::Process;
use crate::report::{Report, Series, millis, percent, print_busy};
use crate::upstream;

/// The call that is passed on.
const SMALL: &str = "/up/small";
const THROUGH: u64 = 16 << 20;
const RUNNING: u64 = 64 << 20;
const LATENCY: Duration = Duration::from_millis(5);
const RESCUE: &str = "\n[[route]]\npath = \"/up\"\nrescue_after = \"90s\"\n";

pub fn measure(bench: &Bench<'_>, smoke: bool, report: &mut Report) -> anyhow::Result<()> {
    println!("gateway");
    let setting = Setting { bench, upstream: upstream::start(bench)?, amounts: Amounts::new(smoke) };
    setting.foreground(report)?;
    let size = setting.amounts.large;
    setting.through("up with Content-Length", |addr| upload(addr, size, Framing::ContentLength), report)?;
    setting.through("up chunked", |addr| upload(addr, size, Framing::Chunked), report)?;
    setting.through("down", |addr| http::get(addr, &format!("/up/bytes/{size}"))?.expect(200)?.drain(), report)?;
    setting.at_once(report)?;
    setting.latency(report)?;
    setting.polls(report)
}

/// How much of what is measured here alone.
struct Amounts {
    /// Bytes of a large body.
    large: u64,
    /// Background requests running at once.
    at_once: u32,
    /// Background requests one after the other.
    in_turn: usize,
}

impl Amounts {
    fn new(smoke: bool) -> Self {
        if smoke {
            Self { large: 8 << 20, at_once: 20, in_turn: 20 }
        } else {
            Self { large: 1 << 30, at_once: 500, in_turn: 200 }
        }
    }
}

struct Setting<'a> {
    bench: &'a Bench<'a>,
    upstream: Process,
    amounts: Amounts,
}

impl Setting<'_> {
    fn server(&self, concurrency: u32, routes: &str) -> anyhow::Result<(Home, Process)> {
        server(self.bench, &self.upstream, concurrency, routes)
    }

    fn foreground(&self, report: &mut Report) -> anyhow::Result<()> {
        let connections = self.bench.scale.read_connections;
        println!("pass-through, {connections} connections");
        let small = || Requests::get(SMALL);
        let ceiling = self.bench.ceiling(connections, 200, small())?;
        report.note(
            format!("the load client's ceiling, pass-through at {connections} connections"),
            format!("{:.0}/s", ceiling.rate),
        );
        let nginx = upstream::nginx(self.bench, &self.upstream)?;
        nginx.as_ref().map_or(Ok(()), |nginx| check(nginx.addr))?;
        let (home, server) = self.server(CONCURRENCY, "")?;
        let (rescuing_home, rescuing_server) = self.server(CONCURRENCY, RESCUE)?;
        let load = self.bench.load(connections, 200);
        let (mut direct, mut theirs) = (Series::new("the upstream, no proxy"), Series::new("nginx"));
        let (mut ours, mut rescuing) = (Series::new("server"), Series::new("server, rescue_after"));
        for _ in 0..self.bench.scale.rounds {
            direct.add(run(self.upstream.addr, &load, small())?);
            if let Some(nginx) = &nginx {
                theirs.add(timed(nginx, &load)?);
            }
            ours.add(timed(&server, &load)?);
            rescuing.add(timed(&rescuing_server, &load)?);
        }
        report.note(format!("the upstream without a proxy, {connections} connections"), direct.summary());
        let what = format!("pass-through, calls/s, {connections} connections");
        if nginx.is_some() {
            beside_nginx(what, &ours, &theirs, report);
        } else {
            report.note(what, format!("{}; nginx is not installed: nothing to compare with", ours.summary()));
        }
        let rate = rescuing.rate() / ours.rate();
        report.judge(
            "the same with rescue_after = \"90s\" against without",
            ">= 97 %",
            format!("{} ({} against {})", percent(rate), rescuing.summary(), ours.summary()),
            rate >= 0.97,
        );
        nginx.map_or(Ok(()), Process::stop)?;
        end(home, server)?;
        end(rescuing_home, rescuing_server)
    }

    /// A large body in the foreground; `transfer` gives how much of it came.
    fn through(
        &self,
        which: &str,
        transfer: impl FnOnce(SocketAddr) -> anyhow::Result<u64>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let size = self.amounts.large;
        let (home, server) = self.server(CONCURRENCY, "")?;
        let before = self.baseline(&server)?;
        let got = transfer(server.addr)?;
        ensure!(got == size, "a body of {size} bytes came as {got}");
        let peak = server.memory()?.peak;
        report.judge(
            format!("memory, {} MiB through, {which} (VmHWM)", size >> 20),
            "adds <= 16 MiB",
            added(peak, before),
            peak.saturating_sub(before) <= THROUGH,
        );
        end(home, server)
    }

    fn at_once(&self, report: &mut Report) -> anyhow::Result<()> {
        let count = u64::from(self.amounts.at_once);
        let (home, server) = self.server(self.amounts.at_once, "")?;
        let before = self.baseline(&server)?;
        let load = Load { connections: 32, extent: Extent::Count(count), expected: 202 };
        run(server.addr, &load, Requests::get("/up/held?bgrs=yes"))?;
        upstream::wait_for(&self.upstream, count)?;
        let running = server.memory()?;
        upstream::release(&self.upstream)?;
        let finished = home.drained()?;
        ensure!(finished == count, "{finished} of {count} requests finished");
        // The kernel's counters are approximate: a later peak may read a little lower.
        let peak = server.memory()?.peak.max(running.peak);
        report.judge(
            format!("memory, {count} background requests running at once (VmHWM)"),
            "adds <= 64 MiB",
            format!("{} (VmRSS while all ran {})", added(peak, before), added(running.resident, before)),
            peak.saturating_sub(before) <= RUNNING,
        );
        end(home, server)
    }

    fn latency(&self, report: &mut Report) -> anyhow::Result<()> {
        let (home, server) = self.server(CONCURRENCY, "")?;
        let small = upstream::SMALL.as_bytes();
        let Times { p50, p99 } = latency::round_trips(server.addr, "/up/small", self.amounts.in_turn, small)?;
        report.judge(
            "from a submission to its result, unloaded, p50",
            "<= 5 ms",
            format!("{} (p99 {})", millis(p50), millis(p99)),
            p50 <= LATENCY,
        );
        end(home, server)
    }

    fn polls(&self, report: &mut Report) -> anyhow::Result<()> {
        let size = self.amounts.large;
        let connections = self.bench.scale.read_connections;
        println!("status reads by the result's size, {connections} connections");
        let (home, server) = self.server(CONCURRENCY, "")?;
        let (of_small, of_large) = (result_of(server.addr, 1 << 10)?, result_of(server.addr, size)?);
        let load = self.bench.load(connections, 200);
        let mut small = Series::new("a result of 1 KiB");
        let mut large = Series::new(format!("a result of {} MiB", size >> 20));
        for _ in 0..self.bench.scale.rounds {
            small.add(run(server.addr, &load, Requests::reads(Arc::clone(&of_small)))?);
            large.add(run(server.addr, &load, Requests::reads(Arc::clone(&of_large)))?);
        }
        let rate = large.rate() / small.rate();
        report.judge(
            format!("status reads/s, a result of {} MiB against one of 1 KiB", size >> 20),
            ">= 90 %",
            format!("{} ({} against {})", percent(rate), large.summary(), small.summary()),
            rate >= 0.9,
        );
        end(home, server)
    }

    /// `VmRSS` from here on.
    fn baseline(&self, server: &Process) -> anyhow::Result<u64> {
        thread::sleep(self.bench.scale.settle);
        server.reset_peak()?;
        Ok(server.memory()?.resident)
    }
}

fn beside_nginx(what: String, ours: &Series, theirs: &Series, report: &mut Report) {
    let rate = ours.rate() / theirs.rate();
    report.judge(
        what.clone(),
        ">= 90 % of nginx's",
        format!("{} ({} against {})", percent(rate), ours.summary(), theirs.summary()),
        rate >= 0.9,
    );
    let p99 = ours.p99() / theirs.p99();
    report.judge(format!("{what}, p99"), "<= 2 times nginx's", format!("{p99:.1} times"), p99 <= 2.0);
}

fn end(home: Home, server: Process) -> anyhow::Result<()> {
    server.stop()?;
    home.remove()
}

/// The upstream's answer comes through, whole.
fn check(addr: SocketAddr) -> anyhow::Result<()> {
    let body = http::get(addr, "/up/small")?.expect(200)?.json()?;
    let right: Value = serde_json::from_str(upstream::SMALL)?;
    ensure!(body == right, "not what the upstream answered: {body}");
    Ok(())
}

/// One round of calls that a fresh server passes on to this upstream.
pub fn round(bench: &Bench<'_>, upstream: &Process) -> anyhow::Result<Figures> {
    let (_, server) = server(bench, upstream, CONCURRENCY, "")?;
    let figures = timed(&server, &bench.load(bench.scale.read_connections, 200))?;
    server.stop()?;
    Ok(figures)
}

/// Calls that are passed on, and what the process took of the processor for each.
fn timed(proxy: &Process, load: &Load) -> anyhow::Result<Figures> {
    let before = proxy.busy()?;
    let figures = run(proxy.addr, load, Requests::get(SMALL))?;
    print_busy(&before, &proxy.busy()?, figures.answers);
    Ok(figures)
}

/// A server in front of the upstream, on fresh data, that has passed a call on: the first one takes time and memory for a
/// password hash, by design.
fn server(bench: &Bench<'_>, upstream: &Process, concurrency: u32, routes: &str) -> anyhow::Result<(Home, Process)> {
    let home = Home::create(bench.fresh("gateway"), concurrency)?;
    let addr = upstream.addr;
    let upstream = format!("\n[[upstream]]\nprefix = \"/up\"\nurl = \"http://{addr}\"\nauth = \"local\"\n{routes}");
    File::options().append(true).open(home.path().join("bgrs.toml"))?.write_all(upstream.as_bytes())?;
    let server = home.start(&bench.settings)?;
    check(server.addr)?;
    Ok((home, server))
}

/// How many bytes of a body came to the upstream.
fn upload(addr: SocketAddr, size: u64, framing: Framing) -> anyhow::Result<u64> {
    let answer = http::upload(addr, "/up/upload", size, framing)?.expect(200)?.json()?;
    answer["received"].as_u64().context("the upstream does not say how long the body was")
}

/// A finished request whose result has so many bytes.
fn result_of(addr: SocketAddr, size: u64) -> anyhow::Result<Arc<Vec<Rid>>> {
    let rid = http::submitted(http::get(addr, &format!("/up/bytes/{size}?bgrs=yes"))?)?;
    http::ended(addr, &rid)?;
    let info = http::get(addr, &format!("/bgrs/{rid}?verbose=1"))?.expect(200)?.json()?;
    ensure!(info[0]["size"].as_str() == Some(&*size.to_string()), "not a result of {size} bytes: {info}");
    let rid: Rid = rid.as_bytes().try_into()?;
    Ok(Arc::new(vec![rid]))
}

fn added(now: u64, before: u64) -> String {
    format!("{:+.1} MiB", (now as f64 - before as f64) / f64::from(1 << 20))
}
