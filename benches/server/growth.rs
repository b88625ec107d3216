//! How the cost of each act grows with what is stored and with what runs.
//!
//! On the store itself, a few acts at once, without a sync of the disk for each (`durability = "normal"`): HTTP and the
//! disk cost the same whatever is stored, and would hide what grows. So would the store's thread, if it fell asleep behind
//! each act: to wake it takes longer than most of them. All acts are of one owner, who has every tenth of the stored
//! requests and all that run or wait: an act that passed over them would show.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bgrs::model::time::Keep;
use bgrs::model::{Answer, Call, Headers, Outcome, Owner, Rid, State};
use bgrs::store::sqlite::{Durability, Sqlite};
use bgrs::store::{Claim, Ending, Filter, Inserted, NewRequest, Store};
use bgrs::worker::STEP;
use futures_util::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use crate::bench::Bench;
use crate::report::Report;

/// Steps of the retention that are measured; what they remove is stored beside the rest, and older.
const STEPS: usize = 10;
const EXPIRED: usize = STEP * STEPS;
/// Whose the stored requests are, but for every tenth, which is the busy owner's.
const OWNERS: usize = 100;
const BUSY: &str = "0";
const PAGE: usize = 50;
/// Acts at once.
const BUNCH: usize = 20;
/// Status reads for each other act: a read takes so little that as many of them would be over before the threads on its way
/// had come to their pace.
const READS: usize = 20;
/// A cost that differs by no more grows with nothing but the caches that it no longer fits, or is a twentieth of the way to a
/// thread that has fallen asleep, and back.
const NOTHING: Duration = Duration::from_micros(5);

/// What is measured, in this order.
const ACTS: [&str; 8] = [
    "submit",
    "status",
    "list, newest",
    "list, finished",
    "list, from the middle",
    "claim",
    "finish",
    "retention, each",
];

/// The median cost of each act.
type Costs = [Duration; ACTS.len()];

/// How much is stored, how much runs, and how often each act is done.
struct Amounts {
    stored: &'static [usize],
    running: &'static [usize],
    stored_beside: usize,
    times: usize,
}

const FULL: Amounts = Amounts {
    stored: &[1_000, 10_000, 100_000, 1_000_000],
    running: &[1, 10, 100, 1_000],
    stored_beside: 100_000,
    times: 2_000,
};
const SMOKE: Amounts = Amounts { stored: &[100, 1_000], running: &[1, 10], stored_beside: 100, times: 20 };

pub fn measure(bench: &Bench<'_>, smoke: bool, report: &mut Report) -> anyhow::Result<()> {
    println!("growth");
    report.note("durability of the store whose growth is measured", "normal: a sync would hide what grows".to_owned());
    let amounts = if smoke { SMOKE } else { FULL };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut costs = Vec::new();
    for &stored in amounts.stored {
        costs.push(runtime.block_on(costs_of(&bench.fresh("growth"), stored, 0, amounts.times))?);
    }
    show("stored", amounts.stored, 0, &costs, report)?;
    let mut costs = Vec::new();
    for &running in amounts.running {
        let dir = bench.fresh("growth");
        costs.push(runtime.block_on(costs_of(&dir, amounts.stored_beside, running, amounts.times))?);
    }
    show("running", amounts.running, amounts.stored_beside, &costs, report)
}

