//! The claim: a daemon asks for work for one of its runtimes and gets a task with everything it needs.
//!
//! A reader says which agents have something that they may do now. Then one agent after the other is
//! locked, in a transaction of its own, and what it may do is decided anew: under that lock no other
//! claim, end or cancel of its changes anything. Whoever waits for an agent's lock is not told
//! "nothing": its daemon would sleep for half a minute on that.

mod answer;
mod candidates;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Queue, Row, Which, agent_status, ends, lock_agents, tokens};
use crate::{
    db::Tx,
    error::{Error, Result},
    events::kinds,
    fleet::{self, Seat},
    identity::{Driver, TaskBinding, task_tokens},
    ids::{AgentId, RuntimeId, TaskTokenId, UserId, WorkspaceId},
    protocol::task::ClaimedTask,
    time::Timestamp,
    workspace::agents,
};

/// A task that was given to a daemon and did not start within this is given again: its answer was lost.
/// Longer than the daemon waits for the claim and for the start together.
const UNDELIVERED: Duration = Duration::from_secs(90);
/// A daemon that waits for longer has given up.
const PATIENCE: Duration = Duration::from_secs(25);
/// A slower claim is worth a line.
const SLOW: Duration = Duration::from_millis(500);

/// Whether the one who asked still waits: not once this was dropped.
#[derive(Clone)]
pub struct Asker {
    gone: Arc<AtomicBool>,
    until: Instant,
}

/// Ends an [`Asker`]'s waiting when it is dropped.
pub struct Waiting(Arc<AtomicBool>);

impl Asker {
    /// Somebody asks now; they wait as long as the second is there.
    pub fn new() -> (Self, Waiting) {
        let gone = Arc::new(AtomicBool::new(false));
        (Self { gone: gone.clone(), until: Instant::now() + PATIENCE }, Waiting(gone))
    }

