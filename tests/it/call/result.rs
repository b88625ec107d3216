//! Where the result goes, and the exit code that its status has.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use super::{call, command, home, in_front_of, url};
use crate::common::data_dir::exit_code;
use crate::common::upstream::{Upstream, answer, ok};

#[test]
fn a_file_is_replaced_whole_and_only_by_a_success() {
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/404" => answer(stream, "404 Not Found", "", "gone\u{1b}[2J\n"),
        _ => ok(stream, "fresh"),
    });
    let server = in_front_of(&upstream);
    let home = home();
    let (found, missing) = (url(&server, "/up"), url(&server, "/up/404"));
    let out = home.path().join("out.txt");
    fs::write(&out, "old and long").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("out.txt", home.path().join("link.txt")).unwrap();
    let before = home.files();

    let ended = call(&home, &["-o", "out.txt", &missing]).expect(1);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("\ngone\u{FFFD}[2J\n"), "{ended:?}");
    assert!(ended.complaints().last().is_some_and(|line| line.contains("404 Not Found")), "{ended:?}");
    assert_eq!((fs::read_to_string(&out).unwrap().as_str(), home.files()), ("old and long", before.clone()));

    let ended = call(&home, &["-o", "link.txt", &found]).expect(0);
    assert_eq!((ended.stdout.as_str(), home.files()), ("", before));
    assert_eq!(fs::read_to_string(&out).unwrap(), "fresh");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(home.path().join("link.txt")).unwrap().is_symlink());

    call(&home, &["-o", "new.txt", &found]).expect(0);
    assert_eq!(fs::read_to_string(home.path().join("new.txt")).unwrap(), "fresh");
    call(&home, &["-o", "/dev/null", &found]).expect(0);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn the_exit_code_says_whether_the_result_is_a_success() {
    let upstream = Upstream::start(|seen, stream| match seen.target() {
        "/up/201" => answer(stream, "201 Created", "", "made"),
        "/up/204" => write!(stream, "HTTP/1.1 204 No Content\r\n\r\n").unwrap(),
        "/up/302" => answer(stream, "302 Found", "Location: /up/201\r\n", "over there"),
        "/up/404" => answer(stream, "404 Not Found", "", "gone"),
        _ => answer(stream, "500 Internal Server Error", "", "broken"),
    });
    let server = in_front_of(&upstream);
    for (target, code, body) in [
        ("/up/201", 0, "made"),
        ("/up/204", 0, ""),
        ("/up/302", 1, "over there"),
        ("/up/404", 1, "gone"),
        ("/up/500", 1, "broken"),
    ] {
        let ended = call(&home(), &[&url(&server, target)]).expect(code);
        assert_eq!(ended.stdout, body, "{target}");
        assert_eq!(ended.stderr.contains("bgrs-server: "), code == 1, "{target}: {ended:?}");
    }
    assert_eq!(upstream.seen().len(), 5);
}

#[test]
fn a_failed_request_is_exit_code_1_and_the_reason_is_said() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.shutdown(Shutdown::Both);
    });
    let server = in_front_of(&upstream);
    let home = home();
    let before = home.files();
    let ended = call(&home, &["-d", "1", "-o", "out.txt", &url(&server, "/up")]).expect(1);
    let rid = upstream.only().header("Bgrs-Request").expect("a request").to_owned();
    let last = format!("bgrs-server: the request failed: {}", server.last_detail(&rid));
    assert_eq!(ended.complaints().last(), Some(&last.as_str()));
    assert_eq!((ended.stdout.as_str(), home.files()), ("", before));
}

#[test]
fn whoever_closes_standard_output_has_read_enough() {
    let upstream = Upstream::saying("a line\nand another\n");
    let server = in_front_of(&upstream);
    let home = home();
    let mut command = command(&home, &["-u", "admin", &url(&server, "/up")]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("the binary starts");
    drop(child.stdout.take());
    assert_eq!(exit_code(&mut child), Some(1));
}
