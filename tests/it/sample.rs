//! The sample data: something to try long calls on.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::common::http::{basic, read_to_end};
use crate::common::server::PASSWORD;
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
fn an_export_has_what_there_was_when_it_began_however_long_it_takes() {
    let server = TestServer::start();
    server.run(&["sample", "--scans", "200000"], "").expect(0);
    let mut slow = TcpStream::connect(server.addr()).unwrap();
    let auth = basic("admin", PASSWORD);
    let call = format!(
        "GET /v2.5/scans/export?t=csv HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\nConnection: close\r\n\r\n"
    );
    slow.write_all(call.as_bytes()).unwrap();
    // It has begun, and cannot be at its end: some 12 MiB do not fit between the two.
    let mut received = vec![0; 1000];
    let read = slow.read(&mut received).unwrap();
    received.truncate(read);
    let made = server.post("/v2.5/scans", &json!({"campaign_id": 1, "country": "XX"})).expect(200).json();
    assert_eq!(made["id"], 200_001);
    server.delete("/v2.5/campaigns/2").expect(204);
    received.extend(read_to_end(&mut slow).unwrap());
    let text = String::from_utf8_lossy(&received);
    assert!(text.ends_with("0\r\n\r\n"), "the export has come to its end");
    assert!(text.contains("\n200000,") && !text.contains("\n200001,"));
    let afterwards = server.get("/v2.5/scans/export?campaign_id=1").expect(200).json();
    assert_eq!(afterwards.as_array().unwrap().last().unwrap()["id"], 200_001);
}

#[test]
fn a_statistic_leaves_a_detail_with_each_million_rows() {
    let server = TestServer::start();
    server.run(&["sample", "--scans", "1000100", "--campaigns", "1"], "").expect(0);
    let rid = server.finished_get("/v2.5/campaigns/1/statistics?by=device");
    let details = server.details(&rid);
    let texts: Vec<_> = details.iter().map(|detail| detail["details"].as_str().unwrap()).collect();
    assert!(texts.contains(&"1000000 of 1000100 scans counted"), "{texts:?}");
    assert_eq!(texts.last(), Some(&"done"));
}

#[test]
fn a_wrong_number_of_scans_is_refused() {
    let dir = DataDir::with("", "");
    dir.run(&["sample", "--scans", "0"], "").expect(2);
    dir.run(&["sample", "--scans", "many"], "").expect(2);
    assert!(!dir.database().exists());
}
