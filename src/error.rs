//! The one error type. A refusal is the caller's to mend and says so in words and in a stable code;
//! everything else is ours, goes to the log whole and to the client as one sentence.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be served as it is; nothing was changed.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// Trouble of ours that is expected to pass; nothing was changed.
    #[error("unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// A database error. Transient ones are [`Error::is_transient`].
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// What a transaction had planned its locks by has changed since: it runs again.
    #[error("too much changed meanwhile")]
    PlanChanged,
    /// COMMIT was sent and its outcome could not be learnt.
    #[error("the outcome of a commit is unknown: {0}")]
    OutcomeUnknown(String),
    /// A defect or a broken environment.
    #[error("{0}")]
    Internal(String),
}

/// What may not be there: nothing in place of a refusal, which then only says that.
pub fn there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A refusal, as the client is told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Which class of refusal, and so which status.
    pub kind: Kind,
    /// For programs; stable.
    pub code: &'static str,
    /// For people.
    pub text: Cow<'static, str>,
    /// More members of the answer's object.
    pub details: Map<String, Value>,
}

/// The classes of refusal, one for each status in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400
    Invalid,
    /// 401
    Unauthenticated,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    WrongMethod,
    /// 409
    Conflict,
    /// 413
    TooLarge,
    /// 422
    Unprocessable,
    /// 426
    UpgradeRequired,
    /// 429
    TooMany,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(code: &'static str, text: impl Into<Cow<'static, str>>) -> Error {
            Error::Refused(Refusal { kind: Kind::$kind, code, text: text.into(), details: Map::new() })
        }
    )*};
}

impl Error {
    /// The same refusal, with one more member in the answer's object.
    pub fn with(self, name: &str, value: &impl serde::Serialize) -> Self {
        match (self, serde_json::to_value(value)) {
            (Self::Refused(mut refusal), Ok(value)) => {
                refusal.details.insert(name.to_owned(), value);
                Self::Refused(refusal)
            }
            (_, Err(error)) => Self::internal(error),
            (other, _) => other,
        }
    }

    /// The same refusal, saying where in the request: `resources[2]: url must be …`.
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Refused(refusal) => {
                Self::Refused(Refusal { text: format!("{place}: {}", refusal.text).into(), ..refusal })
            }
            other => other,
        }
    }

    refusals! {
        /// The request is malformed or says something impossible.
        invalid => Invalid,
        /// No credential, or one that is not accepted.
        unauthenticated => Unauthenticated,
        /// Known, and not allowed.
        forbidden => Forbidden,
        /// Absent, or not the caller's to know of.
        not_found => NotFound,
        /// The state forbids it now.
        conflict => Conflict,
        /// More bytes than the route takes.
        too_large => TooLarge,
        /// What the request names cannot be used for it as things are.
        unprocessable => Unprocessable,
        /// The route exists for another method.
        wrong_method => WrongMethod,
        /// The route is a WebSocket.
        upgrade_required => UpgradeRequired,
        /// Too often, or too many at once; later is fine.
        too_many => TooMany,
    }

    /// A defect or a broken environment, in words for the log.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        Self::Internal(what.to_string())
    }

    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::PlanChanged => true,
            Self::Database(error) => database_is_away(error) || is_contention(error),
            _ => false,
        }
    }

    /// Whether running the same transaction again is the right answer.
    pub fn wants_another_run(&self) -> bool {
        match self {
            Self::PlanChanged => true,
            Self::Database(error) => is_contention(error),
            _ => false,
        }
    }
}

/// The connection, the pool or the server is gone or going.
pub fn database_is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Shutdown, crash recovery, start-up, too many connections, idle-in-transaction, lock and
        // statement time limits.
        sqlx::Error::Database(database) => matches!(
            database.code().as_deref(),
            Some("57P01" | "57P02" | "57P03" | "53300" | "25P03" | "55P03" | "57014")
        ),
        _ => false,
    }
}

/// Deadlocks and serialisation failures on PostgreSQL, and keys that another transaction took or
/// took away meanwhile, which the next run finds so and refuses in its own words; a busy or stale
/// snapshot on SQLite.
fn is_contention(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Database(database)
            if matches!(database.code().as_deref(), Some("40001" | "40P01" | "23503" | "23505" | "5" | "517"))
    )
}
