//! What spans several domains in one transaction.

pub mod agents;
pub mod autopilots;
pub mod hear;
pub mod join;
pub mod projects;
pub mod recheck;
pub mod revoke;
