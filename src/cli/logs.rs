//! The log on standard error: what is logged, and how a record looks. [`lines`] has its way there.

mod lines;

use std::cell::Cell;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, Metadata, Record};

use lines::{Lines, OfThread};

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT: &str = "info,actix_server=warn";

/// Writes the lines until it is dropped; then those that wait, and no more.
pub struct Logs {
    lines: Arc<Lines>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Sets the process's logger up.
    ///
    /// # Errors
    /// When the thread cannot be started, or there is a logger already.
    pub fn start() -> io::Result<Self> {
        let lines = Arc::<Lines>::default();
        let source = lines.clone();
        let write_out = move || source.write_to(&mut io::stderr());
        let thread = std::thread::Builder::new().name("bgrs-log".to_owned()).spawn(write_out)?;
        let filter = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT)).build();
        log::set_max_level(filter.filter());
        log::set_boxed_logger(Box::new(Logger { filter, lines: lines.clone() })).map_err(io::Error::other)?;
        Ok(Self { lines, thread: Some(thread) })
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.lines.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Logs what `RUST_LOG` asks for. Of the library it has that alone: to write, the library has one lock for all threads,
/// which each call would take.
struct Logger {
    filter: env_logger::Logger,
    lines: Arc<Lines>,
}

/// What a thread that logs keeps.
struct Own {
    lines: Arc<OfThread>,
    /// The second that it has last logged in, since 1970, and its text: a busy thread has thousands of lines in it.
    second: (u64, String),
    record: String,
}

thread_local! {
    /// Taken while it is used: what writes itself to the log may log something itself.
    static OWN: Cell<Option<Own>> = const { Cell::new(None) };
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        // A thread that is about to end has none any longer.
        let own = OWN.try_with(Cell::take).ok().flatten();
        let mut own = own.unwrap_or_else(|| Own {
            lines: self.lines.of_thread(),
            second: (u64::MAX, String::new()),
            record: String::new(),
        });
        let now = SystemTime::now();
        own.write(now, record);
        self.lines.push(&own.lines, now, own.record.as_bytes());
        let _ = OWN.try_with(|cell| cell.set(Some(own)));
    }

    fn flush(&self) {}
}

impl Own {
    /// Writes a record as `env_logger` would.
    fn write(&mut self, now: SystemTime, record: &Record<'_>) {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.second.0 != second {
            self.second = (second, format!("[{} ", humantime::format_rfc3339_seconds(now)));
        }
        self.record.clear();
        self.record.push_str(&self.second.1);
        self.record.push_str(match record.level() {
            Level::Error => "ERROR ",
            Level::Warn => "WARN  ",
            Level::Info => "INFO  ",
            Level::Debug => "DEBUG ",
            Level::Trace => "TRACE ",
        });
        self.record.push_str(record.target());
        self.record.push_str("] ");
        // Only what is written can fail, and then it ends there.
        let _ = Indented(&mut self.record).write_fmt(*record.args());
        self.record.push('\n');
    }
}

/// What a text's lines behind the first begin with: none of them is to be taken for another record.
struct Indented<'a>(&'a mut String);

impl Write for Indented<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some(end) = memchr::memchr(b'\n', rest.as_bytes()) {
            self.0.push_str(&rest[..end]);
            self.0.push_str("\n    ");
            rest = &rest[end + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_record_can_be_taken_for_another_record() {
        for (text, written) in
            [("one", "one"), ("one\n[forged]", "one\n    [forged]"), ("\n\none\n", "\n    \n    one\n    "), ("", "")]
        {
            let mut out = String::new();
            Indented(&mut out).write_str(text).unwrap();
            assert_eq!(out, written);
        }
    }
}
