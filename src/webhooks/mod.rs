//! Callbacks: where they may go, what signs them (Standard Webhooks), and the client that sends them.

mod address;
mod client;
mod secret;

pub use address::{Allow, Callback, Network, Refused, site};
pub use client::{Answer, Client};
pub use secret::{Malformed, Secret};
