//! heartwire: a WebSocket-first realtime hub for fleets of coding-agent daemons.
//!
//! ARCHITECTURE.md at the top of the repository says how the rooms belong together. Public are the
//! command line, the configuration and the app, for the binary and the tests; the rooms are not.

mod api;
pub mod app;
pub mod cli;
pub mod config;
mod db;
mod drops;
pub mod error;
mod events;
mod fleet;
mod flows;
mod hub;
mod identity;
mod ids;
mod protocol;
mod redis_link;
pub mod settings;
mod tasks;
mod telemetry;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
mod time;
mod workspace;
mod ws;
