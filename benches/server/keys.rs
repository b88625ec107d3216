//! Accepted submissions a second with an `Idempotency-Key`, each a fresh one, beside those without.

use crate::bench::Bench;
use crate::home::CONCURRENCY;
use crate::load::Requests;
use crate::report::{Report, Series, percent};
use crate::submit::server_round;

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    for connections in bench.scale.submit_connections {
        println!("idempotency keys, {connections} connections");
        compare(bench, connections, report)?;
    }
    Ok(())
}

fn compare(bench: &Bench<'_>, connections: usize, report: &mut Report) -> anyhow::Result<()> {
    let load = bench.load(connections, 202);
    let (mut without, mut with) = (Series::new("without a key"), Series::new("with a fresh Idempotency-Key"));
    for _ in 0..bench.scale.rounds {
        without.add(server_round(bench, &load, CONCURRENCY, Requests::submission())?);
        with.add(server_round(bench, &load, CONCURRENCY, Requests::keyed_submission())?);
    }
    let rate = with.rate() / without.rate();
    report.judge(
        format!("accepted submissions/s with an Idempotency-Key, {connections} connections"),
        ">= 80 % of the rate without",
        format!("{} ({} against {})", percent(rate), with.summary(), without.summary()),
        rate >= 0.8,
    );
    Ok(())
}
