//! The kinds of events and their payloads; one function for each way a payload can look. Secrets
//! have no field in any of them.

mod agents;
mod autopilots;
mod chats;
mod comments;
mod issues;
mod people;
mod projects;
mod runtimes;
mod skills;
mod squads;
mod tasks;

pub use agents::*;
pub use autopilots::*;
pub use chats::*;
pub use comments::*;
pub use issues::*;
pub use people::*;
pub use projects::*;
pub use runtimes::*;
pub use skills::*;
pub use squads::*;
pub use tasks::*;
