//! `/ws`: a browser follows its workspace.
//!
//! The socket authenticates, by the session's cookie or with its first frame, is told its position,
//! and from there on is a cursor over the workspace's sequence: what it missed, what it lags behind
//! and what is new reach it by the same code.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{body::Body, http::Request, response::Response};

use super::{
    Connection, Ended, Limits, NoFrames, Signal, Sockets, Source, Supply, Transport,
    admission::{Admission, Admitted, goodbye},
    door::Place,
    listening::{Lack, Listening},
    scopes::{self, Verdict},
    upgrade::{self, Session as Talk},
};
use crate::{
    db::Session,
    error::{Error, Result},
    events::{Lane, Page, Turn},
    hub::{Close, Copied, Ends, Entry, Follower, Peer},
    identity::{Insider, members},
    ids::{TaskId, UserId, WorkspaceId},
    protocol::{
        browser::{Auth, Inbound, Outbound, Position, Scope},
        close, lenient,
    },
    tasks,
    time::Timestamp,
    workspace::chats,
};

/// Frames and bytes that go into one write at most.
const WRITE_FRAMES: usize = 64;
const WRITE_BYTES: usize = 256 << 10;
/// How long before its credential ends a client is asked for another; half of what is left if that
/// is less.
const REFRESH: Duration = Duration::from_secs(60);

/// The upgrade request's part of the opening.
pub struct Opening {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Where to continue, unless the auth frame says otherwise.
    pub position: Position,
    /// Whether it wants to hear everything that tasks say, or only those that it follows.
    pub firehose: bool,
    /// Platform, version and system, as the client says; for the log.
    pub client: String,
    /// The session's cookie, if there was one; everybody else sends an auth frame.
    pub cookie: Option<String>,
    /// The place among those who have not said who they are.
    #[allow(dead_code, reason = "held until the socket has authenticated")]
    pub place: Option<Place>,
}

/// Answers the upgrade request.
pub fn accept(sockets: &Arc<Sockets>, request: Request<Body>, opening: Opening) -> Result<Response> {
    let limits = Limits {
        ping: sockets.settings.browser_ping,
        silence: sockets.settings.browser_silence,
        stuck: sockets.settings.stuck_after,
        max_message: sockets.settings.max_message,
    };
    upgrade::accept(sockets, request, limits, Browser { sockets: sockets.clone(), opening: Box::new(opening) })
}

struct Browser {
    sockets: Arc<Sockets>,
    opening: Box<Opening>,
}