    /// Nothing is claimed for somebody who does not wait any more.
    fn require(&self) -> Result<()> {
        if self.gone.load(Ordering::SeqCst) || Instant::now() > self.until {
            return Err(Error::Unavailable("whoever asked for work waits no longer".into()));
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Looks of one call at most.
const LOOKS: usize = 4;

/// What became of one look.
enum Looked {
    Claimed(Box<ClaimedTask>),
    Nothing,
    TooLate,
}

/// What became of one agent's turn.
enum Turn {
    Claimed(Box<ClaimedTask>),
    /// Somebody else was quicker, or it is blocked by now.
    Nothing,
    /// The task cannot be given to this daemon; it was cancelled.
    Unfit(&'static str),
}

impl Queue {
    /// Claims a task for a runtime, whose daemon was let in. `None` if there is nothing to do.
    pub async fn claim(
        self: &Arc<Self>,
        driver: &Driver,
        runtime: RuntimeId,
        asker: Asker,
    ) -> Result<Option<Box<ClaimedTask>>> {
        let began = Instant::now();
        let claimed = self.claim_any(driver.user, runtime, asker).await;
        let took = began.elapsed();
        let outcome = match &claimed {
            Ok(Some(_)) => "task",
            Ok(None) => "nothing",
            Err(Error::Refused(_)) => "refused",
            Err(_) => "failed",
        };
        self.metrics.claim(outcome, took);
        claimed
    }

    async fn claim_any(
        self: &Arc<Self>,
        user: UserId,
        runtime: RuntimeId,
        asker: Asker,
    ) -> Result<Option<Box<ClaimedTask>>> {
        for _ in 0..LOOKS {
            match self.look_and_claim(user, runtime, &asker).await? {
                Looked::Claimed(task) => return Ok(Some(task)),
                Looked::Nothing => return Ok(None),
                // Others were quicker with all of those; there may be more.
                Looked::TooLate => {}
            }
        }
        Ok(None)
    }

    async fn look_and_claim(self: &Arc<Self>, user: UserId, runtime: RuntimeId, asker: &Asker) -> Result<Looked> {
        let began = Instant::now();
        let undelivered = self.db.clock().now().minus(UNDELIVERED);
        let found = self.db.read(async move |db| candidates::find(db, runtime, undelivered).await).await?;
        let looked = began.elapsed();
        let all = found.len() < candidates::MOST;
        for candidate in found {
            let (queue, asker) = (self.clone(), asker.clone());
            let turn = self
                .db
                .write(candidate.workspace_id, async move |tx| {
                    queue.turn(tx, user, candidate.workspace_id, runtime, candidate.agent_id, &asker).await
                })
                .await?;
            match turn {
                Turn::Claimed(task) => {
                    let took = began.elapsed();
                    if took >= SLOW {
                        tracing::warn!(
                            %runtime,
                            looked_ms = looked.as_millis() as u64,
                            claimed_ms = (took - looked).as_millis() as u64,
                            "slow claim"
                        );
                    }
                    return Ok(Looked::Claimed(task));
                }
                Turn::Nothing => {}
                Turn::Unfit(why) => return Err(Error::internal(why)),
            }
        }
        Ok(if all { Looked::Nothing } else { Looked::TooLate })
    }

    /// One agent's turn.
    async fn turn(
        self: &Arc<Self>,
        tx: &mut Tx,
        user: UserId,
        workspace: WorkspaceId,
        runtime: RuntimeId,
        agent: AgentId,
        asker: &Asker,
    ) -> Result<Turn> {
        let mut seats = fleet::lock_seats(tx, workspace, &[runtime]).await?;
        let seat = seats.remove(&runtime).ok_or_else(fleet::runtime_not_found)?;
        if seat.owner_id.is_some_and(|owner| owner != user) {
            return Err(fleet::not_yours());
        }
        let Some(agent) = lock_agents(tx, workspace, &[agent]).await?.pop() else { return Ok(Turn::Nothing) };
        asker.require()?;
        let undelivered = tx.now().minus(UNDELIVERED);
        let Some(row) = candidates::take(tx, &seat, &agent, undelivered).await? else { return Ok(Turn::Nothing) };
        self.hand_over(tx, row, agent, seat).await
    }

    /// Gives a task that was taken to the daemon, with a token, unless it is not fit for it.
    async fn hand_over(
        self: &Arc<Self>,
        tx: &mut Tx,
        taken: candidates::Taken,
        agent: agents::Row,
        seat: Seat,
    ) -> Result<Turn> {
        let candidates::Taken { row, again } = taken;
        let Some(user) = seat.owner_id else {
            return self.refuse(tx, &row, "runtime owner required to mint task token").await;
        };
        let Some(subject) = answer::subject(tx, &row, &seat).await? else {
            return self.refuse(tx, &row, "task workspace isolation check failed").await;
        };
        if again {
            // Whoever has the earlier answer after all acts by nothing any more.
            tokens::revoke(self, tx, &[row.id]).await?;
        }
        let binding = TaskBinding {
            token: TaskTokenId::fresh(),
            workspace: row.workspace_id,
            agent: agent.id,
            task: row.id,
            user,
        };
        let auth_token = task_tokens::mint(tx, &binding).await?;
        let task = ClaimedTask { auth_token, ..answer::assemble(tx, &row, &agent, user, subject).await? };
        let (queue, id) = (self.clone(), row.id);
        tx.after_commit(move || queue.fleet.hear_of_task(id));
        if !again {
            agent_status::is_working(tx, &agent).await?;
            self.tell_dispatched(tx, &row, &agent, seat.id);
        }
        Ok(Turn::Claimed(Box::new(task)))
    }

    /// Cancels a task that must not be given to the daemon that asks, so that its agent is free again.
    async fn refuse(self: &Arc<Self>, tx: &mut Tx, row: &Row, why: &'static str) -> Result<Turn> {
        tracing::error!(task = %row.id, why, "a task that cannot be given to its daemon is cancelled");
        let agent = row.agent_id;
        self.cancel(tx, row.workspace_id, Which::Task(row.id), |id| id == agent).await?;
        ends::chat::refused(tx, row).await?;
        Ok(Turn::Unfit(why))
    }

    fn tell_dispatched(self: &Arc<Self>, tx: &mut Tx, row: &Row, agent: &agents::Row, runtime: RuntimeId) {
        let private_to = (agent.visibility == "private").then_some(agent.owner_id);
        let context = row.context.as_ref().and_then(|context| context.as_object());
        tx.emit(kinds::task_dispatched(&row.told(), runtime, context, private_to));
        let (queue, source, waited) = (self.clone(), row.source(), waited(row, tx.now()));
        tx.after_commit(move || queue.metrics.dispatched(source, waited));
    }
}

fn waited(row: &Row, now: Timestamp) -> Duration {
    now.since(row.created_at)
}
