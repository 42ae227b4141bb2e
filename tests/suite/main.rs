//! The suite: black box, one binary, a file per capability. Every case runs against the real App on
//! port 0, on SQLite and on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures,
    reason = "a test that cannot go on says so by panicking"
)]

#[macro_use]
mod support;

mod admin;
mod attackers;
mod browser_socket;
mod connections;
mod crash;
mod daemon_api;
mod daemon_socket;
mod daemon_tokens;
mod foreign_ids;
mod framing;
mod house;
mod leases;
mod liveness;
mod membership;
mod merges;
mod nodes;
mod outages;
mod people_api;
mod polling;
mod profiles;
mod purge;
mod records;
mod rights;
mod runs;
mod sequence;
mod sessions;
mod silence;
mod store;
mod tasks;
mod teardown;
