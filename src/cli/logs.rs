//! The log's way to standard error: over a thread of its own, so that whoever reads it slowly, or not at all, stops no
//! call. Lines gather for a moment, so that a busy server does not wake the thread for each.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use env_logger::fmt::Formatter;
use log::{Level, Record};

/// Bytes that wait at most; lines that come on top of them are counted and left out.
const WAITING: usize = 4 << 20;

/// How long lines gather.
const GATHER: Duration = Duration::from_millis(20);

/// What is logged where `RUST_LOG` says nothing.
const DEFAULT: &str = "info,actix_server=warn";

/// Writes the lines until it is dropped; then those that wait, and no more.
pub struct Logs {
    lines: Arc<Lines>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    left_out: usize,
    closed: bool,
}

impl Logs {
    /// Sets the process's logger up.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let lines = Arc::<Lines>::default();
        let source = lines.clone();
        let write_out = move || source.write_to(&mut io::stderr());
        let thread = std::thread::Builder::new().name("bgrs-log".to_owned()).spawn(write_out)?;
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT))
            .target(env_logger::Target::Pipe(Box::new(Sender(lines.clone()))))
            .format(write)
            .init();
        Ok(Self { lines, thread: Some(thread) })
    }
}

thread_local! {
    /// The second that this thread has last logged in, since 1970, and its text: a busy thread has thousands of lines in it.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Writes a record as the library would, at less than a third of its cost.
fn write(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    SECOND.with_borrow_mut(|(written, text)| {
        if *written != second {
            *text = format!("[{} ", humantime::format_rfc3339_seconds(now));
            *written = second;
        }
        out.write_all(text.as_bytes())
    })?;
    out.write_all(match record.level() {
        Level::Error => b"ERROR ",
        Level::Warn => b"WARN  ",
        Level::Info => b"INFO  ",
        Level::Debug => b"DEBUG ",
        Level::Trace => b"TRACE ",
    })?;
    out.write_all(record.target().as_bytes())?;
    out.write_all(b"] ")?;
    fmt::Write::write_fmt(&mut Indented(out), *record.args()).map_err(io::Error::other)?;
    out.write_all(b"\n")
}

/// What a text's lines behind the first begin with: none of them is to be taken for another record.
struct Indented<'a, W>(&'a mut W);

impl<W: Write> fmt::Write for Indented<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut write = |bytes: &[u8]| self.0.write_all(bytes).map_err(|_| fmt::Error);
        let mut rest = text.as_bytes();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            write(&rest[..end])?;
            write(b"\n    ")?;
            rest = &rest[end + 1..];
        }
        write(rest)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.lines.lock().closed = true;
        self.lines.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > WAITING {
            state.left_out += 1;
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    /// Writes what comes until no more will.
    fn write_to(&self, out: &mut impl Write) {
        while let Some((mut lines, left_out)) = self.take() {
            if left_out > 0 {
                let note = format!("{left_out} lines of the log are left out: they were not read fast enough\n");
                lines.extend_from_slice(note.as_bytes());
            }
            // Nobody is there to tell.
            let _ = out.write_all(&lines);
        }
    }

    /// Waits for lines, lets more of them gather, and takes them.
    fn take(&self) -> Option<(Vec<u8>, usize)> {
        let empty = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        let open = |state: &mut State| !state.closed;
        let gathered = self.changed.wait_timeout_while(state, GATHER, open);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut state.waiting), std::mem::take(&mut state.left_out)))
    }
}

/// The logger's end.
struct Sender(Arc<Lines>);

impl Write for Sender {
    /// `env_logger` writes a record at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
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
            let mut out = Vec::new();
            fmt::Write::write_str(&mut Indented(&mut out), text).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }

    #[test]
    fn lines_stay_whole_and_in_order_and_what_is_left_out_is_counted() {
        let lines = Lines::default();
        let long = "x".repeat(WAITING - 5);
        for line in ["one\n", &long, "two\n", "three\n"] {
            lines.push(line.as_bytes());
        }
        lines.lock().closed = true;
        let mut written = Vec::new();
        lines.write_to(&mut written);
        let note = "2 lines of the log are left out: they were not read fast enough\n";
        assert_eq!(String::from_utf8(written).unwrap(), format!("one\n{long}{note}"));
    }
}
