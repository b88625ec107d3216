//! The server as its callers see it: every test starts the real binary on data of its own.

mod auth;
mod campaigns;
mod cli_users;
mod common;
mod config;
mod details;
mod embed;
mod errors;
mod fairness;
mod full_disk;
mod information;
mod logs;
mod media;
mod passwords;
mod recovery;
mod result;
mod result_range;
mod sample;
mod shutdown;
mod submit;
mod submit_query;
mod submit_refused;
mod users_csv;
mod users_read;
mod users_rights;
mod users_write;
