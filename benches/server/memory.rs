//! Memory, as the kernel counts it: `VmRSS`, and `VmHWM` for what a transfer needed at its height.

use std::thread;

use anyhow::ensure;

use crate::bench::Bench;
use crate::fixture;
use crate::home::{CONCURRENCY, Home};
use crate::http::{self, Framing};
use crate::load::{Extent, Load, Requests, run};
use crate::process::{Memory, Process};
use crate::report::Report;

const IDLE: u64 = 20 << 20;
const ADDED: u64 = 16 << 20;
const ADDED_TARGET: &str = "adds <= 16 MiB";

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    println!("memory");
    idle(bench, report)?;
    upload(bench, Framing::ContentLength, "with Content-Length", report)?;
    upload(bench, Framing::Chunked, "chunked", report)?;
    download(bench, report)?;
    many_finished(bench, report)
}

fn idle(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let home = Home::create(bench.dir.join("idle"), CONCURRENCY)?;
    let server = home.start(&bench.settings)?;
    thread::sleep(bench.scale.settle);
    let Memory { resident, peak } = server.memory()?;
    report.judge(
        "memory, idle (VmRSS)",
        "<= 20 MiB",
        format!("{} (VmHWM {})", mebibytes(resident), mebibytes(peak)),
        resident <= IDLE,
    );
    server.stop()?;
    home.remove()
}

fn upload(bench: &Bench<'_>, framing: Framing, how: &str, report: &mut Report) -> anyhow::Result<()> {
    let home = Home::create(bench.dir.join("upload"), CONCURRENCY)?;
    let server = home.start(&bench.settings)?;
    let before = baseline(bench, &server)?;
    let target = "/v2.5/users?bgrs=yes";
    let answer = http::upload(server.addr, target, bench.scale.payload, framing)?;
    let accepted = server.memory()?.peak;
    let rid = http::submitted(answer)?;
    http::ended(server.addr, &rid)?;
    // The kernel's counters are approximate: a later peak may read a little lower.
    let run = server.memory()?.peak.max(accepted);
    report.judge(
        format!("memory, a body of {} up, {how} (VmHWM)", mebibytes(bench.scale.payload)),
        ADDED_TARGET,
        format!("{} until the 202, {} with its run", added(accepted, before), added(run, before)),
        run.saturating_sub(before) <= ADDED,
    );
    server.stop()?;
    home.remove()
}

fn download(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let size = bench.scale.payload;
    let settings = &bench.settings;
    let (home, rid) = fixture::large_result(bench.dir.join("download"), size, settings)?;
    let server = home.start(settings)?;
    let before = baseline(bench, &server)?;
    let result = http::get(server.addr, &format!("/bgrs/{rid}/result"))?;
    let got = result.expect(200)?.drain()?;
    ensure!(got == size, "a result of {size} bytes came as {got}");
    let after = server.memory()?;
    report.judge(
        format!("memory, a result of {} down (VmHWM)", mebibytes(size)),
        ADDED_TARGET,
        added(after.peak, before),
        after.peak.saturating_sub(before) <= ADDED,
    );
    server.stop()?;
    home.remove()
}

fn many_finished(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.scale.finished;
    let home = Home::create(bench.dir.join("finished"), CONCURRENCY)?;
    let server = home.start(&bench.settings)?;
    let before = baseline(bench, &server)?;
    let load = Load { connections: 32, extent: Extent::Count(count), expected: 202 };
    run(server.addr, &load, Requests::submission())?;
    let finished = home.drained()?;
    ensure!(finished == count, "{finished} of {count} requests finished");
    thread::sleep(bench.scale.settle);
    let Memory { resident, peak } = server.memory()?;
    report.judge(
        format!("memory, {count} finished requests (VmRSS)"),
        ADDED_TARGET,
        format!("{} (VmHWM {})", added(resident, before), added(peak, before)),
        resident.saturating_sub(before) <= ADDED,
    );
    server.stop()?;
    home.remove()
}

/// `VmRSS` of a server that has checked the administrator's password: a password hash takes memory by design, once.
fn baseline(bench: &Bench<'_>, server: &Process) -> anyhow::Result<u64> {
    http::get(server.addr, "/v2.5/users/me")?.expect(200)?;
    thread::sleep(bench.scale.settle);
    server.reset_peak()?;
    Ok(server.memory()?.resident)
}

/// What came to it, as `+12.3 MiB`.
pub fn added(now: u64, before: u64) -> String {
    let sign = if now < before { '-' } else { '+' };
    format!("{sign}{}", mebibytes(now.abs_diff(before)))
}

/// As `12.3 MiB`.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