fn show(what: &str, amounts: &[usize], beside: usize, costs: &[Costs], report: &mut Report) -> anyhow::Result<()> {
    let joined = |texts: Vec<String>| texts.join(" / ");
    let (least, most) = (amounts.first().context("no amount")?, amounts.last().context("no amount")?);
    // Of all rows that there are. That of 1 to 1,000 running ones alone would allow for 15 times the cost, and a walk
    // along so few need not cost that much beside the way to the store's thread.
    let logarithm = |amount: usize| ((amount + beside) as f64).log2();
    let logarithms = logarithm(*most) / logarithm(*least);
    for (at, act) in ACTS.into_iter().enumerate() {
        let points = costs.iter().map(|costs| format!("{:.1}", costs[at].as_secs_f64() * 1e6)).collect();
        let (first, last) = (costs[0][at], costs[costs.len() - 1][at]);
        let times = last.as_secs_f64() / first.as_secs_f64();
        let met = times <= 1.5 * logarithms || last.saturating_sub(first) < NOTHING;
        report.judge(
            format!("{act}, with {} {what}", joined(amounts.iter().map(ToString::to_string).collect())),
            "grows no faster than the logarithm",
            format!("{} \u{b5}s ({times:.2} times, the logarithm {logarithms:.2})", joined(points)),
            met,
        );
    }
    Ok(())
}

async fn costs_of(dir: &Path, stored: usize, running: usize, times: usize) -> anyhow::Result<Costs> {
    std::fs::create_dir(dir)?;
    let path = dir.join("bgrs.sqlite3");
    drop(Sqlite::open(&path, Durability::Normal)?);
    let rids = fill(&path, stored, times * READS)?;
    let store = Sqlite::open(&path, Durability::Normal)?;
    let now = Timestamp::now();
    let mut costs = Costs::default();
    let mut clock = Times::default();
    // First: what has expired is not there for the others.
    for _ in 0..STEPS {
        let begun = Instant::now();
        let gone = store.expire(now, STEP).await?;
        clock.0.push(begun.elapsed());
        ensure!(gone.len() == STEP, "{} instead of {STEP} requests have expired", gone.len());
    }
    costs[7] = clock.median() / u32::try_from(STEP)?;
    for _ in 0..running {
        ensure!(store.insert(request(&store)?).await? == Inserted::Stored, "a request is not stored");
        ensure!(claim(&store, now).await?.is_some(), "nothing to claim");
    }
    let found = clock.bunches(rids.iter().map(|rid| store.get(*rid))).await?;
    ensure!(found.iter().all(Option::is_some), "a stored request is not found");
    costs[1] = clock.median();
    let middle = i64::try_from(EXPIRED + stored / 2 + 1)?;
    let newest = Filter { owners: Some(vec![owner()]), ..Filter::default() };
    let finished = Filter { states: vec![State::Finished], ..newest.clone() };
    let from_middle = Filter { before: Some(middle), ..newest.clone() };
    // As many at each point, or the lists would grow by themselves.
    let page = PAGE.min(stored / 20);
    for (at, filter) in [(2, newest), (3, finished), (4, from_middle)] {
        let list = async || Ok(store.list(filter.clone(), PAGE).await?.len());
        let listed = clock.bunches((0..times).map(|_| list())).await?;
        ensure!(listed.iter().all(|listed| *listed >= page), "a list has fewer than {page} requests");
        costs[at] = clock.median();
    }
    let new = (0..times).map(|_| request(&store)).collect::<anyhow::Result<Vec<_>>>()?;
    let inserted = clock.bunches(new.into_iter().map(|new| store.insert(new))).await?;
    ensure!(inserted.iter().all(|inserted| *inserted == Inserted::Stored), "a request is not stored");
    costs[0] = clock.median();
    let claims = clock.bunches((0..times).map(|_| claim(&store, now))).await?;
    costs[5] = clock.median();
    let claims = claims.into_iter().collect::<Option<Vec<_>>>().context("nothing to claim")?;
    let finished = clock.bunches(claims.into_iter().map(|claim| store.finish(claim, ending(now)))).await?;
    ensure!(finished.iter().all(|finished| *finished), "a hold is lost");
    costs[6] = clock.median();
    Ok(costs)
}

