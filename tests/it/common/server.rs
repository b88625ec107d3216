//! A real server process on data of its own, started, stopped, killed and started again.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::data_dir::{DataDir, exit_code};
use super::http::{Call, Response, exchange};
use super::{assert_submitted, eventually, until};

pub const PASSWORD: &str = "secret";

/// What a server is started with.
#[derive(Default)]
pub struct Options {
    server: String,
    config: String,
    folders: Vec<String>,
    env: Vec<(String, String)>,
}

impl Options {
    /// A folder that is there before the server.
    pub fn folder(mut self, name: &str) -> Self {
        self.folders.push(name.into());
        self
    }

    /// Lines of the `[server]` section.
    pub fn server(mut self, lines: &str) -> Self {
        self.server = lines.into();
        self
    }

    /// Further sections.
    pub fn config(mut self, sections: &str) -> Self {
        self.config = sections.into();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn start(self) -> TestServer {
        let dir = DataDir::with(&self.server, &self.config);
        for name in &self.folders {
            std::fs::create_dir(dir.path().join(name)).expect("a folder");
        }
        let mut env = vec![("BGRS_ADMIN_PASSWORD".into(), PASSWORD.into())];
        env.extend(self.env);
        TestServer::start_in(dir, env)
    }
}

/// What a process has written so far; a thread keeps reading.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<String>>);

impl Captured {
    pub fn text(&self) -> String {
        self.0.lock().expect("a captured text").clone()
    }

    fn follow(&self, from: impl Read + Send + 'static) {
        let text = Arc::clone(&self.0);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let mut text = text.lock().expect("a captured text");
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
    }
}

pub struct TestServer {
    dir: DataDir,
    env: Vec<(String, String)>,
    child: Option<Child>,
    addrs: Vec<SocketAddr>,
    stdout: Captured,
    stderr: Captured,
}

/// The folder's paths, files and commands are the server's too.
impl Deref for TestServer {
    type Target = DataDir;

    fn deref(&self) -> &DataDir {
        &self.dir
    }
}

impl TestServer {
    /// A server with every default, and `admin` with the password `secret` for its one user.
    pub fn start() -> Self {
        Options::default().start()
    }

    pub fn options() -> Options {
        Options::default()
    }

    /// A server on a folder that is there already, with just this environment.
    pub fn start_in(dir: DataDir, env: Vec<(String, String)>) -> Self {
        let mut server =
            Self { dir, env, child: None, addrs: Vec::new(), stdout: Captured::default(), stderr: Captured::default() };
        server.start_again();
        server
    }

    /// Starts the server on the data that the last one left, and waits until it is ready.
    pub fn start_again(&mut self) {
        let command = self.dir.command(&[]);
        self.start_by(command);
    }

    pub fn start_by(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "the server is running");
        let env = self.env.iter().map(|(name, value)| (name, value));
        let mut child = command.envs(env).spawn().expect("the binary starts");
        self.stdout = Captured::default();
        self.stdout.follow(child.stdout.take().expect("stdout"));
        self.stderr.follow(child.stderr.take().expect("stderr"));
        self.child = Some(child);
        self.addrs = eventually("a line that says where it listens", || {
            self.assert_alive();
            let addrs = self.addrs();
            (!addrs.is_empty()).then_some(addrs)
        });
        until("the server is ready", || {
            self.assert_alive();
            let answer = self.call("GET", &format!("{}/readyz", self.dir.mount())).no_auth().try_send();
            answer.is_ok_and(|answer| answer.status == 200)
        });
    }

