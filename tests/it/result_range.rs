//! Section 5: parts of a result, and results that the caller has already.

use crate::common::{Response, TestServer, error_of};

struct Fixture {
    server: TestServer,
    path: String,
    body: Vec<u8>,
    etag: String,
}

impl Fixture {
    fn new() -> Self {
        let server = TestServer::start();
        let rid = server.finished_get("/v2.5/users");
        let path = format!("/bgrs/{rid}/result");
        let whole = server.get(&path).expect(200);
        let etag = whole.header("ETag").expect("an ETag").to_owned();
        assert!(whole.body.len() > 50, "the tests below need some bytes");
        Self { server, path, body: whole.body, etag }
    }

    fn get(&self, headers: &[(&str, &str)]) -> Response {
        let call = self.server.call("GET", &self.path);
        let with = |call: crate::common::Call, (name, value): &(&str, &str)| call.header(name, value);
        headers.iter().fold(call, with).send()
    }

    #[track_caller]
    fn assert_part(&self, answer: &Response, first: usize, last: usize) {
        assert_eq!(answer.status, 206, "{}", answer.lossy());
        assert_eq!(answer.body, self.body[first..=last]);
        let range = format!("bytes {first}-{last}/{}", self.body.len());
        assert_eq!(answer.header("Content-Range"), Some(range.as_str()));
        assert_eq!(answer.header("ETag"), Some(self.etag.as_str()));
        assert!(answer.header("Bgrs-Request").is_some());
    }

    #[track_caller]
    fn assert_whole(&self, answer: &Response) {
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        assert_eq!(answer.body, self.body);
        assert_eq!(answer.header("Content-Range"), None);
    }
}

#[test]
fn a_range_gives_just_that_part() {
    let fixture = Fixture::new();
    let end = fixture.body.len() - 1;
    for (range, first, last) in [
        ("bytes=0-9".to_owned(), 0, 9),
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=7-".to_owned(), 7, end),
        ("bytes=0-".to_owned(), 0, end),
        ("bytes=-5".to_owned(), end - 4, end),
        ("bytes=-999999".to_owned(), 0, end),
        ("bytes=10-999999".to_owned(), 10, end),
        (format!("bytes={end}-{end}"), end, end),
        ("bytes=10-99999999999999999999999999".to_owned(), 10, end),
    ] {
        let answer = fixture.get(&[("Range", &range)]);
        fixture.assert_part(&answer, first, last);
    }
}

#[test]
fn the_parts_of_a_result_make_up_the_whole() {
    let fixture = Fixture::new();
    let mut joined = Vec::new();
    while joined.len() < fixture.body.len() {
        let range = format!("bytes={}-{}", joined.len(), joined.len() + 16);
        joined.extend(fixture.get(&[("Range", &range)]).expect(206).body);
    }
    assert_eq!(joined, fixture.body);
}

#[test]
fn a_range_beyond_the_end_is_416_and_says_how_long_the_result_is() {
    let fixture = Fixture::new();
    let length = fixture.body.len();
    for range in [format!("bytes={length}-"), "bytes=999999-1000000".into()] {
        let answer = fixture.get(&[("Range", &range)]);
        error_of(&answer, 416);
        let whole = format!("bytes */{length}");
        assert_eq!(answer.header("Content-Range"), Some(whole.as_str()));
    }
}

#[test]
fn a_range_that_is_none_is_ignored() {
    let fixture = Fixture::new();
    for range in
        ["bytes=9-5", "bytes=a-b", "bytes=", "bytes=-", "bytes", "bytes=1", "lines=0-5", "bytes=--5", "bytes=0x1-0x5"]
    {
        fixture.assert_whole(&fixture.get(&[("Range", range)]));
    }
}

#[test]
fn a_range_is_ignored_by_head_and_on_an_answer_that_is_not_200() {
    let fixture = Fixture::new();
    let head = fixture.server.call("HEAD", &fixture.path);
    let head = head.header("Range", "bytes=0-9").send().expect(200);
    let length = fixture.body.len().to_string();
    assert_eq!(head.header("Content-Length"), Some(length.as_str()));

    let rid = fixture.server.finished_get("/v2.5/users/999");
    let path = format!("/bgrs/{rid}/result");
    let whole = fixture.server.get(&path).expect(404);
    let call = fixture.server.call("GET", &path);
    let call = call.header("Range", "bytes=0-4");
    let call = call.header("If-None-Match", "*");
    assert_eq!(call.send().expect(404).body, whole.body);
}

#[test]
fn if_range_gives_the_part_of_what_the_caller_has_and_else_the_whole() {
    let fixture = Fixture::new();
    let range = ("Range", "bytes=3-8");
    let part = fixture.get(&[range, ("If-Range", &fixture.etag)]);
    fixture.assert_part(&part, 3, 8);
    let weak = format!("W/{}", fixture.etag);
    for other in ["\"another\"", &weak, "Tue, 01 Jan 2030 00:00:00 GMT"] {
        fixture.assert_whole(&fixture.get(&[range, ("If-Range", other)]));
    }
    let beyond = fixture.get(&[("Range", "bytes=999999-"), ("If-Range", "\"another\"")]);
    fixture.assert_whole(&beyond);
}

#[test]
fn if_none_match_with_the_etag_is_304() {
    let fixture = Fixture::new();
    let etag = &fixture.etag;
    for matching in [
        etag.clone(),
        format!("W/{etag}"),
        format!("\"another\", {etag}"),
        format!("\"another\",{etag},\"third\""),
        "*".to_owned(),
    ] {
        let answer = fixture.get(&[("If-None-Match", &matching)]);
        assert_eq!(answer.status, 304, "{matching}");
        assert_eq!(answer.header("ETag"), Some(etag.as_str()));
        let control = answer.header("Cache-Control");
        assert_eq!(control, Some("private, no-cache"));
    }
    let with_range = fixture.get(&[("If-None-Match", etag), ("Range", "bytes=0-4")]);
    assert_eq!(with_range.status, 304);
    let head = fixture.server.call("HEAD", &fixture.path);
    assert_eq!(head.header("If-None-Match", etag).send().status, 304);
}

#[test]
fn if_none_match_with_anything_else_is_the_whole() {
    let fixture = Fixture::new();
    let bare = fixture.etag.trim_matches('"').to_owned();
    for other in ["\"another\"", "W/\"another\"", "\"\"", &bare] {
        fixture.assert_whole(&fixture.get(&[("If-None-Match", other)]));
    }
}
