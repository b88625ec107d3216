//! Python's `http.server` behind the server: it speaks HTTP/1.0 and closes each connection.

use crate::common::TestServer;
use crate::peer::{HELLO, Peer, command, files, free_port, large, python};

fn http_server() -> Option<Peer> {
    let python = python("Python's http.server as an upstream", "http.server")?;
    let port = free_port();
    let mut command = command(&python);
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
    Some(Peer::start(files(), command, port))
}

#[test]
fn files_of_pythons_http_server_come_through_in_the_foreground() {
    let Some(peer) = http_server() else { return };
    let server = TestServer::options().config(&peer.table()).start();
    let hello = server.get("/up/hello.txt").expect(200);
    assert_eq!(hello.text(), HELLO);
    assert!(hello.header("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")));
    let since = hello.header("Last-Modified").expect("a date");
    let same = server.call("GET", "/up/hello.txt").header("If-Modified-Since", since).send().expect(304);
    assert!(same.body.is_empty());
    let head = server.call("HEAD", "/up/large.bin").send().expect(200);
    assert_eq!(head.header("Content-Length"), Some(large().len().to_string().as_str()));
    assert!(server.get("/up/large.bin").expect(200).body == large());
    let listing = server.get("/up/").expect(200).text();
    assert!(listing.contains("<a href=\"large.bin\">"), "{listing}");
    let missing = server.get("/up/missing").expect(404).text();
    assert!(missing.contains("File not found"), "{missing}");
}

#[test]
fn what_pythons_http_server_answers_in_the_background_is_what_it_answers_in_the_foreground() {
    let Some(peer) = http_server() else { return };
    let server = TestServer::options().config(&peer.table()).start();
    for (path, status) in [("/up/hello.txt", 200), ("/up/large.bin", 200), ("/up/", 200), ("/up/missing", 404)] {
        let foreground = server.get(path).expect(status);
        let rid = server.finished_get(path);
        assert_eq!(server.info(&rid)["status"], status.to_string(), "{path}");
        let result = server.get(&format!("/bgrs/{rid}/result")).expect(status);
        assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
        for name in ["Content-Type", "Last-Modified"] {
            assert_eq!(result.header(name), foreground.header(name), "{name} of {path}");
        }
        assert!(result.body == foreground.body, "{path}");
    }
    let accepted = server.call("HEAD", "/up/large.bin?bgrs=yes").send().expect(202);
    let rid = accepted.header("Location").and_then(|location| location.strip_prefix("/bgrs/")).expect("a location");
    assert!(server.finished(rid)["result"].is_null(), "an answer without a body has no file");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert!(result.body.is_empty() && result.header("Last-Modified").is_some());
}
