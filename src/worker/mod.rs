//! Running what waits: a bounded pool, the leases, and the upkeep of rows and files.

mod callbacks;
mod come_back;
mod lease;
mod maintenance;
mod pool;
mod retries;
mod run_one;
mod settle;

pub use callbacks::Deliverer;
pub use lease::Leases;
pub use maintenance::{Maintenance, STEP};
pub use pool::{Adopter, Options, Pool};
pub use retries::Retries;
pub use run_one::{Run, Runner};
pub use settle::Settler;
