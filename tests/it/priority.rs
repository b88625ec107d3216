//! Who comes first where the processors are busy.
#![cfg(target_os = "linux")]

use std::fs;

use crate::common::TestServer;

/// A thread of a process, as proc_pid_stat(5) has it.
#[derive(Debug)]
struct Thread {
    name: String,
    nice: i32,
    policy: i32,
}

/// `SCHED_BATCH`, sched(7).
const BATCH: i32 = 3;

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).ok();
    tasks.filter_map(|task| read(&stat(task.ok()?)?)).collect()
}

/// The name in parentheses is the second field, the niceness the nineteenth, the policy the forty-first.
fn read(stat: &str) -> Option<Thread> {
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(Thread { name: name.to_owned(), nice: fields.get(16)?.parse().ok()?, policy: fields.get(38)?.parse().ok()? })
}

/// Whether there are threads of this name, and that holds for all of them.
fn all(threads: &[Thread], name: &str, holds: impl Fn(&Thread) -> bool) -> bool {
    let mut found = threads.iter().filter(|thread| thread.name.starts_with(name)).peekable();
    found.peek().is_some() && found.all(holds)
}

#[test]
fn threads_that_accept_answer_and_write_go_before_those_of_the_background() {
    let server = TestServer::start();
    let own = threads(std::process::id())[0].nice;
    let threads = threads(server.pid());
    for name in ["actix-rt", "actix-server", "bgrs-write", "bgrs-read"] {
        assert!(all(&threads, name, |thread| thread.nice == own), "{name}: {threads:?}");
    }
    for name in ["bgrs-api", "bgrs-media"] {
        assert!(all(&threads, name, |thread| thread.nice > own || own >= 10), "{name}: {threads:?}");
    }
}

#[test]
fn threads_that_answer_wait_for_their_turn_and_the_writer_need_not() {
    let server = TestServer::start();
    let own = threads(std::process::id())[0].policy;
    let threads = threads(server.pid());
    assert!(all(&threads, "actix-rt", |thread| thread.policy == BATCH), "{threads:?}");
    assert!(all(&threads, "bgrs-write", |thread| thread.policy == own), "{threads:?}");
}