    fn assert_alive(&mut self) {
        let child = self.child.as_mut().expect("a child");
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            panic!("the server ended with {status}: {}", self.stderr.text());
        }
    }

    pub fn env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
    }

    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Every address that the server has announced so far.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        announced(&self.stdout())
    }

    /// What the running process has written to standard output.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What this process and those before it have written to standard error.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// Ends the process as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("a process to kill");
        child.wait().expect("a process that ends");
    }

    /// Sends SIGTERM or SIGINT and gives the exit code.
    pub fn signal(&mut self, name: &str) -> Option<i32> {
        let mut child = self.child.take().expect("a running server");
        send_signal(child.id(), name);
        exit_code(&mut child)
    }

    pub fn stop(&mut self) {
        assert_eq!(self.signal("TERM"), Some(0), "{}", self.stderr());
    }

    pub fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.addr(), method, target).auth("admin", PASSWORD)
    }

    pub fn get(&self, target: &str) -> Response {
        self.call("GET", target).send()
    }

    pub fn delete(&self, target: &str) -> Response {
        self.call("DELETE", target).send()
    }

    pub fn post(&self, target: &str, body: &Value) -> Response {
        self.call("POST", target).json(body).send()
    }

    pub fn put(&self, target: &str, body: &Value) -> Response {
        self.call("PUT", target).json(body).send()
    }

    /// Sends these very bytes and reads until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        exchange(self.addr(), bytes).expect("the connection is answered and closed")
    }

    /// Submits the call with `bgrs=yes` behind its target and gives the rid.
    #[track_caller]
    pub fn submit(&self, method: &str, target: &str) -> String {
        let joint = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{joint}bgrs=yes");
        assert_submitted(&self.call(method, &target).send())
    }

    /// Section 3's object for a request, as it is now.
    #[track_caller]
    pub fn info(&self, rid: &str) -> Value {
        one_object(&self.get(&format!("/bgrs/{rid}")).expect(200))
    }

    /// Waits for the end of a request, whichever, and gives its information.
    #[track_caller]
    pub fn ended(&self, rid: &str) -> Value {
        eventually("the end of a background request", || {
            let info = one_object(&self.get(&format!("/bgrs/{rid}?wait=20")).expect(200));
            let ends = ["finished", "failed", "cancelled"];
            ends.contains(&info["status_name"].as_str()?).then_some(info)
        })
    }

    /// Waits for the end of a request, which is to be a result.
    #[track_caller]
    pub fn finished(&self, rid: &str) -> Value {
        let info = self.ended(rid);
        assert_eq!(info["status_name"], "finished", "{info}");
        info
    }

    /// Submits a GET and waits for its result.
    #[track_caller]
    pub fn finished_get(&self, target: &str) -> String {
        let rid = self.submit("GET", target);
        self.finished(&rid);
        rid
    }

    #[track_caller]
    pub fn details(&self, rid: &str) -> Vec<Value> {
        let answer = self.get(&format!("/bgrs/{rid}/details")).expect(200);
        answer.json().as_array().expect("an array").clone()
    }

    /// The text of the last detail.
    #[track_caller]
    pub fn last_detail(&self, rid: &str) -> String {
        let details = self.details(rid);
        let last = details.last().expect("a detail");
        last["details"].as_str().expect("a string").to_owned()
    }

    /// Makes an ordinary user and gives the id.
    #[track_caller]
    pub fn add_user(&self, login: &str, password: &str) -> i64 {
        let user = json!({ "login": login, "password": password });
        let made = self.post("/v2.5/users", &user).expect(200).json();
        made["id"].as_i64().expect("a number for an id")
    }

    /// How many background requests there are.
    pub fn rows(&self) -> i64 {
        self.count("bgrs")
    }

    pub fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = self.db().query_row(&sql, [], |row| row.get(0));
        count.expect("a count")
    }

    /// Runs what refuses a submission and asserts that it left no row and no file.
    #[track_caller]
    pub fn leaves_nothing<T>(&self, refused: impl FnOnce() -> T) -> T {
        let rows = (self.rows(), self.count("bgrs_details"));
        let files = self.dir.media_files();
        let answer = refused();
        assert_eq!(rows, (self.rows(), self.count("bgrs_details")));
        until("the media folder is as it was", || self.dir.media_files() == files);
        answer
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the server's standard error:\n{}", self.stderr());
        } else {
            let stderr = self.stderr();
            assert!(!stderr.contains("panicked at"), "{stderr}");
        }
    }
}

/// Sends a signal without waiting for what becomes of it.
pub fn send_signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    let sent = kill.arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("kill runs").success());
}

/// The one object of the array.
#[track_caller]
pub fn one_object(response: &Response) -> Value {
    let json = response.json();
    let array = json.as_array().expect("an array");
    assert_eq!(array.len(), 1, "{json}");
    array[0].clone()
}

fn announced(stdout: &str) -> Vec<SocketAddr> {
    let line = |line: &str| line.strip_prefix("listening on http://")?.trim().parse().ok();
    stdout.lines().filter_map(line).collect()
}
