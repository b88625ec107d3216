//! The screenful of `examples/embed.rs`: an API of somebody else's, behind this library.

use std::path::PathBuf;
use std::process::Command;

use crate::common::data_dir::clean_command;
use crate::common::{TestServer, error_of};

/// Builds the example (a plain `cargo test` has done so) and says where it is.
fn example() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--example", "embed"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(build.status().expect("cargo runs").success(), "the example does not build");
    let test = std::env::current_exe().expect("this test's own path");
    test.parent().and_then(|deps| deps.parent()).expect("target/debug").join("examples").join("embed")
}

#[test]
fn the_example_turns_its_own_route_into_background_requests() {
    let mut server = TestServer::start();
    server.stop();
    let folder = server.path().join("embedded");
    std::fs::create_dir(&folder).expect("a folder");
    let mut command = clean_command(example());
    command.current_dir(&folder).env("BGRS_SERVER__LISTEN", "127.0.0.1:0");
    server.start_by(command);

    let rid = server.submit("GET", "/primes?below=1000");
    let info = server.finished(&rid);
    assert_eq!(info["status"], "200");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200).json();
    assert_eq!((&result["primes"], &result["below"]), (&168.into(), &1000.into()));
    assert_eq!(server.get("/primes?below=1000").expect(200).json(), result);
    error_of(&server.get("/primes?below=many"), 400);
    error_of(&server.get("/nowhere"), 404);
    server.stop();
}
