//! The server in front of an API that is not its own.

mod background;
mod cors;
mod forward;
mod malicious;
mod pass_through;
mod policies;
mod reports;
mod rescue;
mod retries;
mod secrets;
mod smuggling;

use crate::common::TestServer;
use crate::common::upstream::Upstream;

/// A server with this upstream under `/up`.
fn in_front_of(upstream: &Upstream) -> TestServer {
    TestServer::options().config(&upstream.table("/up")).start()
}
