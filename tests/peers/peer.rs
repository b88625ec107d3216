//! Programs that are installed or not: found, started for one test, gone with it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::common::data_dir::clean_command;
use crate::common::left_out::left_out;
use crate::common::until;

/// Where a peer's output goes, in its folder.
const OUTPUT: &str = "output.log";

/// The text of `up/hello.txt`.
pub const HELLO: &str = "hello, peer\n";

/// The first of these programs that is installed; where there is none, `what` is left out.
#[track_caller]
pub fn find(what: &str, names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts servers where an ordinary user's PATH does not lead.
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect();
    let mut files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = files.find(|file| file.is_file());
    if found.is_none() {
        left_out(what, names[0]);
    }
    found
}

/// The first Python that has this module; where there is none, `what` is left out.
#[track_caller]
pub fn python(what: &str, module: &str) -> Option<PathBuf> {
    let script = format!("import sys, {module}; print(sys.executable)");
    let found = ["python3", "/usr/bin/python3"].into_iter().find_map(|name| {
        let output = Command::new(name).args(["-c", &script]).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(path.trim()))
    });
    if found.is_none() {
        left_out(what, &format!("a python3 with {module}"));
    }
    found
}

/// A command that reaches this machine's own addresses directly, whatever proxy the environment names.
pub fn command(program: &Path) -> Command {
    let mut command = clean_command(program);
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command
}

/// A port for a program that cannot say which it got. It lies below those that the system gives out by itself, so that
/// no other test's connection takes it in between.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() as u16).wrapping_add(next) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A folder with `up/hello.txt` and `up/large.bin`.
pub fn files() -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    let up = dir.path().join("up");
    fs::create_dir(&up).expect("a folder");
    fs::write(up.join("hello.txt"), HELLO).expect("a file");
    fs::write(up.join("large.bin"), large()).expect("a file");
    dir
}

/// The bytes of `up/large.bin`, 5 MiB in no order.
pub fn large() -> Vec<u8> {
    (0..5_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

/// A running program that listens.
pub struct Peer {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
}

impl Peer {
    /// Starts it in this folder, which is its own from now on, and waits until it listens on the port.
    pub fn start(dir: TempDir, mut command: Command, port: u16) -> Self {
        let output = File::create(dir.path().join(OUTPUT)).expect("a file");
        command.current_dir(dir.path()).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file")).stderr(output);
        let child = command.spawn().expect("the peer starts");
        let mut peer = Self { child, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), dir };
        until("the peer listens", || {
            let ended = peer.child.try_wait().expect("a child to wait for");
            assert!(ended.is_none(), "the peer ended with {ended:?}");
            TcpStream::connect(peer.addr).is_ok()
        });
        peer
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration's table for it.
    pub fn table(&self) -> String {
        format!("[[upstream]]\nprefix = \"/up\"\nurl = \"http://{}\"\n", self.addr)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = fs::read(self.path().join(OUTPUT)).unwrap_or_default();
            eprintln!("--- what the peer said:\n{}", String::from_utf8_lossy(&output));
        }
    }
}
