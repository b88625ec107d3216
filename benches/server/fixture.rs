//! Data made beforehand: servers' folders with many requests, or with a large result.
//!
//! The server makes its own database, and one request of each kind; the others are copies of that row, and of the
//! rows that belong to it, written straight into `SQLite`. So the fixture follows the schema by itself.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use crate::home::{CONCURRENCY, Home, Settings};
use crate::http;
use crate::load::{Extent, Load, Requests, Rid, run};

/// A folder with finished requests, and their rids.
pub struct Stored {
    pub home: Home,
    pub rids: Arc<Vec<Rid>>,
}

/// A folder, its server stopped, with so many finished requests that had no body in their answer.
pub fn finished(dir: PathBuf, count: usize, settings: &Settings) -> anyhow::Result<Stored> {
    let home = Home::create(dir, CONCURRENCY)?;
    let rid = run_one_without_body(&home, settings)?;
    let rids = copy_request(&mut home.database()?, &rid, count)?;
    Ok(Stored { home, rids: Arc::new(rids) })
}

/// Leaves at least so many requests queued, by a server that is killed while they wait; gives how many.
pub fn leave_queued(home: &Home, count: usize, settings: &Settings) -> anyhow::Result<u64> {
    let count = u64::try_from(count)?;
    home.configure(1)?;
    for _ in 0..20 {
        let queued = count_queued(&home.database()?)?;
        if queued >= count {
            home.configure(CONCURRENCY)?;
            return Ok(queued);
        }
        let load = Load { connections: 128, extent: Extent::Count((count - queued) * 11 / 10 + 1), expected: 202 };
        let server = home.start(settings)?;
        run(server.addr, &load, Requests::submission())?;
        server.kill()?;
    }
    anyhow::bail!("the server ends requests as fast as they come: none stay queued")
}

/// A folder, its server stopped, with one result of so many bytes; gives its rid.
pub fn large_result(dir: PathBuf, size: u64, settings: &Settings) -> anyhow::Result<(Home, String)> {
    let home = Home::create(dir, CONCURRENCY)?;
    let server = home.start(settings)?;
    let rid = http::submitted(http::get(server.addr, "/v2.5/users/me?bgrs=yes")?)?;
    let info = http::ended(server.addr, &rid)?;
    server.stop()?;
    let path = info["result"].as_str().context("a request without a result")?;
    let name = path.strip_prefix("media/").context("a result elsewhere than in media/")?;
    let file = home.media().join(name);
    let old_size = file.metadata()?.len();
    write_filling(&File::create(&file)?, size)?;
    set_size(&home.database()?, &rid, old_size, size)?;
    Ok((home, rid))
}

/// A call whose answer is 204: the removal of a user.
fn run_one_without_body(home: &Home, settings: &Settings) -> anyhow::Result<String> {
    let server = home.start(settings)?;
    let user = json!({ "login": "bench", "password": "a bench's secret" });
    let made = http::post(server.addr, "/v2.5/users", &user)?.expect(200)?.json()?;
    let target = format!("/v2.5/users/{}?bgrs=yes", made["id"]);
    let rid = http::submitted(http::delete(server.addr, &target)?)?;
    let info = http::ended(server.addr, &rid)?;
    ensure!(info["status"] == "204" && info["result"].is_null(), "not an answer without a body: {info}");
    server.stop()?;
    Ok(rid)
}

fn count_queued(database: &Connection) -> anyhow::Result<u64> {
    let queued = "SELECT count(*) FROM bgrs WHERE status_id = 1";
    let queued: i64 = database.query_row(queued, [], |row| row.get(0))?;
    Ok(u64::try_from(queued)?)
}

fn write_filling(file: &File, size: u64) -> anyhow::Result<()> {
    let piece = vec![b'z'; 64 * 1024];
    let mut to = BufWriter::new(file);
    let mut left = usize::try_from(size)?;
    while left > 0 {
        let length = left.min(piece.len());
        to.write_all(&piece[..length])?;
        left -= length;
    }
    to.flush()?;
    Ok(file.sync_all()?)
}

/// Wherever the row holds the result's size, it holds the new one.
fn set_size(database: &Connection, rid: &str, old: u64, new: u64) -> anyhow::Result<()> {
    let (old, new) = (i64::try_from(old)?, i64::try_from(new)?);
    let request = Origin::of(rid)?.find(database)?;
    for (column, value) in request {
        if column.contains("size") && value == Value::Integer(old) {
            let sql = format!("UPDATE bgrs SET {column} = ?1 WHERE {column} = ?2");
            database.execute(&sql, [new, old])?;
        }
    }
    Ok(())
}

