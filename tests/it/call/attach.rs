//! `call --attach`: back to an earlier request.

use super::{call, home, in_front_of, url};
use crate::common::upstream::Upstream;
use crate::common::{TestServer, rows};

#[test]
fn a_request_is_found_from_any_url_of_its_server() {
    let upstream = Upstream::saying("from the upstream");
    let server = in_front_of(&upstream);
    let rid = server.finished_get("/up/report");
    for target in ["", "/", "/v2.5", "/up/report?x=1#y"] {
        let ended = call(&home(), &["--attach", &rid, &url(&server, target)]).expect(0);
        assert_eq!(ended.stdout, "from the upstream", "{target}");
    }
}

#[test]
fn the_servers_mount_is_the_path_of_the_url() {
    let upstream = Upstream::saying("from the upstream");
    let server = TestServer::options().server("mount = \"/background\"").config(&upstream.table("/up")).start();
    assert_eq!(call(&home(), &[&url(&server, "/up")]).expect(0).stdout, "from the upstream");
    let accepted = server.get("/up?bgrs=yes").expect(202).json();
    let rid = accepted["request"].as_str().expect("a string");
    for target in ["/background", "/background/"] {
        let ended = call(&home(), &["--attach", rid, &url(&server, target)]).expect(0);
        assert_eq!(ended.stdout, "from the upstream", "{target}");
    }
    call(&home(), &["--attach", rid, &url(&server, "/")]).expect(3);
}

#[test]
fn of_many_details_the_latest_is_shown() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    rows::add_details(&server, &rid, 250);
    let ended = call(&home(), &["--attach", &rid, &url(&server, "")]).expect(0);
    assert_eq!(ended.complaints(), ["100.00% copy 250"]);
}