/// Makes so many finished requests, of the last 27 days, and before them those that have expired; returns so many rids.
fn fill(path: &Path, stored: usize, count: usize) -> anyhow::Result<Vec<Rid>> {
    let database = Connection::open(path)?;
    database.pragma_update(None, "synchronous", "off")?;
    let (stored, expired) = (i64::try_from(stored)?, i64::try_from(EXPIRED)?);
    let requests = "
        WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < ?1 + ?2)
        INSERT INTO bgrs (id, rid, status_id, progress, attempts, source, user_id, method, name, headers,
                          created_dt, started_dt, finished_dt, expires_dt, status, head)
        SELECT i, printf('%012x', i) || lower(hex(randomblob(10))), 4, 10000, 1, 'elsewhere',
               CASE WHEN i % 10 = 0 THEN ?4 ELSE CAST(i % ?3 AS TEXT) END, 'GET', '/reports/' || i || '?bgrs=yes', '[]',
               ended, ended, ended,
               CASE WHEN i <= ?2 THEN '2000-01-01 00:00:00' ELSE datetime(ended, '+1 month') END, 204, '[]'
        FROM (SELECT i, datetime('now', printf('-%d seconds', (?1 + ?2 - i) * 27 * 86400 / (?1 + ?2))) AS ended FROM numbers)
    ";
    database.execute(requests, params![stored, expired, i64::try_from(OWNERS)?, BUSY])?;
    let details =
        "INSERT INTO bgrs_details (bgrs_id, dt, details) SELECT id, finished_dt, 'done' FROM bgrs ORDER BY id";
    database.execute(details, [])?;
    // Synced now: the disk is to rest while the acts are timed.
    database.pragma_update(None, "synchronous", "full")?;
    database.pragma_update(None, "wal_checkpoint", "truncate")?;
    let mut some = database.prepare("SELECT rid FROM bgrs WHERE id = ?")?;
    (0..count)
        .map(|_| {
            let id = expired + 1 + fastrand::i64(0..stored);
            let rid: String = some.query_row([id], |row| row.get(0))?;
            Ok(rid.parse()?)
        })
        .collect()
}

fn owner() -> Owner {
    Owner { source: "elsewhere".to_owned(), id: BUSY.to_owned() }
}

fn request(store: &Sqlite) -> anyhow::Result<NewRequest> {
    let call = Call {
        method: "GET".to_owned(),
        name: "/reports/7?bgrs=yes".to_owned(),
        headers: [("accept", "*/*")].into_iter().collect(),
        body: None,
        confidential: false,
        upstream: None,
        secrets: None,
        timeout: None,
        repeatable: true,
        batch: None,
        callback: None,
    };
    let (rid, created) = (store.new_rid()?, Timestamp::now());
    Ok(NewRequest { rid, owner: owner(), vouched: None, call, key: None, created })
}

async fn claim(store: &Sqlite, now: Timestamp) -> bgrs::store::Result<Option<Claim>> {
    let lease = now + SignedDuration::from_mins(10);
    Ok(store.claim(&owner(), now, lease).await?.map(|claimed| claimed.claim))
}

fn ending(at: Timestamp) -> Ending {
    let answer = Answer { status: 204, headers: Headers::default(), result: None, copy: None };
    Ending { outcome: Outcome::Finished(answer), at, expires: Keep::Month.expiry(at), told: false }
}

/// How long an act took, each time.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Does them all, a few at once: where one ends the next begins. Keeps the time of each bunch for each of its acts.
    async fn bunches<T>(
        &mut self,
        acts: impl Iterator<Item = impl Future<Output = bgrs::store::Result<T>>>,
    ) -> anyhow::Result<Vec<T>> {
        let mut acts = stream::iter(acts).buffer_unordered(BUNCH);
        let mut outcomes = Vec::new();
        let mut begun = Instant::now();
        while let Some(outcome) = acts.next().await {
            outcomes.push(outcome?);
            if outcomes.len().is_multiple_of(BUNCH) {
                let now = Instant::now();
                self.0.push((now - begun) / u32::try_from(BUNCH)?);
                begun = now;
            }
        }
        Ok(outcomes)
    }

    /// Takes what there is.
    fn median(&mut self) -> Duration {
        let mut times = std::mem::take(&mut self.0);
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}
