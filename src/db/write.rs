//! The writing transaction: body, seal, commit, hand-over, in that order and nowhere else.
//!
//! What a body emits is numbered and logged by the last statement before COMMIT and handed to the
//! [`Sink`] after it, in the same task. So an event exists exactly if its change does, and nobody
//! is told of a change that was not committed.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::{Arm, Db, Session, course::Course};
use crate::{
    error::{Error, Result, database_is_away},
    ids::WorkspaceId,
    protocol::event::Event,
    time::Timestamp,
};

/// Runs of one body at most.
const RUNS: u32 = 3;

/// How often the outcome of a COMMIT whose answer was lost is asked for, and how long in between.
const OUTCOME_QUESTIONS: u32 = 20;
const OUTCOME_PAUSE: Duration = Duration::from_millis(500);

/// Consecutive events of one workspace that were committed together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Whose sequence.
    pub workspace: WorkspaceId,
    /// The number of the first event.
    pub first: u64,
    /// The events, in order.
    pub events: Vec<Event>,
}

/// What one transaction logged, one batch per workspace.
#[derive(Debug, Clone, Default)]
pub struct Sealed(pub Vec<Batch>);

/// Where emitted events go. `events` implements it; the database only knows when.
pub trait Sink: Send + Sync + 'static {
    /// Numbers and logs the events: the last statements of the transaction, since they lock the
    /// counters.
    fn seal<'a>(&'a self, tx: &'a mut Session, at: Timestamp, events: Vec<Event>) -> BoxFuture<'a, Result<Sealed>>;

    /// Whether a sealed transaction was committed. Waits for one that is still in progress.
    fn landed<'a>(&'a self, tx: &'a mut Session, sealed: &'a Sealed) -> BoxFuture<'a, Result<bool>>;

    /// Takes committed events over. Does not block.
    fn announce(&self, sealed: Sealed);

    /// Some events of these workspaces may have been committed without being announced.
    fn doubt(&self, workspaces: Vec<WorkspaceId>);
}

/// A writing transaction. Dereferences to its [`Session`].
pub struct Tx {
    session: Session,
    now: Timestamp,
    events: Vec<Event>,
    effects: Vec<Box<dyn FnOnce() + Send>>,
}

impl Tx {
    /// The time at which this run began; the time of everything it stores.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Lets each statement take up to two minutes instead of half a one, where the server has a limit:
    /// for the few transactions that take a lot apart at once.
    pub async fn allow_long_statements(&mut self) -> Result<()> {
        let allowed = match self.session.arm() {
            Arm::Postgres(c) => sqlx::raw_sql("SET LOCAL statement_timeout = '120s'").execute(c).await.map(drop),
            Arm::Sqlite(_) => Ok(()),
        };
        self.session.note(allowed)
    }

