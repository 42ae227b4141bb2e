//! Leases in Redis. All touches of this node go out together, one pipeline per tick, on a connection
//! of their own; everything else uses another. Neither reconnects by itself: what one of them
//! cannot do ends both, and both are made anew. Until they are, the server is away: what waits is
//! told so at once, and so is everybody who comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Health, Lease, Picture, Touched};
use crate::{db::Clock, ids::RuntimeId, redis_link::RedisLink, time::Timestamp};

/// Touches wait for each other this long …
const TICK: Duration = Duration::from_millis(100);
/// … and for their answer at most this long. Together the most that a beat waits.
const ANSWER: Duration = Duration::from_millis(150);
/// For everything that no beat waits for.
const BULK_ANSWER: Duration = Duration::from_secs(2);
/// Between two looks at a server that is away.
const PROBE: Duration = Duration::from_millis(250);
/// Between two questions over the connection that no beat uses: nobody else may find out that it is
/// dead until somebody's life depends on it.
const ASK: Duration = Duration::from_secs(5);
/// Keys of one command at most.
const TOGETHER: usize = 1000;

/// Swaps a value if it is the expected one; an empty expectation is "none".
const SWAP: &str = "local held = redis.call('GET', KEYS[1]) or '' \
                    if held ~= ARGV[1] then return 0 end \
                    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";

struct Waiting {
    key: String,
    wish: Wish,
    /// Nobody waits for a mark.
    answer: Option<oneshot::Sender<Touched>>,
}

/// What to do with a key.
enum Wish {
    Touch(Lease),
    Keep,
    Mark(Duration),
}

impl Waiting {
    fn tell(self, touched: Touched) {
        if let Some(answer) = self.answer {
            let _ = answer.send(touched);
        }
    }
}

struct State {
    /// Nothing while the server is away.
    link: Option<Link>,
    /// Of the server's data: another one means that everything was lost.
    generation: String,
    changes: u64,
    well_since: Timestamp,
    lost_at: Timestamp,
}

/// What there is for as long as both connections are well.
#[derive(Clone)]
struct Link {
    bulk: MultiplexedConnection,
    /// Ends both.
    end: CancellationToken,
}

/// See the module.
pub struct Remote {
    prefix: String,
    ttl: Duration,
    clock: Clock,
    queue: Mutex<Vec<Waiting>>,
    waiting: Notify,
    state: Mutex<State>,
    round_trips: AtomicU64,
}

impl Remote {
    pub(super) fn start(
        link: RedisLink,
        prefix: &str,
        ttl: Duration,
        clock: Clock,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let lost_at = clock.now();
        let remote = Arc::new(Self {
            prefix: format!("heartwire:{prefix}"),
            ttl,
            clock,
            queue: Mutex::default(),
            waiting: Notify::new(),
            state: Mutex::new(State {
                link: None,
                generation: String::new(),
                changes: 0,
                well_since: lost_at,
                lost_at,
            }),
            round_trips: AtomicU64::new(0),
        });
        let work = remote.clone().run(link);
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
        remote
    }

    pub(super) async fn touch(&self, runtime: RuntimeId, lease: Lease) -> Touched {
        self.with_the_tick(runtime, Wish::Touch(lease)).await
    }

    pub(super) async fn keep(&self, runtime: RuntimeId) -> Touched {
        self.with_the_tick(runtime, Wish::Keep).await
    }

    async fn with_the_tick(&self, runtime: RuntimeId, wish: Wish) -> Touched {
        if !self.health().well {
            return Touched::Away;
        }
        let (answer, touched) = oneshot::channel();
        self.queue.lock().push(Waiting { key: self.key(runtime), wish, answer: Some(answer) });
        self.waiting.notify_one();
        // The tick answers in time; this is for one that ended meanwhile.
        match tokio::time::timeout(2 * (TICK + ANSWER), touched).await {
            Ok(Ok(touched)) => touched,
            _ => Touched::Away,
        }
    }

