//! How tasks end, and what an end leaves behind: where it was asked for, its outcome is said there.
//!
//! ```text
//! complete ─▶ issue: a comment, unless the agent has spoken      ┐
//!             chat: an answer, chat:done                         ├▶ agent:status ▶ task:completed ▶ the run
//!             wish: the issue that was made of it                ┘
//! fail ─────▶ another attempt, or: a comment, an answer ─▶ agent:status ▶ the issue back to todo ▶ task:failed ▶ the run
//! cancel ───▶ agent:status ▶ task:cancelled ▶ the run
//! ```

pub(super) mod cancel;
pub(super) mod chat;
mod complete;
pub(super) mod fail;
mod held;
mod issue;
mod run;

pub use cancel::{Torn, Which, agents_of};
pub use chat::{Withdrawn, finish_cancelled};
pub use complete::Completion;
pub use fail::{Failure, fail_reported};
pub(super) use held::Held;
