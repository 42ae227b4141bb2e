//! What goes over the wire, and nothing else: shared by the sockets, the HTTP routes, the simulator
//! and the tests.

pub mod agent;
pub mod attachment;
pub mod autopilot;
pub mod browser;
pub mod chat;
pub mod close;
pub mod comment;
pub mod daemon;
pub mod event;
pub mod issue;
pub mod lenient;
pub mod people;
pub mod profile;
pub mod project;
pub mod runtime;
pub mod skill;
pub mod squad;
pub mod task;
pub mod transcript;
