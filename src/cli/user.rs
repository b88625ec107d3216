//! `bgrs-server user`: the server's own users, by the same rules as the API.

use std::io::{BufRead, IsTerminal};

use bgrs::accounts::{Accounts, Draft, Error};
use bgrs::store::{Change, User};
use bgrs::{Config, app};
use clap::Subcommand;
use zeroize::Zeroizing;

use super::{Failure, say};

/// Users read at once.
const PAGE: usize = 500;

/// What to do with users.
#[derive(Subcommand)]
pub enum Command {
    /// Make a user; the password is the first line of standard input, or is asked for.
    Add {
        /// What the user signs in with.
        login: String,
        /// Make the user an administrator.
        #[arg(long)]
        admin: bool,
        /// Let the user look, and change nothing; of an administrator: at everything.
        #[arg(long)]
        read_only: bool,
    },
    /// Give a user another password; it is the first line of standard input, or is asked for.
    Passwd {
        /// Whose.
        login: String,
    },
    /// Show all users: id, login, whether it is an administrator, whether it may only look, when it was made.
    List,
    /// Remove a user with all background requests.
    Remove {
        /// Whom.
        login: String,
    },
}

/// Runs one of them.
pub async fn run(config: Config, command: Command) -> Result<(), Failure> {
    // Asked for first: nothing is opened for a password that cannot be.
    let password = match &command {
        Command::Add { .. } | Command::Passwd { .. } => Some(password()?),
        Command::List | Command::Remove { .. } => None,
    };
    let accounts = app::open_accounts(&config).await.map_err(Failure::usage)?;
    match command {
        Command::Add { login, admin, read_only } => {
            let (is_admin, read_only) = (Some(admin), Some(read_only));
            let change = Change { login: Some(login), is_admin, read_only, ..Change::default() };
            let user = accounts.add(Draft { change, password }).await.map_err(refused)?;
            say(format_args!("user {} made, id {}", user.login, user.id));
        }
        Command::Passwd { login } => {
            let user = accounts.find(&login).await.map_err(refused)?;
            accounts.change(user.id, Draft { password, ..Draft::default() }).await.map_err(refused)?;
            say(format_args!("user {login} has another password"));
        }
        Command::List => list(&accounts).await?,
        Command::Remove { login } => {
            let user = accounts.find(&login).await.map_err(refused)?;
            accounts.remove(user.id).await.map_err(refused)?;
            say(format_args!("user {login} removed"));
        }
    }
    Ok(())
}

async fn list(accounts: &Accounts) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let users = accounts.list(after, PAGE).await.map_err(refused)?;
        for user in &users {
            let User { id, login, is_admin, read_only, created, .. } = user;
            say(format_args!("{id}\t{login}\tis_admin={is_admin}\tread_only={read_only}\t{created}"));
        }
        match users.last() {
            Some(last) => after = last.id,
            None => return Ok(()),
        }
    }
}

/// The first line of standard input; at a terminal asked for twice, unseen.
fn password() -> Result<Zeroizing<String>, Failure> {
    let password = if std::io::stdin().is_terminal() { ask()? } else { first_line()? };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty; send one as the first line of standard input"));
    }
    Ok(password)
}

fn first_line() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

fn ask() -> Result<Zeroizing<String>, Failure> {
    let ask = |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(Failure::usage);
    let (first, second) = (ask("Password: ")?, ask("The same again: ")?);
    if *first == *second { Ok(first) } else { Err(Failure::usage("the two passwords differ")) }
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Invalid { .. } => Failure::usage(error),
        other => Failure::refused(other),
    }
}
