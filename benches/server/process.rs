//! A process under measurement: started, waited for, looked at, ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::http;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running process that listens; killed when it is dropped.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
    /// From before its exec to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

/// The processor's time of threads, by their names.
pub type Busy = BTreeMap<String, Duration>;

/// What the kernel says of a process's memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// `VmRSS`: now.
    pub resident: u64,
    /// `VmHWM`: the most there was.
    pub peak: u64,
}

impl Process {
    /// Starts a command that prints `listening on http://ADDRESS`, and waits until it is ready. What it writes to
    /// standard error goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::options().create(true).append(true).open(log)?);
        let from = Instant::now();
        let mut child = command.spawn().context("the process does not start")?;
        let addr = announced(&mut child).and_then(|addr| {
            await_ready(&mut child, addr)?;
            Ok(addr)
        });
        let ready_after = from.elapsed();
        match addr {
            Ok(addr) => Ok(Self { child, addr, ready_after }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(last_words(log)))
            }
        }
    }

    /// This program again, with a hidden sub-command.
    pub fn start_self(arguments: &[&str], log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments);
        Self::start(command, log)
    }

    /// Ends it with SIGTERM and waits; it must exit with 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").arg("-c").arg(kill).status()?;
        ensure!(sent.success(), "SIGTERM could not be sent");
        let limit = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < limit {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the process ended with {status}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the process does not end after SIGTERM")
    }

    /// Ends it with SIGKILL, as a crash does.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn memory(&self) -> anyhow::Result<Memory> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path)?;
        Ok(Memory { resident: kibibytes(&status, "VmRSS:")? * 1024, peak: kibibytes(&status, "VmHWM:")? * 1024 })
    }

    /// The processor's time that its threads have taken so far, by name; threads that have ended are not in it.
    pub fn busy(&self) -> anyhow::Result<Busy> {
        let mut busy = Busy::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?.path();
            // A thread may end meanwhile.
            let Ok(times) = fs::read_to_string(task.join("schedstat")) else { continue };
            let nanos = times.split(' ').next().context("no schedstat")?.parse()?;
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default().trim().to_owned();
            *busy.entry(name).or_default() += Duration::from_nanos(nanos);
        }
        Ok(busy)
    }

    /// Sets `VmHWM` to what `VmRSS` is, so that the peak is that of what follows.
    pub fn reset_peak(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(path, "5").context("the kernel does not reset VmHWM")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kibibytes(status: &str, name: &str) -> anyhow::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

fn announced(child: &mut Child) -> anyhow::Result<SocketAddr> {
    let stdout = child.stdout.take().context("no standard output")?;
    let lines = follow(BufReader::new(stdout));
    let limit = Instant::now() + START_TIMEOUT;
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).context("the process does not say where it listens")?;
        if let Some(addr) = line.strip_prefix("listening on http://") {
            return Ok(addr.trim().parse()?);
        }
    }
}

/// Reads on when nobody listens any more, so that the process never waits on a full pipe.
fn follow(from: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn await_ready(child: &mut Child, addr: SocketAddr) -> anyhow::Result<()> {
    let limit = Instant::now() + START_TIMEOUT;
    while Instant::now() < limit {
        if http::is_ready(addr) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the process ended with {status} before it was ready");
        }
        thread::sleep(Duration::from_millis(1));
    }
    bail!("the process does not become ready")
}

/// The end of what a process wrote to standard error.
pub fn last_words(log: &Path) -> String {
    let mut end = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        file.read_to_end(&mut end)
    });
    match read {
        Ok(_) => format!("its last words:\n{}", String::from_utf8_lossy(&end)),
        Err(error) => format!("it left no log: {error}"),
    }
}

/// A path as an argument.
pub fn argument(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("a path that is not UTF-8: {}", path.display()))
}
