//! Which connection a call takes. Each is driven by the thread that has opened it, its home. A call takes an idle one of its
//! own thread; one of another thread only where its own has none open at all, or many, since two threads are woken for each
//! step of such a call. So threads that have much to do come to have connections of their own, and calls one after the other
//! share one, whatever thread they come to.

use std::thread::ThreadId;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use super::client::Body;

/// How long an idle connection is kept: shorter than the servers that are common upstreams do (Node.js: 5 s).
pub const IDLE: Duration = Duration::from_secs(4);

/// Idle connections of each thread at most.
const MOST_IDLE: usize = 256;

/// How many connections a thread opens before it takes another's that is idle: an upstream may have a process for each.
const MANY: usize = 64;

/// The connections by the threads that drive them.
#[derive(Default)]
pub struct Homes {
    homes: Vec<Home>,
    /// Whether a task is there that closes those that nobody takes.
    pub is_swept: bool,
}

struct Home {
    thread: ThreadId,
    /// How many connections it drives, idle or not.
    open: usize,
    idle: Vec<Idle>,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// A connection that a call has taken.
pub struct Taken {
    pub sender: SendRequest<Body>,
    /// The thread that drives it.
    pub home: ThreadId,
}

impl Homes {
    /// A connection for a call on this thread; `None`: it is to open one.
    pub fn take(&mut self, here: ThreadId, now: Instant) -> Option<Taken> {
        let usable = |home: &mut Home| Some(Taken { sender: home.usable(now)?, home: home.thread });
        match self.homes.iter_mut().find(|home| home.thread == here) {
            Some(own) if (1..MANY).contains(&own.open) => usable(own),
            own => own.and_then(usable).or_else(|| self.homes.iter_mut().find_map(usable)),
        }
    }

    /// Keeps one that is free again.
    pub fn give_back(&mut self, Taken { sender, home }: Taken) {
        let home = self.home(home);
        if home.idle.len() < MOST_IDLE {
            home.idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// The thread drives one more.
    pub fn opened(&mut self, thread: ThreadId) {
        self.home(thread).open += 1;
    }

    /// The thread drives one less.
    pub fn closed(&mut self, thread: ThreadId) {
        let home = self.home(thread);
        home.open = home.open.saturating_sub(1);
        if home.open == 0 {
            self.homes.retain(|home| home.thread != thread);
        }
    }

    /// Closes what nobody has taken for long. Whether any is left.
    pub fn sweep(&mut self) -> bool {
        for home in &mut self.homes {
            home.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE);
        }
        self.homes.retain(|home| home.open > 0 || !home.idle.is_empty());
        self.homes.iter().any(|home| !home.idle.is_empty())
    }

    fn home(&mut self, thread: ThreadId) -> &mut Home {
        let at = self.homes.iter().position(|home| home.thread == thread).unwrap_or_else(|| {
            self.homes.push(Home { thread, open: 0, idle: Vec::new() });
            self.homes.len() - 1
        });
        &mut self.homes[at]
    }
}

impl Home {
    /// The last of the idle ones that can be used; those used last are the last. What cannot be used and is behind it goes.
    fn usable(&mut self, now: Instant) -> Option<SendRequest<Body>> {
        for at in (0..self.idle.len()).rev() {
            let Idle { sender, since } = &self.idle[at];
            if sender.is_closed() || now.duration_since(*since) >= IDLE {
                self.idle.remove(at);
            } else if sender.is_ready() {
                return Some(self.idle.remove(at).sender);
            }
            // One that is not ready yet has its call's body still to send, or is about to be.
        }
        None
    }
}

#[cfg(test)]
impl Homes {
    pub fn idle(&self, is: impl Fn(&SendRequest<Body>) -> bool) -> usize {
        self.homes.iter().flat_map(|home| &home.idle).filter(|idle| is(&idle.sender)).count()
    }

    pub fn open(&self) -> Vec<(ThreadId, usize)> {
        self.homes.iter().map(|home| (home.thread, home.open)).collect()
    }
}
