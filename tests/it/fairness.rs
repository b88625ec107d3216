//! One user's many requests do not hold up another's single one.

use crate::common::{TestServer, assert_submitted, until};

/// Queues copies of a request of this user.
const QUEUE: &str = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
    INSERT INTO bgrs (rid, source, user_id, method, name, headers, created_dt)
    SELECT lower(hex(randomblob(16))), source, user_id, method, name, headers, created_dt FROM bgrs, n WHERE rid = ?1";

#[test]
fn one_users_many_waiting_requests_do_not_hold_up_anothers_single_one() {
    let mut server = TestServer::options().config("[background]\nconcurrency = 1").start();
    server.add_user("kim", "password of kim");
    let many = server.submit("GET", "/users/me");
    let call = server.call("GET", "/users/me?bgrs=yes").auth("kim", "password of kim");
    let single = assert_submitted(&call.send());
    server.finished(&many);
    server.finished(&single);
    server.stop();
    let db = server.db();
    db.execute("DELETE FROM bgrs_details", []).expect("no details");
    db.execute(QUEUE, (&many, 500)).expect("many rows");
    db.execute(QUEUE, (&single, 1)).expect("a row behind them");

    server.start_again();
    let waiting = "SELECT count(*) FROM bgrs WHERE status_id IN (1, 2)";
    until("all have ended", || db.query_row(waiting, [], |row| row.get::<_, i64>(0)).expect("a count") == 0);
    let place = "SELECT count(*) FROM bgrs_details WHERE id <=
                     (SELECT d.id FROM bgrs_details d JOIN bgrs b ON b.id = d.bgrs_id WHERE b.user_id = '2')";
    let place: i64 = db.query_row(place, [], |row| row.get(0)).expect("a place");
    assert!(place <= 2, "it was the {place}th of 501");
}
