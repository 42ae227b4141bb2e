//! Between nodes: Redis pub/sub, with the log behind it.
//!
//! Each transaction is published once, on its workspace's channel, to which a node listens as long
//! as somebody follows the workspace there; a large one is only named, and read from the log. One
//! channel is for control messages. Pub/sub may lose anything at any time: a lane notices by its
//! numbers, reads gaps from the log and compares itself with the counters, so a lost message delays
//! and never loses. Publishing happens after the commit, by a task of its own, and nobody waits for
//! it.

mod outbox;
mod parcel;

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::{Msg, RedisResult, aio::PubSubSink};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Lanes, Talk, nodes::Control, nodes::Nodes};
use crate::{
    db::Batch,
    ids::WorkspaceId,
    protocol::event::Event,
    redis_link::{Backoff, RedisLink},
};

use outbox::{Outbox, Outgoing, outbox};
pub use parcel::EphemeralFrame;
use parcel::{Content, Parcel, Sent};

/// A larger transaction is only named.
const INLINE: usize = 64 << 10;
/// Publications of one round trip at most.
const TOGETHER: usize = 256;
const RESPONSE: Duration = Duration::from_secs(2);
/// A lane starts without its subscription when that takes longer.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(1);
/// Between two probes that go out and have to come back.
const PROBE: Duration = Duration::from_secs(5);
/// A connection that has not brought a probe back for this long brings nothing.
const DEAF: Duration = Duration::from_secs(12);

enum Wish {
    Follow(WorkspaceId, oneshot::Sender<()>),
    Leave(WorkspaceId),
}

/// The relay of one node.
pub struct Relay {
    node: Arc<str>,
    /// What every channel's name begins with: hubs may share a Redis.
    prefix: String,
    outbox: mpsc::Sender<Outgoing>,
    wishes: mpsc::UnboundedSender<Wish>,
    followed: Mutex<HashSet<WorkspaceId>>,
    /// The number of the last probe that came back.
    echo: AtomicU64,
    well: AtomicBool,
}