    /// Publishes a state change, if and once this transaction commits.
    pub fn emit(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Runs `effect` once, after the commit: wake-ups, kicks, cache drops. Never before, never for
    /// a run that was thrown away.
    pub fn after_commit(&mut self, effect: impl FnOnce() + Send + 'static) {
        self.effects.push(Box::new(effect));
    }
}

impl Deref for Tx {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

pub(super) async fn run<T, F>(db: &Db, workspace: Option<WorkspaceId>, course: &Course, body: F) -> Result<T>
where
    F: AsyncFn(&mut Tx) -> Result<T>,
{
    let permits = workspace.map(|workspace| db.permits(workspace));
    let _permit = match &permits {
        Some(permits) => permits.acquire().await.ok(),
        None => None,
    };
    let mut run = 1;
    loop {
        match attempt(db, workspace, course, &body).await {
            Err(error) if error.wants_another_run() && run < RUNS => {
                tracing::debug!(%error, run, "running a transaction again");
                run += 1;
                // Two bodies that deadlocked once must not meet again in step.
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
            }
            outcome => return outcome,
        }
    }
}

async fn attempt<T, F>(db: &Db, workspace: Option<WorkspaceId>, course: &Course, body: &F) -> Result<T>
where
    F: AsyncFn(&mut Tx) -> Result<T>,
{
    course.begin()?;
    let mut session = db.begin().await?;
    light_fuse(db, workspace, &mut session);
    let pulse = session.pulse();
    let mut tx = Tx { session, now: db.clock().now(), events: Vec::new(), effects: Vec::new() };
    let done = pulse.watch(body(&mut tx)).await;
    let Tx { mut session, now, events, effects } = tx;
    let value = match done {
        Some(Ok(value)) if session.has_failed() => {
            drop(value);
            session.rollback().await;
            return Err(Error::internal("a statement failed inside a transaction and its error was swallowed"));
        }
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            session.rollback().await;
            return Err(error);
        }
        None => return Err(session.fell_silent()),
    };
    let sealed = if events.is_empty() {
        Sealed::default()
    } else {
        match pulse.watch(db.0.sink.seal(&mut session, now, events)).await {
            Some(Ok(sealed)) => sealed,
            Some(Err(error)) => {
                session.rollback().await;
                return Err(error);
            }
            None => return Err(session.fell_silent()),
        }
    };
    if let Err(error) = course.commit() {
        session.rollback().await;
        return Err(error);
    }
    if let Err(error) = session.commit().await {
        settle(db, &sealed, error).await?;
    }
    fault_point_after_commit();
    if !sealed.0.is_empty() {
        db.0.sink.announce(sealed);
    }
    for effect in effects {
        effect();
    }
    Ok(value)
}

/// COMMIT failed. A definite no is passed on; a lost answer is looked up in the log, which holds
/// the transaction's events exactly if it was committed.
async fn settle(db: &Db, sealed: &Sealed, error: sqlx::Error) -> Result<()> {
    if !database_is_away(&error) {
        return Err(Error::Database(error));
    }
    if sealed.0.is_empty() {
        return Err(Error::OutcomeUnknown(error.to_string()));
    }
    for _ in 0..OUTCOME_QUESTIONS {
        match ask_outcome(db, sealed).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(Error::Database(error)),
            Err(question) => tracing::warn!(%question, "asking for the outcome of a commit"),
        }
        tokio::time::sleep(OUTCOME_PAUSE).await;
    }
    db.0.sink.doubt(sealed.0.iter().map(|batch| batch.workspace).collect());
    Err(Error::OutcomeUnknown(error.to_string()))
}

async fn ask_outcome(db: &Db, sealed: &Sealed) -> Result<bool> {
    let mut session = db.begin().await?;
    let pulse = session.pulse();
    match pulse.watch(db.0.sink.landed(&mut session, sealed)).await {
        Some(landed) => {
            session.rollback().await;
            landed
        }
        None => Err(session.fell_silent()),
    }
}

/// Lets a statement of the session fail if that was asked for; see [`Db::fail_statement`]. Compiled for
/// tests only.
#[cfg(feature = "test-hooks")]
fn light_fuse(db: &Db, workspace: Option<WorkspaceId>, session: &mut Session) {
    let mut asked = db.0.fuse.lock();
    if let Some((_, statement)) = asked.take_if(|(whose, _)| Some(*whose) == workspace) {
        session.burn_down(statement);
    }
}

#[cfg(not(feature = "test-hooks"))]
fn light_fuse(_: &Db, _: Option<WorkspaceId>, _: &mut Session) {}

/// Ends the process between commit and announcement when the file named by `HEARTWIRE_FAULT_FILE`
/// exists. Compiled for tests only.
#[cfg(feature = "test-hooks")]
fn fault_point_after_commit() {
    let armed = std::env::var_os("HEARTWIRE_FAULT_FILE");
    if armed.is_some_and(|file| std::path::Path::new(&file).exists()) {
        std::process::abort();
    }
}

#[cfg(not(feature = "test-hooks"))]
fn fault_point_after_commit() {}