    pub(super) async fn read(&self, runtimes: &[RuntimeId]) -> Option<Picture> {
        let mut leases = Vec::with_capacity(runtimes.len());
        for some in runtimes.chunks(TOGETHER) {
            let mut command = redis::cmd("MGET");
            for id in some {
                command.arg(self.key(*id));
            }
            command.arg(self.generation_key());
            let mut values: Vec<Option<String>> = self.bulk(&command).await?;
            // What is absent from other data than ours was lost, and says nothing about anybody.
            self.require_generation(values.pop().flatten().as_ref())?;
            leases.extend(values.into_iter().map(|text| Lease::parse(&text?)));
        }
        Some(Picture(leases))
    }

    pub(super) async fn swap(&self, runtime: RuntimeId, expected: Option<Lease>, new: Lease) -> Option<bool> {
        let expected = expected.map(|lease| lease.to_string()).unwrap_or_default();
        let mut command = redis::cmd("EVAL");
        command.arg(SWAP).arg(1).arg(self.key(runtime)).arg(expected).arg(new.to_string());
        command.arg(self.ttl.as_millis() as u64);
        self.bulk::<i64>(&command).await.map(|swapped| swapped == 1)
    }

    pub(super) fn mark(&self, name: String, ttl: Duration) {
        if self.health().well {
            self.queue.lock().push(Waiting { key: self.mark_key(&name), wish: Wish::Mark(ttl), answer: None });
            self.waiting.notify_one();
        }
    }

    pub(super) async fn mark_now(&self, names: &[String], ttl: Duration) {
        for name in names {
            let mut command = redis::cmd("SET");
            command.arg(self.mark_key(name)).arg(self.clock.now().0).arg("PX").arg(ttl.as_millis() as u64);
            let _: Option<String> = self.bulk(&command).await;
        }
    }

    pub(super) async fn marked(&self, names: &[String]) -> Option<Vec<Option<Timestamp>>> {
        let mut marks = Vec::with_capacity(names.len());
        for some in names.chunks(TOGETHER) {
            let mut command = redis::cmd("MGET");
            for name in some {
                command.arg(self.mark_key(name));
            }
            command.arg(self.generation_key());
            let mut values: Vec<Option<String>> = self.bulk(&command).await?;
            self.require_generation(values.pop().flatten().as_ref())?;
            marks.extend(values.into_iter().map(|value| value?.parse().ok().map(Timestamp)));
        }
        Some(marks)
    }

    pub(super) async fn forget(&self, runtimes: &[RuntimeId]) {
        for some in runtimes.chunks(TOGETHER) {
            let mut command = redis::cmd("DEL");
            for id in some {
                command.arg(self.key(*id));
            }
            let _: Option<i64> = self.bulk(&command).await;
        }
    }

    pub(super) fn health(&self) -> Health {
        let state = self.state.lock();
        Health {
            well: state.link.is_some(),
            changes: state.changes,
            well_since: state.well_since,
            lost_at: state.lost_at,
        }
    }

    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    fn key(&self, runtime: RuntimeId) -> String {
        format!("{}:lease:{runtime}", self.prefix)
    }

    fn mark_key(&self, name: &str) -> String {
        format!("{}:mark:{name}", self.prefix)
    }

    fn generation_key(&self) -> String {
        format!("{}:generation", self.prefix)
    }

