//! `/ws`: a browser follows its workspace.
//!
//! The socket authenticates with its first frame, is told its position, and from there on is a
//! cursor over the workspace's sequence: what it missed, what it lags behind and what is new reach
//! it by the same code.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{body::Body, http::Request, response::Response};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Connection, Ended, Limits, NoFrames, Signal, Sockets, Source, Supply, Transport,
    upgrade::{self, Session},
};
use crate::{
    error::{Error, Result},
    events::{self, Judged, Lane, Page},
    hub::{Close, Copied, Follower, Peer},
    identity::{members, tokens},
    ids::{UserId, WorkspaceId},
    protocol::{
        browser::{Auth, Inbound, Outbound, Position, Welcome},
        close, lenient,
    },
};

/// Frames and bytes that go into one write at most.
const WRITE_FRAMES: usize = 64;
const WRITE_BYTES: usize = 256 << 10;

/// A query's part of the opening.
pub struct Opening {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Where to continue, unless the auth frame says otherwise.
    pub position: Position,
    /// Platform, version and system, as the client says; for the log.
    pub client: String,
}

/// Answers the upgrade request.
pub fn accept(sockets: &Sockets, request: Request<Body>, opening: Opening) -> Result<Response> {
    let limits = Limits {
        ping: sockets.settings.browser_ping,
        silence: sockets.settings.browser_silence,
        stuck: sockets.settings.stuck_after,
        max_message: sockets.settings.max_message,
    };
    upgrade::accept(sockets, request, limits, Browser { sockets: sockets.clone(), opening })
}

struct Browser {
    sockets: Sockets,
    opening: Opening,
}

impl Session for Browser {
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
    fn run<T: Transport>(mut self, mut connection: Box<Connection<T>>) -> impl Future<Output = ()> + Send {
        async move {
            let opened = Instant::now();
            let entry = self.sockets.registry.enter(Vec::new());
            // A drain that began before the entry was made has not seen it.
            if self.sockets.draining.is_cancelled() {
                entry.peer().close(Close::new(close::DRAINING, "retry_after_ms=1000"));
            }
            let workspace = self.opening.workspace;
            // Boxed: what a socket needs while it opens or ends is not kept while it lives.
            let end = match Box::pin(self.authenticate(&mut connection, entry.peer())).await {
                Ok(mut live) => {
                    self.opening.client = String::new();
                    follow(&self.sockets, &mut connection, entry.peer(), &mut live).await
                }
                Err(end) => end,
            };
            tracing::debug!(%workspace, ?end, seconds = opened.elapsed().as_secs(), "browser disconnected");
            drop(entry);
            let goodbye = match end {
                Ended::ByUs(close) => Some(close),
                Ended::ByPeer(_) | Ended::Gone(_) => None,
            };
            Box::pin(connection.finish(goodbye)).await;
        }
    }
}

impl Browser {
    async fn authenticate<T: Transport>(&self, connection: &mut Connection<T>, mail: &Peer) -> Result<Live, Ended> {
        let first = tokio::time::timeout(self.sockets.settings.auth_within, first_frame(connection, mail)).await;
        let text = match first {
            Ok(Ok(text)) => text,
            Ok(Err(end)) => return Err(end),
            Err(_) => return Err(refuse(connection, "authentication timed out")),
        };
        let auth = match read_auth(&text) {
            Ok(auth) => auth,
            Err(text) => return Err(refuse(connection, text)),
        };
        let position = if auth.position == Position::default() { &self.opening.position } else { &auth.position };
        match connection.drive(mail, self.admit(&auth.token, position)).await {
            Ok(Ok((live, welcome))) => {
                tracing::debug!(workspace = %self.opening.workspace, user = %live.user, client = %self.opening.client, seq = welcome.seq, recovered = ?welcome.recovered, "browser connected");
                connection.send(&Outbound::AuthAck(welcome).json());
                Ok(live)
            }
            Ok(Err(Error::Refused(refusal))) => Err(refuse(connection, &refusal.text)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "admitting a browser");
                Err(Ended::ByUs(Close::new(close::DRAINING, "retry_after_ms=2000")))
            }
            Err(Signal::Close(close)) => Err(Ended::ByUs(close)),
            Err(Signal::Ended(end)) => Err(end),
            Err(_) => Err(refuse(connection, "authentication failed")),
        }
    }

    /// Resolves the token, takes a position, and only then asks whether the person may be here: a
    /// removal that the position does not cover is seen by the question, one that it does not
    /// precede reaches the socket as an event.
    async fn admit(&self, token: &str, position: &Position) -> Result<(Live, Welcome)> {
        let Sockets { db, lanes, .. } = &self.sockets;
        let workspace = self.opening.workspace;
        let identity = tokens::resolve(db, token)
            .await?
            .ok_or_else(|| Error::unauthenticated("invalid_token", "invalid token"))?;
        let user = identity.user();
        let (lane, room) = lanes.follow(db, workspace).await?;
        let position = position.clone();
        let judged: Judged = db
            .read(async move |db| {
                let judged = events::judge(db, workspace, &position).await?;
                members::require(db, workspace, user).await?;
                Ok(judged)
            })
            .await?;
        let welcome = Welcome {
            epoch: judged.epoch,
            seq: judged.seq,
            recovered: judged.recovered,
            ping_interval_ms: self.sockets.settings.browser_ping.as_millis() as u64,
            node: self.sockets.node.to_string(),
            server_time: db.clock().now().to_string(),
        };
        Ok((Live { user, lane, follower: room.follow(judged.from), page: None }, welcome))
    }
}

