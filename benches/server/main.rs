//! Measures a running `bgrs-server`, side by side with a minimal reference: see `benches/README.md`.
//!
//! The server, the reference, the raw responder and the gateway's upstream are processes of their own; this one holds
//! the load client, the watchers and the upstream of what they watch.

mod bench;
mod end;
mod fixture;
mod footprint;
mod gateway;
mod growth;
mod held;
mod home;
mod http;
mod keys;
mod latency;
mod limits;
mod load;
mod memory;
mod process;
mod reads;
mod reference;
mod report;
mod responder;
mod start;
mod submit;
mod turns;
mod upstream;
mod watch;
mod work;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};

use bench::{Bench, Scale};
use home::Settings;
use load::{Extent, Load, Requests};
use report::Report;

/// Benchmarks of bgrs-server.
#[derive(Parser)]
#[command(name = "server")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Small counts, a few seconds in all: shows that everything runs, judges nothing
    #[arg(long, global = true)]
    smoke: bool,
    /// The server's log level, such as `warn`; without it the server logs as it does by default
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// The server's HTTP threads, `server.workers`; without it the server has as many as by default
    #[arg(long, global = true)]
    workers: Option<u16>,
    /// Rounds of each comparison; with fewer than 5 no target is judged
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each round, behind one second to warm up
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Where the data goes; it should be on a disk, since on a tmpfs a sync costs nothing
    #[arg(long, global = true, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Leave the data behind: ext4 passes slowly over the inodes of files that were removed in the last minutes, and a
    /// run that follows at once would pay for it
    #[arg(long, global = true)]
    keep: bool,
    /// Passed by `cargo bench`
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Accepted submissions a second, against the reference
    Submit,
    /// Accepted submissions a second with an Idempotency-Key, against those without
    Keys,
    /// Status reads a second, against the reference, and at 5,000,000 stored requests against 10,000
    Reads,
    /// Memory: idle, a large body up, a large result down, 100,000 finished requests
    Memory,
    /// Long calls: an export against sqlite3, a batch, and what they leave to the foreground
    Work,
    /// Time from exec to ready, with 1,000,000 finished and 10,000 queued requests
    Start,
    /// The gateway: pass-through against nginx, memory, background requests to an upstream
    Gateway,
    /// Watchers: 5,000 callers waiting and 5,000 event streams at once, their memory, and how soon they know of an end
    Watch,
    /// End to end: submitted, run and stored requests a second, and how soon a result can be read
    End,
    /// What stored requests cost: bytes of the database for each, memory of an idle server with 1,000,000
    Footprint,
    /// How the cost of each act of the store grows with what is stored and with what runs
    Growth,
    /// What the machine allows: syncs, rows, lookups, files and HTTP answers, each by itself
    Limits,
    /// This version beside another one's binary, in turns: submissions, status reads, pass-through, end to end
    Turns { before: PathBuf },
    /// All of these but turns
    All,
    /// The load client alone, against whatever listens there already: `GET` with the login admin and the password secret
    Load { addr: SocketAddr, connections: usize, target: String },
    /// The reference, on this port and database
    #[command(hide = true)]
    Reference { port: u16, database: PathBuf },
    /// The raw responder, on this port
    #[command(hide = true)]
    Responder { port: u16 },
    /// The gateway's upstream, on this port
    #[command(hide = true)]
    Upstream { port: u16 },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let command = match arguments.command {
        Some(Command::Reference { port, database }) => return reference::serve(port, &database),
        Some(Command::Load { addr, connections, target }) => {
            let warm_up = Duration::from_millis(500);
            let extent = Extent::Time { warm_up, measured: Duration::from_secs(arguments.seconds) };
            // Whoever is asked for the background says 202.
            let expected = if target.contains("bgrs=yes") { 202 } else { 200 };
            let figures = load::run(addr, &Load { connections, extent, expected }, Requests::get(&target))?;
            println!("{:.0}/s  p50 {:?}  p99 {:?}", figures.rate, figures.p50, figures.p99);
            return Ok(());
        }
        Some(Command::Responder { port }) => return responder::serve(port),
        Some(Command::Upstream { port }) => return upstream::serve(port),
        command => command.unwrap_or(Command::All),
    };
    // Without `--bench` it is a test run that builds and tries every target: not the time to measure.
    let named = std::env::args().len() > 1;
    let smoke = arguments.smoke || !named;
    let scale = if smoke { Scale::smoke() } else { Scale::full(arguments.rounds, arguments.seconds) };
    std::fs::create_dir_all(&arguments.dir)?;
    let mut dir = tempfile::Builder::new().prefix("bgrs-bench-").tempdir_in(&arguments.dir)?;
    dir.disable_cleanup(arguments.keep);
    let settings = Settings { binary: None, log: arguments.log, workers: arguments.workers };
    let bench = Bench { scale, settings, dir: dir.path() };
    let mut report = Report::new(dir.path(), !smoke && arguments.rounds >= 5)?;
    let outcome = measure(&command, &bench, smoke, &mut report);
    if outcome.is_err() {
        print_logs(dir.path());
    }
    report.print_table();
    outcome
}

/// What the processes said last, since their folders go with this run.
fn print_logs(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let log = if path.is_dir() { path.join("stderr.log") } else { path };
        if log.extension().is_some_and(|extension| extension == "log") && log.exists() {
            eprintln!("{}: {}", entry.file_name().display(), process::last_words(&log));
        }
    }
}

fn measure(command: &Command, bench: &Bench<'_>, smoke: bool, report: &mut Report) -> anyhow::Result<()> {
    let all = matches!(command, Command::All);
    if all || matches!(command, Command::Submit) {
        submit::measure(bench, report)?;
    }
    if all || matches!(command, Command::Keys) {
        keys::measure(bench, report)?;
    }
    if all || matches!(command, Command::Reads) {
        reads::measure(bench, report)?;
    }
    if all || matches!(command, Command::Memory) {
        memory::measure(bench, report)?;
    }
    if all || matches!(command, Command::Work) {
        work::measure(bench, report)?;
    }
    if all || matches!(command, Command::Start) {
        start::measure(bench, report)?;
    }
    if all || matches!(command, Command::Gateway) {
        gateway::measure(bench, smoke, report)?;
    }
    if all || matches!(command, Command::End) {
        end::measure(bench, report)?;
    }
    if all || matches!(command, Command::Footprint) {
        footprint::measure(bench, report)?;
    }
    if all || matches!(command, Command::Growth) {
        growth::measure(bench, smoke, report)?;
    }
    if all || matches!(command, Command::Watch) {
        watch::measure(bench, smoke, report)?;
    }
    if all || matches!(command, Command::Limits) {
        limits::measure(bench, report)?;
    }
    match command {
        Command::Turns { before } => turns::measure(bench, before, report)?,
        // Beside itself: shows that it runs.
        Command::All if smoke => turns::measure(bench, Path::new(home::SERVER), report)?,
        _ => {}
    }
    Ok(())
}