impl Relay {
    /// Starts the relay's tasks; they end with `stop`.
    pub fn start(
        link: RedisLink,
        hub: &str,
        node: Arc<str>,
        lanes: &Arc<Lanes>,
        nodes: &Arc<Nodes>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (control, outbox, to_publish) = outbox();
        let (wishes, to_follow) = mpsc::unbounded_channel();
        let relay = Arc::new(Self {
            node,
            prefix: format!("heartwire:{hub}"),
            outbox,
            wishes,
            followed: Mutex::default(),
            echo: AtomicU64::new(0),
            well: AtomicBool::new(false),
        });
        nodes.connect(control);
        lanes.connect(relay.clone());
        let publishing = relay.clone().publish(link.clone(), to_publish);
        let listening = relay.clone().listen(link, to_follow, lanes.clone(), nodes.clone());
        let ends = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(publishing).await });
        tokio::spawn(async move { ends.run_until_cancelled(listening).await });
        relay
    }

    /// Whether what this node publishes comes back to it.
    pub fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// Listens to a workspace from now on. Waits until it does, but not long.
    pub(super) async fn follow(&self, workspace: WorkspaceId) {
        let (done, confirmed) = oneshot::channel();
        self.followed.lock().insert(workspace);
        if self.wishes.send(Wish::Follow(workspace, done)).is_ok() {
            let _ = tokio::time::timeout(SUBSCRIBED_WITHIN, confirmed).await;
        }
    }

    pub(super) fn leave(&self, workspace: WorkspaceId) {
        self.followed.lock().remove(&workspace);
        let _ = self.wishes.send(Wish::Leave(workspace));
    }

    /// Publishes committed events. Does not block.
    pub(super) fn events(&self, batch: &Batch) {
        if self.outbox.try_send(Outgoing::Events(batch.clone())).is_err() {
            tracing::debug!(workspace = %batch.workspace, "the relay is behind; other nodes read the log");
        }
    }

    /// Publishes a frame that nobody will miss.
    pub(super) fn ephemeral(&self, workspace: WorkspaceId, frame: &EphemeralFrame) {
        let _ = self.outbox.try_send(Outgoing::Ephemeral(workspace, frame.clone()));
    }

    /// Publishes what a task says. What is lost is found in the store.
    pub(super) fn talk(&self, workspace: WorkspaceId, talk: Talk) {
        if self.outbox.try_send(Outgoing::Talk(workspace, talk)).is_err() {
            tracing::debug!(%workspace, "the relay is behind; other nodes read what tasks say in the store");
        }
    }

    fn channel(&self, workspace: WorkspaceId) -> String {
        format!("{}:workspace:{workspace}", self.prefix)
    }

    fn control_channel(&self) -> String {
        format!("{}:control", self.prefix)
    }

    fn parcel(&self, content: Content) -> String {
        serde_json::to_string(&Parcel { node: Cow::Borrowed(&self.node), content }).unwrap_or_default()
    }

    fn address(&self, outgoing: Outgoing) -> (String, String) {
        match outgoing {
            Outgoing::Control(message) => (self.control_channel(), self.parcel(Content::Control(message))),
            Outgoing::Ephemeral(workspace, frame) => (self.channel(workspace), self.parcel(Content::Ephemeral(frame))),
            Outgoing::Talk(workspace, talk) => {
                let content = match talk.stored_up_to() {
                    Some(last) if talk.size() > INLINE => Content::TalkNamed { task: talk.task, last },
                    _ => Content::Talk(talk),
                };
                (self.channel(workspace), self.parcel(content))
            }
            Outgoing::Events(batch) => {
                let last = batch.first + batch.events.len() as u64 - 1;
                let size: usize = batch.events.iter().map(Event::size).sum();
                let content = if size > INLINE {
                    Content::Named(last)
                } else {
                    let events = batch.events.into_iter().map(Sent::from).collect();
                    Content::Events { first: batch.first, events }
                };
                (self.channel(batch.workspace), self.parcel(content))
            }
        }
    }

    /// Publishes what comes, many with one round trip. What cannot be published is dropped.
    async fn publish(self: Arc<Self>, link: RedisLink, mut outbox: Outbox) {
        let mut backoff = Backoff::new();
        let mut probe = tokio::time::interval(PROBE);
        let mut probes = 0;
        'connect: loop {
            let mut connection = match link.commands(RESPONSE).await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "the relay cannot publish");
                    backoff.pause().await;
                    outbox.drop_what_is_found_elsewhere();
                    continue;
                }
            };
            loop {
                let mut pipe = redis::pipe();
                let together = tokio::select! {
                    together = outbox.next(TOGETHER) => {
                        if together.is_empty() {
                            return;
                        }
                        together
                    }
                    _ = probe.tick() => {
                        probes += 1;
                        pipe.publish(self.control_channel(), self.parcel(Content::Probe(probes))).ignore();
                        Vec::new()
                    }
                };
                for outgoing in together {
                    let (channel, parcel) = self.address(outgoing);
                    pipe.publish(channel, parcel).ignore();
                }
                let published: RedisResult<()> = pipe.query_async(&mut connection).await;
                if let Err(error) = published {
                    tracing::warn!(%error, "the relay lost what it was publishing; other nodes read the log");
                    backoff.pause().await;
                    continue 'connect;
                }
                backoff.reset();
            }
        }
    }

    /// Hears what other nodes publish; reconnects for ever.
    async fn listen(
        self: Arc<Self>,
        link: RedisLink,
        mut wishes: mpsc::UnboundedReceiver<Wish>,
        lanes: Arc<Lanes>,
        nodes: Arc<Nodes>,
    ) {
        let mut backoff = Backoff::new();
        // Whether something may have been published unheard.
        let mut missed = false;
        loop {
            let connected = async {
                let (mut sink, stream) = link.subscriptions().await?.split();
                sink.subscribe(self.control_channel()).await?;
                let followed: Vec<WorkspaceId> = self.followed.lock().iter().copied().collect();
                for workspaces in followed.chunks(256) {
                    let channels: Vec<String> = workspaces.iter().map(|id| self.channel(*id)).collect();
                    sink.subscribe(channels).await?;
                }
                RedisResult::Ok((sink, stream))
            };
            let (mut sink, mut stream) = match tokio::time::timeout(RESPONSE * 2, connected).await {
                Ok(Ok(connected)) => connected,
                outcome => {
                    let error = match outcome {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer in time".to_owned(),
                    };
                    tracing::warn!(error, "the relay cannot listen");
                    missed = true;
                    // Nobody who wants to follow waits for a server that is away.
                    while let Ok(wish) = wishes.try_recv() {
                        drop(wish);
                    }
                    backoff.pause().await;
                    continue;
                }
            };
            tracing::info!("the relay listens");
            backoff.reset();
            if std::mem::replace(&mut missed, true) {
                // Events are in the log; hints are not.
                lanes.compare_all();
                nodes.hear_other(&Control::HintsLost);
            }
            let mut heard = Instant::now();
            let mut echo = self.echo.load(Ordering::Relaxed);
            loop {
                tokio::select! {
                    message = stream.next() => match message {
                        Some(message) => {
                            self.take(&message, &lanes, &nodes);
                            let now = self.echo.load(Ordering::Relaxed);
                            if now != echo {
                                (echo, heard) = (now, Instant::now());
                                self.well.store(true, Ordering::Relaxed);
                            }
                        }
                        None => break,
                    },
                    Some(wish) = wishes.recv() => {
                        if self.grant(&mut sink, wish).await.is_err() {
                            break;
                        }
                    }
                    () = tokio::time::sleep_until(heard + DEAF) => {
                        tracing::warn!("the relay is connected and hears nothing");
                        break;
                    }
                }
            }
            self.well.store(false, Ordering::Relaxed);
            tracing::warn!("the relay lost its connection");
            backoff.pause().await;
        }
    }

    async fn grant(&self, sink: &mut PubSubSink, wish: Wish) -> RedisResult<()> {
        let granted = async {
            match wish {
                Wish::Follow(workspace, done) => {
                    sink.subscribe(self.channel(workspace)).await?;
                    let _ = done.send(());
                }
                // Somebody may have come again.
                Wish::Leave(workspace) if self.followed.lock().contains(&workspace) => {}
                Wish::Leave(workspace) => sink.unsubscribe(self.channel(workspace)).await?,
            }
            Ok(())
        };
        match tokio::time::timeout(RESPONSE, granted).await {
            Ok(granted) => granted,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    fn take(&self, message: &Msg, lanes: &Lanes, nodes: &Nodes) {
        let parcel: Parcel<'_> = match serde_json::from_slice(message.get_payload_bytes()) {
            Ok(parcel) => parcel,
            Err(error) => {
                tracing::warn!(%error, "another node sent something else than a parcel");
                return;
            }
        };
        let own = *parcel.node == *self.node;
        if let Content::Probe(number) = parcel.content {
            if own {
                self.echo.store(number, Ordering::Relaxed);
            }
            return;
        }
        if own {
            return;
        }
        let workspace =
            || message.get_channel_name().rsplit_once(':').and_then(|(_, id)| id.parse::<WorkspaceId>().ok());
        match (parcel.content, workspace()) {
            (Content::Control(message), _) => nodes.hear_other(&message),
            (Content::Events { first, events }, Some(workspace)) => {
                let events = events.into_iter().map(|sent| sent.event(workspace)).collect();
                lanes.hand_over_here(Batch { workspace, first, events });
            }
            (Content::Named(_), Some(workspace)) => lanes.doubt(&[workspace]),
            (Content::Ephemeral(frame), Some(workspace)) => lanes.show_here(workspace, &frame),
            (Content::Talk(talk), Some(workspace)) => lanes.say_here(workspace, &talk),
            (Content::TalkNamed { task, last }, Some(workspace)) => lanes.said_elsewhere(workspace, task, last),
            _ => {}
        }
    }
}
