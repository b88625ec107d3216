//! Section 9: the list of background requests.

use std::net::Shutdown;

use serde_json::{Value, json};

use crate::common::http::basic;
use crate::common::upstream::{Upstream, answer, ok, wait_for_close};
use crate::common::{Response, TestServer, assert_submitted, error_of, keys_in_order, until};

const KIM: (&str, &str) = ("kim", "password of kim");

/// An administrator's own along an index, and everybody's: two ways to the same list where there is nobody else.
const OWNERS: [&str; 2] = ["", "&user_id=all"];

/// Finished requests like this one, but without a result.
const COPIES: &str = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
    INSERT INTO bgrs (rid, status_id, progress, attempts, source, user_id, method, name, headers, created_dt,
                      started_dt, finished_dt, expires_dt, status, head)
    SELECT lower(hex(randomblob(16))), status_id, progress, attempts, source, user_id, method, name, headers,
           created_dt, started_dt, finished_dt, expires_dt, status, head
    FROM bgrs, n WHERE rid = ?1";

/// The rids of a page, in its order.
#[track_caller]
fn rids(page: &Response) -> Vec<String> {
    assert_eq!(page.status, 200, "the body: {}", page.lossy());
    let page = page.json();
    let objects = page.as_array().expect("an array").iter();
    objects.map(|one| one["rid"].as_str().expect("an rid").to_owned()).collect()
}

/// All rids that the database has, newest first.
fn all_rids(server: &TestServer) -> Vec<String> {
    let db = server.db();
    let mut query = db.prepare("SELECT rid FROM bgrs ORDER BY id DESC").expect("a query");
    let rids = query.query_map([], |row| row.get(0)).expect("rows");
    rids.map(|rid| rid.expect("an rid")).collect()
}

