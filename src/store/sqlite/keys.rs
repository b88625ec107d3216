//! Which `Idempotency-Key`s have been used: the newest in memory, all others in a table of their own.
//!
//! Keys come in no order. An index over them would have another page changed by each insertion, and a commit writes whole
//! pages: with a key on each, the rate of submissions fell to 75 %. So the newest are kept in memory, by digest, and for
//! each that comes one or two go over into the table, along its order: neighbours share a page. The rows hold the keys;
//! what was in memory is read from them again at a start.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::read_rid;
use crate::model::{Owner, Rid};
use crate::store::{Fingerprint, Result};

/// Keys in memory before they begin to go over: some 2 MiB, and of a table of a million keys a dozen for each page.
const MOST: usize = 65_536;

/// How many go over for each that comes, while there are too many.
const MOVED: usize = 2;

/// How many go over by one statement at most.
const TOGETHER: usize = 32;

/// Moves after which it is written down up to which row all keys have gone over: a start reads the later ones.
const FLOOR: usize = 4096;

/// 32 bits of a digest of owner and key, and the row.
pub type Used = (u32, i64);

/// The keys.
#[derive(Default)]
pub struct Keys(Mutex<State>);

#[derive(Default)]
struct State {
    /// Those that are in memory alone.
    recent: BTreeSet<Used>,
    /// Those that go over in the transaction under way; in memory again where it is undone.
    moved: Vec<Used>,
    /// The last that went over: the next is the one behind it.
    last: Option<Used>,
    since_floor: usize,
}

impl Keys {
    /// Reads into memory what is not in the table.
    pub fn load(connection: &Connection) -> Result<Self> {
        let sql = "SELECT key_hash, id FROM bgrs INDEXED BY bgrs_keyed
                   WHERE key_hash IS NOT NULL AND id > (SELECT id FROM bgrs_keys_floor)";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let recent = rows.collect::<rusqlite::Result<_>>()?;
        Ok(Self(Mutex::new(State { recent, ..State::default() })))
    }

    /// The request that an owner's key was used for, with the fingerprint of its call; `hash` is that of both.
    pub fn find(
        &self,
        connection: &Connection,
        owner: &Owner,
        key: &str,
        hash: u32,
    ) -> Result<Option<(Rid, Fingerprint)>> {
        let mut candidates = self.lock().of(hash);
        let mut statement = connection.prepare_cached("SELECT bgrs_id FROM bgrs_keys WHERE key_hash = ?")?;
        let rows = statement.query_map([hash], |row| row.get(0))?;
        candidates.extend(rows.collect::<rusqlite::Result<Vec<i64>>>()?);
        // What is remembered may be of another key, or of a row that was never committed, or is gone.
        for id in candidates {
            let sql = "SELECT rid, fingerprint FROM bgrs
                       WHERE id = ? AND source = ? AND user_id = ? AND idempotency_key = ?";
            let found = connection
                .prepare_cached(sql)?
                .query_row(params![id, owner.source, owner.id, key], |row| Ok((read_rid(row, 0)?, row.get(1)?)));
            if let Some(found) = found.optional()? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Remembers the keys of rows that were inserted. The last act of its transaction's part: whatever fails behind it
    /// would have to be told of what went over.
    pub fn add(&self, connection: &Connection, keyed: &[Used]) -> Result<()> {
        let mut state = self.lock();
        state.recent.extend(keyed);
        if state.recent.len() <= MOST {
            return Ok(());
        }
        let going = state.next(MOVED * keyed.len());
        go_over(connection, &going)?;
        if state.since_floor >= FLOOR {
            let floor = state.floor();
            connection.prepare_cached("UPDATE bgrs_keys_floor SET id = ?")?.execute([floor])?;
            state.since_floor = 0;
        }
        state.go(going);
        Ok(())
    }

    /// Learns what became of the transaction.
    pub fn ended(&self, committed: bool) {
        let mut state = self.lock();
        let moved = std::mem::take(&mut state.moved);
        if !committed {
            state.recent.extend(moved);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Rows that may have used a key of this digest.
    fn of(&self, hash: u32) -> Vec<i64> {
        let recent = self.recent.range((hash, i64::MIN)..=(hash, i64::MAX));
        recent.chain(self.moved.iter().filter(|(other, _)| *other == hash)).map(|(_, id)| *id).collect()
    }

    /// The next that go over, in order; behind the last one there is comes the first again.
    fn next(&self, most: usize) -> Vec<Used> {
        let behind = self.last.map_or(Unbounded, Excluded);
        self.recent.range((behind, Unbounded)).chain(&self.recent).take(most).copied().collect()
    }

    fn go(&mut self, going: Vec<Used>) {
        self.since_floor += going.len();
        self.last = going.last().copied();
        for used in &going {
            self.recent.remove(used);
        }
        self.moved.extend(going);
    }

    /// The row up to which none is in memory alone.
    fn floor(&self) -> i64 {
        self.recent.iter().chain(&self.moved).map(|(_, id)| id - 1).min().unwrap_or(0)
    }
}

/// Puts keys into their table; not those of rows that are gone meanwhile: nobody would take them out again.
fn go_over(connection: &Connection, going: &[Used]) -> rusqlite::Result<()> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH going (hash, id) AS (VALUES {})
             INSERT OR IGNORE INTO bgrs_keys (key_hash, bgrs_id)
             SELECT b.key_hash, b.id FROM going CROSS JOIN bgrs AS b INDEXED BY bgrs_keyed
             ON b.id = going.id AND b.key_hash = going.hash",
            ["(?, ?)"; TOGETHER].join(", ")
        )
    });
    for going in going.chunks(TOGETHER) {
        // What is left over in it stays NULL, and finds no row.
        let mut statement = connection.prepare_cached(&STATEMENT)?;
        for (at, (hash, id)) in going.iter().enumerate() {
            statement.raw_bind_parameter(2 * at + 1, hash)?;
            statement.raw_bind_parameter(2 * at + 2, id)?;
        }
        statement.raw_execute()?;
    }
    Ok(())
}