    async fn bulk<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let mut link = self.state.lock().link.clone()?;
        match command.query_async(&mut link.bulk).await {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(%error, "the lease store does not answer");
                link.end.cancel();
                None
            }
        }
    }

    /// Ends the connections if the server's data are not what they were.
    fn require_generation(&self, found: Option<&String>) -> Option<()> {
        let state = self.state.lock();
        if found == Some(&state.generation) {
            return Some(());
        }
        if let Some(link) = &state.link {
            tracing::warn!("the lease store has lost its data");
            link.end.cancel();
        }
        None
    }

    async fn run(self: Arc<Self>, link: RedisLink) {
        let mut tried = false;
        loop {
            match self.connect(&link).await {
                Ok((touches, bulk, generation)) => {
                    tracing::info!("the lease store answers");
                    let end = CancellationToken::new();
                    self.begin(Link { bulk, end: end.clone() }, generation);
                    tokio::select! {
                        () = end.cancelled() => {}
                        () = self.tick(touches) => {}
                        () = self.ask() => {}
                    }
                    self.end();
                    tracing::warn!("the lease store does not answer; beats are recorded in the database");
                }
                Err(error) if !tried => tracing::warn!(%error, "the lease store does not answer"),
                Err(_) => {}
            }
            tried = true;
            tokio::time::sleep(PROBE).await;
        }
    }

    async fn connect(&self, link: &RedisLink) -> RedisResult<(MultiplexedConnection, MultiplexedConnection, String)> {
        let mut bulk = link.commands(BULK_ANSWER).await?;
        let touches = link.commands(ANSWER).await?;
        let generation = self.generation(&mut bulk).await?;
        Ok((touches, bulk, generation))
    }

    /// The generation of the server's data; whoever finds none begins one.
    async fn generation(&self, connection: &mut MultiplexedConnection) -> RedisResult<String> {
        let fresh = format!("{:032x}", rand::random::<u128>());
        redis::pipe()
            .cmd("SET")
            .arg(self.generation_key())
            .arg(fresh)
            .arg("NX")
            .ignore()
            .get(self.generation_key())
            .query_async(connection)
            .await
            .map(|(generation,): (String,)| generation)
    }

    fn begin(&self, link: Link, generation: String) {
        let mut state = self.state.lock();
        state.link = Some(link);
        state.changes += 1;
        state.well_since = self.clock.now();
        if state.generation != generation {
            state.lost_at = self.clock.now();
            state.generation = generation;
        }
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.link = None;
        state.changes += 1;
        drop(state);
        for waiting in std::mem::take(&mut *self.queue.lock()) {
            waiting.tell(Touched::Away);
        }
    }

    /// Asks now and then over the other connection, until there is no answer or another one.
    async fn ask(&self) {
        let mut question = redis::cmd("GET");
        question.arg(self.generation_key());
        loop {
            tokio::time::sleep(ASK).await;
            let Some(generation) = self.bulk::<Option<String>>(&question).await else { return };
            if self.require_generation(generation.as_ref()).is_none() {
                return;
            }
        }
    }

    /// Sends what has gathered, tick after tick, until the server fails one.
    async fn tick(&self, mut connection: MultiplexedConnection) {
        loop {
            self.waiting.notified().await;
            tokio::time::sleep(TICK).await;
            let together = std::mem::take(&mut *self.queue.lock());
            if together.is_empty() {
                continue;
            }
            let mut pipe = redis::pipe();
            for waiting in &together {
                let (key, ttl) = (&waiting.key, self.ttl.as_millis() as u64);
                match waiting.wish {
                    Wish::Touch(lease) => pipe.cmd("SET").arg(key).arg(lease.to_string()).arg("PX").arg(ttl).arg("GET"),
                    Wish::Keep => pipe.cmd("GETEX").arg(key).arg("PX").arg(ttl),
                    Wish::Mark(ttl) => {
                        pipe.cmd("SET").arg(key).arg(self.clock.now().0).arg("PX").arg(ttl.as_millis() as u64)
                    }
                };
            }
            // The same round trip asks whether the server still has its data.
            pipe.get(self.generation_key());
            self.round_trips.fetch_add(1, Ordering::Relaxed);
            let answer: RedisResult<Vec<Option<String>>> = pipe.query_async(&mut connection).await;
            // Whoever waits for an answer that does not come is told by its sender's end.
            let Ok(mut values) = answer.inspect_err(|error| tracing::warn!(%error, "touching leases")) else { return };
            let generation = values.pop().flatten();
            for (waiting, before) in together.into_iter().zip(values) {
                waiting.tell(Touched::Was(before.and_then(|text| Lease::parse(&text))));
            }
            if self.require_generation(generation.as_ref()).is_none() {
                return;
            }
        }
    }
}