impl Talk for Browser {
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
    fn run<T: Transport>(self, mut connection: Box<Connection<T>>) -> impl Future<Output = ()> + Send {
        async move {
            let opened = Instant::now();
            let Self { sockets, opening } = self;
            let workspace = opening.workspace;
            let mut entry = sockets.registry.enter(workspace);
            // A drain that began before the entry was made has not seen it.
            if sockets.draining.is_cancelled() {
                entry.peer().close(Close::new(close::DRAINING, "retry_after_ms=1000"));
            }
            // Boxed: what a socket needs while it opens or ends is not kept while it lives.
            let end = match Box::pin(authenticate(&sockets, opening, &mut connection, &mut entry)).await {
                Ok(mut live) => follow(&sockets, &mut connection, &mut entry, &mut live).await,
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

async fn authenticate<T: Transport>(
    sockets: &Sockets,
    mut opening: Box<Opening>,
    connection: &mut Connection<T>,
    entry: &mut Entry,
) -> Result<Live, Ended> {
    let cookie = opening.cookie.take();
    let has_cookie = cookie.is_some();
    let (secret, position) = match cookie {
        Some(session) => (session, Position::default()),
        None => {
            let within = sockets.settings.auth_within;
            let first = tokio::time::timeout(within, first_frame(connection, entry.peer())).await;
            let text = first.unwrap_or_else(|_| Err(refuse(connection, "authentication timed out")))?;
            let auth = read_auth(&text).map_err(|why| refuse(connection, why))?;
            (auth.token, auth.position)
        }
    };
    let position = if position == Position::default() { opening.position.clone() } else { position };
    let admission = Admission { sockets, workspace: opening.workspace };
    // What the connection is driven by may not touch its entry, so the entry lends its mailbox.
    let mailbox = entry.mailbox();
    let admitted = connection.drive(mailbox.peer(), admission.admit(entry, &secret, &position)).await;
    match admitted {
        Ok(Ok(Admitted { user, expires_at, lane, follower, welcome })) => {
            tracing::debug!(workspace = %opening.workspace, %user, client = opening.client, seq = welcome.seq, recovered = ?welcome.recovered, "browser connected");
            let firehose = opening.firehose.then(|| lane.firehose().follow());
            drop(opening);
            let welcome = if has_cookie { Outbound::Hello(welcome) } else { Outbound::AuthAck(welcome) };
            connection.send(&welcome.json());
            sockets.fleet.show_picture(lane.workspace);
            let listening = Listening::new(firehose);
            let mut live = Live { user, lane, follower, page: None, listening, expires_at, asked: false };
            live.set_alarm(sockets, connection);
            Ok(live)
        }
        Ok(Err(Error::Refused(refusal))) => {
            connection.send(&Outbound::auth_error(&*refusal.text).json());
            Err(Ended::ByUs(goodbye(&refusal)))
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "admitting a browser");
            Err(Ended::ByUs(Close::new(close::DRAINING, "retry_after_ms=2000")))
        }
        Err(Signal::Close(close)) => Err(Ended::ByUs(close)),
        Err(Signal::Ended(end)) => Err(end),
        Err(_) => Err(refuse(connection, "authentication failed")),
    }
}

async fn first_frame<T: Transport>(connection: &mut Connection<T>, mail: &Peer) -> Result<String, Ended> {
    loop {
        match connection.next(mail, &mut NoFrames).await {
            Signal::Text(text) => return Ok(text),
            Signal::Close(close) => return Err(Ended::ByUs(close)),
            Signal::Ended(end) => return Err(end),
            Signal::Tick | Signal::Alarm | Signal::Behind | Signal::Lost => {}
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
    page: Option<(Turn, Arc<Page>)>,
    /// What it hears of tasks.
    listening: Listening,
    /// When the credential ends.
    expires_at: Option<Timestamp>,
    /// Another one was asked for.
    asked: bool,
}

impl Live {
    /// Sets the alarm for the next thing to do about the credential: ask for another, or end.
    fn set_alarm<T: Transport>(&mut self, sockets: &Sockets, connection: &mut Connection<T>) {
        let left = self.expires_at.map(|end| end.since(sockets.db.clock().now()));
        connection.wake_at(left.map(|left| {
            let early = if self.asked { Duration::ZERO } else { REFRESH.min(left / 2) };
            tokio::time::Instant::now() + (left - early)
        }));
    }

    /// What is due when the alarm rings.
    fn alarm<T: Transport>(&mut self, sockets: &Sockets, connection: &mut Connection<T>) -> Result<(), Ended> {
        let over = self.expires_at.is_some_and(|end| end <= sockets.db.clock().now());
        if over {
            return Err(Ended::ByUs(Close::new(close::UNAUTHENTICATED, "the token has ended")));
        }
        if !self.asked {
            self.asked = true;
            connection.send(&Outbound::Refresh { expires_at: self.expires_at }.json());
        }
        self.set_alarm(sockets, connection);
        Ok(())
    }
}

impl Source for Live {
    fn poll_frames(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Supply> {
        if let Some((_, page)) = &self.page {
            // A page never runs ahead of its lane.
            let bounds = self.follower.limit();
            let position = self.follower.position();
            let reached = page.copy(position, bounds, WRITE_FRAMES, WRITE_BYTES, out);
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
                Copied::Over(Ends::Member(_)) => return Poll::Ready(Supply::Over(close::REVOKED)),
                Copied::Over(Ends::Everybody) => return Poll::Ready(Supply::Over(close::WORKSPACE_GONE)),
                Copied::Nothing => {}
            }
            let follower = &self.follower;
            let heard = self.listening.poll_frames(cx, || follower.limit().1, out);
            if heard.is_ready() {
                return heard;
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
    entry: &mut Entry,
    live: &mut Live,
) -> Ended {
    loop {
        let outcome = match connection.next(entry.peer(), live).await {
            Signal::Text(text) => Box::pin(answer(sockets, connection, entry, live, &text)).await,
            Signal::Tick => {
                connection.send(&Outbound::Heartbeat { seq: live.follower.position() }.json());
                Ok(())
            }
            Signal::Alarm => live.alarm(sockets, connection),
            Signal::Behind => match live.listening.lack() {
                // Only a socket that has all events gets as far as that.
                Some(lack) => Box::pin(read_up(sockets, connection, entry.peer(), live, lack)).await,
                None => Box::pin(catch_up(sockets, connection, entry.peer(), live)).await,
            },
            Signal::Lost => Err(position_lost()),
            Signal::Close(close) => Err(Ended::ByUs(close)),
            Signal::Ended(end) => Err(end),
        };
        if let Err(end) = outcome {
            return end;
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
        Ok(Ok((turn, page))) if page.continues(position) => {
            live.page = Some((turn, page));
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

/// Fetches the next messages of a task.
async fn read_up<T: Transport>(
    sockets: &Sockets,
    connection: &mut Connection<T>,
    mail: &Peer,
    live: &mut Live,
    lack: Lack,
) -> Result<(), Ended> {
    let (workspace, user) = (live.lane.workspace, live.user);
    let page = async {
        let turn = sockets.lanes.turn().await?;
        let Lack { task, issue, after } = lack;
        let read = sockets.db.read(async move |db| {
            // What they or the agent are may have changed since they began to listen.
            let who = insider(db, workspace, user).await?;
            tasks::voice_in(db, &who, task).await?.require_open_to(&who)?;
            tasks::messages::page(db, task, issue, after as i64).await
        });
        read.await.map(|messages| (turn, tasks::messages::frames(workspace, task, &messages)))
    };
    match connection.drive(mail, page).await {
        Ok(Ok((turn, frames))) => {
            live.listening.supply(lack, turn, frames);
            Ok(())
        }
        Ok(Err(Error::Refused(_))) => {
            connection.send(&live.listening.lose(lack.task).json());
            Ok(())
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "reading what a task said for a socket that is behind");
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
async fn answer<T: Transport>(
    sockets: &Sockets,
    connection: &mut Connection<T>,
    entry: &mut Entry,
    live: &mut Live,
    text: &str,
) -> Result<(), Ended> {
    let frame = match lenient::decode::<Inbound>(text.as_bytes()) {
        Ok(frame) => frame,
        Err(error) => {
            tracing::debug!(%error, "a browser sent a frame that is not JSON");
            connection.send(&Outbound::Error { error: "invalid frame".into() }.json());
            return Ok(());
        }
    };
    match frame.r#type.as_str() {
        "ping" => connection.send(&Outbound::Pong {}.json()),
        "subscribe" | "unsubscribe" => {
            let wants = frame.r#type == "subscribe";
            let answer = match scopes::judge(live.lane.workspace, live.user, wants, frame.payload) {
                Verdict::Answered(answer) => answer,
                Verdict::Fleet(answer, follows) => {
                    live.follower.follow_fleet(follows);
                    answer
                }
                Verdict::LeaveTask(answer, task) => {
                    live.listening.remove(task);
                    answer
                }
                Verdict::Task { scope, task, since } => {
                    listen(sockets, connection, entry.peer(), live, scope, task, since).await?
                }
                Verdict::Chat { scope, chat } => {
                    let (workspace, user) = (live.lane.workspace, live.user);
                    let asked = sockets.db.read(async move |db| {
                        let who = insider(db, workspace, user).await?;
                        chats::get(db, &who, chat).await.map(drop)
                    });
                    match ask(connection, entry.peer(), asked.into_future()).await? {
                        Ok(()) => Outbound::SubscribeAck(scope),
                        Err(refusal) => scopes::refused(scope, refusal),
                    }
                }
            };
            connection.send(&answer.json());
        }
        "auth" => return refresh(sockets, connection, entry, live, text).await,
        _ => {}
    }
    Ok(())
}

/// Lets a socket listen to a task, if whoever it is of may. The stream is open before the position is
/// read, so nothing falls between them.
async fn listen<T: Transport>(
    sockets: &Sockets,
    connection: &mut Connection<T>,
    mail: &Peer,
    live: &mut Live,
    scope: Scope,
    task: TaskId,
    since: Option<u64>,
) -> Result<Outbound, Ended> {
    if !live.listening.has_room_for(task) {
        return Ok(scopes::refused(scope, "too many subscriptions"));
    }
    let stream = sockets.lanes.listen(task);
    let (workspace, user) = (live.lane.workspace, live.user);
    let asked = sockets.db.read(async move |db| {
        let who = insider(db, workspace, user).await?;
        let voice = tasks::voice_in(db, &who, task).await?;
        voice.require_open_to(&who)?;
        Ok((voice.issue_id, tasks::messages::last_position(db, task).await? as u64))
    });
    match ask(connection, mail, asked.into_future()).await? {
        Ok((issue, last)) => {
            let position = since.unwrap_or(last).min(last);
            // Known here from now on, whether or not anything was said since the stream was opened.
            sockets.lanes.reaches(task, last);
            live.listening.add(task, issue, stream.listen(position));
            Ok(Outbound::SubscribeAck(Scope { pos: Some(position), ..scope }))
        }
        Err(refusal) => Ok(scopes::refused(scope, refusal)),
    }
}

/// Asks the store while the connection lives on; a refusal in the socket's words.
async fn ask<T: Transport, A>(
    connection: &mut Connection<T>,
    mail: &Peer,
    question: impl Future<Output = Result<A>>,
) -> Result<Result<A, &'static str>, Ended> {
    match connection.drive(mail, question).await {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(Error::Refused(_))) => Ok(Err(scopes::FORBIDDEN)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "asking whether a browser may follow something");
            Ok(Err("lookup_failed"))
        }
        Err(Signal::Close(close)) => Err(Ended::ByUs(close)),
        Err(Signal::Ended(end)) => Err(end),
        Err(_) => Ok(Err("lookup_failed")),
    }
}

async fn insider(db: &mut Session, workspace: WorkspaceId, user: UserId) -> Result<Insider> {
    let role = members::require(db, workspace, user).await?;
    Ok(Insider { workspace, user, role, task: None })
}

/// Takes another token of the same person on an open socket.
async fn refresh<T: Transport>(
    sockets: &Sockets,
    connection: &mut Connection<T>,
    entry: &mut Entry,
    live: &mut Live,
    text: &str,
) -> Result<(), Ended> {
    let auth = read_auth(text).map_err(|why| refuse(connection, why))?;
    let admission = Admission { sockets, workspace: live.lane.workspace };
    let mailbox = entry.mailbox();
    match connection.drive(mailbox.peer(), admission.refresh(entry, &auth.token, live.user)).await {
        Ok(Ok(expires_at)) => {
            live.expires_at = expires_at;
            live.asked = false;
            live.set_alarm(sockets, connection);
            let welcome = admission.welcome(sockets.lanes.epoch().to_string(), live.follower.position(), None);
            connection.send(&Outbound::AuthAck(welcome).json());
            Ok(())
        }
        Ok(Err(Error::Refused(refusal))) => Err(refuse(connection, &refusal.text)),
        Ok(Err(error)) => {
            // The old one still holds.
            tracing::warn!(%error, "refreshing a browser's token");
            connection.send(&Outbound::Error { error: "temporarily unavailable".into() }.json());
            Ok(())
        }
        Err(Signal::Close(close)) => Err(Ended::ByUs(close)),
        Err(Signal::Ended(end)) => Err(end),
        Err(_) => Ok(()),
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
        assert!(size <= 768, "the session's future has {size} bytes; ten thousand sockets pay for each");
    }
}
