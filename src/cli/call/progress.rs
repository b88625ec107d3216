//! What standard error shows: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use super::text;

/// Hundredths of a percent in all.
const WHOLE: u64 = 10_000;

/// How far a request is.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: Mutex<String>,
    stopped: AtomicBool,
}

impl Progress {
    /// Shows nothing yet.
    pub fn on_standard_error() -> Self {
        let bar = io::stderr().is_terminal().then(bar);
        Self { bar, last: Mutex::default(), stopped: AtomicBool::new(false) }
    }

    /// Shows a percentage and the latest that is known, where it is anything new.
    pub fn show(&self, percent: &str, latest: &str) {
        if self.stopped.load(Ordering::SeqCst) {
            return;
        }
        let (percent, latest) = (text::one_line(percent), text::one_line(latest));
        let Some(bar) = &self.bar else { return self.line(format!("{percent}% {latest}")) };
        let hundredths = percent.parse::<f64>().unwrap_or(0.0) * 100.0;
        // 0 to 10,000, and whatever else it may be is cut to what fits.
        bar.set_position(hundredths.round() as u64);
        bar.set_prefix(format!("{percent}%"));
        bar.set_message(latest);
    }

    /// Says something that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) if !self.stopped.load(Ordering::SeqCst) => bar.suspend(|| say(line)),
            _ => say(line),
        }
    }

    /// Shows nothing more, and takes the bar away.
    pub fn stop(&self) {
        if !self.stopped.swap(true, Ordering::SeqCst)
            && let Some(bar) = &self.bar
        {
            bar.finish_and_clear();
        }
    }

    fn line(&self, line: String) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != line {
            say(&line);
            *last = line;
        }
    }
}

/// Says a line on standard error. Where nobody reads it, nobody is there to tell.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(WHOLE);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {prefix:>7} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}
