//! What was measured: printed as it comes, and once more as a table.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::Figures;
use crate::process::Busy;

/// The lines of the table.
pub struct Report {
    judges: bool,
    lines: Vec<Line>,
}

struct Line {
    what: String,
    target: &'static str,
    measured: String,
    verdict: &'static str,
}

/// Prints what a process's threads took of the processor for each answer.
pub fn print_busy(before: &Busy, after: &Busy, answers: u64) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / answers.max(1) as f64;
    // Of threads that have ended meanwhile nothing is known any more.
    let since = |name, time: Duration| time.saturating_sub(before.get(name).copied().unwrap_or_default());
    let spent = after.iter().map(|(name, time)| (name, since(name, *time)));
    let mut spent: Vec<_> = spent.map(|(name, time)| (name, micros(time))).collect();
    spent.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let all: f64 = spent.iter().map(|(_, micros)| micros).sum();
    let most: Vec<_> = spent.iter().take(4).map(|(name, micros)| format!("{name} {micros:.1}")).collect();
    println!("    processor for each answer: {all:.1} \u{b5}s ({})", most.join(", "));
}

/// The rounds of one contestant.
pub struct Series {
    pub name: String,
    pub rounds: Vec<Figures>,
}

impl Series {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rounds: Vec::new() }
    }

    /// Keeps a round and prints it.
    pub fn add(&mut self, figures: Figures) {
        self.rounds.push(figures);
        println!(
            "  {:<34} round {}  {:>8.0}/s  p50 {:>8}  p99 {:>8}",
            self.name,
            self.rounds.len(),
            figures.rate,
            millis(figures.p50),
            millis(figures.p99)
        );
    }

    /// The median of the rounds' rates.
    pub fn rate(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.rate))
    }

    /// The median of the rounds' p99, in seconds.
    pub fn p99(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.p99.as_secs_f64()))
    }

    /// Both, to read.
    pub fn summary(&self) -> String {
        let p99 = millis(Duration::from_secs_f64(self.p99()));
        format!("{:.0}/s, p99 {p99}", self.rate())
    }
}

impl Report {
    /// Begins with what it is measured on; one that does not `judge` leaves the targets alone.
    pub fn new(dir: &Path, judges: bool) -> anyhow::Result<Self> {
        print_machine(dir)?;
        Ok(Self { judges, lines: Vec::new() })
    }

    /// A figure that has a target.
    pub fn judge(&mut self, what: impl Into<String>, target: &'static str, measured: String, met: bool) {
        let verdict = match (self.judges, met) {
            (false, _) => "not judged",
            (true, true) => "met",
            (true, false) => "missed",
        };
        self.push(what.into(), target, measured, verdict);
    }

    /// A figure to know.
    pub fn note(&mut self, what: impl Into<String>, measured: String) {
        self.push(what.into(), "none", measured, "");
    }

    fn push(&mut self, what: String, target: &'static str, measured: String, verdict: &'static str) {
        println!("{what}: {measured} (target: {target}) {verdict}");
        self.lines.push(Line { what, target, measured, verdict });
    }

    /// All of it, in Markdown.
    pub fn print_table(&self) {
        println!("\n| what | target | measured | |\n| --- | --- | --- | --- |");
        for line in &self.lines {
            let Line { what, target, measured, verdict } = line;
            println!("| {what} | {target} | {measured} | {verdict} |");
        }
    }
}

/// The one in the middle; of an even number, the mean of the two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// As `1.23 ms`.
pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// As `63 %`.
pub fn percent(part: f64) -> String {
    format!("{:.0} %", part * 1e2)
}

fn print_machine(dir: &Path) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!("date        {}", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"));
    println!("processor   {}, {cores} cores", first_value("/proc/cpuinfo", "model name"));
    println!("memory      {}", first_value("/proc/meminfo", "MemTotal"));
    println!("kernel      {}", read("/proc/sys/kernel/osrelease"));
    println!("file system {}, a synced write of 4 KiB takes {}", file_system(dir)?, millis(sync_time(dir)?));
    println!("versions    bgrs-server {}, SQLite {}, {}\n", env!("CARGO_PKG_VERSION"), rusqlite::version(), rustc());
    Ok(())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn first_value(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output
        .map_or_else(|_| "rustc unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The type of the file system that the data is on.
fn file_system(dir: &Path) -> anyhow::Result<String> {
    let dir = dir.canonicalize()?;
    let mounts = read("/proc/self/mounts");
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    Ok(kind.map_or("unknown", |(_, kind)| kind).to_owned())
}

/// The median time of a small write that is synced: what every commit pays at least.
fn sync_time(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = File::create(dir.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..101 {
        let from = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(from.elapsed());
    }
    times.sort_unstable();
    times.get(50).copied().context("no time was taken")
}

/// Fails unless every answer left its row.
pub fn check_durable(name: &str, answers: u64, rows: u64) -> anyhow::Result<()> {
    ensure!(answers == rows, "{name}: {answers} submissions were accepted, {rows} are stored after a kill");
    Ok(())
}
