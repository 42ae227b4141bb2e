//! The threads that conversations with the database run on.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};
use tracing::Instrument;

use super::course::Course;
use crate::error::{Error, Result};

/// A small runtime.
pub(super) struct Threads(Option<Runtime>, Handle);

impl Threads {
    pub(super) fn start() -> Result<Self> {
        // One serves some thousand transactions per second; the rest of the machine is the sockets'.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.div_ceil(4).min(4))
            .thread_name("heartwire-db")
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    pub(super) fn run<Fut>(&self, conversation: Fut) -> Spawned<Fut> {
        Spawned { conversation, on: self.1.clone(), patience: None }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The last handle on the store may be dropped in a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// A conversation with the database that, once awaited, runs to its end in a task of its own.
#[must_use = "nothing happens until it is awaited"]
pub struct Spawned<Fut> {
    conversation: Fut,
    on: Handle,
    patience: Option<Patience>,
}

/// How long the end of a conversation is waited for.
struct Patience {
    limit: Duration,
    course: Arc<Course>,
}

impl<Fut> Spawned<Fut> {
    /// Waits no longer than `limit`. The conversation goes on without anybody who waits, unless it
    /// can still be called off.
    pub(super) fn within(self, limit: Duration, course: Arc<Course>) -> Self {
        Self { patience: Some(Patience { limit, course }), ..self }
    }
}

impl<T, Fut> IntoFuture for Spawned<Fut>
where
    Fut: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { conversation, on, patience } = self;
        let task = on.spawn(conversation.in_current_span());
        Box::pin(async move {
            let ended = match patience {
                None => task.await,
                Some(Patience { limit, course }) => match tokio::time::timeout(limit, task).await {
                    Ok(ended) => ended,
                    Err(_) => return Err(course.call_off()),
                },
            };
            ended.unwrap_or_else(|error| Err(Error::internal(format_args!("a database task ended early: {error}"))))
        })
    }
}
