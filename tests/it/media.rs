//! Section 5: the result's file, and that nothing else under media/ is reachable.

use std::fs;

use crate::common::{TestServer, assert_submitted, error_of, until};

fn result_of(server: &TestServer, rid: &str) -> String {
    let info = server.info(rid);
    info["result"].as_str().expect("a result").to_owned()
}

#[test]
fn the_file_is_served_with_its_type_and_cannot_run_anything() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let file = result_of(&server, &rid);
    assert_eq!(file, format!("media/keep1m.bgrs.{rid}.result.json"));
    let answer = server.get(&format!("/{file}")).expect(200);
    let content_type = answer.header("Content-Type");
    assert_eq!(content_type, Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(answer.header("Content-Security-Policy"), Some("sandbox"));
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert_eq!(answer.body, result.body);
    let on_disk = fs::read(server.path().join(&file)).expect("a file");
    assert_eq!(answer.body, on_disk);
}

#[test]
fn the_path_is_the_same_whatever_folder_the_files_are_in() {
    let media = "[media]\ndir = \"some/where/else\"\nkeep = \"1w\"";
    let server = TestServer::options().config(media).start();
    let rid = server.finished_get("/v2.5/users/me");
    let file = result_of(&server, &rid);
    assert_eq!(file, format!("media/keep1w.bgrs.{rid}.result.json"));
    let answer = server.get(&format!("/{file}")).expect(200);
    let name = file.strip_prefix("media/").expect("below media/");
    let on_disk = server.path().join("some/where/else").join(name);
    assert_eq!(answer.body, fs::read(on_disk).expect("a file"));
    assert!(!server.media().exists());
}

#[test]
fn every_other_spelling_of_the_path_is_404() {
    let server = TestServer::start();
    // A rid without a letter would be the same in capitals.
    let rid = loop {
        let rid = server.finished_get("/v2.5/users/me");
        if rid.bytes().any(|byte| byte.is_ascii_lowercase()) {
            break rid;
        }
    };
    let file = format!("keep1m.bgrs.{rid}.result.json");
    let upper = rid.to_uppercase();
    let unknown = "0".repeat(32);
    assert_eq!(server.get(&format!("/media/{file}")).status, 200);
    for path in [
        "/media/".to_owned(),
        "/media//".to_owned(),
        "/media/.".to_owned(),
        "/media/..".to_owned(),
        format!("/media//{file}"),
        format!("/media/{file}/"),
        format!("/media/./{file}"),
        format!("/media/%2e/{file}"),
        format!("/media/x/../{file}"),
        format!("/media/x/%2e%2e/{file}"),
        format!("/media/../media/{file}"),
        format!("/media/%2e%2e/media/{file}"),
        format!("/media/..%2fmedia%2f{file}"),
        format!("/media%2f{file}"),
        format!("/media/%2f{file}"),
        format!("/media/%5c{file}"),
        format!("/media/{file}%00"),
        format!("/media/{file}%00.json"),
        format!("/media/{file}%20"),
        format!("/media/%20{file}"),
        format!("/media/{file}."),
        format!("/media/{file}~"),
        format!("/media/{file}.tmp"),
        format!("/media/{file}.part"),
        format!("/media/.{file}"),
        format!("/media/media/{file}"),
        format!("/Media/{file}"),
        format!("/media/{}", file.to_uppercase()),
        format!("/media/keep1m.bgrs.{upper}.result.json"),
        format!("/media/keep1m.bgrs.{unknown}.result.json"),
        format!("/media/keep1m.bgrs.{rid}.result.csv"),
        format!("/media/keep1m.bgrs.{rid}.result.bin"),
        format!("/media/keep1m.bgrs.{rid}.result.JSON"),
        format!("/media/keep1m.bgrs.{rid}.result."),
        format!("/media/keep1m.bgrs.{rid}.result"),
        format!("/media/keep1m.bgrs.{rid}.body"),
        format!("/media/keep1m.bgrs.{rid}.body.json"),
        format!("/media/keep1m.bgrs.{rid}.request.json"),
        format!("/media/keep1d.bgrs.{rid}.result.json"),
        format!("/media/keep1w.bgrs.{rid}.result.json"),
        format!("/media/keep1y.bgrs.{rid}.result.json"),
        format!("/media/bgrs.{rid}.result.json"),
        format!("/media/{rid}"),
        format!("/media/{rid}.result.json"),
        "/media/../bgrs.toml".to_owned(),
        "/media/%2e%2e/bgrs.toml".to_owned(),
        "/media/..%2fbgrs.toml".to_owned(),
        "/media/%2e%2e%2fbgrs.toml".to_owned(),
        "/media/..%5cbgrs.toml".to_owned(),
        "/media/%252e%252e%252fbgrs.toml".to_owned(),
        "/media/....//bgrs.toml".to_owned(),
        "/media/%c0%ae%c0%ae/bgrs.toml".to_owned(),
        "/media/../../../../../../../../etc/passwd".to_owned(),
        "/media//etc/passwd".to_owned(),
        "/media/%2fetc%2fpasswd".to_owned(),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.lossy());
        error_of(&answer, 404);
    }
}