#[test]
fn the_list_holds_the_callers_own_newest_first_as_their_information_shows_them() {
    let server = TestServer::start();
    let none = server.get("/bgrs").expect(200);
    assert_eq!((none.json(), none.header("Link")), (json!([]), None));
    let made = ["/users/me", "/v2.5/users", "/campaigns"].map(|target| server.finished_get(target));
    for verbose in ["", "?verbose=1"] {
        let page = server.get(&format!("/bgrs{verbose}")).expect(200);
        assert_eq!(page.header("Content-Type"), Some("application/json; charset=utf-8"));
        assert_eq!((page.header("Cache-Control"), page.header("Link")), (Some("no-store"), None));
        let information = |rid: &str| server.get(&format!("/bgrs/{rid}{verbose}")).expect(200);
        let expected: Vec<Value> = made.iter().rev().map(|rid| information(rid).json()[0].clone()).collect();
        assert_eq!(page.json(), json!(expected));
        assert_eq!(keys_in_order(&page.text()), keys_in_order(&information(&made[2]).text()));
    }
    let page = server.get("/bgrs?limit=2").expect(200);
    let head = server.call("HEAD", "/bgrs?limit=2").send().expect(200);
    for name in ["Content-Type", "Cache-Control", "Link"] {
        assert!(page.header(name).is_some(), "no {name}");
        assert_eq!(head.header(name), page.header(name), "{name}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let refused = server.call(method, "/bgrs").send();
        error_of(&refused, 405);
        assert!(refused.header("Allow").is_some_and(|allow| allow.contains("GET")), "{method}");
    }
}

#[test]
fn others_requests_are_invisible_but_to_an_administrator_who_asks_for_them() {
    let server = TestServer::start();
    let kims_id = server.add_user(KIM.0, KIM.1);
    let kim = |target: &str| server.call("GET", target).auth(KIM.0, KIM.1).send();
    let first = server.finished_get("/users/me");
    let kims = assert_submitted(&kim("/users/me?bgrs=yes"));
    let last = server.finished_get("/users");
    for (target, expected) in [
        ("/bgrs".to_owned(), vec![&last, &first]),
        (format!("/bgrs?user_id={kims_id}"), vec![&kims]),
        ("/bgrs?user_id=1".to_owned(), vec![&last, &first]),
        ("/bgrs?user_id=all".to_owned(), vec![&last, &kims, &first]),
        ("/bgrs?user_id=999".to_owned(), vec![]),
    ] {
        assert_eq!(rids(&server.get(&target)).iter().collect::<Vec<_>>(), expected, "{target}");
    }
    assert_eq!(rids(&kim("/bgrs")), [kims.as_str()]);
    for user in ["1", "999", "all"] {
        error_of(&kim(&format!("/bgrs?user_id={user}")), 403);
    }
    for call in [server.call("GET", "/bgrs").no_auth(), server.call("GET", "/bgrs").auth(KIM.0, "wrong")] {
        error_of(&call.send(), 401);
    }
}

#[test]
fn users_of_different_sources_are_different_people_also_where_their_ids_are_alike() {
    let upstream = Upstream::start(|seen, stream| match (seen.target(), seen.header("Authorization")) {
        ("/who", Some(who)) if who == basic("lee", "password of lee") => answer(stream, "200 OK", "", "{\"id\": 1}"),
        ("/who", _) => answer(stream, "401 Unauthorized", "", ""),
        _ => ok(stream, "done"),
    });
    let config = upstream.table("/up") + "auth = \"forward\"\nauth_check = \"/who\"\nauth_user = \"/id\"\n";
    let server = TestServer::options().config(&config).start();
    let lee = |method: &str, target: &str| server.call(method, target).auth("lee", "password of lee").send();
    let lees = assert_submitted(&lee("GET", "/up?bgrs=yes"));
    let admins = server.finished_get("/users/me");
    assert_eq!(server.finished(&lees)["user_id"], server.info(&admins)["user_id"]);
    assert_eq!(rids(&lee("GET", "/bgrs")), [lees.as_str()]);
    assert_eq!(rids(&server.get("/bgrs")), [admins.as_str()]);
    for (method, target) in [
        ("GET", "/bgrs?user_id=all".to_owned()),
        ("DELETE", format!("/bgrs/{admins}")),
        ("POST", format!("/bgrs/{admins}/rerun")),
    ] {
        error_of(&lee(method, &target), 403);
    }
    lee("DELETE", &format!("/bgrs/{lees}")).expect(204);
    assert_eq!(rids(&server.get("/bgrs?user_id=all")), [admins.as_str()]);
}

#[test]
fn a_status_is_a_name_or_an_id_and_there_may_be_several() {
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/fast" => ok(stream, "done"),
        "/up/broken" => drop(stream.shutdown(Shutdown::Both)),
        _ => wait_for_close(stream),
    });
    let route = "[[route]]\npath = \"/up\"\nretry = { delay = \"1h\" }\n";
    let config = format!("[background]\nconcurrency = 1\n{}{route}", upstream.table("/up"));
    let server = TestServer::options().config(&config).start();
    let finished = server.finished_get("/up/fast");
    let failed = server.submit("POST", "/up/broken");
    assert_eq!(server.ended(&failed)["status_name"], "failed");
    let retrying = server.submit("GET", "/up/broken");
    until("an attempt has failed", || server.info(&retrying)["status_name"] == "retrying");
    let running = server.submit("GET", "/up/slow");
    upstream.wait_for(4);
    let queued = server.submit("GET", "/up/slow");
    let cancelled = server.submit("GET", "/up/slow");
    server.delete(&format!("/bgrs/{cancelled}")).expect(200);
    for owner in OWNERS {
        let list = |status: &str| rids(&server.get(&format!("/bgrs?status={status}{owner}")));
        for (id, name, rid) in [
            ("1", "queued", &queued),
            ("2", "running", &running),
            ("3", "retrying", &retrying),
            ("4", "finished", &finished),
            ("5", "failed", &failed),
            ("6", "cancelled", &cancelled),
        ] {
            assert_eq!((list(id), list(name)), (vec![rid.clone()], vec![rid.clone()]), "{name}");
        }
        for (status, expected) in [
            ("finished,5", vec![&failed, &finished]),
            ("5,finished,4,failed", vec![&failed, &finished]),
            ("1%2Crunning,retrying", vec![&queued, &running, &retrying]),
            ("6,5,4,3,2,1", vec![&cancelled, &queued, &running, &retrying, &failed, &finished]),
        ] {
            assert_eq!(list(status).iter().collect::<Vec<_>>(), expected, "{status}{owner}");
        }
    }
}

#[test]
fn a_name_is_a_prefix_of_path_and_query_and_knows_no_wild_cards() {
    let upstream = Upstream::saying("done");
    let server = TestServer::options().config(&upstream.table("/up")).start();
    let made = ["/up/a_b?x=1", "/up/aXb", "/up/a%25b", "/up/A_b"].map(|target| server.finished_get(target));
    let [one, two, three, four] = &made;
    for owner in OWNERS {
        for (name, expected) in [
            ("/up/a_", vec![one]),
            ("/up/a%5Fb%3Fx%3D1%26bgrs%3Dyes", vec![one]),
            ("/up/a%2525", vec![three]),
            ("/up/a", vec![three, two, one]),
            ("/up", vec![four, three, two, one]),
            ("/up/A", vec![four]),
            ("up", vec![]),
            ("%25", vec![]),
            ("/up/a%25", vec![three]),
            ("/up/*", vec![]),
            ("/up/%5BaA%5D", vec![]),
            ("%27%20OR%20%271%27%3D%271", vec![]),
        ] {
            let page = server.get(&format!("/bgrs?name={name}{owner}"));
            assert_eq!(rids(&page).iter().collect::<Vec<_>>(), expected, "{name}{owner}");
        }
        let page = server.get(&format!("/bgrs?name=/up/a&status=finished&limit=1&before=999999{owner}"));
        assert_eq!(rids(&page), [three.as_str()]);
    }
}

