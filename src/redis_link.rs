//! Connections to Redis, each for one purpose and each with its limits said: a server that does not
//! answer must fail fast, never hold anything up.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, RedisResult,
    aio::{MultiplexedConnection, PubSub},
};

use crate::error::{Error, Result};

/// A connection that is not made within this is not made.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two attempts, doubling; with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Where Redis is.
#[derive(Clone)]
pub struct RedisLink(Client);

impl RedisLink {
    /// Takes an address; nothing is connected yet.
    pub fn new(url: &str) -> Result<Self> {
        // The error would repeat the address, and with it the password.
        Client::open(url).map(Self).map_err(|_| Error::internal("REDIS_URL is not a redis:// address"))
    }

    /// A connection for commands that many callers share. No answer takes longer than `response`.
    pub async fn commands(&self, response: Duration) -> RedisResult<MultiplexedConnection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(response));
        self.0.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection for subscriptions.
    pub async fn subscriptions(&self) -> RedisResult<PubSub> {
        match tokio::time::timeout(CONNECT, self.0.get_async_pubsub()).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

/// Pauses between attempts to reconnect.
pub struct Backoff(Duration);

impl Backoff {
    /// The first pause is the shortest.
    pub fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    /// Waits; longer each time.
    pub async fn pause(&mut self) {
        let pause = self.0.mul_f64(rand::random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }
}
