//! Status reads a second: random rids of many stored requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, ensure};

use crate::bench::Bench;
use crate::load::{Figures, Load, Requests, Rid, run};
use crate::report::{Report, Series, percent};
use crate::{fixture, http, memory, reference};

/// What the reads may leave behind of the page caches that they filled.
const ADDED: u64 = 8 << 20;

/// The keys of the general information.
const KEYS: [&str; 12] = [
    "id",
    "rid",
    "user_id",
    "name",
    "created_dt",
    "status_id",
    "status_name",
    "progress",
    "finished_dt",
    "status",
    "content_type",
    "result",
];

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let scale = &bench.scale;
    let settings = &bench.settings;
    let connections = scale.read_connections;
    println!("reads, {connections} connections");
    let many = fixture::finished(bench.dir.join("many"), scale.read_stored, settings)?;
    let few = fixture::finished(bench.dir.join("few"), scale.few_stored, settings)?;
    let database = bench.dir.join("reads.sqlite3");
    reference::fill(&database, &many.rids)?;
    let processes = [reference::start(&database)?, many.home.start(settings)?, few.home.start(settings)?];
    let mut contestants = [
        Contestant::new("reference", scale.read_stored, processes[0].addr, &many.rids),
        Contestant::new("server", scale.read_stored, processes[1].addr, &many.rids),
        Contestant::new("server", scale.few_stored, processes[2].addr, &few.rids),
    ];
    for contestant in &contestants {
        contestant.check()?;
    }
    let ceiling = bench.ceiling(connections, 200, Requests::reads(Arc::clone(&many.rids)))?;
    report.note(
        format!("the load client's ceiling, reads at {connections} connections"),
        format!("{:.0}/s", ceiling.rate),
    );
    thread::sleep(scale.settle);
    processes[1].reset_peak()?;
    let before = processes[1].memory()?.resident;
    let load = bench.load(connections, 200);
    for _ in 0..scale.rounds {
        for contestant in &mut contestants {
            contestant.play(&load)?;
        }
    }
    judge(bench, &contestants.map(|contestant| contestant.series), report);
    thread::sleep(scale.settle);
    let after = processes[1].memory()?;
    report.judge(
        format!("memory, at rest behind those reads of {} stored (VmRSS)", scale.read_stored),
        "adds <= 8 MiB",
        format!("{} (VmHWM {})", memory::added(after.resident, before), memory::added(after.peak, before)),
        after.resident.saturating_sub(before) <= ADDED,
    );
    drop(processes);
    std::fs::remove_file(database)?;
    many.home.remove()?;
    few.home.remove()
}

fn judge(bench: &Bench<'_>, [theirs, many, few]: &[Series; 3], report: &mut Report) {
    let scale = &bench.scale;
    let rate = many.rate() / theirs.rate();
    report.judge(
        format!("status reads/s, {} connections", scale.read_connections),
        ">= 85 % of the reference",
        format!("{} ({} against {})", percent(rate), many.summary(), theirs.summary()),
        rate >= 0.85,
    );
    let rate = many.rate() / few.rate();
    report.judge(
        format!("status reads/s at {} stored against {}", scale.read_stored, scale.few_stored),
        ">= 90 %",
        format!("{} ({} against {})", percent(rate), many.summary(), few.summary()),
        rate >= 0.9,
    );
}

struct Contestant {
    addr: SocketAddr,
    rids: Arc<Vec<Rid>>,
    series: Series,
}

impl Contestant {
    fn new(name: &str, stored: usize, addr: SocketAddr, rids: &Arc<Vec<Rid>>) -> Self {
        Self { addr, rids: Arc::clone(rids), series: Series::new(format!("{name}, {stored} stored")) }
    }

    fn play(&mut self, load: &Load) -> anyhow::Result<()> {
        let figures: Figures = run(self.addr, load, Requests::reads(Arc::clone(&self.rids)))?;
        self.series.add(figures);
        Ok(())
    }

    /// It answers with the whole of the information, and with that of the rid that was asked for.
    fn check(&self) -> anyhow::Result<()> {
        let rid = str::from_utf8(self.rids.first().context("no rid")?)?;
        let info = http::get(self.addr, &format!("/bgrs/{rid}"))?.expect(200)?.json()?;
        let object = info[0].as_object().context("not an array of an object")?;
        let complete = object.len() == KEYS.len() && KEYS.iter().all(|key| object.contains_key(*key));
        ensure!(complete && object["rid"] == rid, "not the information of {rid}: {info}");
        Ok(())
    }
}
