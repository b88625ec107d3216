//! The way of many answers at once back to those who wait: all that one thread has for one runtime go there in one piece,
//! since each by itself would wake its thread (a system call, and a thread that falls asleep again in between).

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use tokio::runtime::{Handle, Id};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What is sent: an answer, and to whom.
pub trait Letter: Send + Sized + 'static {
    /// Where each thread remembers the post of its runtime.
    fn remembered() -> &'static LocalKey<Remembered<Self>>;
    /// The post of whoever waits for it; `None`: it is opened wherever it was written.
    fn post(&self) -> Option<&Post<Self>>;
    /// Hands it over.
    fn open(self);
}

/// The post that a thread remembers.
pub type Remembered<L> = RefCell<Option<(Id, Post<L>)>>;

/// Where the answers for one runtime go. What lies in it is bounded by those who wait.
pub struct Post<L>(Arc<UnboundedSender<Vec<L>>>);

impl<L> Clone for Post<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: Letter> Post<L> {
    /// That of the runtime that the current thread is in; opened where there is none yet.
    pub fn here() -> Self {
        let runtime = Handle::current();
        L::remembered().with_borrow_mut(|remembered| match remembered {
            Some((id, post)) if *id == runtime.id() && !post.0.is_closed() => post.clone(),
            _ => {
                let post = Self::open(&runtime);
                *remembered = Some((runtime.id(), post.clone()));
                post
            }
        })
    }

    fn open(runtime: &Handle) -> Self {
        let (post, mut bags) = unbounded_channel::<Vec<L>>();
        runtime.spawn(async move {
            while let Some(bag) = bags.recv().await {
                bag.into_iter().for_each(L::open);
            }
        });
        Self(Arc::new(post))
    }
}

/// Sends letters, all for one post in one piece.
pub fn deliver<L: Letter>(letters: impl IntoIterator<Item = L>) {
    let mut bags: Vec<(Post<L>, Vec<L>)> = Vec::new();
    for letter in letters {
        let Some(post) = letter.post() else {
            letter.open();
            continue;
        };
        match bags.iter_mut().find(|(own, _)| Arc::ptr_eq(&own.0, &post.0)) {
            Some((_, bag)) => bag.push(letter),
            None => bags.push((post.clone(), vec![letter])),
        }
    }
    for (post, bag) in bags {
        // A runtime that is gone has nobody left who waits.
        let _ = post.0.send(bag);
    }
}
