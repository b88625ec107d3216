//! Users in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::Sqlite;
use super::rows::read_leftover;
use crate::model::{Caller, Owner, time};
use crate::store::{Change, Error, Known, Leftover, NewUser, Removal, Result, User, Users};

const COLUMNS: &str =
    "id, login, password, display_name, first_name, last_name, email, is_admin, read_only, created_dt";

#[async_trait]
impl Users for Sqlite {
    fn mark(&self) -> Option<u64> {
        self.memory.marks.users()
    }

    async fn find(&self, login: &str) -> Result<Option<User>> {
        let login = login.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM users WHERE login = ?");
            Ok(connection.prepare_cached(&sql)?.query_row([login], read_user).optional()?)
        })
        .await
    }

    async fn user(&self, id: i64) -> Result<Option<User>> {
        self.read(move |connection| get(connection, id)).await
    }

    async fn users(&self, after: i64, limit: usize) -> Result<Vec<User>> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM users WHERE id > ? ORDER BY id LIMIT ?");
            let mut statement = connection.prepare_cached(&sql)?;
            let users = statement.query_map(params![after, limit as i64], read_user)?;
            Ok(users.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn add(&self, new: NewUser) -> Result<User> {
        let memory = self.memory.clone();
        self.write(move |connection| {
            memory.marks.touch();
            add(connection, &new)
        })
        .await
    }

    async fn add_first_administrator(&self, new: NewUser) -> Result<Option<User>> {
        let memory = self.memory.clone();
        self.write(move |connection| {
            memory.marks.touch();
            if administrators_but(connection, 0)? > 0 {
                return Ok(None);
            }
            add(connection, &new).map(Some)
        })
        .await
    }

    async fn has_administrator(&self) -> Result<bool> {
        self.read(|connection| Ok(administrators_but(connection, 0)? > 0)).await
    }

    async fn change(&self, id: i64, change: Change) -> Result<Option<Option<User>>> {
        let memory = self.memory.clone();
        self.write(move |connection| {
            memory.marks.touch();
            let Some(user) = get(connection, id)? else { return Ok(None) };
            if user.is_admin && change.is_admin == Some(false) && administrators_but(connection, id)? == 0 {
                return Ok(Some(None));
            }
            update(connection, id, apply(user, change.clone()))?;
            Ok(Some(get(connection, id)?))
        })
        .await
    }

    async fn remove(&self, id: i64, limit: usize) -> Result<Removal> {
        let memory = self.memory.clone();
        self.write(move |connection| {
            memory.marks.touch();
            let Some(user) = get(connection, id)? else { return Ok(Removal::Unknown) };
            if user.is_admin && administrators_but(connection, id)? == 0 {
                return Ok(Removal::LastAdministrator);
            }
            let sql = "SELECT EXISTS (SELECT 1 FROM campaigns WHERE user_id = ?)";
            if connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))? {
                return Ok(Removal::OwnsCampaign);
            }
            let gone = remove_requests(connection, &Owner::local(id), limit)?;
            if gone.len() == limit {
                return Ok(Removal::Partly(gone));
            }
            connection.prepare_cached("DELETE FROM users WHERE id = ?")?.execute([id])?;
            Ok(Removal::Done(gone))
        })
        .await
    }
}

fn get(connection: &Connection, id: i64) -> Result<Option<User>> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE id = ?");
    Ok(connection.prepare_cached(&sql)?.query_row([id], read_user).optional()?)
}

/// Whether the user is as remembered.
pub fn is_still(connection: &Connection, known: &Known) -> Result<bool> {
    let sql = "SELECT 1 FROM users WHERE id = ? AND login = ? AND password = ? AND is_admin = ? AND read_only = ?";
    let values = params![known.id, known.login, known.password, known.is_admin, known.read_only];
    Ok(connection.prepare_cached(sql)?.exists(values)?)
}

/// The owner as a caller, if one of the server's own users.
pub fn caller(connection: &Connection, owner: &Owner) -> Result<Option<Caller>> {
    let Some(user_id) = owner.local_id() else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT is_admin, read_only FROM users WHERE id = ?")?;
    let found =
        statement.query_row([user_id], |row| Ok(Caller { user_id, is_admin: row.get(0)?, read_only: row.get(1)? }));
    Ok(found.optional()?)
}

fn add(connection: &Connection, new: &NewUser) -> Result<User> {
    let sql = format!(
        "INSERT INTO users
             (login, password, display_name, first_name, last_name, email, is_admin, read_only, created_dt)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING {COLUMNS}"
    );
    let change = new.change.clone();
    let values = params![
        new.login,
        new.password,
        change.display_name.flatten(),
        change.first_name.flatten(),
        change.last_name.flatten(),
        change.email.flatten(),
        change.is_admin.unwrap_or(false),
        change.read_only.unwrap_or(false),
        time::format(new.created),
    ];
    connection.prepare_cached(&sql)?.query_row(values, read_user).map_err(taken)
}

fn apply(mut user: User, change: Change) -> User {
    user.login = change.login.unwrap_or(user.login);
    user.password = change.password.unwrap_or(user.password);
    user.display_name = change.display_name.unwrap_or(user.display_name);
    user.first_name = change.first_name.unwrap_or(user.first_name);
    user.last_name = change.last_name.unwrap_or(user.last_name);
    user.email = change.email.unwrap_or(user.email);
    user.is_admin = change.is_admin.unwrap_or(user.is_admin);
    user.read_only = change.read_only.unwrap_or(user.read_only);
    user
}

fn update(connection: &Connection, id: i64, user: User) -> Result<()> {
    let sql = "UPDATE users SET login = :login, password = :password, display_name = :display, first_name = :first,
                   last_name = :last, email = :email, is_admin = :admin, read_only = :read_only WHERE id = :id";
    let values = named_params! {
        ":login": user.login, ":password": user.password, ":display": user.display_name, ":first": user.first_name,
        ":last": user.last_name, ":email": user.email, ":admin": user.is_admin, ":read_only": user.read_only,
        ":id": id,
    };
    connection.prepare_cached(sql)?.execute(values).map_err(taken)?;
    Ok(())
}

/// Those who can act as one.
fn administrators_but(connection: &Connection, id: i64) -> Result<i64> {
    let sql = "SELECT count(*) FROM users WHERE is_admin = 1 AND read_only = 0 AND id <> ?";
    Ok(connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))?)
}

fn remove_requests(connection: &Connection, owner: &Owner, limit: usize) -> Result<Vec<Leftover>> {
    let sql = "DELETE FROM bgrs WHERE id IN
                   (SELECT id FROM bgrs INDEXED BY bgrs_unended WHERE finished_dt IS NULL AND source = ?1 AND user_id = ?2
                    UNION ALL
                    SELECT id FROM bgrs INDEXED BY bgrs_ended WHERE finished_dt IS NOT NULL AND source = ?1 AND user_id = ?2
                    LIMIT ?3)
               RETURNING rid, result, body IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let gone = statement.query_map(params![owner.source, owner.id, limit as i64], read_leftover)?;
    Ok(gone.collect::<rusqlite::Result<_>>()?)
}

fn taken(error: rusqlite::Error) -> Error {
    match error.sqlite_error().map(|e| e.extended_code) {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => Error::Taken("login"),
        _ => error.into(),
    }
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        login: row.get(1)?,
        password: row.get(2)?,
        display_name: row.get(3)?,
        first_name: row.get(4)?,
        last_name: row.get(5)?,
        email: row.get(6)?,
        is_admin: row.get(7)?,
        read_only: row.get(8)?,
        created: row.get(9)?,
    })
}
