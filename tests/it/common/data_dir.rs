//! The folder of one server: its configuration, its database, its media, and commands run on it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::DEADLINE;

pub struct DataDir {
    dir: TempDir,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The lines of standard error that say something.
    pub fn complaints(&self) -> Vec<&str> {
        let lines = self.stderr.lines();
        lines.filter(|line| !line.trim().is_empty()).collect()
    }

    /// Asserts exit code 2 and one line on standard error, and that the line names the culprit.
    #[track_caller]
    pub fn expect_refusal(&self, culprit: &str) {
        assert_eq!(self.code, Some(2), "{culprit}: {self:?}");
        let complaints = self.complaints();
        assert_eq!(complaints.len(), 1, "{culprit}: {complaints:#?}");
        assert!(complaints[0].to_lowercase().contains(culprit), "no {culprit} in {}", complaints[0]);
    }
}

impl DataDir {
    /// A fresh folder whose bgrs.toml is this text.
    pub fn new(config: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        fs::write(dir.path().join("bgrs.toml"), config).expect("a configuration");
        Self { dir }
    }

    /// A fresh folder with a server's own section to begin with: any free port of the loopback.
    pub fn with(server: &str, rest: &str) -> Self {
        let listen = if server.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"\n" };
        Self::new(&format!("[server]\n{listen}{server}\n{rest}\n"))
    }

    /// What stands before the server's own routes, as the configuration says.
    pub fn mount(&self) -> String {
        let config = fs::read_to_string(self.config()).expect("a configuration");
        let line = config.lines().find_map(|line| line.strip_prefix("mount = "));
        line.map(|mount| mount.trim_matches('"').to_owned()).unwrap_or_default()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("bgrs.toml")
    }

    pub fn database(&self) -> PathBuf {
        self.path().join("bgrs.sqlite3")
    }

    pub fn media(&self) -> PathBuf {
        self.path().join("media")
    }

    pub fn db(&self) -> Connection {
        let path = self.database();
        assert!(path.exists(), "there is no database yet");
        let db = Connection::open(path).expect("the database opens");
        db.busy_timeout(DEADLINE).expect("a busy time-out");
        db
    }

    /// Every file below the folder, as paths relative to it.
    pub fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        collect(self.path(), self.path(), &mut found);
        found
    }

    /// Every file below media/.
    pub fn media_files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        collect(&self.media(), &self.media(), &mut found);
        found
    }

    /// The files that hold these bytes anywhere.
    pub fn files_with(&self, needle: &str) -> Vec<String> {
        let holds = |name: &String| {
            let bytes = fs::read(self.path().join(name)).unwrap_or_default();
            bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        };
        self.files().into_iter().filter(holds).collect()
    }

    /// The binary with these arguments behind `--config`, the folder's own configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = bare_command();
        command.arg("--config").arg(self.config()).args(args);
        command.current_dir(self.path());
        command
    }

    /// Runs a sub-command to its end.
    pub fn run(&self, args: &[&str], input: &str) -> Ended {
        run(self.command(args), input)
    }
}

/// The binary with a clean environment: nothing of the test's own changes what it does.
pub fn bare_command() -> Command {
    clean_command(env!("CARGO_BIN_EXE_bgrs-server"))
}

/// Another program, in the same way.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("BGRS_") || name.starts_with("RUST_LOG") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end; one that does not end in time is killed, and the test fails.
pub fn run(mut command: Command, input: &str) -> Ended {
    let child = command.stdin(Stdio::piped()).spawn();
    let mut child = child.expect("the binary starts");
    let mut stdin = child.stdin.take().expect("standard input");
    // A command that does not read its input may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let stdout = drain(child.stdout.take().expect("standard output"));
    let stderr = drain(child.stderr.take().expect("standard error"));
    let code = exit_code(&mut child);
    Ended { code, stdout: stdout.join().expect("standard output"), stderr: stderr.join().expect("standard error") }
}

/// The exit code, once there is one; none where a signal ended it.
pub fn exit_code(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            return status.code();
        }
        if start.elapsed() > DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below the root");
            found.insert(name.to_string_lossy().into_owned());
        }
    }
}