/// Writes copies of a request, each with a rid of its own.
fn copy_request(database: &mut Connection, rid: &str, count: usize) -> anyhow::Result<Vec<Rid>> {
    let origin = Origin::of(rid)?;
    let request = origin.find(database)?;
    let parts = parts(database, &request)?;
    database.pragma_update(None, "synchronous", "off")?;
    let transaction = database.transaction()?;
    let mut rids = Vec::with_capacity(count);
    {
        let mut numbered = request.clone();
        numbered.push(("id".to_owned(), Value::Null));
        let mut rows = vec![transaction.prepare(&insertion("bgrs", &numbered))?];
        for part in &parts {
            rows.push(transaction.prepare(&insertion(&part.table, &part.columns))?);
        }
        let last: i64 = transaction.query_row("SELECT max(id) FROM bgrs", [], |row| row.get(0))?;
        for id in (last + 1..).take(count) {
            let copy = Origin::random(id)?;
            let values = request.iter().map(|(_, value)| origin.replace(value, &copy));
            rows[0].insert(params_from_iter(values.chain([Value::Integer(id)])))?;
            for (part, insert) in parts.iter().zip(&mut rows[1..]) {
                let values = part.columns.iter().map(|(column, value)| {
                    if *column == part.link && matches!(value, Value::Integer(_)) {
                        Value::Integer(id)
                    } else {
                        origin.replace(value, &copy)
                    }
                });
                insert.execute(params_from_iter(values))?;
            }
            rids.push(copy.text.as_bytes().try_into()?);
        }
    }
    transaction.commit()?;
    // Synced now: the disk is to rest while something is measured.
    database.pragma_update(None, "synchronous", "full")?;
    database.pragma_update(None, "wal_checkpoint", "truncate")?;
    Ok(rids)
}

type Columns = Vec<(String, Value)>;

/// A row that belongs to the request, with the column that says so.
struct Part {
    table: String,
    link: String,
    columns: Columns,
}

fn parts(database: &Connection, request: &Columns) -> anyhow::Result<Vec<Part>> {
    let links = "
        SELECT t.name, f.\"from\", coalesce(f.\"to\", 'id')
        FROM sqlite_schema t JOIN pragma_foreign_key_list(t.name) f
        WHERE t.type = 'table' AND f.\"table\" = 'bgrs' COLLATE NOCASE
    ";
    let mut links = database.prepare(links)?;
    let links: Vec<(String, String, String)> =
        links.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    let mut parts = Vec::new();
    for (table, link, to) in links {
        let key = match request.iter().find(|(column, _)| *column == to) {
            Some((_, key)) => key.clone(),
            None => Value::Integer(database.query_row("SELECT max(id) FROM bgrs", [], |row| row.get(0))?),
        };
        for columns in rows(database, &table, &link, &key)? {
            let link = link.clone();
            let table = table.clone();
            parts.push(Part { table, link, columns });
        }
    }
    Ok(parts)
}

/// The rows whose `key` is `value`; without an integer primary key, which every copy gets anew, unless it is `key`.
fn rows(database: &Connection, table: &str, key: &str, value: &Value) -> anyhow::Result<Vec<Columns>> {
    let names = "
        SELECT name FROM pragma_table_xinfo(?1)
        WHERE hidden = 0 AND (name = ?2 OR NOT (pk = 1 AND type = 'INTEGER'))
    ";
    let mut names = database.prepare(names)?;
    let names: Vec<String> = names.query_map([table, key], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let sql = format!("SELECT {} FROM {table} WHERE {key} = ?1", names.join(", "));
    let mut select = database.prepare(&sql)?;
    let rows = select.query_map([value], |row| {
        let columns = names.iter().enumerate();
        columns.map(|(index, name)| Ok((name.clone(), row.get(index)?))).collect()
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn insertion(table: &str, columns: &Columns) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let marks = vec!["?"; names.len()].join(", ");
    format!("INSERT INTO {table} ({}) VALUES ({marks})", names.join(", "))
}

/// A rid in both forms that a column may have.
struct Origin {
    text: String,
    bytes: Vec<u8>,
}

impl Origin {
    fn of(rid: &str) -> anyhow::Result<Self> {
        Ok(Self { text: rid.to_owned(), bytes: hex::decode(rid)? })
    }

    /// As the server makes it: 48 bits of the row's number, 80 random ones.
    fn random(number: i64) -> anyhow::Result<Self> {
        let mut bytes = vec![0; 16];
        bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
        getrandom::fill(&mut bytes[6..]).map_err(|error| anyhow::anyhow!("no random rid: {error}"))?;
        Ok(Self { text: hex::encode(&bytes), bytes })
    }

    /// The request's own row.
    fn find(&self, database: &Connection) -> anyhow::Result<Columns> {
        let forms = [Value::Text(self.text.clone()), Value::Blob(self.bytes.clone())];
        for form in forms {
            if let Some(row) = rows(database, "bgrs", "rid", &form)?.pop() {
                return Ok(row);
            }
        }
        anyhow::bail!("the request {} is not in the database", self.text)
    }

    /// A column's value in a copy of the row: wherever this rid stands, stands the copy's.
    fn replace(&self, value: &Value, copy: &Self) -> Value {
        match value {
            Value::Text(text) => Value::Text(text.replace(&self.text, &copy.text)),
            Value::Blob(bytes) if *bytes == self.bytes => Value::Blob(copy.bytes.clone()),
            other => other.clone(),
        }
    }
}
