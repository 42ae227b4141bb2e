//! The records inside a workspace: what work is about, and who does it. Each file has the SQL and
//! the rules of one kind of record; what spans several of them is in `flows`.

pub mod agents;
pub mod attachments;
pub mod autopilots;
pub mod chats;
pub mod comments;
pub mod issues;
pub mod projects;
pub mod references;
pub mod skills;
pub mod squads;
pub mod words;
