//! What stored requests cost: bytes of the database for each, and memory of an idle server that has a great many.

use std::fs;
use std::thread;

use anyhow::ensure;

use crate::bench::Bench;
use crate::fixture;
use crate::home::{CONCURRENCY, Home};
use crate::http;
use crate::load::{Extent, Load, Requests, Rid, run};
use crate::report::{Report, median};

const BYTES: f64 = 900.0;
const MEBIBYTE: f64 = 1_048_576.0;
const IDLE: f64 = 20.0 * MEBIBYTE;
const ADDED: f64 = 2.0 * MEBIBYTE;
/// Requests whose status is read of each server; the lesser one has hardly more.
const FEW: usize = 10;

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    println!("footprint");
    disk(bench, report)?;
    empty(bench, report)?;
    stored(bench, report)
}

/// Bytes of a database.
struct Size {
    all: u64,
    /// Of these, in pages that are free again.
    free: u64,
}

/// What tiny requests leave in the database. Their result files stay until the run's end, for the reason that
/// `submit.rs` gives.
fn disk(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.scale.tiny;
    let home = Home::create(bench.fresh("tiny"), CONCURRENCY)?;
    home.start(&bench.settings)?.stop()?;
    let before = size(&home)?;
    let server = home.start(&bench.settings)?;
    let load = Load { connections: bench.scale.read_connections, extent: Extent::Count(count), expected: 202 };
    run(server.addr, &load, Requests::submission())?;
    let finished = home.drained()?;
    ensure!(finished == count, "{finished} of {count} requests finished");
    // Copies of the last results wait in the database until the files are synced.
    thread::sleep(bench.scale.settle);
    server.stop()?;
    let after = size(&home)?;
    let each = |bytes: u64| bytes as f64 / count as f64;
    let grown = each(after.all.saturating_sub(before.all));
    report.judge(
        format!("bytes of the database for each of {count} finished tiny requests"),
        "<= 900 bytes",
        format!("{grown:.0} bytes, of these {:.0} in free pages", each(after.free)),
        grown <= BYTES,
    );
    Ok(())
}

/// The size of the database when its server has stopped; whatever is left of a write-ahead log is copied into it first.
fn size(home: &Home) -> anyhow::Result<Size> {
    let database = home.database()?;
    database.pragma_update(None, "wal_checkpoint", "truncate")?;
    let number = |pragma: &str| database.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let free = number("freelist_count")? * number("page_size")?;
    let all = fs::metadata(home.path().join("bgrs.sqlite3"))?.len();
    Ok(Size { all, free: u64::try_from(free)? })
}

/// Idle on an empty folder, as `memory.rs` has it.
fn empty(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let home = Home::create(bench.fresh("idle"), CONCURRENCY)?;
    let resident = resident(bench, &home, &[])?;
    report.judge("memory, idle on an empty folder (VmRSS)", "VmRSS <= 20 MiB", mebibytes(resident), resident <= IDLE);
    home.remove()
}

/// Idle with many stored requests beside few, in turns. Both databases have been there before, and both servers have
/// checked a password and read the status of as many requests.
fn stored(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.scale.finished_stored;
    let settings = &bench.settings;
    let few = fixture::finished(bench.fresh("few"), FEW, settings)?;
    let many = fixture::finished(bench.fresh("many"), count, settings)?;
    let known = spread(&many.rids);
    let (mut lesser, mut greater) = (Vec::new(), Vec::new());
    for round in 1..=bench.scale.rounds {
        let (with_few, with_many) = (resident(bench, &few.home, &few.rids)?, resident(bench, &many.home, &known)?);
        println!("  round {round}  {FEW} stored {}  {count} stored {}", mebibytes(with_few), mebibytes(with_many));
        lesser.push(with_few);
        greater.push(with_many);
    }
    let (lesser, greater) = (median(lesser.into_iter()), median(greater.into_iter()));
    report.judge(
        format!("memory, idle with {count} finished requests stored (VmRSS)"),
        "adds nothing (<= 2 MiB)",
        format!(
            "{:+.1} MiB ({} against {} with {FEW})",
            (greater - lesser) / MEBIBYTE,
            mebibytes(greater),
            mebibytes(lesser)
        ),
        greater - lesser <= ADDED,
    );
    few.home.remove()?;
    many.home.remove()
}

/// `VmRSS` of a server that was started, has said how these requests stand, and rests.
fn resident(bench: &Bench<'_>, home: &Home, rids: &[Rid]) -> anyhow::Result<f64> {
    let server = home.start(&bench.settings)?;
    for rid in rids {
        let rid = str::from_utf8(rid)?;
        http::get(server.addr, &format!("/bgrs/{rid}"))?.expect(200)?.drain()?;
    }
    thread::sleep(bench.scale.settle);
    let resident = server.memory()?.resident;
    server.stop()?;
    Ok(resident as f64)
}

/// A few of them, evenly from all.
fn spread(rids: &[Rid]) -> Vec<Rid> {
    rids.iter().step_by((rids.len() / FEW).max(1)).take(FEW).copied().collect()
}

/// As `12.3 MiB`.
fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / MEBIBYTE)
}
