//! What the parts of a call share, and their patience with the server.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Trouble};
use super::place::Place;
use super::progress::Progress;
use super::{Failure, refused, text};

/// How long a server that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The rests in between double from the first to the longest.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(15);

/// One run of the command.
pub struct Session {
    /// What calls the server.
    pub client: Client,
    /// What shows how far the request is.
    pub progress: Progress,
    /// Where the request is, once the server has it.
    pub place: OnceLock<Place>,
    /// The login, where one was named.
    pub login: Option<String>,
    /// Where the result goes; `None`: to standard output.
    pub file: Option<PathBuf>,
    /// The file that the result is written to until it is whole.
    pub temporary: Option<PathBuf>,
}

impl Session {
    /// The command that comes back to the request.
    pub fn come_back(&self, place: &Place) -> String {
        let mut words = vec!["bgrs-server".to_owned(), "call".to_owned(), "--attach".to_owned(), place.rid.to_string()];
        if let Some(login) = &self.login {
            words.extend(["-u".to_owned(), text::quoted(login)]);
        }
        if let Some(file) = &self.file {
            words.extend(["-o".to_owned(), text::quoted(&file.to_string_lossy())]);
        }
        words.push(text::quoted(place.server()));
        text::one_line(&words.join(" "))
    }

    /// Asks until there is an answer, also where the server cannot be reached for a while.
    pub fn persist<T>(&self, place: &Place, mut ask: impl FnMut() -> Result<T, Trouble>) -> Result<T, Failure> {
        let begin = Instant::now();
        let mut rest = FIRST_REST;
        loop {
            let why = match ask() {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Fatal(failure)) => return Err(failure),
                Err(Trouble::Passing(why)) => why,
            };
            if begin.elapsed() > PATIENCE {
                return Err(refused(format!("{why}; the request goes on; {}", self.how_to_come_back(place))));
            }
            // A connection that had been idle breaks off once: that is not worth a word.
            if rest == FIRST_REST * 2 {
                self.progress.say(&format!("{why}; trying again"));
            }
            thread::sleep(rest);
            rest = (rest * 2).min(LONGEST_REST);
        }
    }

    /// The same command in a sentence.
    pub fn how_to_come_back(&self, place: &Place) -> String {
        format!("come back with: {}", self.come_back(place))
    }

    /// Removes what is not whole.
    pub fn clean_up(&self) {
        if let Some(file) = &self.temporary {
            // It may be the whole result under its own name by now.
            let _ = std::fs::remove_file(file);
        }
    }
}
