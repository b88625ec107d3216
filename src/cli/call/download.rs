//! The result, whole: where a connection breaks off, the rest is asked for.

use std::io::{self, ErrorKind, Read};
use std::thread;
use std::time::Duration;

use ureq::http::header::{self, HeaderName, HeaderValue};
use ureq::http::{HeaderMap, StatusCode};

use super::client::{self, Answer, Trouble};
use super::output::Output;
use super::place::Place;
use super::session::Session;
use super::{Failure, NO_SUCCESS, no_success, progress, refused, text};

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// Bytes that are shown of a result that is no success.
const SHOWN: u64 = 64 << 10;

/// How often a download may break off without a byte more.
const IDLE: u32 = 5;

/// The rest before the next try; once more of it for each that brought nothing.
const REST: Duration = Duration::from_millis(250);

/// Why a download does not go on.
enum Broken {
    Read(String),
    Write(io::Error),
}

/// What an answer's head says of the whole result.
struct Head {
    status: StatusCode,
    /// Only a strong one says that the bytes are the same.
    tag: Option<HeaderValue>,
    length: Option<u64>,
}

impl Head {
    fn of(answer: &Answer) -> Self {
        let tag = answer.headers().get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
        Self { status: answer.status(), tag: tag.cloned(), length: answer.body().content_length() }
    }

    fn is_the_same(&self, other: &Self) -> bool {
        self.status == other.status && self.tag.is_some() && self.tag == other.tag
    }
}

struct Download<'a> {
    session: &'a Session,
    place: &'a Place,
    output: Output,
    head: Head,
    written: u64,
}

/// Writes the result to where it goes; the exit code by its status.
pub fn fetch(session: &Session, place: &Place, output: Output) -> Result<u8, Failure> {
    let answer = session.persist(place, || ask(session, place, &[]))?;
    let head = Head::of(&answer);
    let status = head.status;
    if !status.is_success() && output.is_named() {
        drop(output);
        show(answer);
        return Err(no_success(format!("the result is {}; it is not written to a file", client::status(status))));
    }
    let mut download = Download { session, place, output, head, written: 0 };
    let written = match download.run(answer) {
        Ok(()) => download.output.finish(),
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Write(error)) => Err(error),
    };
    match written {
        Ok(()) if status.is_success() => Ok(0),
        Ok(()) => Err(no_success(format!("the result is {}", client::status(status)))),
        // Whoever reads it has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(NO_SUCCESS),
        Err(error) => {
            Err(no_success(format!("the result cannot be written: {error}; {}", session.how_to_come_back(place))))
        }
    }
}

/// Why there is no whole result.
enum Stop {
    Failed(Failure),
    Write(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Download<'_> {
    fn run(&mut self, mut answer: Answer) -> Result<(), Stop> {
        let (mut skip, mut idle) = (0, 0);
        loop {
            let before = self.written;
            let why = match self.copy(answer, skip) {
                Ok(()) => return Ok(()),
                Err(Broken::Write(error)) => return Err(Stop::Write(error)),
                Err(Broken::Read(why)) => why,
            };
            idle = if self.written > before { 0 } else { idle + 1 };
            if idle == IDLE {
                return Err(self.give_up(&format!("the result breaks off again and again ({why})")).into());
            }
            thread::sleep(REST * idle);
            (answer, skip) = self.again()?;
        }
    }

    /// Writes an answer's body but for what is to be skipped.
    fn copy(&mut self, answer: Answer, mut skip: u64) -> Result<(), Broken> {
        let mut reader = answer.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Broken::Read(error.to_string())),
            };
            let known = usize::try_from(skip).unwrap_or(read).min(read);
            skip -= known as u64;
            self.output.write(&piece[known..read]).map_err(Broken::Write)?;
            self.written += (read - known) as u64;
        }
        match self.head.length {
            Some(length) if length != self.written => Err(Broken::Read(format!("{} bytes of {length}", self.written))),
            _ => Ok(()),
        }
    }

    /// Asks for what is missing: the answer, and how much of it is there already.
    fn again(&mut self) -> Result<(Answer, u64), Stop> {
        let ranges = self.ranges();
        let answer = self.session.persist(self.place, || ask(self.session, self.place, &ranges))?;
        if !ranges.is_empty() && answer.status() == StatusCode::PARTIAL_CONTENT {
            if self.continues(answer.headers()) {
                return Ok((answer, 0));
            }
            return Err(self.give_up("the server answers with another part than the one that is missing").into());
        }
        let head = Head::of(&answer);
        if head.is_the_same(&self.head) {
            return Ok((answer, self.written));
        }
        let is_another = head.status == self.head.status;
        if is_another && (self.written == 0 || self.output.restart().map_err(Stop::Write)?) {
            (self.head, self.written) = (head, 0);
            return Ok((answer, 0));
        }
        Err(self.give_up("the result has changed since a part of it was written").into())
    }

    /// The headers that ask for the rest. An API's own status leaves no room for 206.
    fn ranges(&self) -> Vec<(HeaderName, HeaderValue)> {
        let range = HeaderValue::from_str(&format!("bytes={}-", self.written)).ok();
        match (range, &self.head.tag) {
            (Some(range), Some(tag)) if self.head.status == StatusCode::OK && self.written > 0 => {
                vec![(header::RANGE, range), (header::IF_RANGE, tag.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// Whether a part begins where what is written ends, and is one of the same whole.
    fn continues(&self, headers: &HeaderMap) -> bool {
        let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes "));
        let Some((range, whole)) = range.and_then(|range| range.split_once('/')) else { return false };
        let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
        first == Some(self.written) && self.head.length.is_none_or(|length| whole == length.to_string())
    }

    fn give_up(&self, why: &str) -> Failure {
        refused(format!("{why}; {}", self.session.how_to_come_back(self.place)))
    }
}

fn ask(session: &Session, place: &Place, more: &[(HeaderName, HeaderValue)]) -> Result<Answer, Trouble> {
    let answer = session.client.get(&place.result(), more)?;
    if client::is_result(&answer) {
        return Ok(answer);
    }
    // The server's own 202.
    Err(Trouble::Passing("the result is not there yet".to_owned()))
}

/// Shows the beginning of a body on standard error.
fn show(mut answer: Answer) {
    let mut body = Vec::new();
    let _ = answer.body_mut().as_reader().take(SHOWN).read_to_end(&mut body);
    let shown = text::lines(&String::from_utf8_lossy(&body));
    if !shown.trim().is_empty() {
        progress::say(shown.trim_end());
    }
}
