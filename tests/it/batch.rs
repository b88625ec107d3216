//! Section 8: one call for each element of an array.

use serde_json::{Value, json};

use crate::common::http::Response;
use crate::common::upstream::Upstream;
use crate::common::{TestServer, assert_submitted, eventually};

fn campaigns(server: &TestServer) -> Vec<Value> {
    server.get("/campaigns?limit=1000").expect(200).json().as_array().expect("an array").clone()
}

/// Waits for a batch's end and gives its result.
fn result(server: &TestServer, submitted: &Response) -> Vec<Value> {
    let rid = assert_submitted(submitted);
    server.finished(&rid);
    elements(&server.get(&format!("/bgrs/{rid}/result")).expect(200))
}

fn elements(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    let elements = answer.json().as_array().expect("an array").clone();
    for element in &elements {
        assert_eq!(element.as_object().expect("an object").len(), 2, "{element}");
        assert!(element["body"].is_string(), "{element}");
    }
    elements
}

fn statuses(elements: &[Value]) -> Vec<i64> {
    elements.iter().map(|element| element["status"].as_i64().expect("a number")).collect()
}

fn body(element: &Value) -> Value {
    serde_json::from_str(element["body"].as_str().expect("a text")).expect("JSON")
}

fn named(count: usize) -> Value {
    (1..=count).map(|n| json!({ "name": format!("bulk test {n}") })).collect()
}

#[test]
fn an_array_is_a_background_request_and_its_result_is_in_the_elements_order() {
    let server = TestServer::start();
    for (target, count) in [("/campaigns", 100), ("/v2.5/campaigns?bgrs=yes", 3), ("/v2.5/campaigns", 1)] {
        let made = result(&server, &server.post(target, &named(count)));
        assert_eq!(statuses(&made), vec![200; count]);
        for (at, element) in made.iter().enumerate() {
            let campaign = body(element);
            assert_eq!(campaign["name"], format!("bulk test {}", at + 1));
            assert_eq!(campaign["id"], body(&made[0])["id"].as_i64().expect("an id") + at as i64);
            let again = server.get(&format!("/campaigns/{}", campaign["id"])).expect(200);
            assert_eq!(again.json(), campaign);
        }
    }
    assert_eq!(campaigns(&server).len(), 104);
}

#[test]
fn with_bgrs_no_the_result_is_the_answer() {
    let server = TestServer::start();
    let made = elements(&server.post("/campaigns?bgrs=no", &named(50)).expect(200));
    assert_eq!(statuses(&made), [200; 50]);
    assert_eq!(body(&made[49])["name"], "bulk test 50");
    assert_eq!((campaigns(&server).len(), server.rows()), (50, 0));
    let left: Vec<_> = server.files().into_iter().filter(|name| name.contains("bgrs.")).collect();
    assert!(left.iter().all(|name| !name.ends_with(".body")), "{left:?}");
}

#[test]
fn an_element_that_fails_fails_alone_and_leaves_a_detail() {
    let server = TestServer::start();
    let array = json!([{ "name": "one" }, { "nam": "two" }, 5, { "name": "" }, { "name": "five" }]);
    let answer = server.post("/campaigns", &array);
    let made = result(&server, &answer);
    assert_eq!(statuses(&made), [200, 400, 400, 400, 200]);
    assert_eq!(body(&made[1])["error"], "Bad Request");
    let rid = assert_submitted(&answer);
    let details: Vec<String> =
        server.details(&rid).iter().map(|detail| detail["details"].as_str().expect("a text").to_owned()).collect();
    for failed in ["element 2 of 5 failed with 400", "element 3 of 5", "element 4 of 5"] {
        assert_eq!(details.iter().filter(|detail| detail.contains(failed)).count(), 1, "{failed}: {details:?}");
    }
    assert!(details.contains(&"5 of 5 elements done, 3 failed".to_owned()), "{details:?}");
    assert_eq!(details.last().map(String::as_str), Some("done"));
    let info = server.info(&rid);
    assert_eq!((&info["progress"], &info["status"]), (&json!("100.00"), &json!("200")));
    assert_eq!(campaigns(&server).len(), 2);
}

#[test]
fn elements_of_a_put_and_a_delete_name_their_objects() {
    let server = TestServer::start();
    elements(&server.post("/campaigns?bgrs=no", &named(3)).expect(200));
    let array = json!([
        { "id": 1, "name": "first" }, { "id": "2", "name": "second" }, { "name": "nobody's" }, { "id": 99, "name": "x" },
        { "id": 1, "name": "again" }, { "id": 1, "name": "and again" }, { "id": "1/../2", "name": "climbs" },
    ]);
    let changed = result(&server, &server.put("/campaigns", &array));
    assert_eq!(statuses(&changed), [200, 400, 400, 404, 200, 200, 404], "{changed:?}");
    let names = |server: &TestServer| {
        campaigns(server).iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&server), ["and again", "bulk test 2", "bulk test 3"]);
    let gone = server.call("DELETE", "/campaigns").json(&json!([{ "id": 1 }, { "id": 1 }, { "id": 3 }])).send();
    let gone = result(&server, &gone);
    assert_eq!(statuses(&gone), [204, 404, 204]);
    assert_eq!(gone[0]["body"], "");
    assert_eq!(names(&server), ["bulk test 2"]);
}

