//! Ctrl-C and SIGTERM: the request goes on, unless its caller says otherwise.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use ureq::http::StatusCode;

use super::place::Place;
use super::progress::say;
use super::session::Session;
use super::{Failure, INTERRUPTED};

type Ended = Result<u8, Failure>;

/// Does the work on a thread of its own, and ends before it does where a signal comes.
pub async fn supervise(session: &Arc<Session>, work: impl FnOnce() -> Ended + Send + 'static) -> Ended {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Failure::refused)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(Failure::refused)?;
    let mut work = on_a_thread(work)?;
    let by_hand = tokio::select! {
        ended = &mut work => return ended.unwrap_or_else(|_| Err(crashed())),
        _ = interrupts.recv() => true,
        _ = terminations.recv() => false,
    };
    session.progress.stop();
    let ended = match session.place.get() {
        // It may be on its way to the server, or not: nobody knows.
        None => Ok(INTERRUPTED),
        Some(place) if by_hand && can_ask() => {
            let cancels = tokio::select! {
                ended = &mut work => return ended.unwrap_or_else(|_| Err(crashed())),
                cancels = ask(&mut interrupts) => cancels?,
            };
            // From here on the end of the work is what was asked for.
            if cancels { cancel(session, place, &mut interrupts).await } else { Ok(leave(session, place)) }
        }
        Some(place) => Ok(leave(session, place)),
    };
    session.clean_up();
    ended
}

/// Asks whether the request is to be cancelled. Another Ctrl-C leaves it running.
async fn ask(interrupts: &mut Signal) -> Result<bool, Failure> {
    let _ = write!(io::stderr().lock(), "\nCancel the request? [y/N] ");
    let line = on_a_thread(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    })?;
    let is_yes = |line: String| matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    tokio::select! {
        line = line => Ok(line.is_ok_and(|line| line.is_ok_and(is_yes))),
        _ = interrupts.recv() => {
            say("");
            Ok(false)
        }
    }
}

async fn cancel(session: &Arc<Session>, place: &Place, interrupts: &mut Signal) -> Ended {
    let (caller, request) = (session.clone(), place.request());
    let cancelled = on_a_thread(move || caller.client.delete(&request))?;
    let cancelled = tokio::select! {
        cancelled = cancelled => cancelled.unwrap_or_else(|_| Err("it failed".to_owned())),
        _ = interrupts.recv() => Err("there was no answer yet".to_owned()),
    };
    match cancelled {
        Ok(StatusCode::NO_CONTENT) => say("It had ended; it is removed."),
        Ok(_) => say("It is cancelled."),
        Err(why) => {
            say(&format!("It could not be cancelled: {why}"));
            leave(session, place);
        }
    }
    Ok(INTERRUPTED)
}

/// Says how to come back.
fn leave(session: &Session, place: &Place) -> u8 {
    say(&format!("It goes on. Come back with: {}", session.come_back(place)));
    INTERRUPTED
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<oneshot::Receiver<T>, Failure> {
    let (done, ended) = oneshot::channel();
    let run = move || {
        // Nobody waits for it where a signal came first.
        let _ = done.send(work());
    };
    thread::Builder::new().spawn(run).map_err(Failure::refused)?;
    Ok(ended)
}

/// The thread panicked, and has said so.
fn crashed() -> Failure {
    Failure::refused("the call was given up")
}
