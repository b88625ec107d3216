//! Accepted submissions a second.
//!
//! Each round is a fresh process on fresh data, killed at its end; every 202 must then be a row in its database. No
//! data is removed before the last round: ext4 passes over inodes that were freed a moment ago, one by one, and the
//! next round would pay for it.

use crate::bench::Bench;
use crate::home::{CONCURRENCY, Home, count_rows};
use crate::load::{Figures, Load, Requests, run};
use crate::reference;
use crate::report::{Report, Series, check_durable, percent, print_busy};

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    for (index, connections) in bench.scale.submit_connections.into_iter().enumerate() {
        println!("submissions, {connections} connections");
        ceiling(bench, connections, report)?;
        compare(bench, connections, index == 0, report)?;
    }
    Ok(())
}

fn ceiling(bench: &Bench<'_>, connections: usize, report: &mut Report) -> anyhow::Result<()> {
    let figures = bench.ceiling(connections, 202, Requests::submission())?;
    report.note(
        format!("the load client's ceiling, submissions at {connections} connections"),
        format!("{:.0}/s", figures.rate),
    );
    Ok(())
}

fn compare(bench: &Bench<'_>, connections: usize, one_worker_too: bool, report: &mut Report) -> anyhow::Result<()> {
    let load = bench.load(connections, 202);
    let mut theirs = Series::new("reference");
    let mut ours = Series::new(format!("server, concurrency {CONCURRENCY}"));
    let mut alone = Series::new("server, concurrency 1");
    for _ in 0..bench.scale.rounds {
        theirs.add(reference_round(bench, &load)?);
        ours.add(server_round(bench, &load, CONCURRENCY, Requests::submission())?);
        if one_worker_too {
            alone.add(server_round(bench, &load, 1, Requests::submission())?);
        }
    }
    let rate = ours.rate() / theirs.rate();
    report.judge(
        format!("accepted submissions/s, {connections} connections"),
        ">= 85 % of the reference",
        format!("{} ({} against {})", percent(rate), ours.summary(), theirs.summary()),
        rate >= 0.85,
    );
    let p99 = ours.p99() / theirs.p99();
    report.judge(
        format!("p99 of a submission, {connections} connections"),
        "<= 1.5 times the reference's",
        format!("{p99:.1} times"),
        p99 <= 1.5,
    );
    if one_worker_too {
        let rate = percent(alone.rate() / theirs.rate());
        report.note(
            format!("the same with background.concurrency = 1, {connections} connections"),
            format!("{rate} ({})", alone.summary()),
        );
    }
    Ok(())
}

fn reference_round(bench: &Bench<'_>, load: &Load) -> anyhow::Result<Figures> {
    let dir = bench.fresh("reference");
    std::fs::create_dir(&dir)?;
    let database = dir.join("reference.sqlite3");
    let server = reference::start(&database)?;
    let before = server.busy()?;
    let figures = run(server.addr, load, Requests::submission())?;
    print_busy(&before, &server.busy()?, figures.answers);
    server.kill()?;
    check_durable("reference", figures.answers, reference::count_rows(&database)?)?;
    Ok(figures)
}

/// One round of the server: submissions under load, a kill, and a look at what is stored.
pub fn server_round(bench: &Bench<'_>, load: &Load, concurrency: u32, requests: Requests) -> anyhow::Result<Figures> {
    let home = Home::create(bench.fresh("server"), concurrency)?;
    let server = home.start(&bench.settings)?;
    let before = server.busy()?;
    let figures = run(server.addr, load, requests)?;
    print_busy(&before, &server.busy()?, figures.answers);
    server.kill()?;
    check_durable("server", figures.answers, count_rows(&home.database()?)?)?;
    Ok(figures)
}
