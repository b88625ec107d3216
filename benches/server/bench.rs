//! What every measurement is given: how much of everything, and where.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::home::Settings;
use crate::load::{Extent, Figures, Load, Requests, run};
use crate::process::Process;

/// How much of everything.
#[derive(Clone)]
pub struct Scale {
    pub rounds: u32,
    pub warm_up: Duration,
    pub measured: Duration,
    pub submit_connections: [usize; 2],
    pub read_connections: usize,
    pub few_stored: usize,
    pub read_stored: usize,
    pub many_stored: usize,
    pub queued: usize,
    pub payload: u64,
    pub finished: u64,
    pub end_to_end: u64,
    pub round_trips: usize,
    pub paced: u64,
    pub tiny: u64,
    pub finished_stored: usize,
    pub settle: Duration,
}

/// What each measurement is given.
pub struct Bench<'a> {
    pub scale: Scale,
    pub settings: Settings,
    pub dir: &'a Path,
}

impl Scale {
    /// What the targets speak of.
    pub fn full(rounds: u32, seconds: u64) -> Self {
        Self {
            rounds,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(seconds),
            submit_connections: [32, 128],
            read_connections: 64,
            few_stored: 10_000,
            read_stored: 5_000_000,
            many_stored: 1_000_000,
            queued: 10_000,
            payload: 256 << 20,
            finished: 100_000,
            end_to_end: 100_000,
            round_trips: 300,
            paced: 30_000,
            tiny: 20_000,
            finished_stored: 1_000_000,
            settle: Duration::from_secs(2),
        }
    }

    /// Enough to see that everything runs.
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            warm_up: Duration::from_millis(50),
            measured: Duration::from_millis(150),
            submit_connections: [4, 8],
            read_connections: 4,
            few_stored: 100,
            read_stored: 1_000,
            many_stored: 1_000,
            queued: 50,
            payload: 1 << 20,
            finished: 200,
            end_to_end: 300,
            round_trips: 10,
            paced: 300,
            tiny: 200,
            finished_stored: 1_000,
            settle: Duration::from_millis(100),
        }
    }
}

impl Bench<'_> {
    /// The same with another binary of the server.
    pub fn with_server(&self, binary: &Path) -> Self {
        let settings = Settings { binary: Some(binary.to_owned()), ..self.settings.clone() };
        Self { scale: self.scale.clone(), settings, dir: self.dir }
    }

    /// A name for a folder that is not there yet. What is in it stays until the run's end.
    pub fn fresh(&self, name: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.dir.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The load of a round.
    pub fn load(&self, connections: usize, expected: u16) -> Load {
        Load {
            connections,
            extent: Extent::Time { warm_up: self.scale.warm_up, measured: self.scale.measured },
            expected,
        }
    }

    /// What the load client can do at most.
    pub fn ceiling(&self, connections: usize, expected: u16, requests: Requests) -> anyhow::Result<Figures> {
        let log = self.dir.join("responder.log");
        let responder = Process::start_self(&["responder", "0"], &log)?;
        run(responder.addr, &self.load(connections, expected), requests)
    }
}
