//! The time from exec to ready, with many stored requests and some queued, beside that of an empty server.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::bench::Bench;
use crate::fixture;
use crate::home::{CONCURRENCY, Home, count_rows};
use crate::report::{Report, median, millis};

const LIMIT: f64 = 2.0;

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    println!("start");
    let settings = &bench.settings;
    let empty = Home::create(bench.dir.join("empty"), CONCURRENCY)?;
    empty.start(settings)?.stop()?;
    let full = fixture::finished(bench.dir.join("full"), bench.scale.many_stored, settings)?.home;
    let queued = fixture::leave_queued(&full, bench.scale.queued, settings)?;
    let ended = count_rows(&full.database()?)? - queued;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 1..=bench.scale.rounds {
        let (lesser, greater) = (start(bench, &empty)?, start(bench, &full)?);
        println!("  round {round}  empty {}  full {}", millis(lesser), millis(greater));
        without.push(lesser);
        with.push(greater);
    }
    let (without, with) = (seconds(&without), seconds(&with));
    report.judge(
        format!("exec to ready, {ended} ended and {queued} queued"),
        "<= 2 s",
        format!("{with:.3} s (an empty server {without:.3} s)"),
        with <= LIMIT,
    );
    run_the_queue(bench, &full, queued, report)?;
    empty.remove()?;
    full.remove()
}

/// Starts a server on a copy of the data, so that every round finds the same queue.
fn start(bench: &Bench<'_>, home: &Home) -> anyhow::Result<Duration> {
    let copy = home.copy(bench.dir.join("copy"))?;
    let server = copy.start(&bench.settings)?;
    let time = server.ready_after;
    server.kill()?;
    copy.remove()?;
    Ok(time)
}

/// What was queued does run, and ends well.
fn run_the_queue(bench: &Bench<'_>, home: &Home, queued: u64, report: &mut Report) -> anyhow::Result<()> {
    let stored = count_rows(&home.database()?)?;
    let server = home.start(&bench.settings)?;
    let from = Instant::now();
    let finished = home.drained()?;
    ensure!(finished == stored, "{finished} of {stored} requests finished");
    report.note(
        format!("the {queued} queued requests have run"),
        format!("{:.1} s after ready", from.elapsed().as_secs_f64()),
    );
    server.stop()
}

fn seconds(times: &[Duration]) -> f64 {
    median(times.iter().map(Duration::as_secs_f64))
}
