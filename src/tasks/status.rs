//! The statuses of tasks and their legal transitions, in one place.

use crate::error::{Error, Result};

/// Where a task is in its life. Nothing leaves the last three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Waits for its runtime's daemon.
    Queued,
    /// A daemon has it.
    Dispatched,
    /// Its agent runs.
    Running,
    /// Its daemon waits until a folder is free.
    WaitingLocalDirectory,
    /// It came to an end.
    Completed,
    /// It came to a bad one.
    Failed,
    /// Somebody, or something that it rested on, ended it.
    Cancelled,
}

use Status::{Cancelled, Completed, Dispatched, Failed, Queued, Running, WaitingLocalDirectory};

/// Every status.
pub const ALL: [Status; 7] = [Queued, Dispatched, Running, WaitingLocalDirectory, Completed, Failed, Cancelled];

/// What is done to tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A daemon takes it.
    Claim,
    /// A daemon is given it again, since it never started.
    Redeliver,
    /// Its agent begins.
    Start,
    /// Its daemon waits for a folder.
    Wait,
    /// Its daemon says where the agent's session is.
    Pin,
    /// Its daemon reports the end.
    Complete,
    /// Its daemon reports a bad end, or nobody hears of it any more.
    Fail,
    /// Somebody does not want it any more.
    Cancel,
}

/// Every operation.
#[cfg(any(test, feature = "test-hooks"))]
pub const OPERATIONS: [Operation; 8] = [
    Operation::Claim,
    Operation::Redeliver,
    Operation::Start,
    Operation::Wait,
    Operation::Pin,
    Operation::Complete,
    Operation::Fail,
    Operation::Cancel,
];

/// What whoever asks for an operation is told where it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// That it cannot be done.
    Refused,
    /// How the task is, as if it had been done: who asks may have asked before.
    Unchanged,
    /// That there is nothing.
    Nothing,
}

impl Operation {
    /// The statuses in which it changes a task.
    pub const fn from(self) -> &'static [Status] {
        match self {
            Self::Claim => &[Queued],
            Self::Redeliver | Self::Wait => &[Dispatched],
            Self::Start => &[Dispatched, WaitingLocalDirectory],
            Self::Pin => &[Dispatched, Running],
            Self::Complete => &[Running],
            Self::Fail => &[Dispatched, Running, WaitingLocalDirectory],
            Self::Cancel => &[Queued, Dispatched, Running, WaitingLocalDirectory],
        }
    }

    /// What is told of it, if it changes the status.
    pub const fn event(self) -> Option<&'static str> {
        match self {
            Self::Claim => Some("task:dispatch"),
            Self::Start => Some("task:running"),
            Self::Wait => Some("task:waiting_local_directory"),
            Self::Complete => Some("task:completed"),
            Self::Fail => Some("task:failed"),
            Self::Cancel => Some("task:cancelled"),
            Self::Redeliver | Self::Pin => None,
        }
    }

    /// What is answered in every other status.
    pub const fn otherwise(self) -> Otherwise {
        match self {
            Self::Start | Self::Wait => Otherwise::Refused,
            Self::Pin | Self::Complete | Self::Fail | Self::Cancel => Otherwise::Unchanged,
            Self::Claim | Self::Redeliver => Otherwise::Nothing,
        }
    }

    /// Whether it is to be carried out. Not, if whoever asks is told how the task is; an error, if they are
    /// told that it cannot be.
    pub fn admits(self, status: Status) -> Result<bool> {
        match (self.applies_to(status), self.otherwise()) {
            (true, _) => Ok(true),
            (false, Otherwise::Refused) => {
                let verb = match self {
                    Self::Start => "started",
                    _ => "made to wait",
                };
                Err(Error::invalid("illegal_transition", format!("task cannot be {verb}: it is {}", status.word())))
            }
            (false, Otherwise::Unchanged | Otherwise::Nothing) => Ok(false),
        }
    }

    /// The status afterwards; that of before, if it changes something else only.
    #[cfg(feature = "test-hooks")]
    pub const fn after(self, before: Status) -> Status {
        match self {
            Self::Pin => before,
            _ => self.to(),
        }
    }

    /// The status that it leads to. Saying where a session is leads nowhere.
    pub const fn to(self) -> Status {
        match self {
            Self::Claim | Self::Redeliver | Self::Pin => Dispatched,
            Self::Start => Running,
            Self::Wait => WaitingLocalDirectory,
            Self::Complete => Completed,
            Self::Fail => Failed,
            Self::Cancel => Cancelled,
        }
    }

    /// Whether it changes a task in this status.
    pub fn applies_to(self, status: Status) -> bool {
        self.from().contains(&status)
    }
}

impl Status {
    /// The wire's and the store's word.
    pub const fn word(self) -> &'static str {
        match self {
            Queued => "queued",
            Dispatched => "dispatched",
            Running => "running",
            WaitingLocalDirectory => "waiting_local_directory",
            Completed => "completed",
            Failed => "failed",
            Cancelled => "cancelled",
        }
    }
}

impl TryFrom<String> for Status {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        ALL.into_iter().find(|status| status.word() == word).ok_or_else(|| format!("no status of a task: {word}"))
    }
}

/// The statuses in statements, word for word as in the indexes: SQLite uses those only then.
macro_rules! active {
    () => {
        "('queued', 'dispatched', 'running', 'waiting_local_directory')"
    };
}
pub(crate) use active;

/// As `active!`, those that a daemon has.
macro_rules! in_flight {
    () => {
        "('dispatched', 'running', 'waiting_local_directory')"
    };
}
pub(crate) use in_flight;

/// As `active!`, those of which an agent has one per issue.
macro_rules! pending {
    () => {
        "('queued', 'dispatched')"
    };
}
pub(crate) use pending;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_in_statements_are_what_operations_change() {
        let listed = |statuses: &[Status]| {
            let words: Vec<String> = statuses.iter().map(|status| format!("'{}'", status.word())).collect();
            format!("({})", words.join(", "))
        };
        assert_eq!(active!(), listed(Operation::Cancel.from()));
        assert_eq!(in_flight!(), listed(Operation::Fail.from()));
        assert_eq!(pending!(), listed(&[Queued, Dispatched]));
    }

    #[test]
    fn nothing_leaves_a_terminal_status() {
        for operation in OPERATIONS {
            for ended in [Status::Completed, Status::Failed, Status::Cancelled] {
                assert!(!operation.applies_to(ended), "{operation:?}");
            }
        }
    }
}
