//! Section 12: `bgrs-server call`.

mod attach;
mod interrupt;
mod result;
mod resume;
mod submit;
mod usage;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::common::data_dir::{Ended, bare_command, exit_code, run};
use crate::common::server::{PASSWORD, send_signal};
use crate::common::upstream::{Upstream, ok};
use crate::common::{DataDir, TestServer, until};

/// The folder of a caller. The configuration in it is none.
fn home() -> DataDir {
    DataDir::new("no configuration [")
}

/// `call` with these arguments, and the password in the environment.
fn command(home: &DataDir, args: &[&str]) -> Command {
    let mut command = bare_command();
    command.arg("call").args(args).current_dir(home.path());
    command.env("HOME", home.path()).env_remove("NETRC").env("BGRS_PASSWORD", PASSWORD);
    command
}

/// The same as `admin`, to its end.
fn call(home: &DataDir, args: &[&str]) -> Ended {
    run(command(home, &[&["-u", "admin"][..], args].concat()), "")
}

fn url(server: &TestServer, target: &str) -> String {
    format!("http://{}{target}", server.addr())
}

fn in_front_of(upstream: &Upstream) -> TestServer {
    TestServer::options().config(&upstream.table("/up")).start()
}

/// An upstream that holds its answers back until the sender is dropped.
fn holding() -> (Sender<()>, Upstream) {
    let (gate, opened) = channel();
    let opened = Mutex::new(opened);
    let upstream = Upstream::start(move |_, stream| {
        let _ = opened.lock().unwrap().recv();
        ok(stream, "held");
    });
    (gate, upstream)
}

/// A command that is under way.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Text,
    stderr: Text,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary starts");
        Self {
            stdin: child.stdin.take(),
            stdout: Text::follow(child.stdout.take().expect("standard output")),
            stderr: Text::follow(child.stderr.take().expect("standard error")),
            child,
        }
    }

    fn signal(&self, name: &str) {
        send_signal(self.child.id(), name);
    }

    fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("somebody reads it");
    }

    fn ended(&mut self) -> Ended {
        let code = exit_code(&mut self.child);
        Ended { code, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was written so far.
struct Text {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Text {
    fn follow(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let read_so_far = bytes.clone();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                read_so_far.lock().unwrap().extend(&buffer[..read]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, part: &str) {
        until(part, || self.text().contains(part));
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader");
        }
        self.text()
    }
}