/// What a row's key is found by.
pub fn hash(owner: &Owner, key: &str) -> u32 {
    // In one piece: a digest of several costs twice as much.
    let whole = [owner.source.as_str(), "\n", &owner.id, "\n", key].concat();
    let [a, b, c, d, ..] = *blake3::hash(whole.as_bytes()).as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../schema.sql")).unwrap();
        connection
    }

    fn owner() -> Owner {
        Owner { source: "a".to_owned(), id: "1".to_owned() }
    }

    fn key(number: usize) -> Key {
        Key { text: format!("key {number}"), fingerprint: Fingerprint::default() }
    }

    fn insert(connection: &Connection, keys: &Keys, number: usize) {
        let sql = "INSERT INTO bgrs (rid, source, user_id, method, name, headers, created_dt, idempotency_key, fingerprint, key_hash)
                   VALUES (?, 'a', '1', 'GET', '/', '[]', '', ?, zeroblob(16), ?)";
        let (rid, key) = (format!("{number:032x}"), key(number));
        let mut statement = connection.prepare_cached(sql).unwrap();
        statement.execute(params![rid, key.text, hash(&owner(), &key.text)]).unwrap();
        keys.add(connection, &[(hash(&owner(), &key.text), connection.last_insert_rowid())]).unwrap();
    }

    fn is_known(connection: &Connection, keys: &Keys, number: usize) -> bool {
        let (owner, key) = (owner(), key(number).text);
        let found = keys.find(connection, &owner, &key, hash(&owner, &key)).unwrap();
        found.is_some_and(|(rid, _)| rid.to_string() == format!("{number:032x}"))
    }

    #[test]
    fn each_key_is_known_in_memory_or_in_the_table_through_undone_transactions_and_a_start() {
        let (connection, keys) = (database(), Keys::default());
        let all = MOST + 3 * FLOOR;
        let mut number = 0;
        while number < all {
            connection.execute_batch("BEGIN").unwrap();
            let end = (number + 1000).min(all);
            (number..end).for_each(|number| insert(&connection, &keys, number));
            // Each fifth is undone, and made again.
            let undone = number % 5000 == 4000 && end < all;
            connection.execute_batch(if undone { "ROLLBACK" } else { "COMMIT" }).unwrap();
            keys.ended(!undone);
            if undone {
                connection.execute_batch("BEGIN").unwrap();
                (number..end).for_each(|number| insert(&connection, &keys, number));
                connection.execute_batch("COMMIT").unwrap();
                keys.ended(true);
            }
            number = end;
        }
        assert!((0..all).all(|number| is_known(&connection, &keys, number)));
        assert!(!is_known(&connection, &keys, all));
        let moved: i64 = connection.query_row("SELECT count(*) FROM bgrs_keys", [], |row| row.get(0)).unwrap();
        assert!(moved > 0, "none has gone over");

        let again = Keys::load(&connection).unwrap();
        assert!((0..all).all(|number| is_known(&connection, &again, number)));
        connection.execute("DELETE FROM bgrs WHERE id <= 100", []).unwrap();
        // Those that are gone do not go over any more.
        (all..all + FLOOR).for_each(|number| insert(&connection, &again, number));
        let sql = "SELECT count(*) FROM bgrs_keys WHERE bgrs_id NOT IN (SELECT id FROM bgrs)";
        assert_eq!(connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        assert!(!is_known(&connection, &again, 0) && !is_known(&connection, &keys, 0));
    }
}
