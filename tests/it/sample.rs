//! The sample data: something to try long calls on.

use crate::common::{DataDir, TestServer};

fn dump(dir: &DataDir) -> Vec<String> {
    let db = dir.db();
    let mut lines = Vec::new();
    for sql in [
        "SELECT concat_ws('|', id, user_id, type, name, active, created_dt) FROM campaigns ORDER BY id",
        "SELECT concat_ws('|', id, campaign_id, dt, device, country, matched) FROM scans ORDER BY id",
    ] {
        let mut statement = db.prepare(sql).expect("a query");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        lines.extend(rows.map(|row| row.expect("a row")));
    }
    lines
}

#[test]
fn the_same_seed_makes_the_same_data_and_another_one_other_data() {
    let dirs: Vec<_> = ["1", "1", "2"]
        .iter()
        .map(|seed| {
            let dir = DataDir::with("", "");
            let ended = dir.run(&["sample", "--scans", "7000", "--campaigns", "3", "--seed", seed], "").expect(0);
            assert!(ended.stdout.contains("3 campaigns and 7000 scans made"), "{}", ended.stdout);
            dir
        })
        .collect();
    let dumps: Vec<_> = dirs.iter().map(dump).collect();
    assert_eq!(dumps[0].len(), 7003);
    assert!(dumps[0] == dumps[1], "the same seed made other data");
    assert!(dumps[0] != dumps[2], "another seed made the same data");
}

#[test]
fn sample_data_is_counted_and_exported_in_the_background() {
    let server = TestServer::start();
    server.run(&["sample", "--scans", "20000"], "").expect(0);
    let rid = server.finished_get("/v2.5/scans/export?t=csv");
    let csv = server.get(&format!("/bgrs/{rid}/result")).expect(200).text();
    assert_eq!(csv.lines().count(), 20_001);
    let statistic = server.get("/v2.5/campaigns/1/statistics?by=country").expect(200).json();
    assert!(statistic.as_array().expect("lines").len() > 5, "{statistic}");
}

#[test]
fn a_wrong_number_of_scans_is_refused() {
    let dir = DataDir::with("", "");
    dir.run(&["sample", "--scans", "0"], "").expect(2);
    dir.run(&["sample", "--scans", "many"], "").expect(2);
    assert!(!dir.database().exists());
}
