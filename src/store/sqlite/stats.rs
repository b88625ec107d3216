//! Figures of what was done in SQLite. Whoever looks at them is in no hurry: no short look waits behind theirs.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Sqlite;
use crate::model::time;
use crate::store::{Durations, Error, Minute, OTHER, Result, Stats};

#[async_trait]
impl Stats for Sqlite {
    async fn add_figures(
        &self,
        minutes: Vec<Minute>,
        durations: Vec<Durations>,
        routes: usize,
        oldest: Timestamp,
    ) -> Result<()> {
        self.work(move |connection| {
            minutes.iter().try_for_each(|minute| add_minute(connection, minute))?;
            durations.iter().try_for_each(|durations| add_durations(connection, durations, routes))?;
            let oldest = time::format(oldest);
            connection.prepare_cached("DELETE FROM bgrs_minutes WHERE at < ?")?.execute([&oldest])?;
            connection.prepare_cached("DELETE FROM bgrs_durations WHERE hour < ?")?.execute([&oldest])?;
            Ok(())
        })
        .await
    }

    async fn figures(&self, minute: Timestamp, hour: Timestamp) -> Result<(Vec<Minute>, Vec<Durations>)> {
        self.long(move |connection| Ok((minutes(connection, minute)?, durations(connection, hour)?))).await
    }

    async fn oldest_waiting(&self) -> Result<Option<Timestamp>> {
        self.long(|connection| {
            // Along the index of what has not ended, and no row of the table but the one that is found.
            let sql = "SELECT created_dt FROM bgrs WHERE id =
                           (SELECT min(id) FROM bgrs INDEXED BY bgrs_unended
                            WHERE finished_dt IS NULL AND status_id = 1)";
            let created: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
            Ok(created.as_deref().and_then(time::parse))
        })
        .await
    }

    async fn result_bytes(&self) -> Result<u64> {
        self.long(|connection| {
            let sum: i64 = connection.query_row("SELECT coalesce(sum(size), 0) FROM bgrs", [], |row| row.get(0))?;
            Ok(u64::try_from(sum).unwrap_or(0))
        })
        .await
    }
}

fn add_minute(connection: &Connection, minute: &Minute) -> Result<()> {
    let sql = "INSERT INTO bgrs_minutes (at, submitted, finished, failed, cancelled, running, waiting)
               VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (at) DO UPDATE SET
                   submitted = submitted + excluded.submitted, finished = finished + excluded.finished,
                   failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled,
                   running = max(running, excluded.running), waiting = max(waiting, excluded.waiting)";
    connection.prepare_cached(sql)?.execute(params![
        time::format(minute.at),
        minute.submitted,
        minute.finished,
        minute.failed,
        minute.cancelled,
        minute.running,
        minute.waiting,
    ])?;
    Ok(())
}

fn add_durations(connection: &Connection, new: &Durations, most: usize) -> Result<()> {
    let (hour, mut route) = (time::format(new.hour), new.route.as_str());
    let mut known = buckets(connection, &hour, route)?;
    if known.is_none() && route != OTHER && routes(connection, &hour)? >= most {
        route = OTHER;
        known = buckets(connection, &hour, route)?;
    }
    let mut sum = known.unwrap_or_default();
    sum.resize(sum.len().max(new.buckets.len()), 0);
    for (sum, new) in sum.iter_mut().zip(&new.buckets) {
        *sum = sum.saturating_add(*new);
    }
    let sum = serde_json::to_string(&sum).map_err(|error| Error::Other(error.to_string()))?;
    let sql = "INSERT OR REPLACE INTO bgrs_durations (hour, route, buckets) VALUES (?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![hour, route, sum])?;
    Ok(())
}

fn buckets(connection: &Connection, hour: &str, route: &str) -> Result<Option<Vec<u64>>> {
    let sql = "SELECT buckets FROM bgrs_durations WHERE hour = ? AND route = ?";
    let found: Option<String> =
        connection.prepare_cached(sql)?.query_row([hour, route], |row| row.get(0)).optional()?;
    Ok(found.map(|text| read_buckets(&text)))
}

