//! Lists of background requests: newest first, by owner and state along an index, everybody's along the table.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{REQUEST, read_request};
use crate::model::{Owner, State, time};
use crate::store::{Filter, Request, Result};

/// Up to `limit` requests, newest first.
pub fn list(connection: &Connection, filter: &Filter, limit: usize) -> Result<Vec<Request>> {
    let (narrow, values) = narrowed(filter);
    let (ids, values) = match &filter.owners {
        Some(owners) => along_indexes(owners, filter, &narrow, &values, limit),
        None => along_table(filter, &narrow, values, limit),
    };
    let sql = format!("SELECT {REQUEST} FROM bgrs WHERE id IN ({ids}) ORDER BY id DESC LIMIT {limit}");
    // Seldom the same text twice: the cache is for others.
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), read_request)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The newest of each owner and state, one index walk each: none of them sorts, or reads more than `limit` that match.
fn along_indexes(
    owners: &[Owner],
    filter: &Filter,
    narrow: &str,
    values: &[Value],
    limit: usize,
) -> (String, Vec<Value>) {
    let states = if filter.states.is_empty() { &State::ALL[..] } else { &filter.states };
    let (mut walks, mut all) = (Vec::new(), Vec::new());
    for owner in owners {
        for state in states {
            let (index, ended) = match state.has_ended() {
                true => ("bgrs_ended", "finished_dt IS NOT NULL"),
                false => ("bgrs_unended", "finished_dt IS NULL"),
            };
            walks.push(format!(
                "SELECT id FROM (SELECT id FROM bgrs INDEXED BY {index} WHERE {ended} AND source = ? AND user_id = ?
                     AND status_id = {}{narrow} ORDER BY id DESC LIMIT {limit})",
                state.id()
            ));
            all.extend([owner.source.clone().into(), owner.id.clone().into()]);
            all.extend_from_slice(values);
        }
    }
    // No owner, no walk: nothing is found.
    let walks = if walks.is_empty() { "NULL".to_owned() } else { walks.join(" UNION ALL ") };
    (walks, all)
}

fn along_table(filter: &Filter, narrow: &str, values: Vec<Value>, limit: usize) -> (String, Vec<Value>) {
    let states: Vec<_> = filter.states.iter().map(|state| state.id().to_string()).collect();
    let among = if states.is_empty() { String::new() } else { format!(" AND status_id IN ({})", states.join(", ")) };
    (format!("SELECT id FROM bgrs WHERE true{among}{narrow} ORDER BY id DESC LIMIT {limit}"), values)
}

/// What holds for each of them, as conditions with their values.
fn narrowed(filter: &Filter) -> (String, Vec<Value>) {
    let (mut sql, mut values) = (String::new(), Vec::new());
    let mut add = |condition: &str, value: Value| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(before) = filter.before {
        add("id < ?", before.into());
    }
    if let Some(name) = &filter.name {
        // Not LIKE, nor GLOB: a name may hold their wild cards.
        add("instr(name, ?) = 1", name.clone().into());
    }
    if let Some(since) = filter.since {
        add("created_dt >= ?", time::format(since).into());
    }
    if let Some(until) = filter.until {
        add("created_dt < ?", time::format(until).into());
    }
    (sql, values)
}
