//! Runtimes are taken apart, and memberships with all that hangs on them: wholly or not at all.

mod cascade;
mod gone_agents;
mod history;
mod order;
mod races;
mod refusals;
mod revocation;
mod rollback;
mod scene;
mod siblings;
mod strict;
mod waiting;
mod workspace;
