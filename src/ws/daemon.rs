//! `/api/daemon/ws`: a daemon's control socket. It carries beats one way and hints the other; all
//! work is pulled over HTTP.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Body, http::Request, response::Response};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Connection, Ended, Limits, NoFrames, Signal, Sockets, Transport,
    upgrade::{self, Session},
};
use crate::{
    error::Result,
    fleet::{Beat, Contact, Parting},
    hub::{Close, Entry, Holder, wire},
    identity::Driver,
    ids::{RuntimeId, TaskId},
    protocol::{
        close,
        daemon::{HEARTBEAT, HEARTBEAT_ACK, HeartbeatAck, Inbound, Outbound, gone_ack},
        lenient,
        task::{RUNNING_TASKS, RunningTasks, task_cancelled},
    },
    time::Timestamp,
};

/// Beats of one connection that may be in work at once; reading waits for none of them.
const BEATS_AT_ONCE: usize = 32;

/// A daemon whose runtimes were looked up.
pub struct Opening {
    /// Whose runtimes it drives.
    pub driver: Driver,
    /// What the socket rests on.
    pub holder: Holder,
    /// When the request came.
    pub began: Timestamp,
    /// What it drives.
    pub runtimes: Vec<RuntimeId>,
    /// [`crate::hub::Registry::revocations`] before the look-up.
    pub revocations: u64,
}

/// Answers the upgrade request.
pub fn accept(sockets: &Arc<Sockets>, request: Request<Body>, opening: Opening) -> Result<Response> {
    let limits = Limits {
        ping: sockets.settings.daemon_ping,
        silence: sockets.settings.daemon_silence,
        stuck: sockets.settings.stuck_after,
        max_message: sockets.settings.max_message,
    };
    upgrade::accept(sockets, request, limits, Daemon { sockets: sockets.clone(), opening })
}

struct Daemon {
    sockets: Arc<Sockets>,
    opening: Opening,
}

impl Session for Daemon {
    async fn run<T: Transport>(self, mut connection: Box<Connection<T>>) {
        let Self { sockets, opening: Opening { driver, holder, began, runtimes, revocations } } = self;
        let since = Instant::now();
        let user = driver.user;
        let entry = sockets.registry.enter_daemon(holder, &runtimes);
        if sockets.draining.is_cancelled() {
            entry.peer().close(Close::new(close::DRAINING, "retry_after_ms=1000"));
        }
        if sockets.registry.revocations() != revocations {
            // Something was revoked before this socket could be found by it: the daemon comes back
            // at once and is judged anew.
            entry.peer().close(Close::new(close::DRAINING, "retry_after_ms=100"));
        }
        tracing::debug!(%user, runtimes = runtimes.len(), "daemon connected");
        sockets.fleet.socket_began(entry.id(), &runtimes).await;
        let fleet = sockets.fleet.clone();
        let silence = sockets.settings.daemon_silence;
        let beats = Beats { sockets, driver, opened: began, permits: Arc::new(Semaphore::new(BEATS_AT_ONCE)) };
        let end = loop {
            match connection.next(entry.peer(), &mut NoFrames).await {
                Signal::Text(text) => {
                    if let Err(end) = beats.take(&mut connection, &entry, &text).await {
                        break end;
                    }
                }
                Signal::Tick | Signal::Alarm | Signal::Behind | Signal::Lost => {}
                Signal::Close(close) => break Ended::ByUs(close),
                Signal::Ended(end) => break end,
            }
        };
        tracing::debug!(%user, ?end, seconds = since.elapsed().as_secs(), "daemon disconnected");
        let (socket, left) = (entry.id(), entry.runtimes());
        drop(entry);
        fleet.socket_ended(socket, &left, parting(&end, silence)).await;
        let goodbye = match end {
            Ended::ByUs(close) => Some(close),
            Ended::ByPeer(_) | Ended::Gone(_) => None,
        };
        Box::pin(connection.finish(goodbye)).await;
    }
}

/// What an end says about the daemon.
fn parting(end: &Ended, silence: Duration) -> Parting {
    match end {
        Ended::ByPeer(_) | Ended::Gone(_) => Parting::Seen,
        Ended::ByUs(close) if close.code == close::SILENT => Parting::Silent(silence),
        Ended::ByUs(close) if close.code == close::DRAINING => Parting::Asked,
        // Slow, revoked, or not speaking the protocol: it is seen to be gone.
        Ended::ByUs(_) => Parting::Seen,
    }
}

