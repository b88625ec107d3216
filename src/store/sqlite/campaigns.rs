//! Campaigns and scans in SQLite.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};
use tokio::sync::mpsc;

use super::Sqlite;
use crate::model::time;
use crate::priority::Pace;
use crate::store::{
    By, Campaign, CampaignChange, Campaigns, Count, Error, Export, NewScan, OnRows, Result, Scan, ScanFilter,
};

const CAMPAIGN: &str = "id, user_id, type, name, description, active, created_dt, updated_dt";
const SCAN: &str = "id, campaign_id, dt, device, country, matched";

/// Scans in a batch of an export.
const BATCH: usize = 1000;

/// Batches that wait for a slow reader.
const AHEAD: usize = 4;

/// How long a batch waits for its reader: an export holds a snapshot, behind which the write-ahead log grows.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows after which a statistic says how far it is.
const ROWS: u64 = 100_000;

/// Rows after which a statistic asks whether to rest.
const PACE: u64 = 1000;

#[async_trait]
impl Campaigns for Sqlite {
    async fn campaigns(&self, user_id: Option<i64>, after: i64, limit: usize) -> Result<Vec<Campaign>> {
        self.read(move |connection| {
            let of_user = if user_id.is_some() { "user_id = :user AND" } else { ":user IS NULL AND" };
            let sql = format!("SELECT {CAMPAIGN} FROM campaigns WHERE {of_user} id > :after ORDER BY id LIMIT :limit");
            let mut statement = connection.prepare_cached(&sql)?;
            let values = named_params! { ":user": user_id, ":after": after, ":limit": limit as i64 };
            let rows = statement.query_map(values, read_campaign)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn campaign(&self, id: i64) -> Result<Option<Campaign>> {
        self.read(move |connection| campaign(connection, id)).await
    }

    async fn add_campaign(&self, user_id: i64, fields: CampaignChange, now: Timestamp) -> Result<Campaign> {
        self.write(move |connection| {
            let sql = format!(
                "INSERT INTO campaigns (user_id, type, name, description, active, created_dt, updated_dt)
                 VALUES (:user, :kind, :name, :description, :active, :now, :now) RETURNING {CAMPAIGN}"
            );
            let values = named_params! {
                ":user": fields.user_id.unwrap_or(user_id), ":kind": fields.kind.unwrap_or(1),
                ":name": fields.name, ":description": fields.description.clone().flatten(),
                ":active": fields.active.unwrap_or(true), ":now": time::format(now),
            };
            Ok(connection.prepare_cached(&sql)?.query_row(values, read_campaign)?)
        })
        .await
    }

    async fn change_campaign(&self, id: i64, fields: CampaignChange, now: Timestamp) -> Result<Option<Campaign>> {
        self.write(move |connection| {
            let Some(known) = campaign(connection, id)? else { return Ok(None) };
            let sql = format!(
                "UPDATE campaigns SET user_id = :user, type = :kind, name = :name, description = :description,
                     active = :active, updated_dt = :now WHERE id = :id RETURNING {CAMPAIGN}"
            );
            let values = named_params! {
                ":user": fields.user_id.unwrap_or(known.user_id), ":kind": fields.kind.unwrap_or(known.kind),
                ":name": fields.name.as_ref().unwrap_or(&known.name),
                ":description": fields.description.as_ref().unwrap_or(&known.description),
                ":active": fields.active.unwrap_or(known.active), ":now": time::format(now), ":id": id,
            };
            Ok(Some(connection.prepare_cached(&sql)?.query_row(values, read_campaign)?))
        })
        .await
    }

    async fn remove_campaign(&self, id: i64, limit: usize) -> Result<bool> {
        self.write(move |connection| {
            let sql = "DELETE FROM scans WHERE id IN (SELECT id FROM scans WHERE campaign_id = ? LIMIT ?)";
            if connection.prepare_cached(sql)?.execute(params![id, limit as i64])? == limit {
                return Ok(false);
            }
            connection.prepare_cached("DELETE FROM campaigns WHERE id = ?")?.execute([id])?;
            Ok(true)
        })
        .await
    }

    async fn add_scan(&self, new: NewScan) -> Result<Option<Scan>> {
        self.write(move |connection| {
            if campaign(connection, new.campaign_id)?.is_none() {
                return Ok(None);
            }
            let sql = format!(
                "INSERT INTO scans (campaign_id, dt, device, country, matched) VALUES (?, ?, ?, ?, ?) RETURNING {SCAN}"
            );
            let values = params![new.campaign_id, time::format(new.dt), new.device, new.country, new.matched];
            Ok(Some(connection.prepare_cached(&sql)?.query_row(values, read_scan)?))
        })
        .await
    }

    async fn add_scans(&self, new: Vec<NewScan>) -> Result<()> {
        self.work(move |connection| {
            let sql = "INSERT INTO scans (campaign_id, dt, device, country, matched) VALUES (?, ?, ?, ?, ?)";
            let mut statement = connection.prepare_cached(sql)?;
            for scan in &new {
                let dt = time::format(scan.dt);
                statement.execute(params![scan.campaign_id, dt, scan.device, scan.country, scan.matched])?;
            }
            Ok(())
        })
        .await
    }

    async fn scans(&self, filter: ScanFilter, after: i64, limit: usize) -> Result<Vec<Scan>> {
        self.read(move |connection| {
            let (condition, mut values) = condition(&filter);
            let sql = format!("SELECT {SCAN} FROM scans WHERE {condition} AND id > ? ORDER BY id LIMIT ?");
            let limit = limit as i64;
            values.extend([&after as &dyn ToSql, &limit]);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(&*values, read_scan)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn export(&self, filter: ScanFilter) -> Result<Export> {
        let (send, batches) = mpsc::channel(AHEAD);
        let (counted, total) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let store = self.clone();
        let looking = async move {
            store
                .long(move |connection| {
                    let outcome = export(connection, &filter, counted, |batch| {
                        let sent = async { tokio::time::timeout(PATIENCE, send.send(Ok(batch))).await };
                        runtime.block_on(sent).is_ok_and(|sent| sent.is_ok())
                    });
                    if let Err(error) = outcome {
                        let _ = send.try_send(Err(error));
                    }
                    Ok(())
                })
                .await
        };
        let task = tokio::spawn(looking);
        match total.await {
            Ok(total) => Ok(Export { total, batches }),
            // It ended before it had counted: with an error of its own, or on its way there.
            Err(_) => {
                task.await.unwrap_or_else(|error| Err(Error::Other(error.to_string())))?;
                Err(Error::Other("an export did not begin".to_owned()))
            }
        }
    }

    async fn statistics(&self, filter: ScanFilter, by: By, on_rows: OnRows) -> Result<Vec<Count>> {
        self.long(move |connection| statistics(connection, &filter, by, &on_rows)).await
    }
}

fn campaign(connection: &Connection, id: i64) -> Result<Option<Campaign>> {
    let sql = format!("SELECT {CAMPAIGN} FROM campaigns WHERE id = ?");
    Ok(connection.prepare_cached(&sql)?.query_row([id], read_campaign).optional()?)
}

/// The filter as SQL, with the values of its placeholders.
fn condition(filter: &ScanFilter) -> (String, Vec<&dyn ToSql>) {
    let mut parts = vec!["1"];
    let mut values: Vec<&dyn ToSql> = Vec::new();
    if let Some(id) = &filter.campaign_id {
        parts.push("campaign_id = ?");
        values.push(id);
    }
    if let Some(user) = &filter.user_id {
        // The plus keeps SQLite from sorting all of a user's scans: they are met soon enough on a walk by id.
        parts.push("+campaign_id IN (SELECT id FROM campaigns WHERE user_id = ?)");
        values.push(user);
    }
    if let Some(since) = &filter.since {
        parts.push("dt >= ?");
        values.push(since);
    }
    if let Some(until) = &filter.until {
        parts.push("dt < ?");
        values.push(until);
    }
    (parts.join(" AND "), values)
}

/// Counts, then hands out batches until `hand_out` says that nobody takes them.
fn export(
    connection: &Connection,
    filter: &ScanFilter,
    counted: tokio::sync::oneshot::Sender<u64>,
    mut hand_out: impl FnMut(Vec<Scan>) -> bool,
) -> Result<()> {
    let snapshot = connection.unchecked_transaction()?;
    let total = count(&snapshot, filter)?;
    if counted.send(total).is_err() {
        return Ok(());
    }
    let (condition, values) = condition(filter);
    let mut statement = snapshot.prepare(&format!("SELECT {SCAN} FROM scans WHERE {condition} ORDER BY id"))?;
    let mut rows = statement.query(&*values)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut pace = Pace::new();
    while let Some(row) = rows.next()? {
        batch.push(read_scan(row)?);
        if batch.len() == BATCH {
            if !hand_out(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))) {
                return Err(Error::Other("an export was given up: nobody took its rows".to_owned()));
            }
            std::thread::sleep(pace.rest());
        }
    }
    if !batch.is_empty() {
        hand_out(batch);
    }
    Ok(())
}

fn count(connection: &Connection, filter: &ScanFilter) -> Result<u64> {
    let (condition, values) = condition(filter);
    let sql = format!("SELECT count(*) FROM scans WHERE {condition}");
    let count: i64 = connection.query_row(&sql, &*values, |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn statistics(connection: &Connection, filter: &ScanFilter, by: By, on_rows: &OnRows) -> Result<Vec<Count>> {
    let snapshot = connection.unchecked_transaction()?;
    let total = count(&snapshot, filter)?;
    let key = match by {
        By::Day => "substr(dt, 1, 10)",
        By::Device => "device",
        By::Country => "country",
    };
    let (condition, values) = condition(filter);
    let mut statement = snapshot.prepare(&format!("SELECT {key}, matched FROM scans WHERE {condition}"))?;
    let mut rows = statement.query(&*values)?;
    // Counted here and not by GROUP BY, which says nothing until it is at its end.
    let mut counts = Counts::default();
    let mut seen = 0;
    let mut pace = Pace::new();
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let matched: i64 = row.get(1)?;
        counts.add(key, matched);
        seen += 1;
        if seen % ROWS == 0 {
            on_rows(seen, total);
        }
        if seen % PACE == 0 {
            std::thread::sleep(pace.rest());
        }
    }
    Ok(counts.in_order())
}

#[derive(Default)]
struct Counts {
    keys: BTreeMap<String, (i64, i64)>,
    without: (i64, i64),
}

impl Counts {
    fn add(&mut self, key: Option<&str>, matched: i64) {
        let count = match key {
            None => &mut self.without,
            Some(key) => match self.keys.get_mut(key) {
                Some(count) => count,
                None => self.keys.entry(key.to_owned()).or_default(),
            },
        };
        count.0 += 1;
        count.1 += matched;
    }

    /// Those without a key first, as SQL's ORDER BY has it.
    fn in_order(self) -> Vec<Count> {
        let without = (self.without.0 > 0).then_some((None, self.without));
        let keys = self.keys.into_iter().map(|(key, count)| (Some(key), count));
        without.into_iter().chain(keys).map(|(key, (scans, matched))| Count { key, scans, matched }).collect()
    }
}

fn read_campaign(row: &Row<'_>) -> rusqlite::Result<Campaign> {
    Ok(Campaign {
        id: row.get(0)?,
        user_id: row.get(1)?,
        kind: row.get(2)?,
        name: row.get(3)?,
        description: row.get(4)?,
        active: row.get(5)?,
        created: row.get(6)?,
        updated: row.get(7)?,
    })
}

fn read_scan(row: &Row<'_>) -> rusqlite::Result<Scan> {
    Ok(Scan {
        id: row.get(0)?,
        campaign_id: row.get(1)?,
        dt: row.get(2)?,
        device: row.get(3)?,
        country: row.get(4)?,
        matched: row.get(5)?,
    })
}
