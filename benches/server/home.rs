//! The folder of one server under measurement: its configuration, its database, its media.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rusqlite::Connection;

use crate::http::PASSWORD;
use crate::process::Process;

/// `background.concurrency` as it is by default.
pub const CONCURRENCY: u32 = 64;

/// The release binary of this version.
pub const SERVER: &str = env!("CARGO_BIN_EXE_bgrs-server");

/// How servers are started, where not by their defaults.
#[derive(Clone, Default)]
pub struct Settings {
    /// The binary, where it is not [`SERVER`].
    pub binary: Option<PathBuf>,
    /// `RUST_LOG`.
    pub log: Option<String>,
    /// `server.workers`.
    pub workers: Option<u16>,
}

/// A server's folder.
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// A fresh folder with a configuration in which no share is ever full.
    pub fn create(dir: PathBuf, concurrency: u32) -> anyhow::Result<Self> {
        fs::create_dir(&dir)?;
        let home = Self { dir };
        home.configure(concurrency)?;
        Ok(home)
    }

    /// Writes the configuration anew; it takes effect at the next start.
    pub fn configure(&self, concurrency: u32) -> anyhow::Result<()> {
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\n\
             [store]\ndatabase = \"bgrs.sqlite3\"\ndurability = \"full\"\n\n\
             [media]\ndir = \"media\"\n\n\
             [background]\nconcurrency = {concurrency}\nqueue = 10_000_000\nper_user = 10_000_000\n"
        );
        Ok(fs::write(self.dir.join("bgrs.toml"), config)?)
    }

    /// A copy of a folder whose server has stopped.
    pub fn copy(&self, dir: PathBuf) -> anyhow::Result<Self> {
        copy_tree(&self.dir, &dir)?;
        Ok(Self { dir })
    }

    /// Starts the server.
    pub fn start(&self, settings: &Settings) -> anyhow::Result<Process> {
        let mut command = Command::new(settings.binary.as_deref().unwrap_or(Path::new(SERVER)));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("BGRS_") || text.starts_with("RUST_LOG") {
                command.env_remove(&name);
            }
        }
        command
            .arg("--config")
            .arg(self.dir.join("bgrs.toml"))
            .current_dir(&self.dir)
            .env("BGRS_ADMIN_PASSWORD", PASSWORD);
        if let Some(log) = &settings.log {
            command.env("RUST_LOG", log);
        }
        if let Some(workers) = settings.workers {
            command.env("BGRS_SERVER__WORKERS", workers.to_string());
        }
        Process::start(command, &self.dir.join("stderr.log"))
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Fills the database with so many scans, before the server's first start.
    pub fn sample(&self, scans: usize) -> anyhow::Result<()> {
        let mut command = Command::new(SERVER);
        command.arg("--config").arg(self.dir.join("bgrs.toml")).args(["sample", "--scans", &scans.to_string()]);
        let made = command.env("BGRS_ADMIN_PASSWORD", PASSWORD).output()?;
        ensure!(made.status.success(), "no sample data: {}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    }

    /// Bytes of the write-ahead log.
    pub fn wal(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(self.dir.join("bgrs.sqlite3-wal"))?.len())
    }

    pub fn media(&self) -> PathBuf {
        self.dir.join("media")
    }

    /// The database, also while the server runs.
    pub fn database(&self) -> anyhow::Result<Connection> {
        let path = self.dir.join("bgrs.sqlite3");
        ensure!(path.exists(), "the server has made no database");
        let database = Connection::open(path)?;
        database.busy_timeout(Duration::from_secs(10))?;
        Ok(database)
    }

    /// Waits until no request is queued, running or retrying, and gives how many finished.
    pub fn drained(&self) -> anyhow::Result<u64> {
        let database = self.database()?;
        let limit = Instant::now() + Duration::from_secs(900);
        loop {
            let waiting = "SELECT EXISTS (SELECT 1 FROM bgrs WHERE finished_dt IS NULL)";
            if !database.query_row(waiting, [], |row| row.get(0))? {
                break;
            }
            ensure!(Instant::now() < limit, "the queue does not drain");
            std::thread::sleep(Duration::from_millis(500));
        }
        let finished = "SELECT count(*) FROM bgrs WHERE status_id = 4";
        Ok(u64::try_from(database.query_row(finished, [], |row| row.get::<_, i64>(0))?)?)
    }

    pub fn remove(self) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(self.dir)?)
    }
}

/// How many rows there are.
pub fn count_rows(database: &Connection) -> anyhow::Result<u64> {
    let rows: i64 = database.query_row("SELECT count(*) FROM bgrs", [], |row| row.get(0))?;
    Ok(u64::try_from(rows)?)
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
