//! Who calls: a login, and a password that is never an argument.

use std::io::{self, IsTerminal};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use netrc::{Authenticator, Netrc};
use ureq::http::HeaderValue;
use zeroize::Zeroizing;

use super::Failure;

/// The variable that a password may be in.
const VARIABLE: &str = "BGRS_PASSWORD";

/// The value of `Authorization` for a host; `None` where nobody is named, neither by `-u` nor in `.netrc`.
pub fn find(login: Option<&str>, host: &str) -> Result<Option<HeaderValue>, Failure> {
    let Some(login) = login else {
        return entry(host)?.map(|entry| basic(&entry.login, &entry.password)).transpose();
    };
    check(login)?;
    let password = match from_environment()? {
        Some(password) => password,
        None => match entry(host)?.filter(|entry| entry.login == login) {
            Some(entry) => Zeroizing::new(entry.password),
            None => ask(login)?,
        },
    };
    basic(login, &password).map(Some)
}

fn check(login: &str) -> Result<(), Failure> {
    if login.is_empty() {
        return Err(Failure::usage("-u takes a login"));
    }
    // Where it is an argument, every user of the machine can read it.
    if login.contains(':') {
        return Err(Failure::usage(format!(
            "-u takes a login alone, without a colon: the password comes from {VARIABLE}, .netrc or a prompt"
        )));
    }
    Ok(())
}

fn from_environment() -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(password) = std::env::var_os(VARIABLE).filter(|password| !password.is_empty()) else { return Ok(None) };
    let password = password.into_string().map_err(|_| Failure::usage(format!("{VARIABLE}: its value is not UTF-8")))?;
    Ok(Some(Zeroizing::new(password)))
}

/// The entry of `.netrc`, or of the file that `NETRC` names, for a host.
fn entry(host: &str) -> Result<Option<Authenticator>, Failure> {
    let Some(file) = Netrc::get_file() else { return Ok(None) };
    // What the library says of a mistake may hold a part of a password.
    let mut netrc = Netrc::from_file(&file)
        .map_err(|_| Failure::usage(format!("{}: it cannot be read as a .netrc file", file.display())))?;
    let found = netrc.hosts.remove(host).or_else(|| netrc.hosts.remove("default"));
    Ok(found.filter(|entry| !entry.login.is_empty() && !entry.password.is_empty()))
}

fn ask(login: &str) -> Result<Zeroizing<String>, Failure> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Failure::usage(format!(
            "there is no password for {login}: set {VARIABLE}, write it into .netrc, or call from a terminal"
        )));
    }
    let password = rpassword::prompt_password(format!("Password of {login}: ")).map(Zeroizing::new);
    let password = password.map_err(|error| Failure::usage(format!("the password cannot be asked for: {error}")))?;
    if password.is_empty() { Err(Failure::usage("the password is empty")) } else { Ok(password) }
}

/// RFC 7617.
fn basic(login: &str, password: &str) -> Result<HeaderValue, Failure> {
    let pair = Zeroizing::new(format!("{login}:{password}"));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(Failure::usage)?;
    value.set_sensitive(true);
    Ok(value)
}
