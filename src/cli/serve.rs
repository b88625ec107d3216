//! `bgrs-server serve`: the server with the hosted API.

use bgrs::{Builder, Config, api};

use super::Failure;

/// Runs until a signal.
pub async fn run(config: Config) -> Result<(), Failure> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,actix_server=warn")).init();
    let builder = Builder::new(config).api(api::configure).versions(api::VERSIONS).precheck(api::precheck);
    bgrs::serve(builder).await.map_err(Failure::usage)
}
