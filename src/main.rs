//! `bgrs-server`: arguments to [`cli`].

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

/// Gives memory back to the system soon after a burst (password hashes, large bodies, SQLite's page caches), which the
/// default allocator's arenas do not; `.cargo/config.toml` says how soon.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    small_pages();
    cli::run()
}

/// Asks for memory page by page: with huge ones, the first byte of the allocator's every 2 MiB costs all of them, and
/// an idle server is more than twice as large.
#[cfg(target_os = "linux")]
fn small_pages() {
    // Without it the server is as good, only larger.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(not(target_os = "linux"))]
fn small_pages() {}
