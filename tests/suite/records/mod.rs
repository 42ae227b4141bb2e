//! The records of a team: for each kind the CLI's calls, every field of its objects, its events as a
//! browser sees them, and what is refused.

mod agents;
pub mod attachments;
mod autopilots;
mod avatars;
mod chats;
mod comments;
mod issue_lists;
mod issue_ties;
mod issues;
mod private_autopilots;
mod projects;
mod skills;
mod snapshots;
mod squads;
mod triggers;
