//! The way of the writer's answers back to those who wait: all that a transaction has for one runtime go there in one
//! piece, since each by itself would wake its thread (a system call, and a thread that falls asleep again in between).

use std::cell::RefCell;
use std::sync::Arc;

use tokio::runtime::{Handle, Id};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::writer::Act;
use crate::store::Result;

/// An act that was run, and whether what it did is durable.
type Answered = (Box<dyn Act>, Result<()>);

/// Where the answers for one runtime go. What lies in it is bounded by the acts that wait.
#[derive(Clone)]
pub struct Post(Arc<UnboundedSender<Vec<Answered>>>);

thread_local! {
    static HERE: RefCell<Option<(Id, Post)>> = const { RefCell::new(None) };
}

impl Post {
    /// That of the runtime that the current thread is in; opened where there is none yet.
    pub fn here() -> Self {
        let runtime = Handle::current();
        HERE.with_borrow_mut(|here| match here {
            Some((id, post)) if *id == runtime.id() && !post.0.is_closed() => post.clone(),
            _ => {
                let post = Self::open(&runtime);
                *here = Some((runtime.id(), post.clone()));
                post
            }
        })
    }

    fn open(runtime: &Handle) -> Self {
        let (post, mut letters) = unbounded_channel::<Vec<Answered>>();
        runtime.spawn(async move {
            while let Some(letters) = letters.recv().await {
                letters.into_iter().for_each(|(act, committed)| act.answer(committed));
            }
        });
        Self(Arc::new(post))
    }
}

/// Answers the acts of a transaction.
pub fn deliver(answered: impl IntoIterator<Item = Answered>) {
    let mut bags: Vec<(Post, Vec<Answered>)> = Vec::new();
    for (act, committed) in answered {
        let Some(post) = act.post() else {
            act.answer(committed);
            continue;
        };
        match bags.iter_mut().find(|(own, _)| Arc::ptr_eq(&own.0, &post.0)) {
            Some((_, bag)) => bag.push((act, committed)),
            None => bags.push((post.clone(), vec![(act, committed)])),
        }
    }
    for (post, bag) in bags {
        // A runtime that is gone has nobody left who waits.
        let _ = post.0.send(bag);
    }
}