#[test]
fn since_and_until_are_the_ends_of_a_span_of_time() {
    let server = TestServer::start();
    let made = ["01", "02", "03"].map(|day| {
        let rid = server.finished_get("/users/me");
        let sql = "UPDATE bgrs SET created_dt = ?2 WHERE rid = ?1";
        server.db().execute(sql, (&rid, format!("2026-01-{day} 00:00:00"))).expect("a row");
        rid
    });
    let [one, two, three] = &made;
    for owner in OWNERS {
        for (span, expected) in [
            ("since=2026-01-02%2000:00:00", vec![three, two]),
            ("since=2026-01-02T02:00:00%2B02:00", vec![three, two]),
            ("since=2026-01-02T00:00:00.5Z", vec![three]),
            ("until=2026-01-02T00:00:00Z", vec![one]),
            ("until=2026-01-02+00:00:01", vec![two, one]),
            ("since=2026-01-02%2000:00:00&until=2026-01-03%2000:00:00", vec![two]),
            ("since=2026-01-03%2000:00:01", vec![]),
        ] {
            let page = server.get(&format!("/bgrs?{span}{owner}"));
            assert_eq!(rids(&page).iter().collect::<Vec<_>>(), expected, "{span}{owner}");
        }
    }
}

#[test]
fn what_no_filter_can_be_is_400_and_named() {
    let server = TestServer::start();
    let times = vec!["", "yesterday", "2026-01-01", "2026-02-30%2000:00:00", "1767225600", "2026-01-01T00:00:00"];
    for (name, values) in [
        ("status", vec!["", "done", "0", "7", "-1", "4,", ",4", "4,,5", "finished%00", "queued;running"]),
        ("since", times.clone()),
        ("until", times),
        ("limit", vec!["", "0", "1001", "-1", "x", "1.5", "99999999999999999999"]),
        ("before", vec!["", "x", "-1", "1.5", "4ff7cc2d88b1de88e83cce3f1caa1509"]),
        ("user_id", vec![""]),
    ] {
        for value in values {
            let description = error_of(&server.get(&format!("/bgrs?{name}={value}")), 400);
            assert!(description.contains(name), "{name}={value}: {description}");
        }
    }
    for good in ["limit=1", "limit=1000", "before=1", "bgrs=nonsense", "colour=red"] {
        server.get(&format!("/bgrs?{good}")).expect(200);
    }
}

#[test]
fn pages_lead_through_hundreds_of_requests_without_a_gap_or_a_double_while_new_ones_come_in() {
    let server = TestServer::start();
    let first = server.finished_get("/users/me");
    server.db().execute(COPIES, (&first, 299)).expect("many rows");
    for owner in OWNERS {
        let all = all_rids(&server);
        let mut found = Vec::new();
        let mut next = Some(format!("/bgrs?limit=37&name=/users&verbose=1{owner}"));
        while let Some(target) = next {
            let page = server.get(&target);
            let these = rids(&page);
            next = page.next_link();
            assert!(these.len() == 37 || next.is_none() && !these.is_empty(), "{} in {target}", these.len());
            assert!(page.json()[0]["method"].is_string(), "the link has lost what was asked: {target}");
            server.submit("GET", "/users/me");
            if found.is_empty() {
                // The next page begins behind one that is gone by then.
                let last = these.last().expect("a last one");
                server.delete(&format!("/bgrs/{last}")).expect(204);
            }
            found.extend(these);
        }
        assert!(found == all, "{} of {}", found.len(), all.len());
    }
    let total = all_rids(&server).len();
    let page = server.get("/bgrs");
    assert_eq!(rids(&page).len(), 50);
    assert!(page.header("Link").is_some_and(|link| link.starts_with("</bgrs?")), "{:?}", page.header("Link"));
    for limit in [total, 1000] {
        let whole = server.get(&format!("/bgrs?limit={limit}"));
        assert_eq!((rids(&whole).len(), whole.header("Link")), (total, None));
    }
}

#[test]
fn the_list_is_there_under_a_version_and_behind_a_mount_and_its_links_stay_there() {
    for mount in ["", "/own"] {
        let server = TestServer::options().server(&format!("mount = \"{mount}\"")).start();
        let submit = || {
            let accepted = server.get("/users/me?bgrs=yes").expect(202);
            let location = accepted.header("Location").expect("a location");
            location.strip_prefix(&format!("{mount}/bgrs/")).expect("the canonical path").to_owned()
        };
        let made = [submit(), submit()];
        for prefix in ["", "/v2.5"] {
            let path = format!("{mount}{prefix}/bgrs");
            let page = server.get(&format!("{path}?limit=1"));
            assert_eq!(rids(&page), [made[1].as_str()]);
            let next = page.next_link().expect("a next page");
            assert!(next.starts_with(&format!("{path}?")), "{next}");
            let page = server.get(&next);
            assert_eq!((rids(&page), page.header("Link")), (vec![made[0].clone()], None));
            if !mount.is_empty() {
                error_of(&server.get(&format!("{prefix}/bgrs")), 404);
            }
        }
    }
}
