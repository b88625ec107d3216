//! `bgrs-server`: arguments to [`cli`].

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

/// Gives memory back to the system soon after a burst (password hashes, large bodies), which the default allocator's
/// arenas do not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
