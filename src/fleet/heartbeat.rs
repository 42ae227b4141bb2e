//! Beats, over HTTP and over the socket, by the same rules. On the steady path a beat costs no
//! statement and no round trip of its own: what it has to know is believed, its lease goes with the
//! next tick, its row with the next flush.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Fleet,
    facts::Fact,
    lease::{Lease, State},
    liveness::Touched,
    presence::presence_of,
    runtimes::{self, ONLINE},
    transitions::Returned,
};
use crate::{
    error::{Error, Result},
    identity::{Driver, Role},
    ids::{RuntimeId, TaskId, UserId, WorkspaceId},
    protocol::runtime::Presence,
    time::Timestamp,
};

/// A slower beat is worth a line.
const SLOW: Duration = Duration::from_millis(500);

/// What became of a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Recorded.
    Recorded,
    /// The row is gone: the daemon forgets it and registers again.
    Gone,
    /// The runtime was taken offline on purpose after this contact began; it stays so.
    TakenOffline,
}

/// How a beat came.
#[derive(Debug, Clone, Copy)]
pub struct Contact {
    /// When the contact began: the request's head, or the socket's opening. What was taken offline
    /// on purpose after that is not brought back by it.
    pub since: Timestamp,
    /// The socket; 0 for HTTP.
    pub connection: u64,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Beat,
    Call,
    Claim,
}

impl Contact {
    fn transport(self) -> &'static str {
        if self.connection == 0 { "http" } else { "socket" }
    }
}

impl Fleet {
    /// Records a beat.
    pub async fn beat(self: &Arc<Self>, driver: &Driver, runtime: RuntimeId, contact: Contact) -> Result<Beat> {
        self.metrics.beat(contact.transport());
        self.record(driver, runtime, contact, Kind::Beat).await
    }

    /// Records another call for a runtime, which says as much as a beat: whoever asks for work lives.
    pub async fn hear_of(self: &Arc<Self>, driver: &Driver, runtime: RuntimeId, since: Timestamp) -> Result<()> {
        match self.record(driver, runtime, Contact { since, connection: 0 }, Kind::Call).await? {
            Beat::Gone => Err(runtimes::runtime_not_found()),
            Beat::Recorded | Beat::TakenOffline => Ok(()),
        }
    }

    /// Whether somebody may ask for work for a runtime; by what is believed of it.
    pub async fn admit_claim(&self, driver: &Driver, runtime: RuntimeId) -> Result<()> {
        match self.fact(runtime).await? {
            Some(fact) => self.require_claimant(&fact, driver).await,
            None => {
                self.note_told_gone(driver.user);
                Err(runtimes::runtime_not_found())
            }
        }
    }

    /// At a runtime without an owner, from old data, any member may ask: what waits there is refused for
    /// want of an owner, not silently kept.
    async fn require_claimant(&self, fact: &Fact, driver: &Driver) -> Result<()> {
        let owner = fact.owner.or(Some(driver.user));
        self.require_works(fact.workspace, owner, &fact.daemon_id, driver).await
    }

    /// As [`Fleet::hear_of`], for the call that asks for work.
    pub async fn hear_of_claim(self: &Arc<Self>, driver: &Driver, runtime: RuntimeId, since: Timestamp) -> Result<()> {
        match self.record(driver, runtime, Contact { since, connection: 0 }, Kind::Claim).await? {
            Beat::Gone => Err(runtimes::runtime_not_found()),
            Beat::Recorded | Beat::TakenOffline => Ok(()),
        }
    }

    /// A daemon called for a task that it has from a runtime: it lives, and so does the task. Nobody waits
    /// for what comes of that. A runtime that its daemon took offline stays so: its last words may come
    /// after its goodbye.
    pub fn hear_of_work(self: &Arc<Self>, driver: &Driver, runtime: Option<RuntimeId>, task: TaskId) {
        self.hear_of_task(task);
        let Some(runtime) = runtime else { return };
        let (fleet, driver) = (self.clone(), driver.clone());
        tokio::spawn(async move {
            let long_ago = Contact { since: Timestamp(0), connection: 0 };
            if let Err(error) = fleet.note(&driver, runtime, long_ago, Kind::Call).await {
                tracing::debug!(%runtime, %error, "noting a call for a task");
            }
        });
    }