struct Beats {
    sockets: Arc<Sockets>,
    driver: Driver,
    opened: Timestamp,
    permits: Arc<Semaphore>,
}

impl Beats {
    /// Takes a frame: starts the work for a beat, ignores everything else.
    async fn take<T: Transport>(&self, connection: &mut Connection<T>, entry: &Entry, text: &str) -> Result<(), Ended> {
        let frame: Inbound = match lenient::decode(text.as_bytes()) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "a daemon sent a frame that is not a beat");
                return Ok(());
            }
        };
        if frame.r#type == RUNNING_TASKS {
            return self.reconcile(connection, entry, text).await;
        }
        if frame.r#type != HEARTBEAT {
            return Ok(());
        }
        let Ok(runtime) = frame.payload.runtime_id.parse::<RuntimeId>() else { return Ok(()) };
        if !entry.drives(runtime) {
            // No ack: the daemon falls back to HTTP by itself.
            return Ok(());
        }
        let Some(permit) = self.permit(connection, entry).await? else { return Ok(()) };
        let (fleet, registry, mailbox) = (self.sockets.fleet.clone(), self.sockets.registry.clone(), entry.mailbox());
        let driver = self.driver.clone();
        let contact = Contact { since: self.opened, connection: entry.id() };
        let interval = fleet.settings().beat_interval.as_millis() as u64;
        self.sockets.tracker.spawn(async move {
            let ack = match fleet.beat(&driver, runtime, contact).await {
                Ok(Beat::Recorded) => Some(HeartbeatAck {
                    runtime_id: runtime.to_string(),
                    status: "ok",
                    runtime_gone: false,
                    heartbeat_interval_ms: interval,
                    server_capabilities: &[],
                }),
                Ok(Beat::Gone) => Some(gone_ack(runtime, interval)),
                Ok(Beat::TakenOffline) => {
                    registry.release(&mailbox, runtime);
                    None
                }
                // No ack either: the daemon beats over HTTP and is told there.
                Err(error) => {
                    tracing::warn!(%runtime, %error, "a beat was not recorded");
                    None
                }
            };
            if let Some(payload) = ack {
                mailbox.send(wire::text(&Outbound { r#type: HEARTBEAT_ACK, payload }.json()));
            }
            drop(permit);
        });
        Ok(())
    }

    /// A daemon that has come back says what it still runs: it is told what of that is over.
    async fn reconcile<T: Transport>(
        &self,
        connection: &mut Connection<T>,
        entry: &Entry,
        text: &str,
    ) -> Result<(), Ended> {
        #[derive(Default, Deserialize)]
        struct Frame {
            #[serde(default, deserialize_with = "lenient::zero")]
            payload: RunningTasks,
        }
        let said = lenient::decode::<Frame>(text.as_bytes()).unwrap_or_default().payload;
        let Ok(runtime) = said.runtime_id.parse::<RuntimeId>() else { return Ok(()) };
        if !entry.drives(runtime) {
            return Ok(());
        }
        let Some(permit) = self.permit(connection, entry).await? else { return Ok(()) };
        let tasks: Vec<TaskId> = said.task_ids.iter().filter_map(|id| id.parse().ok()).collect();
        let (queue, mailbox, driver) = (self.sockets.queue.clone(), entry.mailbox(), self.driver.clone());
        self.sockets.tracker.spawn(async move {
            match queue.over(&driver, tasks).await {
                Ok(over) => over.into_iter().for_each(|(task, reason)| {
                    mailbox.send(wire::text(&task_cancelled(runtime, task, &reason)));
                }),
                // Its next question about the task says the same.
                Err(error) => tracing::warn!(%runtime, %error, "looking which of a daemon's tasks are over"),
            }
            drop(permit);
        });
        Ok(())
    }

    /// A place among what is in work at once; none if the socket is on its way out.
    async fn permit<T: Transport>(
        &self,
        connection: &mut Connection<T>,
        entry: &Entry,
    ) -> Result<Option<OwnedSemaphorePermit>, Ended> {
        match connection.drive(entry.peer(), self.permits.clone().acquire_owned()).await {
            Ok(permit) => Ok(permit.ok()),
            Err(Signal::Close(close)) => Err(Ended::ByUs(close)),
            Err(Signal::Ended(end)) => Err(end),
            Err(_) => Ok(None),
        }
    }
}
