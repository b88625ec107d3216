//! What a test needs of its machine and may miss there.

use std::io::Write;

/// Says that a test is left out; with `BGRS_TESTS=all` nothing may be, and it fails.
#[track_caller]
pub fn left_out(what: &str, missing: &str) {
    let line = format!("left out: {what}; it needs {missing}");
    assert!(std::env::var_os("BGRS_TESTS").is_none_or(|value| value != "all"), "{line}");
    // Not a macro: the output of macros is captured where a test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
}