    /// As [`Fleet::hear_of`], for the call after a restart: owners and admins may make it as well, but
    /// that says nothing of the daemon. Gives the runtime's workspace.
    pub async fn hear_of_restart(
        self: &Arc<Self>,
        driver: &Driver,
        runtime: RuntimeId,
        since: Timestamp,
    ) -> Result<WorkspaceId> {
        let fact = self.fact(runtime).await?;
        if let Some(fact) = fact.filter(|fact| fact.owner != Some(driver.user) && driver.binding.is_none())
            && self.credentials.role(fact.workspace, driver.user).await? >= Some(Role::Admin)
        {
            return Ok(fact.workspace);
        }
        self.hear_of(driver, runtime, since).await?;
        self.fact(runtime).await?.map(|fact| fact.workspace).ok_or_else(runtimes::runtime_not_found)
    }

    async fn record(
        self: &Arc<Self>,
        driver: &Driver,
        runtime: RuntimeId,
        contact: Contact,
        kind: Kind,
    ) -> Result<Beat> {
        let outcome = self.note(driver, runtime, contact, kind).await;
        if let Ok(Beat::Gone) = outcome {
            self.note_told_gone(driver.user);
        }
        outcome
    }

    async fn note(self: &Arc<Self>, driver: &Driver, runtime: RuntimeId, contact: Contact, kind: Kind) -> Result<Beat> {
        let began = Instant::now();
        let Some(mut fact) = self.fact(runtime).await? else { return Ok(Beat::Gone) };
        match kind {
            Kind::Claim => self.require_claimant(&fact, driver).await?,
            Kind::Beat | Kind::Call => self.require_driver(&fact, driver).await?,
        }
        let believed = began.elapsed();
        let now = self.db.clock().now();
        let touched = match kind {
            Kind::Beat => self.liveness.touch(runtime, self.next_lease(contact.connection)).await,
            Kind::Call | Kind::Claim => self.keep_or_touch(runtime).await,
        };
        let after_touch = began.elapsed();
        match touched {
            Touched::Was(Some(before)) if before.state != State::Marked => {
                if kind == Kind::Beat || before.state == State::Ended {
                    self.note_presence(&fact, runtime, contact, before);
                }
            }
            Touched::Was(_) => {
                // Nothing there, or a marker: somebody may have taken it offline, or removed it.
                self.facts.drop_all_of(&[runtime]);
                fact = match self.fact(runtime).await? {
                    Some(fact) => fact,
                    None => {
                        self.liveness.forget(&[runtime]).await;
                        return Ok(Beat::Gone);
                    }
                };
                self.board.changed(fact.workspace, runtime, presence(contact), Some(now));
            }
            Touched::Away => {
                self.metrics.touch_failures.inc();
                if self.evidence.flush_fails() || !self.db.answers() {
                    // Neither store would know of it; but one of them may be back by now.
                    self.due.note(runtime, now);
                    self.due.ask();
                    return Err(Error::Unavailable("neither the database nor the lease store answers".into()));
                }
            }
        }
        if contact.connection != 0 && touched != Touched::Away && !self.suspects.has_open(contact.connection) {
            // The socket ended while this was in work. Whoever saw its end may have found the lease as
            // it was before, and the lease now names a socket that nobody will see end.
            self.suspect(contact.connection, &[runtime], self.settings.peer_grace).await;
        }
        if !fact.online || fact.written.is_none() {
            let returned = self.bring_back(fact.workspace, runtime, contact.since, now).await?;
            // Whatever it is now, it may not have been this that changed it.
            self.facts.drop_all_of(&[runtime]);
            match returned {
                Returned::Online => self.board.changed(fact.workspace, runtime, presence(contact), Some(now)),
                Returned::StaysOffline => {
                    self.liveness.forget(&[runtime]).await;
                    return Ok(Beat::TakenOffline);
                }
                Returned::Gone => return Ok(Beat::Gone),
            }
        } else if touched == Touched::Away || fact.written.is_some_and(|at| now.since(at) >= self.settings.flush_after)
        {
            self.due.note(runtime, now);
        }
        self.board.beat(fact.workspace, runtime);
        let took = began.elapsed();
        if took >= SLOW {
            tracing::warn!(
                %runtime,
                transport = contact.transport(),
                token = if driver.binding.is_some() { "daemon" } else { "person" },
                believed_ms = believed.as_millis() as u64,
                touched_ms = (after_touch - believed).as_millis() as u64,
                rest_ms = (took - after_touch).as_millis() as u64,
                "slow beat"
            );
        }
        Ok(Beat::Recorded)
    }

