//! What every test of the running server shares: the process, a client, and a few readers of answers.

pub mod check;
pub mod data_dir;
pub mod events;
pub mod http;
pub mod left_out;
pub mod rows;
pub mod server;
pub mod upstream;

use std::time::{Duration, Instant};

pub use check::{assert_submitted, error_of, is_date_time, keys_in_order};
pub use data_dir::DataDir;
pub use http::{Call, Response};
pub use server::TestServer;

/// How long any condition may take to come true, on a slow and busy machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Asks again and again until there is an answer; panics with `what` when there is none in time.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same for a plain condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}
