//! Who comes first where the processors are busy.
#![cfg(target_os = "linux")]

use std::fs;

use crate::common::TestServer;

/// Names and nicenesses of a process's threads.
fn threads(pid: u32) -> Vec<(String, i32)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).ok();
    tasks.filter_map(|task| read(&stat(task.ok()?)?)).collect()
}

/// proc_pid_stat(5): the name in parentheses is the second field, the niceness the nineteenth.
fn read(stat: &str) -> Option<(String, i32)> {
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name.to_owned(), fields.split_whitespace().nth(16)?.parse().ok()?))
}

#[test]
fn threads_that_accept_answer_and_write_go_before_those_of_the_background() {
    let server = TestServer::start();
    let own = threads(std::process::id())[0].1;
    let threads = threads(server.pid());
    let of = |name: &str| -> Vec<i32> {
        threads.iter().filter(|(own, _)| own.starts_with(name)).map(|(_, nice)| *nice).collect()
    };
    for name in ["actix-rt", "actix-server", "bgrs-write", "bgrs-read"] {
        let found = of(name);
        assert!(!found.is_empty() && found.iter().all(|nice| *nice == own), "{name}: {threads:?}");
    }
    for name in ["bgrs-api", "bgrs-media"] {
        let found = of(name);
        assert!(!found.is_empty() && found.iter().all(|nice| *nice > own || own >= 10), "{name}: {threads:?}");
    }
}
