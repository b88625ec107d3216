//! The reference: the least that answers a submission honestly, and a read of it.
//!
//! One HTTP worker, one writer thread. What waits goes into one transaction, each insert is answered after its
//! commit, `synchronous = FULL`. It checks no credentials and runs nothing: it is what `SQLite`, the disk and
//! actix-web allow, and the server is measured against that.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use actix_web::error::ErrorInternalServerError;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::load::Rid;
use crate::process::{Process, argument};

/// The most inserts in one transaction.
const BATCH: usize = 1024;
const JSON: &str = "application/json; charset=utf-8";
const USER: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS bgrs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    rid          TEXT NOT NULL UNIQUE,
    user_id      INTEGER NOT NULL,
    name         TEXT NOT NULL,
    method       TEXT NOT NULL,
    headers      TEXT NOT NULL,
    created_dt   TEXT NOT NULL,
    status_id    INTEGER NOT NULL,
    progress     REAL NOT NULL DEFAULT 0,
    finished_dt  TEXT,
    status       INTEGER,
    content_type TEXT,
    result       TEXT
) STRICT;
";

const INSERT: &str = "
INSERT INTO bgrs (rid, user_id, name, method, headers, created_dt, status_id)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)
";

const SELECT: &str = "
SELECT id, rid, user_id, name, created_dt, status_id, progress, finished_dt, status, content_type, result
FROM bgrs WHERE rid = ?1
";

/// Starts it on a database, which it makes where there is none; its log stands beside that.
pub fn start(database: &Path) -> anyhow::Result<Process> {
    let arguments = ["reference", "0", argument(database)?];
    Process::start_self(&arguments, &database.with_extension("log"))
}

/// Serves until it is killed; prints where it listens.
pub fn serve(port: u16, database: &Path) -> anyhow::Result<()> {
    let inbox = start_writer(open(database)?);
    let state = web::Data::new(State { database: database.to_owned(), inbox });
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .route("/readyz", web::get().to(HttpResponse::Ok))
                .route("/bgrs/{rid}", web::get().to(read))
                .default_service(web::to(submit))
        })
        .workers(1)
        .bind(("127.0.0.1", port))?;
        for addr in server.addrs() {
            println!("listening on http://{addr}");
        }
        server.run().await
    })?;
    Ok(())
}

/// Makes a database with a finished request of each of these rids.
pub fn fill(database: &Path, rids: &[Rid]) -> anyhow::Result<()> {
    const FINISHED: &str = "
        INSERT INTO bgrs (rid, user_id, name, method, headers, created_dt, status_id, progress, finished_dt, status)
        VALUES (?1, ?2, '/v2.5/users/2?bgrs=yes', 'DELETE', '[]', ?3, 4, 100, ?3, 204)
    ";
    let mut database = open(database)?;
    let now = now();
    let transaction = database.transaction()?;
    let mut insert = transaction.prepare(FINISHED)?;
    for rid in rids {
        insert.execute(params![str::from_utf8(rid)?, USER, now])?;
    }
    drop(insert);
    Ok(transaction.commit()?)
}

/// New requests' ids.
pub fn rids(count: usize) -> anyhow::Result<Vec<Rid>> {
    (0..count).map(|_| Ok(make_rid()?.as_bytes().try_into()?)).collect()
}

/// How many rows a reference that has ended left behind.
pub fn count_rows(database: &Path) -> anyhow::Result<u64> {
    crate::home::count_rows(&open(database)?)
}

struct State {
    database: PathBuf,
    inbox: Sender<Insert>,
}

struct Insert {
    row: Row,
    done: oneshot::Sender<Result<(), String>>,
}

struct Row {
    rid: String,
    name: String,
    method: String,
    headers: String,
}

async fn submit(request: HttpRequest, state: web::Data<State>) -> actix_web::Result<HttpResponse> {
    let rid = make_rid().map_err(ErrorInternalServerError)?;
    let (done, written) = oneshot::channel();
    let row = Row {
        rid: rid.clone(),
        name: request.uri().to_string(),
        method: request.method().to_string(),
        headers: headers(&request)?,
    };
    state.inbox.send(Insert { row, done }).map_err(ErrorInternalServerError)?;
    written.await.map_err(ErrorInternalServerError)?.map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/bgrs/{rid}")))
        .insert_header((RETRY_AFTER, "1"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_TYPE, JSON))
        .body(format!("{{\"request\": \"{rid}\"}}")))
}

fn make_rid() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    let millis = Timestamp::now().as_millisecond().to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    getrandom::fill(&mut bytes[6..])?;
    Ok(hex::encode(bytes))
}

