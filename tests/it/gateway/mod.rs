//! The server in front of an API that is not its own.

mod background;
mod pass_through;
mod policies;
mod rescue;
mod retries;

use crate::common::TestServer;
use crate::common::upstream::Upstream;

/// A server with this upstream under `/up`.
fn in_front_of(upstream: &Upstream) -> TestServer {
    TestServer::options().config(&upstream.table("/up")).start()
}
