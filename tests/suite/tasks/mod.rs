//! The queue: what asks for work, how daemons get it, and what becomes of it.

mod agents;
mod autopilots;
mod called_again;
mod caller_gone;
mod chats;
mod claim;
mod claim_kinds;
mod claim_tokens;
mod claimers;
mod comments;
pub mod desk;
mod issues;
mod orphans;
mod people;
mod quick_create;
mod rerun;
mod resume;
pub mod support;
mod wish_to_claim;
mod wishes;
