//! Section 14: users as CSV.

use serde_json::{Value, json};

use crate::common::{TestServer, error_of};
use crate::users_read::KEYS;

/// The header and the rows.
fn read(server: &TestServer, target: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let answer = server.get(target).expect(200);
    let content_type = answer.header("Content-Type");
    assert_eq!(content_type, Some("text/csv; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with("\r\n"), "RFC 4180 ends a line with CR LF");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let own = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect();
    let header = own(reader.headers().expect("a header"));
    let rows = reader.records();
    let rows = rows.map(|row| own(&row.expect("a row"))).collect();
    (header, rows)
}

fn column(key: &str) -> usize {
    let position = KEYS.iter().position(|known| *known == key);
    position.expect("a column")
}

#[test]
fn a_list_is_a_header_and_a_row_for_each_user() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    let (header, rows) = read(&server, "/v2.5/users?t=csv");
    assert_eq!(header, KEYS);
    let list = server.get("/v2.5/users").expect(200).json();
    let list = list.as_array().expect("an array");
    assert_eq!(rows.len(), list.len());
    for (row, user) in rows.iter().zip(list) {
        assert_eq!(row[column("id")], user["id"].to_string());
        for key in ["login", "created_dt"] {
            assert_eq!(Value::from(row[column(key)].as_str()), user[key]);
        }
    }
}

#[test]
fn a_single_user_is_a_header_and_one_row() {
    let server = TestServer::start();
    for target in ["/v2.5/users/me?t=csv", "/v2.5/users/1?t=csv"] {
        let (header, rows) = read(&server, target);
        assert_eq!(header, KEYS);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0][column("login")], "admin");
    }
}

#[test]
fn an_empty_list_still_has_its_header() {
    let server = TestServer::start();
    let (header, rows) = read(&server, "/v2.5/users?t=csv&after=1000000");
    assert_eq!(header, KEYS);
    assert!(rows.is_empty());
}

#[test]
fn separators_quotes_and_line_ends_survive() {
    let server = TestServer::start();
    let name = "a,b;\"c\" 'd' é";
    server.put("/v2.5/users/1", &json!({ "display_name": name }));
    let (_, rows) = read(&server, "/v2.5/users?t=csv");
    assert_eq!(rows[0][column("display_name")], name);
    let text = server.get("/v2.5/users?t=csv").text();
    assert!(text.contains(r#""a,b;""c"" 'd' é""#), "{text}");
}

#[test]
fn what_a_spreadsheet_would_run_gets_an_apostrophe_in_csv_and_only_there() {
    let server = TestServer::start();
    for formula in ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "=HYPERLINK(\"http://example.com\",\"x\")"] {
        let user = json!({ "first_name": formula, "last_name": "a=b" });
        let json = server.put("/v2.5/users/1", &user).expect(200).json();
        assert_eq!(json["first_name"], formula);
        let (_, rows) = read(&server, "/v2.5/users/me?t=csv");
        assert_eq!(rows[0][column("first_name")], format!("'{formula}"));
        assert_eq!(rows[0][column("last_name")], "a=b");
        assert_eq!(rows[0][column("id")], "1");
    }
}

#[test]
fn a_formula_is_made_harmless_in_a_background_result_too() {
    let server = TestServer::start();
    server.put("/v2.5/users/1", &json!({ "first_name": "=cmd|' /C calc'!A0" }));
    let rid = server.finished_get("/v2.5/users?t=csv");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert!(result.text().contains("'=cmd|"), "{}", result.lossy());
    assert!(!result.text().contains(",=cmd|"), "{}", result.lossy());
}

#[test]
fn an_error_is_json_whatever_format_was_asked_for() {
    let server = TestServer::start();
    error_of(&server.get("/v2.5/users/999?t=csv"), 404);
    error_of(&server.get("/v2.5/users?t=csv&limit=0"), 400);
}
