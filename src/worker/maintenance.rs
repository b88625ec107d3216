//! Upkeep: requests that lost their worker, rows past their time, files without rows. In small steps, never a storm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::callbacks::Deliverer;
use super::lease::Leases;
use crate::clock::Clock;
use crate::failpoint::{self, Place};
use crate::media::{self, File, Media, Walk};
use crate::model::time::Keep;
use crate::scheduler::Scheduler;
use crate::stats::Stats;
use crate::store::{self, Lapsed, Leftover, Rescued, Sessions, Store};
use crate::watch::Watchers;

/// Rows or files in one step.
pub const STEP: usize = 200;

/// The rest between two steps of a long upkeep.
const REST: Duration = Duration::from_millis(20);

/// How often the upkeep looks.
const INTERVAL: Duration = Duration::from_secs(30);

/// How often files are compared with rows.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a start may sweep before it goes on with it in the background.
const AT_START: Duration = Duration::from_millis(700);

/// The upkeep's means.
#[derive(Clone)]
pub struct Maintenance {
    /// The rows.
    pub store: Arc<dyn Store>,
    /// Who is signed in on the dashboard.
    pub sessions: Arc<dyn Sessions>,
    /// The bytes.
    pub media: Arc<dyn Media>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is told of what waits again.
    pub scheduler: Scheduler,
    /// Who waits for ends.
    pub watchers: Watchers,
    /// What is counted.
    pub stats: Stats,
    /// The holds of this process.
    pub leases: Leases,
    /// Who tells receivers of callbacks.
    pub deliverer: Deliverer,
    /// Attempts in all.
    pub attempts: i64,
    /// How long results are kept.
    pub keep: Keep,
}

/// A comparison of files and rows, step by step.
struct Sweep {
    files: Option<Box<dyn Walk>>,
    /// The row up to which results were looked for.
    rows: Option<i64>,
    /// Whether no worker of any process can be at work: then also the files of requests that wait are left over.
    quiet: bool,
}

impl Maintenance {
    /// Sets right what the last process left: nothing is running yet. A sweep of very many files goes on in the
    /// background after this has returned.
    ///
    /// # Errors
    /// When rows or files cannot be read or written.
    pub async fn at_start(&self) -> anyhow::Result<()> {
        while self.rescue(Lapsed::All).await? > 0 {}
        let mut sweep = Sweep { files: Some(self.media.walk().await?), rows: Some(0), quiet: true };
        let begun = Instant::now();
        while begun.elapsed() < AT_START {
            if self.sweep_step(&mut sweep).await? {
                return Ok(());
            }
        }
        sweep.quiet = false;
        let this = self.clone();
        tokio::spawn(async move { this.finish_sweep(sweep).await });
        Ok(())
    }

    /// Looks from time to time, for ever.
    pub async fn keep_up(self) {
        let mut look = tokio::time::interval(INTERVAL);
        let mut swept = Instant::now();
        loop {
            look.tick().await;
            if let Err(error) = self.look().await {
                log::warn!("upkeep: {error}");
            }
            if swept.elapsed() >= SWEEP_INTERVAL {
                swept = Instant::now();
                match self.media.walk().await {
                    Ok(files) => self.finish_sweep(Sweep { files: Some(files), rows: Some(0), quiet: false }).await,
                    Err(error) => log::warn!("sweep: {error}"),
                }
            }
        }
    }

    /// Rescues and expires once, in steps with rests.
    ///
    /// # Errors
    /// When rows or files cannot be read or written.
    pub async fn look(&self) -> anyhow::Result<()> {
        // First: where the clock has jumped, or the machine has slept, holds of this process look lapsed.
        self.leases.beat(&*self.store, &*self.clock).await?;
        while self.rescue(Lapsed::Before(self.clock.now())).await? > 0 {}
        while self.expire().await? == STEP {
            tokio::time::sleep(REST).await;
        }
        while self.sessions.expire(self.clock.now(), STEP).await? == STEP {
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }

    async fn rescue(&self, lapsed: Lapsed) -> store::Result<usize> {
        let now = self.clock.now();
        let rescued = self.store.rescue(lapsed, self.attempts, now, self.keep.expiry(now), STEP).await?;
        let count = rescued.len();
        for request in rescued {
            match request {
                Rescued::Requeued(rid, owner) => {
                    log::warn!("{rid}: had lost its worker, it waits again");
                    self.scheduler.enqueue(owner);
                    self.watchers.changed(rid);
                }
                Rescued::Failed(rid) => {
                    log::warn!("{rid}: had lost its worker, it failed");
                    self.stats.failed();
                    self.watchers.ended(rid, None);
                    self.deliverer.wake();
                    let standing = self.store.standings(vec![rid]).await?.remove(&rid);
                    // What cannot be removed now is the sweep's.
                    if standing.is_some_and(|standing| standing.confidential)
                        && let Err(error) = self.media.remove(File::Body(rid)).await
                    {
                        log::warn!("{rid}: its body is left over: {error}");
                    }
                }
            }
        }
        Ok(count)
    }

    async fn expire(&self) -> anyhow::Result<usize> {
        let gone = self.store.expire(self.clock.now(), STEP).await?;
        let count = gone.len();
        if count > 0 {
            failpoint::reach(Place::ExpiredWithFile);
        }
        for Leftover { rid, result, body } in gone {
            for file in media::files_of(rid, result, body) {
                self.media.remove(file).await?;
            }
            self.watchers.ended(rid, None);
        }
        Ok(count)
    }

    async fn finish_sweep(&self, mut sweep: Sweep) {
        loop {
            match self.sweep_step(&mut sweep).await {
                Ok(false) => tokio::time::sleep(REST).await,
                Ok(true) => return,
                Err(error) => return log::warn!("sweep: {error}"),
            }
        }
    }

    /// One step; whether it was the last.
    async fn sweep_step(&self, sweep: &mut Sweep) -> anyhow::Result<bool> {
        if let Some(walk) = &mut sweep.files {
            let listing = walk.step(STEP).await?;
            self.remove_orphans(listing.files, sweep.quiet).await?;
            if listing.done {
                sweep.files = None;
            }
            return Ok(false);
        }
        let Some(after) = sweep.rows else { return Ok(true) };
        let results = self.store.results(after, STEP).await?;
        sweep.rows = results.last;
        for (rid, name, size) in results.found {
            if !self.media.has_result(&name, size).await? {
                log::error!("{rid}: the file of its result is gone or torn, it counts as failed from now on");
                self.store.lose(rid, self.clock.now()).await?;
            }
        }
        Ok(sweep.rows.is_none())
    }

    async fn remove_orphans(&self, files: Vec<File>, quiet: bool) -> anyhow::Result<()> {
        let rids = files.iter().filter_map(File::rid).collect();
        let standings = self.store.standings(rids).await?;
        for file in files {
            let row = file.rid().and_then(|rid| standings.get(&rid));
            let orphan = match (&file, row) {
                // Without quiet, the file may be of a submission, or of a worker, that is about to write its row.
                (_, None) => quiet || self.is_old(&file).await?,
                (File::Body(_), Some(row)) => row.confidential && row.state.has_ended(),
                (File::Result(name), Some(row)) => {
                    (quiet || row.state.has_ended()) && row.result.as_ref() != Some(name)
                }
            };
            if orphan {
                log::info!("a file without a row is removed: {}", file.file_name());
                self.media.remove(file).await?;
            }
        }
        Ok(())
    }

    async fn is_old(&self, file: &File) -> anyhow::Result<bool> {
        Ok(self.media.is_left_over(file).await?)
    }
}
