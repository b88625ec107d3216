//! This version of the server beside another one, in turns: what a change does for each path. Each round is a fresh process,
//! and each time the other one goes first, since what goes before a round is not the same for both.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::Context;

use crate::bench::Bench;
use crate::home::{CONCURRENCY, SERVER};
use crate::load::{Requests, run};
use crate::report::{Report, median};
use crate::{end, fixture, gateway, submit, upstream};

/// Both rates of one turn.
struct Pair {
    before: f64,
    after: f64,
}

pub fn measure(bench: &Bench<'_>, before: &Path, report: &mut Report) -> anyhow::Result<()> {
    // Absolute: each server starts in its own folder.
    let before = before.canonicalize();
    let before = &before.context("there is no binary of a server: give the path of one")?;
    println!("in turns with {}", before.display());
    let turns = Turns { before: bench.with_server(before), after: bench.with_server(Path::new(SERVER)) };
    turns.submissions(report)?;
    turns.reads(report)?;
    turns.pass_through(report)?;
    turns.end_to_end(report)
}

struct Turns<'a> {
    before: Bench<'a>,
    after: Bench<'a>,
}

impl<'a> Turns<'a> {
    fn submissions(&self, report: &mut Report) -> anyhow::Result<()> {
        for connections in self.after.scale.submit_connections {
            let what = format!("accepted submissions/s, {connections} connections");
            self.compare(what, report, |bench| {
                let load = bench.load(connections, 202);
                Ok(submit::server_round(bench, &load, CONCURRENCY, Requests::submission())?.rate)
            })?;
        }
        Ok(())
    }

    /// Both on the same data, which the one before has made; so it can read it, where the schemas differ, no longer than
    /// until the one after has opened it.
    fn reads(&self, report: &mut Report) -> anyhow::Result<()> {
        let scale = &self.after.scale;
        for count in [scale.few_stored, scale.read_stored] {
            let stored = fixture::finished(self.before.fresh("turns"), count, &self.before.settings)?;
            thread::sleep(scale.settle);
            self.compare(format!("status reads/s, {count} stored"), report, |bench| {
                let server = stored.home.start(&bench.settings)?;
                let load = bench.load(bench.scale.read_connections, 200);
                let figures = run(server.addr, &load, Requests::reads(Arc::clone(&stored.rids)))?;
                server.stop()?;
                Ok(figures.rate)
            })?;
        }
        Ok(())
    }

    fn pass_through(&self, report: &mut Report) -> anyhow::Result<()> {
        let upstream = upstream::start(&self.after)?;
        self.compare("pass-through, calls/s".to_owned(), report, |bench| Ok(gateway::round(bench, &upstream)?.rate))
    }

    fn end_to_end(&self, report: &mut Report) -> anyhow::Result<()> {
        self.compare("end to end, requests/s".to_owned(), report, |bench| Ok(end::round(bench)?.whole))
    }

    fn compare(
        &self,
        what: String,
        report: &mut Report,
        play: impl Fn(&Bench<'a>) -> anyhow::Result<f64>,
    ) -> anyhow::Result<()> {
        let mut pairs = Vec::new();
        for number in 0..self.after.scale.rounds {
            let pair = if number.is_multiple_of(2) {
                let before = play(&self.before)?;
                Pair { before, after: play(&self.after)? }
            } else {
                let after = play(&self.after)?;
                Pair { before: play(&self.before)?, after }
            };
            println!("  {what}: {:.0} before, {:.0}", pair.before, pair.after);
            pairs.push(pair);
        }
        report.note(what, summary(&pairs));
        Ok(())
    }
}

/// The medians, and by how much the one is more than the other: the geometric mean of the pairs with its standard error.
fn summary(pairs: &[Pair]) -> String {
    let count = pairs.len() as f64;
    let more: Vec<f64> = pairs.iter().map(|pair| (pair.after / pair.before).ln()).collect();
    let mean = more.iter().sum::<f64>() / count;
    let error = if pairs.len() > 1 {
        let squares: f64 = more.iter().map(|more| (more - mean).powi(2)).sum();
        format!(" \u{b1} {:.0}", (squares / (count - 1.0) / count).sqrt() * 100.0)
    } else {
        String::new()
    };
    let mean = mean.exp_m1() * 100.0;
    let before = median(pairs.iter().map(|pair| pair.before));
    let after = median(pairs.iter().map(|pair| pair.after));
    format!("{after:.0}/s, {before:.0}/s before: {mean:+.0}{error} %")
}
