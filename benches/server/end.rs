//! End to end: how many requests a second are submitted, run and stored, how soon the result of one can be read, and how
//! many wait while they come at a steady pace.
//!
//! Each round is a fresh process on fresh data, and nothing is removed before the run's end, for the reason that
//! `submit.rs` gives.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rusqlite::Connection;

use crate::bench::Bench;
use crate::home::{CONCURRENCY, Home, count_rows};
use crate::latency::{self, Times};
use crate::load::{Extent, Figures, Load, Requests, run};
use crate::process::Process;
use crate::report::{Report, median, millis, print_busy};

/// The call that is submitted, as it is in the foreground.
const ME: &str = "/v2.5/users/me";
const RATE: f64 = 10_000.0;
const SOON: Duration = Duration::from_millis(2);
/// Submissions a second, where they come at a steady pace.
const PACE: u32 = 3_000;
const LEFT: i64 = 100;
/// From one look at whether all have ended to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks for each count of those that have ended: a count passes over all of them, a look finds one that has not.
const LOOKS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(900);
/// Results that are read at the end of a round.
const DRAWN: u32 = 100;

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    println!("end to end");
    throughput(bench, report)?;
    unloaded(bench, report)?;
    paced(bench, report)
}

/// What came of a round, all of it a second.
pub struct Round {
    /// Requests, from before the first submission until the last has ended.
    pub whole: f64,
    /// Ends, when a quarter of them had come.
    sustained: f64,
    /// Submissions that were accepted.
    accepted: f64,
}

/// How many had ended when.
struct Count {
    at: Duration,
    ended: u64,
}

fn throughput(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let mut rounds = Vec::new();
    for number in 1..=bench.scale.rounds {
        let round = round(bench)?;
        println!(
            "  round {number}  {:>8.0}/s  from a quarter on {:>8.0}/s  accepted {:>8.0}/s",
            round.whole, round.sustained, round.accepted
        );
        rounds.push(round);
    }
    let of = |rate: fn(&Round) -> f64| median(rounds.iter().map(rate));
    let whole = of(|round| round.whole);
    report.judge(
        format!("{} requests end to end, {} connections", bench.scale.end_to_end, bench.scale.read_connections),
        ">= 10,000/s",
        format!("{whole:.0}/s"),
        whole >= RATE,
    );
    report.note("the same, ends from a quarter of them on", format!("{:.0}/s", of(|round| round.sustained)));
    report.note("the same, submissions while they last", format!("{:.0}/s", of(|round| round.accepted)));
    Ok(())
}

/// One round: as many as are to come, submitted, run and stored.
pub fn round(bench: &Bench<'_>) -> anyhow::Result<Round> {
    let (home, server, me) = start(bench)?;
    let before = server.busy()?;
    let (figures, counts) = play(bench, &home, server.addr)?;
    print_busy(&before, &server.busy()?, figures.answers);
    check(bench, &home, server.addr, &me)?;
    server.stop()?;
    let end = counts.last().context("nothing was counted")?;
    Ok(Round { whole: end.ended as f64 / end.at.as_secs_f64(), sustained: sustained(&counts)?, accepted: figures.rate })
}

/// A server on fresh data, and what it answers in the foreground: the first call takes time for a password hash, by
/// design.
fn start(bench: &Bench<'_>) -> anyhow::Result<(Home, Process, Vec<u8>)> {
    let home = Home::create(bench.fresh("end"), CONCURRENCY)?;
    let server = home.start(&bench.settings)?;
    let me = latency::Connection::open(server.addr)?.get(ME, 200)?;
    Ok((home, server, me))
}

/// Submits them all, and counts until they have ended.
fn play(bench: &Bench<'_>, home: &Home, addr: SocketAddr) -> anyhow::Result<(Figures, Vec<Count>)> {
    let extent = Extent::Count(bench.scale.end_to_end);
    let load = Load { connections: bench.scale.read_connections, extent, expected: 202 };
    let database = home.database()?;
    let from = Instant::now();
    let submitting = thread::spawn(move || run(addr, &load, Requests::submission()));
    let counts = watch(&database, from, &submitting)?;
    let figures = submitting.join().map_err(|_| anyhow!("the load client has panicked"))??;
    Ok((figures, counts))
}

