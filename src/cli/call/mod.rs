//! `bgrs-server call`: one call of any API, made in the background, from a command line.

mod client;
mod credentials;
mod data;
mod download;
mod follow;
mod interrupt;
mod options;
mod output;
mod place;
mod progress;
mod session;
mod submit;
mod text;

use std::sync::{Arc, OnceLock};

use url::Url;

use super::Failure;
use client::Client;
use options::{Options, Task};
use output::Output;
use progress::Progress;
use session::Session;

pub use options::Arguments;

/// The result is none of success, or there is none.
const NO_SUCCESS: u8 = 1;

/// Out of reach, or refused.
const REFUSED: u8 = 3;

/// Interrupted, by hand or by another process.
const INTERRUPTED: u8 = 130;

/// Runs it; the exit code. It reads no configuration.
pub fn run(arguments: Arguments) -> Result<u8, Failure> {
    let options = Options::read(arguments)?;
    let output = Output::open(options.file.as_deref())?;
    let session = Arc::new(Session {
        client: Client::new(&options.url, &options.headers)?,
        progress: Progress::on_standard_error(),
        place: OnceLock::new(),
        login: options.login,
        temporary: output.temporary(),
        file: options.file,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::refused)?;
    let (worker, url, task) = (session.clone(), options.url, options.task);
    runtime.block_on(interrupt::supervise(&session, move || work(&worker, &url, task, output)))
}

/// From the submission to the result. It blocks, and knows of no signal.
fn work(session: &Session, url: &Url, task: Task, output: Output) -> Result<u8, Failure> {
    let place = match task {
        Task::Submit(mut submission) => submit::submit(&session.client, url, &mut submission)?,
        Task::Attach(rid) => follow::find(session, url, rid)?,
    };
    let place = session.place.get_or_init(|| place);
    let followed = follow::to_the_end(session, place);
    session.progress.stop();
    followed?;
    download::fetch(session, place, output)
}

fn no_success(message: impl ToString) -> Failure {
    Failure { code: NO_SUCCESS, message: message.to_string() }
}

fn refused(message: impl ToString) -> Failure {
    Failure { code: REFUSED, message: message.to_string() }
}
