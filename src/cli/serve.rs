//! `bgrs-server serve`: the server with the hosted API.

use bgrs::{Builder, Config, api};

use super::Failure;
use super::logs::Logs;

/// Runs until a signal.
pub async fn run(config: Config) -> Result<(), Failure> {
    let _logs = Logs::start().map_err(Failure::usage)?;
    let builder = Builder::new(config).api(api::configure).versions(api::VERSIONS).precheck(api::precheck);
    let builder = builder.openapi(api::openapi);
    bgrs::serve(builder).await.map_err(Failure::usage)
}