async fn first_frame<T: Transport>(connection: &mut Connection<T>, mail: &Peer) -> Result<String, Ended> {
    loop {
        match connection.next(mail, &mut NoFrames).await {
            Signal::Text(text) => return Ok(text),
            Signal::Close(close) => return Err(Ended::ByUs(close)),
            Signal::Ended(end) => return Err(end),
            Signal::Tick | Signal::Behind | Signal::Lost => {}
        }
    }
}

fn read_auth(text: &str) -> Result<Auth, &'static str> {
    let frame: Inbound = lenient::decode(text.as_bytes()).map_err(|_| "invalid frame")?;
    if frame.r#type != "auth" {
        return Err("the first frame must be auth");
    }
    serde_json::from_value(frame.payload).map_err(|_| "invalid auth payload")
}

fn refuse<T: Transport>(connection: &mut Connection<T>, why: &str) -> Ended {
    connection.send(&Outbound::auth_error(why).json());
    Ended::ByUs(Close::new(close::UNAUTHENTICATED, why))
}

/// A socket's place in its workspace's sequence.
struct Live {
    user: UserId,
    lane: Arc<Lane>,
    follower: Follower,
    /// A stretch of the log that is being written, while the socket is behind the ring.
    page: Option<(OwnedSemaphorePermit, Arc<Page>)>,
}

impl Source for Live {
    fn poll_frames(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Supply> {
        if let Some((_, page)) = &self.page {
            // A page never runs ahead of its lane.
            let head = self.follower.room().head();
            let position = self.follower.position();
            let reached = page.copy(position, head, WRITE_FRAMES, WRITE_BYTES, out);
            if reached > position {
                self.follower.advance(reached);
                return Poll::Ready(Supply::Frames);
            }
            self.page = None;
        }
        loop {
            match self.follower.copy(WRITE_FRAMES, WRITE_BYTES, out) {
                Copied::UpTo(_) => return Poll::Ready(Supply::Frames),
                Copied::Behind => return Poll::Ready(Supply::Behind),
                Copied::Lost => return Poll::Ready(Supply::Lost),
                Copied::Nothing => {}
            }
            if self.follower.poll_beyond(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

async fn follow<T: Transport>(
    sockets: &Sockets,
    connection: &mut Connection<T>,
    mail: &Peer,
    live: &mut Live,
) -> Ended {
    loop {
        match connection.next(mail, live).await {
            Signal::Text(text) => answer(connection, &text),
            Signal::Tick => connection.send(&Outbound::Heartbeat { seq: live.follower.position() }.json()),
            Signal::Behind => {
                if let Err(end) = Box::pin(catch_up(sockets, connection, mail, live)).await {
                    return end;
                }
            }
            Signal::Lost => return position_lost(),
            Signal::Close(close) => return Ended::ByUs(close),
            Signal::Ended(end) => return end,
        }
    }
}

/// Fetches the page after the position.
async fn catch_up<T: Transport>(
    sockets: &Sockets,
    connection: &mut Connection<T>,
    mail: &Peer,
    live: &mut Live,
) -> Result<(), Ended> {
    let position = live.follower.position();
    let page = connection.drive(mail, sockets.lanes.page(&sockets.db, &live.lane, position)).await;
    match page {
        Ok(Ok((permit, page))) if page.continues(position) => {
            live.page = Some((permit, page));
            Ok(())
        }
        Ok(Ok(_)) => Err(position_lost()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "reading the log for a socket that is behind");
            Err(Ended::ByUs(Close::new(close::DRAINING, "retry_after_ms=2000")))
        }
        Err(Signal::Close(close)) => Err(Ended::ByUs(close)),
        Err(Signal::Ended(end)) => Err(end),
        Err(_) => Ok(()),
    }
}

fn position_lost() -> Ended {
    Ended::ByUs(Close::new(close::POSITION_LOST, "refetch and start again"))
}

/// Answers a frame of an open socket. Unknown types are ignored: newer clients may send them.
fn answer<T: Transport>(connection: &mut Connection<T>, text: &str) {
    match lenient::decode::<Inbound>(text.as_bytes()) {
        Ok(frame) if frame.r#type == "ping" => connection.send(&Outbound::Pong {}.json()),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "a browser sent a frame that is not JSON");
            connection.send(&Outbound::Error { error: "invalid frame".into() }.json());
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_answer<A, B, R>(_: impl FnOnce(A, B) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_socket_keeps_little_beside_its_connection() {
        let size = size_of_answer(|browser: Browser, connection: Box<Connection<tokio::net::TcpStream>>| {
            browser.run(connection)
        });
        assert!(size <= 1024, "the session's future has {size} bytes; ten thousand sockets pay for each");
    }
}
