//! What the machine allows: each part of a request's way by itself, nothing else beside it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::bench::Bench;
use crate::load::{Requests, run};
use crate::reference::{self, Alone};
use crate::report::{Report, median};

/// The size at which the server begins its write-ahead log anew: syncs go on over a file that is there.
const LOG: u64 = 16 << 20;

/// Rows in one transaction: none comes together with another, as many as at 128 connections, as many as ever.
const TOGETHER: [usize; 3] = [1, 40, 1024];

/// The bytes of a small result.
const RESULT: [u8; 110] = [b'x'; 110];

pub fn measure(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    println!("limits");
    syncs(bench, report)?;
    rows(bench, report)?;
    lookups(bench, report)?;
    files(bench, report)?;
    http(bench, report)
}

fn syncs(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let file = File::create(bench.dir.join("synced"))?;
    file.write_all_at(&vec![0; usize::try_from(LOG)?], 0)?;
    file.sync_all()?;
    let mut at = 0;
    let rate = rate(bench, || {
        file.write_all_at(&[1; 4096], at % LOG)?;
        at += 4096;
        Ok(file.sync_data()?)
    })?;
    report.note("limit: writes of 4 KiB over a file, each synced (fdatasync)", per_second(rate));
    Ok(())
}

fn rows(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    for together in TOGETHER {
        let mut database = Alone::open(&bench.fresh("rows"))?;
        let rate = rate(bench, || database.submit(together))? * together as f64;
        report.note(format!("limit: rows of the reference, {together} in each transaction"), per_second(rate));
    }
    Ok(())
}

fn lookups(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let stored = bench.scale.many_stored;
    let path = bench.fresh("lookups");
    let rids = reference::rids(stored)?;
    reference::fill(&path, &rids)?;
    let database = Alone::open(&path)?;
    let rate = rate(bench, || database.read(&rids[fastrand::usize(..stored)]))?;
    report.note(format!("limit: rows of {stored} looked up by their rid, one thread"), per_second(rate));
    Ok(fs::remove_file(path)?)
}

/// Makes a file of this draft under this path.
type Way = fn(&Path, &Path) -> anyhow::Result<()>;

fn files(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let ways: [(&str, Way); 3] = [
        ("written under their names, not synced", |_, path| write(path, false)),
        ("written and renamed, not synced", |draft, path| write(draft, false).and_then(|()| rename(draft, path))),
        ("written and renamed, each synced", |draft, path| write(draft, true).and_then(|()| rename(draft, path))),
    ];
    for (how, place) in ways {
        let dir = bench.fresh("files");
        fs::create_dir(&dir)?;
        let mut number = 0;
        let rate = rate(bench, || {
            number += 1;
            place(&dir.join(format!("{number}.part")), &dir.join(number.to_string()))
        })?;
        report.note(format!("limit: files of a small result, {how}"), per_second(rate));
    }
    Ok(())
}

fn write(path: &Path, synced: bool) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&RESULT)?;
    if synced {
        file.sync_data()?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    Ok(fs::rename(from, to)?)
}

/// An answer of actix-web with nothing behind it, by the load client that takes its share of the machine.
fn http(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let reference = reference::start(&bench.fresh("http").with_extension("sqlite3"))?;
    for connections in bench.scale.submit_connections {
        let load = bench.load(connections, 200);
        let rounds = (0..bench.scale.rounds).map(|_| Ok(run(reference.addr, &load, Requests::get("/readyz"))?.rate));
        let rate = median(rounds.collect::<anyhow::Result<Vec<_>>>()?.into_iter());
        report.note(
            format!("limit: empty answers of actix-web, one thread, {connections} connections"),
            per_second(rate),
        );
    }
    reference.kill()
}

/// How often something can be done in a second: the median of the rounds, a fifth of a measurement each.
fn rate(bench: &Bench<'_>, mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..bench.scale.rounds {
        let (begun, mut count) = (Instant::now(), 0_u32);
        while begun.elapsed() < bench.scale.measured / 5 {
            act()?;
            count += 1;
        }
        rates.push(f64::from(count) / begun.elapsed().as_secs_f64());
    }
    Ok(median(rates.into_iter()))
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}