#[test]
fn no_file_but_a_result_can_be_fetched_by_its_name() {
    let server = TestServer::start();
    let body = serde_json::json!({ "first_name": "Kim" });
    let rid = assert_submitted(&server.put("/v2.5/users/1?bgrs=yes", &body));
    server.finished(&rid);
    fs::write(server.media().join("notes.json"), "{}").expect("a file");
    let unknown = format!("keep1m.bgrs.{}.result.json", "ab".repeat(16));
    fs::write(server.media().join(unknown), "{}").expect("a file");
    fs::create_dir_all(server.media().join("sub")).expect("a folder");
    fs::write(server.media().join("sub/file.json"), "{}").expect("a file");

    let result = result_of(&server, &rid);
    let files = server.files();
    assert!(files.contains(&result), "{files:?}");
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let in_media = file.strip_prefix("media/").unwrap_or(&file);
        for path in [
            format!("/media/{in_media}"),
            format!("/media/../{file}"),
            format!("/media/%2e%2e/{file}"),
            format!("/media/..%2f{}", file.replace('/', "%2f")),
            format!("/media/{}", in_media.replace('/', "%2f")),
            format!("/{file}"),
        ] {
            if path == format!("/{result}") {
                continue;
            }
            let answer = server.get(&path);
            assert_eq!(answer.status, 404, "{path}: {}", answer.lossy());
        }
    }
}

#[test]
fn a_link_in_the_folder_does_not_lead_out_of_it() {
    let server = TestServer::start();
    let rid = server.finished_get("/v2.5/users/me");
    let file = server.path().join(result_of(&server, &rid));
    let name = format!("keep1m.bgrs.{}.result.json", "cd".repeat(16));
    std::os::unix::fs::symlink(file, server.media().join(&name)).expect("a link");
    error_of(&server.get(&format!("/media/{name}")), 404);
}

#[test]
fn the_file_of_a_request_is_gone_with_its_user() {
    let server = TestServer::start();
    let kim = server.add_user("kim", "password of kim");
    let call = server.call("GET", "/v2.5/users/me?bgrs=yes");
    let answer = call.auth("kim", "password of kim").send();
    let rid = assert_submitted(&answer);
    server.finished(&rid);
    let file = result_of(&server, &rid);
    assert_eq!(server.get(&format!("/{file}")).status, 200);

    server.delete(&format!("/v2.5/users/{kim}")).expect(204);
    error_of(&server.get(&format!("/bgrs/{rid}")), 404);
    error_of(&server.get(&format!("/bgrs/{rid}/details")), 404);
    error_of(&server.get(&format!("/bgrs/{rid}/result")), 404);
    error_of(&server.get(&format!("/{file}")), 404);
    until("the file is gone", || !server.path().join(&file).exists());
}
