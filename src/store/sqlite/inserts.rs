//! Rows of new requests on their way into the table, several by one statement: its fixed costs (cursors on the table and on
//! its indexes, AUTOINCREMENT's row) are a quarter of an insertion's. They go in by their numbers, at the table's end: a
//! row between others would split a page in the middle, and have more of them written.
//!
//! Acts of the writer add rows; whatever looks at the table flushes them first, and a transaction does before its commit.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rusqlite::{CachedStatement, Connection, ffi};

use super::keys::Keys;
use super::numbers::Numbers;
use crate::model::time;
use crate::store::{NewRequest, Result};

/// How many rows go in by one statement, the most first. More than these gain nothing that can be measured.
const SIZES: [usize; 5] = [16, 8, 4, 2, 1];

/// What each row has, as [`bind`] gives it.
const COMMON: [&str; 9] = ["id", "rid", "source", "user_id", "method", "name", "headers", "repeatable", "created_dt"];

/// What a row has besides where its call has a key, as [`bind_key`] gives it.
const KEY: [&str; 3] = ["idempotency_key", "fingerprint", "key_hash"];

/// What a row has besides where its call has a body, an upstream or the like, as [`bind_rest`] gives it.
const REST: [&str; 7] = ["body", "batch", "upstream", "secrets", "timeout", "confidential", "callback"];

/// Which columns a row needs. Most need few, and there are statements for them: to give ten times nothing is a tenth of an
/// insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    Common,
    Keyed,
    Whole,
}

impl Extent {
    /// The statements, by [`SIZES`].
    fn statements(self) -> &'static [String; SIZES.len()] {
        static COMMON_ONES: LazyLock<[String; SIZES.len()]> = LazyLock::new(|| statements(&COMMON));
        static KEYED: LazyLock<[String; SIZES.len()]> = LazyLock::new(|| statements(&[&COMMON[..], &KEY].concat()));
        static WHOLE: LazyLock<[String; SIZES.len()]> =
            LazyLock::new(|| statements(&[&COMMON[..], &KEY, &REST].concat()));
        match self {
            Self::Common => &COMMON_ONES,
            Self::Keyed => &KEYED,
            Self::Whole => &WHOLE,
        }
    }
}

/// A row that is not there yet.
pub struct New {
    /// Its number; `None`: the one that the database gives it.
    pub number: Option<i64>,
    /// What it keeps.
    pub request: Arc<NewRequest>,
    /// With a key: what it is found by.
    pub hash: Option<u32>,
}

/// The rows of the transaction under way that are not in the table yet.
#[derive(Default)]
pub struct Inserts(Mutex<Vec<New>>);

impl Inserts {
    /// Adds a row.
    pub fn add(&self, new: New) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(new);
    }

    /// Whether there is one whose key has this digest.
    pub fn has(&self, hash: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|new| new.hash == Some(hash))
    }

    /// Takes out all that there are.
    pub fn take(&self) -> Vec<New> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Inserts all that there are, and `then` does something with them. Their keys come last: they are kept in memory, and
    /// what fails behind them would leave there what the table has not.
    pub fn flush_and<T>(
        &self,
        connection: &Connection,
        keys: &Keys,
        numbers: &Numbers,
        then: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut rows = self.take();
        match rows.as_mut_slice() {
            [] => {}
            [new] => insert_one(connection, numbers, new)?,
            // Where one fails, the writer runs the acts again, each by itself.
            many => {
                many.sort_unstable_by_key(|new| new.number);
                insert(connection, many)?;
            }
        }
        let keyed: Vec<_> = rows.iter().filter_map(|new| Some((new.hash?, new.number?))).collect();
        let done = then()?;
        if !keyed.is_empty() {
            keys.add(connection, &keyed)?;
        }
        Ok(done)
    }
}

/// Inserts a row, with another number where its own is taken.
fn insert_one(connection: &Connection, numbers: &Numbers, new: &mut New) -> Result<()> {
    match insert(connection, std::slice::from_ref(new)) {
        // Somebody else has inserted a row of that number: any other does.
        Err(error) if new.number.is_some() && is_taken(&error) => {
            new.number = None;
            insert(connection, std::slice::from_ref(new))?;
            numbers.skip(connection.last_insert_rowid());
        }
        outcome => outcome?,
    }
    new.number = Some(connection.last_insert_rowid());
    Ok(())
}

