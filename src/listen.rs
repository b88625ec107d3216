//! Listening: sockets are bound before anything is opened, so that a port in use is found first.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Listen;

/// A bound socket.
pub enum Socket {
    /// A port.
    Tcp(TcpListener),
    /// A file.
    Unix(UnixListener, PathBuf),
}

/// Binds all of them; where one fails, the files of those before it are removed again.
///
/// # Errors
/// Which could not be bound, and why.
pub fn bind(listen: &[Listen], write_timeout: Duration) -> Result<Vec<Socket>, String> {
    let mut sockets = Vec::new();
    for listen in listen {
        match bind_one(listen, write_timeout) {
            Ok(socket) => sockets.push(socket),
            Err(why) => {
                sockets.iter().for_each(Socket::forget);
                return Err(why);
            }
        }
    }
    Ok(sockets)
}

fn bind_one(listen: &Listen, write_timeout: Duration) -> Result<Socket, String> {
    match listen {
        Listen::Tcp(address) => {
            bind_tcp(*address, write_timeout).map(Socket::Tcp).map_err(|error| format!("{address}: {error}"))
        }
        Listen::Unix(path) => bind_unix(path).map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// A client that takes nothing for so long is dropped, by the system: nobody here waits until it can be written to.
/// Connections take the option from the socket that accepts them.
fn bind_tcp(address: SocketAddr, write_timeout: Duration) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    let millis = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(&listener, millis)?;
    Ok(listener)
}

/// A socket's file stays behind when its server is killed: one that nobody listens on is taken over.
fn bind_unix(path: &Path) -> std::io::Result<Socket> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        std::fs::remove_file(path)?;
    }
    Ok(Socket::Unix(UnixListener::bind(path)?, path.to_owned()))
}

impl Socket {
    /// The URL at which a program of this machine reaches it; `None`: it is no TCP socket.
    pub fn url(&self) -> Option<String> {
        let Self::Tcp(listener) = self else { return None };
        let mut address = listener.local_addr().ok()?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        Some(format!("http://{address}"))
    }

    /// Where it listens, as it is announced.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|e| e.to_string(), |a| format!("http://{a}")),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    fn forget(&self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}
