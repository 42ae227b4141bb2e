//! The kinds of events and their payloads; one function for each way a payload can look. Secrets
//! have no field in any of them.

mod people;
mod projects;
mod runtimes;

pub use people::*;
pub use projects::*;
pub use runtimes::*;
