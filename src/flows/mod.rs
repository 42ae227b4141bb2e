//! What spans several domains in one transaction.

pub mod agents;
pub mod attachments;
pub mod autopilot_runs;
pub mod autopilots;
pub mod chats;
pub mod comments;
pub mod hear;
mod held;
mod instead;
pub mod issues;
pub mod join;
pub mod people;
pub mod profiles;
pub mod projects;
pub mod purge;
pub mod quick_create;
pub mod recheck;
pub mod rerun;
pub mod revoke;
pub mod skills;
pub mod squads;
pub mod tasks;
pub mod teardown;
mod wakes;
