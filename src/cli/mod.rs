//! The command line: `serve`, `check`, `sample`, `user`, `call`.

mod call;
mod check;
mod explain;
mod logs;
mod sample;
mod serve;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use bgrs::Config;
use clap::{Parser, Subcommand};

/// Configuration, start or usage is wrong.
const USAGE: u8 = 2;

/// Threads for blocking work beside the main one; the media bound themselves far below.
const BLOCKING_THREADS: usize = 16;

/// Turns any API call into a background request.
#[derive(Parser)]
#[command(name = "bgrs-server", version, about)]
struct Arguments {
    /// The configuration file. Without it, `bgrs.toml` in this folder if there is one, else the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (what happens without a command).
    Serve,
    /// Read the configuration and say what is wrong with it, or what it says of a call.
    Check(check::Arguments),
    /// Fill the database with plausible campaigns and scans, to try long calls on.
    Sample(sample::Arguments),
    /// Manage the server's own users, also while it runs.
    #[command(subcommand)]
    User(user::Command),
    /// Make one call of any API in the background, and wait for its result.
    Call(call::Arguments),
}

/// A failure with its exit code.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl ToString) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    fn refused(message: impl ToString) -> Self {
        Self { code: 1, message: message.to_string() }
    }
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, message }) => {
            eprintln!("bgrs-server: {}", message.replace('\n', " "));
            ExitCode::from(code)
        }
    }
}

/// Runs a command, and gives its exit code.
fn execute(arguments: Arguments) -> Result<u8, Failure> {
    let config = || load(arguments.config);
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => block_on(serve::run(config()?)),
        Command::Check(arguments) => block_on(check::run(config()?, arguments)),
        Command::Sample(arguments) => block_on(sample::run(config()?, &arguments)),
        Command::User(command) => block_on(user::run(config()?, command)),
        // It needs no configuration, and has exit codes of its own.
        Command::Call(arguments) => return call::run(arguments),
    }?;
    Ok(0)
}

/// Says a line on standard output. Whoever reads it may have read enough.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn load(file: Option<PathBuf>) -> Result<Config, Failure> {
    let default = PathBuf::from("bgrs.toml");
    let file = file.or_else(|| default.is_file().then_some(default));
    Config::load(file.as_deref(), std::env::vars_os()).map_err(Failure::usage)
}

/// Runs a command on actix's system, on this thread.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            // Start-up: without a runtime there is nothing to go on with.
            .expect("the async runtime starts")
    };
    actix_rt::System::with_tokio_rt(runtime).block_on(command)
}