    /// A beat says over what it came. Any other contact only keeps the lease: the socket that the
    /// lease names is still the one whose end would say something.
    pub(super) async fn keep_or_touch(&self, runtime: RuntimeId) -> Touched {
        match self.liveness.keep(runtime).await {
            Touched::Was(Some(lease)) if lease.state == State::Alive => Touched::Was(Some(lease)),
            Touched::Away => Touched::Away,
            Touched::Was(_) => self.liveness.touch(runtime, self.next_lease(0)).await,
        }
    }

    fn next_lease(&self, connection: u64) -> Lease {
        let number = self.beats.fetch_add(1, Ordering::Relaxed);
        Lease { state: State::Alive, node: self.node, connection, number }
    }

    /// What is believed of a runtime, read if nothing is; `None` if there is no such row.
    pub(super) async fn fact(&self, runtime: RuntimeId) -> Result<Option<Fact>> {
        if let Some(fact) = self.facts.get(runtime) {
            return Ok(Some(fact));
        }
        let before = self.facts.before_reading();
        let row = self.db.read(async move |db| runtimes::find(db, runtime).await).await?;
        Ok(row.map(|row| {
            let fact = Fact::from(&row);
            self.facts.learn(runtime, fact.clone(), before);
            fact
        }))
    }

    /// Whether somebody may work for the runtime: its owner, while a member, or who holds a daemon
    /// token that the owner made for this very daemon.
    pub(super) async fn require_driver(&self, fact: &Fact, driver: &Driver) -> Result<()> {
        self.require_works(fact.workspace, fact.owner, &fact.daemon_id, driver).await
    }

    /// The same for whatever remembers itself whose daemon it is for.
    pub async fn require_works(
        &self,
        workspace: WorkspaceId,
        owner: Option<UserId>,
        daemon_id: &str,
        driver: &Driver,
    ) -> Result<()> {
        if owner != Some(driver.user) || !driver.is(workspace, daemon_id) {
            return Err(runtimes::not_yours());
        }
        let role = self.credentials.role(workspace, driver.user).await?;
        role.map(drop).ok_or_else(runtimes::not_yours)
    }

    fn note_presence(&self, fact: &Fact, runtime: RuntimeId, contact: Contact, before: Lease) {
        let now = presence(contact);
        if fact.online && presence_of(ONLINE, Some(before)) != now {
            self.board.changed(fact.workspace, runtime, now, Some(self.db.clock().now()));
        }
    }
}

fn presence(contact: Contact) -> Presence {
    if contact.connection == 0 { Presence::Http } else { Presence::Socket }
}

impl From<&runtimes::Row> for Fact {
    fn from(row: &runtimes::Row) -> Self {
        Self {
            workspace: row.workspace_id,
            owner: row.owner_id,
            daemon_id: row.daemon_id.as_str().into(),
            online: row.status == ONLINE,
            written: row.last_seen_at,
        }
    }
}
