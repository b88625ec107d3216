//! What only a hand in the database can bring about: rows as a crash leaves them, and many at once.
//!
//! The names that are used here are those of the documented tables; whatever else a row holds is left as it is.

use rusqlite::Connection;

use super::TestServer;

/// Matches the row of an rid, whether the column holds it as text or as bytes.
const THIS_RID: &str = "?1 IN (rid, lower(hex(rid)))";

/// What a row gets when its request has ended, and a running one does not have.
const OF_THE_END: [&str; 8] =
    ["finished_dt", "expires_dt", "status", "content_type", "result", "size", "etag", "digest"];

fn columns(db: &Connection, table: &str) -> Vec<String> {
    let sql = format!("SELECT name FROM pragma_table_info('{table}')");
    let mut query = db.prepare(&sql).expect("a query");
    let names = query.query_map([], |row| row.get(0)).expect("columns");
    names.map(|name| name.expect("a name")).collect()
}

/// A time some seconds after the row was made, in the form in which the row has its times.
fn later(seconds: i64) -> String {
    format!(
        "CASE WHEN typeof(created_dt) = 'text' THEN datetime(created_dt, '+{seconds} seconds') \
         WHEN created_dt > 100000000000 THEN created_dt + {seconds} * 1000 \
         ELSE created_dt + {seconds} END"
    )
}

/// Makes one request's row a running one, whose lease lasts these seconds.
fn set_running(server: &TestServer, rid: &str, attempts: u32, lease: i64) {
    let db = server.db();
    let mut changes = vec!["status_id = 2".to_owned(), format!("attempts = {attempts}")];
    for column in columns(&db, "bgrs") {
        if OF_THE_END.contains(&column.as_str()) {
            changes.push(format!("{column} = NULL"));
        } else if column == "started_dt" {
            changes.push("started_dt = created_dt".to_owned());
        } else if column.contains("lease") {
            changes.push(format!("{column} = {}", later(lease)));
        }
    }
    let pragma = db.pragma_update(None, "ignore_check_constraints", true);
    pragma.expect("a pragma");
    let sql = format!("UPDATE bgrs SET {} WHERE {THIS_RID}", changes.join(", "));
    let changed = db.execute(&sql, [rid]).expect("an update");
    assert_eq!(changed, 1, "there is one row for {rid}");
}

/// While the server is down: a worker had the request, and this was its so-manieth attempt.
pub fn force_running(server: &TestServer, rid: &str, attempts: u32) {
    set_running(server, rid, attempts, 30);
}

/// While the server runs: an ended request is one that a worker has, and keeps for long.
pub fn pin_running(server: &TestServer, rid: &str) {
    set_running(server, rid, 1, 1_000_000_000);
}

pub fn is_queued(server: &TestServer, rid: &str) -> bool {
    let sql = format!("SELECT status_id = 1 FROM bgrs WHERE {THIS_RID}");
    let queued = server.db().query_row(&sql, [rid], |row| row.get(0));
    queued.expect("a row")
}

/// The rids of all requests that finished.
pub fn finished(server: &TestServer) -> Vec<String> {
    let db = server.db();
    let sql = "SELECT iif(typeof(rid) = 'blob', lower(hex(rid)), rid) FROM bgrs WHERE status_id = 4";
    let mut query = db.prepare(sql).expect("a query");
    let rids = query.query_map([], |row| row.get(0)).expect("rows");
    rids.map(|rid| rid.expect("an rid")).collect()
}

/// Adds so many details to an ended request, each a copy of its last one with a text of its own.
pub fn add_details(server: &TestServer, rid: &str, count: usize) {
    let details = server.details(rid);
    let last = details.last().expect("a detail")["id"].as_str();
    let id = last.and_then(|id| id.parse().ok()).expect("an id");
    copy(server, "bgrs_details", id, "details", count);
}

/// Adds so many users who differ from this one in their logins only.
pub fn add_users(server: &TestServer, like: i64, count: usize) {
    copy(server, "users", like, "login", count);
}

/// Copies a row, each time with another text in one column and an id of its own.
fn copy(server: &TestServer, table: &str, id: i64, column: &str, count: usize) {
    let db = server.db();
    let others = columns(&db, table);
    let others = others.iter().filter(|name| *name != "id" && *name != column);
    let others: Vec<_> = others.map(String::as_str).collect();
    let others = others.join(", ");
    let sql = format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2) \
         INSERT INTO {table} ({column}, {others}) \
         SELECT 'copy ' || n, {others} FROM {table}, n WHERE id = ?1"
    );
    let count = i64::try_from(count).expect("a number");
    let copied = db.execute(&sql, [id, count]).expect("copies");
    assert_eq!(copied as i64, count);
}
