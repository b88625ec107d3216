//! Section 1: the parameter is taken out of the query, and every other byte stays as it was sent.

use crate::common::{TestServer, assert_submitted, error_of};

/// The object that the background PUT with this query made of user 1.
fn put(server: &TestServer, query: &str) -> serde_json::Value {
    let call = server.call("PUT", &format!("/v2.5/users/1?{query}"));
    let rid = assert_submitted(&call.send());
    assert_eq!(server.finished(&rid)["status"], "200", "{query}");
    let result = server.get(&format!("/bgrs/{rid}/result"));
    result.expect(200).json()
}

#[test]
fn the_api_sees_the_query_without_the_parameter_wherever_it_stood() {
    let server = TestServer::start();
    assert_eq!(put(&server, "first_name=Kim&bgrs=yes")["first_name"], "Kim");
    assert_eq!(put(&server, "bgrs=yes&first_name=Lee")["first_name"], "Lee");
    assert_eq!(put(&server, "%62grs=1&first_name=Ann")["first_name"], "Ann");
    let both = put(&server, "first_name=Jo&bgrs=true&last_name=Doe");
    assert_eq!(both["first_name"], "Jo");
    assert_eq!(both["last_name"], "Doe");
    let thrice = put(&server, "bgrs=1&first_name=Al&bgrs=yes&last_name=Bo&bgrs=1");
    assert_eq!(thrice["first_name"], "Al");
    assert_eq!(thrice["last_name"], "Bo");
}

#[test]
fn what_is_percent_encoded_in_the_query_reaches_the_api_unharmed() {
    let server = TestServer::start();
    let query = "first_name=A%26B%3DC&bgrs=yes&last_name=%C3%A9%20%2B%20bgrs%3Dyes";
    let user = put(&server, query);
    assert_eq!(user["first_name"], "A&B=C");
    assert_eq!(user["last_name"], "é + bgrs=yes");
}

#[test]
fn a_foreground_call_is_rid_of_the_parameter_too() {
    let server = TestServer::start();
    let answer = server.call("PUT", "/v2.5/users/1?first_name=Kim&bgrs=no").send();
    assert_eq!(answer.expect(200).json()["first_name"], "Kim");
    let answer = server.call("PUT", "/v2.5/users/1?bgrs=0&first_name=Lee");
    assert_eq!(answer.send().expect(200).json()["first_name"], "Lee");
    assert_eq!(server.rows(), 0);
}

#[test]
fn a_parameter_that_the_api_does_not_know_is_the_apis_affair() {
    let server = TestServer::start();
    let call = server.call("PUT", "/v2.5/users/1?shoe_size=44&bgrs=yes");
    let rid = assert_submitted(&call.send());
    assert_eq!(server.finished(&rid)["status"], "400");
    let result = server.get(&format!("/bgrs/{rid}/result"));
    assert!(error_of(&result, 400).contains("shoe_size"));

    // In capitals it is not the server's parameter, but a field that users do not have.
    let answer = server.call("PUT", "/v2.5/users/1?first_name=Kim&BGRS=yes").send();
    assert!(error_of(&answer, 400).contains("BGRS"));
    assert_eq!(server.rows(), 1);
}

#[test]
fn the_name_is_path_and_query_as_the_caller_sent_them() {
    let server = TestServer::start();
    for name in [
        "/v2.5/users/me?bgrs=yes",
        "/users/me?bgrs=YES",
        "/v2.5/users/me?a=%41&%62grs=YES&b=c%20d+e&&x",
        "/v2.5/users?limit=1&bgrs=true&%c3%A9=%E2%82%ac",
        "/v2.5/users/me?bgrs=1&BGRS=no&a[]=1&b={2}|3",
    ] {
        let rid = assert_submitted(&server.get(name));
        assert_eq!(server.info(&rid)["name"], name);
        assert_eq!(server.finished(&rid)["name"], name);
    }
}

#[test]
fn a_link_in_the_result_leads_on_without_the_parameter() {
    let server = TestServer::start();
    server.add_user("kim", "password of kim");
    let rid = server.finished_get("/v2.5/users?limit=1");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    let next = result.next_link().expect("there is a second page");
    assert!(!next.contains("bgrs"), "{next}");
    assert_eq!(server.get(&next).expect(200).json()[0]["login"], "kim");
}