fn is_taken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID))
}

/// Inserts rows by as few statements as there can be.
fn insert(connection: &Connection, mut rows: &[New]) -> rusqlite::Result<()> {
    for (index, size) in SIZES.into_iter().enumerate() {
        while rows.len() >= size {
            let (these, behind) = rows.split_at(size);
            let extent = these.iter().map(New::extent).max().unwrap_or(Extent::Whole);
            let mut statement = connection.prepare_cached(&extent.statements()[index])?;
            let mut column = Column(0);
            for new in these {
                bind(&mut statement, &mut column, new)?;
                if extent >= Extent::Keyed {
                    bind_key(&mut statement, &mut column, new)?;
                }
                if extent == Extent::Whole {
                    bind_rest(&mut statement, &mut column, new)?;
                }
            }
            statement.raw_execute()?;
            rows = behind;
        }
    }
    Ok(())
}

/// `OR FAIL`: what a statement that fails has done is undone with its transaction or savepoint. By itself it would copy
/// each page before it changes it.
fn statements(columns: &[&str]) -> [String; SIZES.len()] {
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    let names = columns.join(", ");
    SIZES.map(|rows| format!("INSERT OR FAIL INTO bgrs ({names}) VALUES {}", vec![row.as_str(); rows].join(", ")))
}

/// The last parameter that has its value.
struct Column(usize);

impl Column {
    fn next(&mut self) -> usize {
        self.0 += 1;
        self.0
    }
}

impl New {
    fn extent(&self) -> Extent {
        let call = &self.request.call;
        let has_text = call.upstream.is_some() || call.secrets.is_some() || call.callback.is_some();
        let has_number = call.body.is_some() || call.batch.is_some() || call.timeout.is_some();
        if has_text || has_number || call.confidential {
            return Extent::Whole;
        }
        if self.request.key.is_some() { Extent::Keyed } else { Extent::Common }
    }
}

/// Gives a statement the values that each row has.
fn bind(statement: &mut CachedStatement<'_>, column: &mut Column, new: &New) -> rusqlite::Result<()> {
    let (request, call) = (&*new.request, &new.request.call);
    statement.raw_bind_parameter(column.next(), new.number)?;
    statement.raw_bind_parameter(column.next(), request.rid.encode(&mut [0; 32]))?;
    statement.raw_bind_parameter(column.next(), &request.owner.source)?;
    statement.raw_bind_parameter(column.next(), &request.owner.id)?;
    statement.raw_bind_parameter(column.next(), &call.method)?;
    statement.raw_bind_parameter(column.next(), &call.name)?;
    statement.raw_bind_parameter(column.next(), call.headers.to_json())?;
    statement.raw_bind_parameter(column.next(), call.repeatable)?;
    time::with_shown(request.created, |created| statement.raw_bind_parameter(column.next(), created))
}

fn bind_key(statement: &mut CachedStatement<'_>, column: &mut Column, new: &New) -> rusqlite::Result<()> {
    let key = new.request.key.as_ref();
    statement.raw_bind_parameter(column.next(), key.map(|key| &key.text))?;
    statement.raw_bind_parameter(column.next(), key.map(|key| key.fingerprint))?;
    statement.raw_bind_parameter(column.next(), new.hash)
}

fn bind_rest(statement: &mut CachedStatement<'_>, column: &mut Column, new: &New) -> rusqlite::Result<()> {
    let call = &new.request.call;
    let timeout = call.timeout.map(|limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    statement.raw_bind_parameter(column.next(), call.body.map(|length| length as i64))?;
    statement.raw_bind_parameter(column.next(), call.batch.map(|elements| elements as i64))?;
    statement.raw_bind_parameter(column.next(), &call.upstream)?;
    statement.raw_bind_parameter(column.next(), &call.secrets)?;
    statement.raw_bind_parameter(column.next(), timeout)?;
    statement.raw_bind_parameter(column.next(), call.confidential)?;
    statement.raw_bind_parameter(column.next(), &call.callback)
}