fn headers(request: &HttpRequest) -> actix_web::Result<String> {
    let fields: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
    serde_json::to_string(&fields).map_err(ErrorInternalServerError)
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "full")?;
    database.execute_batch(SCHEMA)?;
    Ok(database)
}

/// Mapped into memory, which is faster than `SQLite`'s own cache by a fifth with a million rows.
fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let database = open(path)?;
    database.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    Ok(database)
}

fn start_writer(mut database: Connection) -> Sender<Insert> {
    let (sender, inbox) = mpsc::channel();
    thread::spawn(move || {
        while let Some(batch) = next_batch(&inbox) {
            let outcome =
                write(&mut database, batch.iter().map(|insert| &insert.row)).map_err(|error| error.to_string());
            for insert in batch {
                // A caller that hung up does not read it.
                let _ = insert.done.send(outcome.clone());
            }
        }
    });
    sender
}

/// Waits for one insert and takes with it what else is waiting.
fn next_batch(inbox: &Receiver<Insert>) -> Option<Vec<Insert>> {
    let mut batch = vec![inbox.recv().ok()?];
    while batch.len() < BATCH
        && let Ok(insert) = inbox.try_recv()
    {
        batch.push(insert);
    }
    Some(batch)
}

fn write<'a>(database: &mut Connection, rows: impl Iterator<Item = &'a Row>) -> rusqlite::Result<()> {
    let now = now();
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut statement = transaction.prepare_cached(INSERT)?;
    for Row { rid, name, method, headers } in rows {
        statement.execute(params![rid, USER, name, method, headers, now])?;
    }
    drop(statement);
    transaction.commit()
}

thread_local! {
    static READER: OnceCell<Connection> = const { OnceCell::new() };
}

async fn read(rid: web::Path<String>, state: web::Data<State>) -> actix_web::Result<HttpResponse> {
    let record = READER
        .with(|reader| {
            if reader.get().is_none() {
                let _ = reader.set(open_reader(&state.database)?);
            }
            let Some(reader) = reader.get() else {
                return Ok(None);
            };
            select(reader, &rid)
        })
        .map_err(ErrorInternalServerError)?;
    let Some(record) = record else {
        return Ok(HttpResponse::NotFound().finish());
    };
    let body = serde_json::to_string(&[record]).map_err(ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).insert_header((CONTENT_TYPE, JSON)).body(body))
}

fn select(reader: &Connection, rid: &str) -> rusqlite::Result<Option<Information>> {
    reader.prepare_cached(SELECT)?.query_row([rid], Information::from_row).optional()
}

/// Its database without HTTP: what SQLite and the disk allow.
pub struct Alone(Connection);

impl Alone {
    /// Opens one, which it makes where there is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(open_reader(path)?))
    }

    /// Stores so many submissions in one transaction.
    pub fn submit(&mut self, count: usize) -> anyhow::Result<()> {
        let row = || {
            let rid = make_rid()?;
            let (name, method) = ("/v2.5/users/me?bgrs=yes".to_owned(), "GET".to_owned());
            let headers = r#"[["host","bench.invalid"],["accept","*/*"]]"#.to_owned();
            anyhow::Ok(Row { rid, name, method, headers })
        };
        let rows = (0..count).map(|_| row()).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(write(&mut self.0, rows.iter())?)
    }

    /// Reads a request that there must be.
    pub fn read(&self, rid: &Rid) -> anyhow::Result<()> {
        select(&self.0, str::from_utf8(rid)?)?.map(drop).context("a stored request is not found")
    }
}

/// The general information, in the interface's order.
#[derive(Serialize)]
struct Information {
    id: String,
    rid: String,
    user_id: String,
    name: String,
    created_dt: String,
    status_id: String,
    status_name: &'static str,
    progress: String,
    finished_dt: Option<String>,
    status: Option<String>,
    content_type: Option<String>,
    result: Option<String>,
}

impl Information {
    fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let status_id: i64 = row.get(5)?;
        Ok(Self {
            id: row.get::<_, i64>(0)?.to_string(),
            rid: row.get(1)?,
            user_id: row.get::<_, i64>(2)?.to_string(),
            name: row.get(3)?,
            created_dt: row.get(4)?,
            status_id: status_id.to_string(),
            status_name: if status_id == 4 { "finished" } else { "queued" },
            progress: format!("{:.2}", row.get::<_, f64>(6)?),
            finished_dt: row.get(7)?,
            status: row.get::<_, Option<i64>>(8)?.map(|status| status.to_string()),
            content_type: row.get(9)?,
            result: row.get(10)?,
        })
    }
}
