//! What spans several domains in one transaction.

pub mod join;
pub mod revoke;