#[test]
fn elements_run_with_the_callers_own_rights() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    server.post("/campaigns", &json!({ "name": "the administrator's" })).expect(200);
    let kim = |method: &str, target: &str, array: &Value| {
        let answer = server.call(method, target).auth("kim", "password of kim").json(array).send();
        statuses(&result(&server, &answer))
    };
    assert_eq!(kim("PUT", "/campaigns", &json!([{ "id": 1, "name": "kim's" }])), [404]);
    assert_eq!(kim("POST", "/users", &json!([{ "login": "lee", "password": "password" }])), [403]);
    assert_eq!(kim("POST", "/campaigns", &json!([{ "name": "kim's" }])), [200]);
}

#[test]
fn what_is_no_array_on_a_collection_is_an_ordinary_call() {
    let server = TestServer::start();
    server.post("/campaigns", &json!({ "name": "one" })).expect(200);
    server.put("/campaigns/1", &json!([{ "name": "two" }])).expect(400);
    server.call("POST", "/campaigns").body("text/plain", "[{\"name\": \"three\"}]").send().expect(415);
    server.put("/users/me", &json!([{ "id": 1 }])).expect(405);
    server.call("POST", "/campaigns").body("application/json", " \r\n\t{\"name\": \"four\"}").send().expect(200);
    assert_eq!(server.rows(), 0);
    assert_eq!(campaigns(&server).len(), 2);
}

#[test]
fn an_array_that_is_none_at_its_end_is_400_and_nothing_is_done() {
    let server = TestServer::start();
    let long = format!("[{{\"name\": \"one\"}}, {{\"name\": \"{}\"}}]", "x".repeat(2 << 20));
    for target in ["/campaigns", "/campaigns?bgrs=no", "/campaigns?bgrs=yes"] {
        for array in
            ["[{\"name\": \"one\"}", "[{\"name\": \"one\"},]", "[{\"name\": \"one\"} 5]", "[1]]", "[nul]", &long]
        {
            let call = server.call("POST", target).body("application/json", array);
            server.leaves_nothing(|| call.send().expect(400));
        }
    }
    assert!(campaigns(&server).is_empty());
}

#[test]
fn an_empty_array_has_an_empty_result() {
    let server = TestServer::start();
    assert!(result(&server, &server.post("/campaigns", &json!([]))).is_empty());
    let answer =
        server.call("POST", "/campaigns?bgrs=no").body("application/json; charset=utf-8", "  [ \n ] ").chunked();
    assert!(elements(&answer.send().expect(200)).is_empty());
}

#[test]
fn a_batch_that_a_kill_interrupts_is_not_repeated_and_says_how_far_it_came() {
    let mut server = TestServer::start();
    let total = 20_000;
    let rid = assert_submitted(&server.post("/campaigns", &named(total)));
    let done = |server: &TestServer| {
        let details = server.details(&rid);
        let mut counts = details.iter().filter_map(|detail| {
            let text = detail["details"].as_str()?;
            text.split_once(&format!(" of {total} elements done"))?.0.parse::<i64>().ok()
        });
        counts.next_back()
    };
    eventually("a count of what is done", || done(&server));
    server.kill();
    server.start_again();
    let info = server.ended(&rid);
    assert_eq!(info["status_name"], "failed", "{info}");
    assert_eq!(server.last_detail(&rid), "interrupted by a restart; POST is not repeated");
    let made = server.count("campaigns");
    let said = done(&server).expect("a count");
    assert!(0 < said && said <= made && made < total as i64, "{said} said, {made} made");
}

#[test]
fn a_batch_in_the_foreground_names_no_request_to_the_upstream() {
    let upstream = Upstream::saying("{}");
    let config = format!("{}[[route]]\npath = \"/up\"\nbatch = true\n", upstream.table("/up"));
    let server = TestServer::options().config(&config).start();
    server.put("/up/x?bgrs=no", &json!([{ "id": 7 }])).expect(200);
    assert_eq!(upstream.only().header("Bgrs-Request"), None);
    let rid = assert_submitted(&server.put("/up/x", &json!([{ "id": 8 }])));
    server.finished(&rid);
    assert_eq!(upstream.seen()[1].header("Bgrs-Request"), Some(rid.as_str()));
}