/// How many routes an hour has that have a place of their own.
fn routes(connection: &Connection, hour: &str) -> Result<usize> {
    let sql = "SELECT count(*) FROM bgrs_durations WHERE hour = ? AND route <> ?";
    let count: i64 = connection.prepare_cached(sql)?.query_row([hour, OTHER], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What somebody has written by hand, and is none, counts for nothing.
fn read_buckets(text: &str) -> Vec<u64> {
    serde_json::from_str(text).unwrap_or_default()
}

fn minutes(connection: &Connection, from: Timestamp) -> Result<Vec<Minute>> {
    let sql = "SELECT at, submitted, finished, failed, cancelled, running, waiting FROM bgrs_minutes
               WHERE at >= ? ORDER BY at";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([time::format(from)], read_minute)?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

fn read_minute(row: &Row<'_>) -> rusqlite::Result<Option<Minute>> {
    let Some(at) = time::parse(row.get_ref(0)?.as_str()?) else { return Ok(None) };
    Ok(Some(Minute {
        at,
        submitted: row.get(1)?,
        finished: row.get(2)?,
        failed: row.get(3)?,
        cancelled: row.get(4)?,
        running: row.get(5)?,
        waiting: row.get(6)?,
    }))
}

fn durations(connection: &Connection, from: Timestamp) -> Result<Vec<Durations>> {
    let sql = "SELECT hour, route, buckets FROM bgrs_durations WHERE hour >= ? ORDER BY hour, route";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([time::format(from)], |row| {
        let Some(hour) = time::parse(row.get_ref(0)?.as_str()?) else { return Ok(None) };
        Ok(Some(Durations { hour, route: row.get(1)?, buckets: read_buckets(row.get_ref(2)?.as_str()?) }))
    })?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::Durability;

    fn at(text: &str) -> Timestamp {
        time::parse(text).unwrap()
    }

    fn minute(text: &str, count: i64) -> Minute {
        let at = at(text);
        Minute {
            at,
            submitted: count,
            finished: count,
            failed: count,
            cancelled: count,
            running: count,
            waiting: count,
        }
    }

    fn took(hour: &str, route: &str, buckets: &[u64]) -> Durations {
        Durations { hour: at(hour), route: route.to_owned(), buckets: buckets.to_vec() }
    }

    fn store() -> (tempfile::TempDir, Sqlite) {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("test.sqlite3"), Durability::Normal).unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn figures_are_added_to_those_that_are_there_and_old_ones_go() {
        let (_dir, store) = store();
        let (one, two, three) = ("2026-11-25 01:00:00", "2026-11-25 01:01:00", "2026-11-25 02:00:00");
        let minutes = vec![minute(one, 1), minute(two, 5)];
        let durations = vec![took(one, "/a", &[1, 2]), took(three, "/a", &[0, 1])];
        store.add_figures(minutes, durations, 9, at(one)).await.unwrap();
        let durations = vec![took(one, "/a", &[1, 0, 3]), took(one, "/b", &[4])];
        store.add_figures(vec![minute(two, 2), minute(three, 3)], durations, 9, at(one)).await.unwrap();

        let added = Minute { running: 5, waiting: 5, ..minute(two, 7) };
        let (minutes, durations) = store.figures(at(one), at(one)).await.unwrap();
        assert_eq!(minutes, [minute(one, 1), added, minute(three, 3)]);
        let expected = [took(one, "/a", &[2, 2, 3]), took(one, "/b", &[4]), took(three, "/a", &[0, 1])];
        assert_eq!(durations, expected);
        let later = store.figures(at(two), at(two)).await.unwrap();
        assert_eq!(later, (vec![added, minute(three, 3)], vec![took(three, "/a", &[0, 1])]));

        store.add_figures(Vec::new(), Vec::new(), 9, at(three)).await.unwrap();
        let left = store.figures(at(one), at(one)).await.unwrap();
        assert_eq!(left, (vec![minute(three, 3)], vec![took(three, "/a", &[0, 1])]));
    }

    #[tokio::test]
    async fn an_hour_has_so_many_routes_and_the_others_count_as_one() {
        let (_dir, store) = store();
        let (one, two) = ("2026-11-25 01:00:00", "2026-11-25 02:00:00");
        let add = |durations| store.add_figures(Vec::new(), durations, 2, at(one));
        add(vec![took(one, OTHER, &[1]), took(one, "/a", &[1]), took(one, "/b", &[1])]).await.unwrap();
        add(vec![took(one, "/c", &[1]), took(one, "/a", &[1]), took(two, "/c", &[1])]).await.unwrap();
        let (_, durations) = store.figures(at(one), at(one)).await.unwrap();
        let expected = [took(one, "/a", &[2]), took(one, "/b", &[1]), took(one, OTHER, &[2]), took(two, "/c", &[1])];
        assert_eq!(durations, expected);
    }
}
