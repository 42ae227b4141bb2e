//! The records of a team: for each kind the CLI's calls, every field of its objects, its events as a
//! browser sees them, and what is refused.

mod autopilots;
mod projects;
mod triggers;