/// Looks on until all are submitted and none is left; the last count is the end.
fn watch<T>(database: &Connection, from: Instant, submitting: &JoinHandle<T>) -> anyhow::Result<Vec<Count>> {
    let mut counts = vec![Count { at: Duration::ZERO, ended: 0 }];
    for look in 1_u32.. {
        // Asked before the database is: whatever comes in later is then seen at the next look.
        let all_are_in = submitting.is_finished();
        let waiting = "SELECT EXISTS (SELECT 1 FROM bgrs WHERE finished_dt IS NULL)";
        let is_end = !database.query_row(waiting, [], |row| row.get::<_, bool>(0))? && all_are_in;
        if is_end || look.is_multiple_of(LOOKS) {
            counts.push(Count { at: from.elapsed(), ended: count_ended(database)? });
        }
        if is_end {
            break;
        }
        ensure!(from.elapsed() < PATIENCE, "the queue does not drain");
        thread::sleep(PAUSE);
    }
    Ok(counts)
}

/// Whatever has ended expires, and the index of that time is enough to count it: no row is looked at.
fn count_ended(database: &Connection) -> anyhow::Result<u64> {
    let ended = "SELECT count(*) FROM bgrs WHERE expires_dt IS NOT NULL";
    let ended: i64 = database.query_row(ended, [], |row| row.get(0))?;
    Ok(u64::try_from(ended)?)
}

/// Ends a second from the last count with no more than a quarter of them until the last end.
fn sustained(counts: &[Count]) -> anyhow::Result<f64> {
    let end = counts.last().context("nothing was counted")?;
    let begin = counts.iter().rfind(|count| count.ended * 4 <= end.ended).context("nothing was counted")?;
    Ok((end.ended - begin.ended) as f64 / (end.at - begin.at).as_secs_f64())
}

/// Each has ended well, and of those that are drawn the result is what the call answers in the foreground.
fn check(bench: &Bench<'_>, home: &Home, addr: SocketAddr, me: &[u8]) -> anyhow::Result<()> {
    let count = bench.scale.end_to_end;
    let database = home.database()?;
    let rows = count_rows(&database)?;
    let well = "SELECT count(*) FROM bgrs WHERE status_id = 4 AND status = 200 AND size > 0";
    let well: i64 = database.query_row(well, [], |row| row.get(0))?;
    let all_well = rows == count && u64::try_from(well)? == count;
    ensure!(all_well, "of {count} submissions {rows} are stored, and {well} have ended well");
    let mut draw = database.prepare("SELECT rid FROM bgrs ORDER BY random() LIMIT ?1")?;
    let drawn: Vec<String> = draw.query_map([DRAWN], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut connection = latency::Connection::open(addr)?;
    for rid in drawn {
        let result = connection.get(&format!("/bgrs/{rid}/result"), 200)?;
        ensure!(result == me, "the result of {rid} is not what the call answers");
    }
    Ok(())
}

fn unloaded(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let (_, server, me) = start(bench)?;
    let Times { p50, p99 } = latency::round_trips(server.addr, ME, bench.scale.round_trips, &me)?;
    report.judge(
        "from a submission to its result, the hosted API's, unloaded, p50",
        "<= 2 ms",
        format!("{} (p99 {})", millis(p50), millis(p99)),
        p50 <= SOON,
    );
    server.stop()
}

/// Submissions at a pace that leaves room for their runs: how many have not ended when the last one is in.
fn paced(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let extent = Extent::Paced { count: bench.scale.paced, each: Duration::from_secs(1) / PACE };
    let load = Load { connections: bench.scale.read_connections, extent, expected: 202 };
    let (home, server, _) = start(bench)?;
    let database = home.database()?;
    run(server.addr, &load, Requests::submission())?;
    let left = "SELECT count(*) FROM bgrs WHERE finished_dt IS NULL";
    let left: i64 = database.query_row(left, [], |row| row.get(0))?;
    let (connections, count) = (bench.scale.read_connections, bench.scale.paced);
    let what = format!("{PACE} submissions a second, {connections} connections, not ended when all {count} are in");
    report.judge(what, "<= 100", left.to_string(), left <= LEFT);
    server.stop()
}
