//! Pages of other origins: what they are told, and what they are not.

use crate::common::upstream::{Upstream, answer};
use crate::common::{Response, TestServer, error_of};

const APP: &str = "https://app.example";

fn start(upstream: &Upstream, cors: &str) -> TestServer {
    TestServer::options().config(&format!("{}[cors]\n{cors}\n", upstream.table("/up"))).start()
}

/// An upstream that grants everything to everybody by itself.
fn generous() -> Upstream {
    Upstream::start(|seen, stream| {
        let origin = seen.header("Origin").unwrap_or("none").to_owned();
        let headers = format!(
            "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
             Access-Control-Expose-Headers: X-Own\r\nX-Own: 1\r\nVary: Accept\r\n"
        );
        answer(stream, "200 OK", &headers, "well");
    })
}

fn preflight(server: &TestServer, target: &str, origin: &str, method: &str) -> Response {
    let call = server.call("OPTIONS", target).no_auth().header("Origin", origin);
    call.header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "authorization,x-own")
        .send()
}

#[test]
fn a_preflight_allows_every_method_and_header_to_these_origins_without_credentials() {
    let upstream = generous();
    let server = start(&upstream, &format!("origins = [\"{APP}\"]\nmax_age = \"90s\""));
    for target in ["/up/x?bgrs=yes", "/bgrs", "/v2.5/users"] {
        for method in ["POST", "DELETE", "PURGE"] {
            let allowed = preflight(&server, target, APP, method).expect(200);
            assert_eq!(allowed.header("Access-Control-Allow-Origin"), Some(APP), "{target} {method}");
            assert_eq!(allowed.header("Access-Control-Allow-Methods"), Some(method));
            assert_eq!(allowed.header("Access-Control-Allow-Headers"), Some("authorization,x-own"));
            assert_eq!(allowed.header("Access-Control-Max-Age"), Some("90"));
            assert_eq!(allowed.header("Access-Control-Allow-Credentials"), None);
            assert!(allowed.header("Vary").unwrap().contains("Origin"));
        }
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_preflight_of_another_origin_is_refused_in_json() {
    let upstream = generous();
    let server = start(&upstream, &format!("origins = [\"{APP}\"]\ncredentials = true"));
    for origin in ["https://evil.example", "null", "https://app.example:8443", "https://app.example.evil.example"] {
        let refused = preflight(&server, "/up/x", origin, "GET");
        error_of(&refused, 403);
        assert_eq!(refused.header("Access-Control-Allow-Origin"), None);
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_answer_is_read_by_these_origins_and_by_no_other() {
    let upstream = generous();
    let server = start(&upstream, &format!("origins = [\"{APP}\"]\ncredentials = true"));
    let called = |target: &str, origin: &str| server.call("GET", target).header("Origin", origin).send();
    let answer = called("/up/x", APP).expect(200);
    assert_eq!(answer.header_all("Access-Control-Allow-Origin"), [APP]);
    assert_eq!(answer.header_all("Access-Control-Allow-Credentials"), ["true"]);
    assert!(answer.header("Access-Control-Expose-Headers").unwrap().contains("x-own"));
    assert_eq!(answer.header_all("Vary"), ["Accept", "Origin"]);
    let accepted = called("/up/x?bgrs=yes", APP).expect(202);
    assert!(accepted.header("Access-Control-Expose-Headers").unwrap().contains("location"));
    for origin in ["https://evil.example", "null"] {
        for target in ["/up/x", "/up/x?bgrs=yes", "/bgrs", "/v2.5/nothing"] {
            let answer = called(target, origin);
            for name in ["Allow-Origin", "Allow-Credentials", "Expose-Headers"] {
                assert_eq!(answer.header(&format!("Access-Control-{name}")), None, "{origin} {target} {name}");
            }
        }
    }
}

#[test]
fn any_origin_is_allowed_where_the_configuration_says_so_and_never_with_cookies() {
    let upstream = generous();
    let server = start(&upstream, "origins = [\"*\"]");
    let answer = server.call("GET", "/up/x").header("Origin", "https://any.example").send().expect(200);
    assert_eq!(answer.header_all("Access-Control-Allow-Origin"), ["*"]);
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
    // Also where no page asks: a cache may give it to one that does.
    assert_eq!(server.get("/up/x").expect(200).header_all("Access-Control-Allow-Origin"), ["*"]);
    let allowed = preflight(&server, "/up/x", "https://any.example", "PATCH").expect(200);
    assert_eq!(allowed.header("Access-Control-Allow-Origin"), Some("*"));
}

#[test]
fn without_origins_the_upstreams_own_word_stands() {
    let upstream = generous();
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let answer = server.call("GET", "/up/x").header("Origin", "https://any.example").send().expect(200);
    assert_eq!(answer.header_all("Access-Control-Allow-Origin"), ["https://any.example"]);
    assert_eq!(answer.header_all("Access-Control-Allow-Credentials"), ["true"]);
    assert_eq!(preflight(&server, "/up/x", APP, "GET").expect(200).text(), "well");
}
