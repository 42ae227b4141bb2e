//! What spans several domains in one transaction.

pub mod agents;
pub mod attachments;
pub mod autopilots;
pub mod chats;
pub mod comments;
pub mod hear;
pub mod issues;
pub mod join;
pub mod people;
pub mod projects;
pub mod recheck;
pub mod revoke;
pub mod skills;
pub mod squads;
