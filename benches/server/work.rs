//! Long calls of the hosted API: an export against `sqlite3 -csv` on the same file, a batch, and what they leave to the
//! foreground.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::home::{CONCURRENCY, Home};
use crate::http;
use crate::load::{Requests, run};
use crate::report::{Report, Series, median, percent};

const ADDED: u64 = 32 << 20;
const EXPORT: &str = "/v2.5/scans/export?t=csv&bgrs=yes";
const SAME: &str = "SELECT id, campaign_id, dt, device, country, matched FROM scans ORDER BY id";

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    println!("long calls");
    let home = Home::create(bench.fresh("work"), CONCURRENCY)?;
    home.sample(bench.scale.many_stored)?;
    export(bench, &home, report)?;
    batch(bench, &home, report)?;
    beside(bench, &home, report)
}

fn export(bench: &Bench<'_>, home: &Home, report: &mut Report) -> anyhow::Result<()> {
    let server = home.start(&bench.settings)?;
    let (mut theirs, mut ours, mut added, mut wal) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..bench.scale.rounds {
        theirs.extend(sqlite3(home)?);
        let before = server.memory()?.resident;
        server.reset_peak()?;
        let begun = Instant::now();
        background(server.addr, EXPORT)?;
        ours.push(begun.elapsed().as_secs_f64());
        added = added.max(server.memory()?.peak.saturating_sub(before));
        wal = wal.max(home.wal()?);
    }
    let scans = bench.scale.many_stored;
    let took = median(ours.into_iter());
    let what = format!("a CSV export of {scans} scans in the background");
    if theirs.is_empty() {
        report.note(what.clone(), format!("{took:.2} s; sqlite3 is not installed: nothing to compare with"));
    } else {
        let reference = median(theirs.into_iter());
        let measured = format!("{:.1} times ({took:.2} s against {reference:.2} s)", took / reference);
        report.judge(what.clone(), "<= 2 times sqlite3 -csv", measured, took <= 2.0 * reference);
    }
    let mebibytes = |bytes: u64| format!("+{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    report.judge(format!("{what}, memory"), "adds <= 32 MiB", mebibytes(added), added <= ADDED);
    report.note(format!("{what}, write-ahead log"), mebibytes(wal));
    server.stop()
}

/// Seconds that `sqlite3 -csv` takes; `None` where it is not installed.
fn sqlite3(home: &Home) -> anyhow::Result<Option<f64>> {
    let out = std::fs::File::create(home.path().join("sqlite3.csv"))?;
    let begun = Instant::now();
    let mut command = Command::new("sqlite3");
    command.args(["-csv", "-header"]).arg(home.path().join("bgrs.sqlite3")).arg(SAME).stdout(Stdio::from(out));
    match command.status() {
        Ok(status) => {
            ensure!(status.success(), "sqlite3 failed");
            Ok(Some(begun.elapsed().as_secs_f64()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("sqlite3 cannot be run"),
    }
}

fn batch(bench: &Bench<'_>, home: &Home, report: &mut Report) -> anyhow::Result<()> {
    let server = home.start(&bench.settings)?;
    let elements = bench.scale.few_stored;
    let array = campaigns(elements);
    let mut rates = Vec::new();
    for _ in 0..bench.scale.rounds {
        let begun = Instant::now();
        let rid = http::submitted(http::post(server.addr, "/v2.5/campaigns", &array)?)?;
        http::ended(server.addr, &rid)?;
        rates.push(elements as f64 / begun.elapsed().as_secs_f64());
    }
    let rate = median(rates.into_iter());
    report.judge(
        format!("a POST batch of {elements} elements, from its submission to its end"),
        ">= 5,000 elements/s",
        format!("{rate:.0}/s"),
        rate >= 5_000.0,
    );
    server.stop()
}

fn beside(bench: &Bench<'_>, home: &Home, report: &mut Report) -> anyhow::Result<()> {
    let server = home.start(&bench.settings)?;
    let load = bench.load(32, 200);
    let (mut alone, mut together) = (Series::new("alone"), Series::new("beside an export and a batch"));
    let array = campaigns(bench.scale.few_stored);
    for _ in 0..bench.scale.rounds {
        alone.add(run(server.addr, &load, Requests::me())?);
        let (over, addr) = (AtomicBool::new(false), server.addr);
        let figures = std::thread::scope(|scope| {
            let exports = scope.spawn(|| again(&over, || background(addr, EXPORT)));
            let batches = scope.spawn(|| {
                again(&over, || {
                    let rid = http::submitted(http::post(addr, "/v2.5/campaigns", &array)?)?;
                    http::ended(addr, &rid).map(|_| ())
                })
            });
            let figures = run(addr, &load, Requests::me());
            over.store(true, Ordering::Relaxed);
            for worker in [exports, batches] {
                worker.join().map_err(|_| anyhow::anyhow!("a long call's thread died"))??;
            }
            figures
        })?;
        together.add(figures);
    }
    let kept = together.rate() / alone.rate();
    report.judge(
        "GET /v2.5/users/me beside an export and a batch, 32 connections",
        ">= 70 % of its rate alone",
        format!("{} ({} against {})", percent(kept), together.summary(), alone.summary()),
        kept >= 0.7,
    );
    server.stop()
}

fn again(over: &AtomicBool, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        call()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn background(addr: SocketAddr, target: &str) -> anyhow::Result<()> {
    let rid = http::submitted(http::get(addr, target)?)?;
    http::ended(addr, &rid).map(|_| ())
}

fn campaigns(count: usize) -> Value {
    (0..count).map(|n| json!({ "name": format!("bulk test {n}") })).collect()
}
