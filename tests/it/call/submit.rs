//! What is sent.

use std::fs;

use super::{call, command, home, in_front_of, url};
use crate::common::TestServer;
use crate::common::data_dir::run;
use crate::common::upstream::Upstream;

const JSON: Option<&str> = Some("application/json");
const BYTES: Option<&str> = Some("application/octet-stream");

#[test]
fn a_call_is_made_in_the_background_without_a_configuration_and_its_result_goes_to_standard_output() {
    let server = TestServer::start();
    let ended = call(&home(), &[&url(&server, "/v2.5/users/me?t=csv")]).expect(0);
    assert_eq!(ended.stdout, server.get("/v2.5/users/me?t=csv").expect(200).text());
    assert_eq!(ended.complaints().last(), Some(&"100.00% done"));
    let name = server.db().query_row("SELECT name FROM bgrs", [], |row| row.get::<_, String>(0));
    assert_eq!(name.unwrap(), "/v2.5/users/me?t=csv&bgrs=yes");
}

#[test]
fn data_makes_it_a_post_and_is_of_the_type_that_it_parses_as() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    let home = home();
    let large = "x".repeat(3 << 20);
    fs::write(home.path().join("data.json"), "[1, 2]\n").unwrap();
    fs::write(home.path().join("large"), &large).unwrap();
    for (args, method, content_type, body) in [
        (&["-d", "{\"a\": 1}"][..], "POST", JSON, "{\"a\": 1}"),
        (&["-d", "a=1"], "POST", BYTES, "a=1"),
        (&["-d", "{\"a\": 1} 2"], "POST", BYTES, "{\"a\": 1} 2"),
        (&["-d", "-5"], "POST", JSON, "-5"),
        (&["-d", ""], "POST", BYTES, ""),
        (&["-X", "put", "-d", "[]"], "PUT", JSON, "[]"),
        (&["-X", "GET", "-d", "[]"], "GET", JSON, "[]"),
        (&["-H", "Content-Type: text/csv", "-d", "1"], "POST", Some("text/csv"), "1"),
        (&["-d", "@data.json"], "POST", JSON, "[1, 2]\n"),
        (&["-d", "@large"], "POST", BYTES, &large),
        (&["-d", "@-"], "POST", JSON, "\"from standard input\""),
        (&["--json", "@data.json"], "POST", JSON, "[1, 2]\n"),
        (&["-X", "POST"], "POST", None, ""),
        (&["-X", "DELETE"], "DELETE", None, ""),
        (&[], "GET", None, ""),
    ] {
        let url = url(&server, "/up?x=%20+");
        let args = [&["-u", "admin"][..], args, &[&url]].concat();
        run(command(&home, &args), "\"from standard input\"").expect(0);
        let seen = upstream.seen().pop().expect("a call");
        assert_eq!(seen.line(), format!("{method} /up?x=%20+ HTTP/1.1"), "{args:?}");
        assert_eq!(seen.header("Content-Type"), content_type, "{args:?}");
        assert!(seen.body == body.as_bytes(), "{args:?}");
    }
}

#[test]
fn headers_arrive_as_they_were_given() {
    let upstream = Upstream::saying("");
    let server = in_front_of(&upstream);
    let (home, url) = (home(), url(&server, "/up"));
    call(&home, &["-H", "X-One: 1", "-H", "X-One:2", "-H", "Accept: text/csv", "--json", "1", &url]).expect(0);
    call(&home, &["--json", "1", &url]).expect(0);
    call(&home, &[&url]).expect(0);
    let seen = upstream.seen();
    assert_eq!(seen[0].all("X-One"), ["1", "2"]);
    let accepted: Vec<_> = seen.iter().map(|seen| seen.all("Accept")).collect();
    assert_eq!(accepted, [["text/csv"], ["application/json"], ["*/*"]]);
    assert!(seen[0].header("User-Agent").unwrap_or_default().starts_with("bgrs-server/"), "{}", seen[0].head);
}

#[test]
fn a_submission_has_a_key_of_its_own_unless_it_is_no_call_to_make_twice() {
    let upstream = Upstream::saying("the same");
    let server = in_front_of(&upstream);
    let (home, url) = (home(), url(&server, "/up"));
    for args in [&[&*url][..], &["-X", "PUT", "-d", "1", &url], &["-d", "1", &url]] {
        call(&home, args).expect(0);
    }
    let keys = upstream.seen().iter().map(|seen| seen.header("Idempotency-Key").map(str::to_owned)).collect::<Vec<_>>();
    assert!(keys[..2].iter().flatten().all(|key| key.len() == 32), "{keys:?}");
    assert!(keys[0].is_some() && keys[1].is_some() && keys[0] != keys[1] && keys[2].is_none(), "{keys:?}");
    for _ in 0..2 {
        let ended = call(&home, &["-H", "Idempotency-Key: mine", "-d", "1", &url]).expect(0);
        assert_eq!(ended.stdout, "the same");
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[3].all("Idempotency-Key"), ["mine"]);
}
