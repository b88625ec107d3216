//! Proof against real peers: upstreams, a CDN in front and callers that nobody here wrote.
//!
//! A peer that is not installed is left out, and named; with `BGRS_TESTS=all`, as `tests/run` has it, that is a failure.

mod browser;
mod callers;
mod clients;
#[path = "../it/common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other tests, which use the rest")]
mod common;
mod events;
mod fastcgi;
mod nginx;
mod peer;
mod progress;
mod python;
