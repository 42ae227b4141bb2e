//! `/api/daemon/tasks`: what daemons call about a task that they have. These calls wait when the store
//! is away, see `patience`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api,
    answer::{nothing, ok},
    extract::{self, Asked, Body, Caller, Large, Segment},
    optional::OptionalBody,
    patience::{LONG, SHORT, patiently},
    tasks::{Listed, transcript},
};
use crate::{
    db::Tx,
    error::{Error, Result},
    identity::Driver,
    ids::TaskId,
    protocol::{
        task::{CompleteTask, FailTask, PinSession, WaitTask},
        transcript::{ReportMessages, ReportProgress, ReportUsage},
    },
    tasks::{self, Completion, Failure, Row, Voice},
};

/// Bytes of an end's report that are read beside the sockets, not among them.
const LARGE: usize = 128 << 10;

/// A daemon's call about a task.
#[derive(Clone)]
struct Call {
    api: Api,
    driver: Driver,
    task: TaskId,
}

impl Call {
    fn new(api: &Api, caller: &Caller, segment: &Segment) -> Result<Self> {
        Ok(Self { api: api.clone(), driver: caller.driver(), task: extract::id(segment, "task_id")? })
    }

    /// The task, for a daemon that may work on it. It was heard of.
    async fn heard(&self) -> Result<Voice> {
        self.api.queue.hear(&self.driver, self.task).await
    }

    /// The same, patiently.
    async fn heard_patiently(self) -> Result<Voice> {
        patiently(SHORT, |_| {
            let call = self.clone();
            async move { call.heard().await }
        })
        .await
    }
}

/// Its agent begins.
pub async fn start(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let call = Call::new(&api, &caller, &segment)?;
    let started = patiently(LONG, |doubtful| {
        let call = call.clone();
        async move {
            let voice = call.heard().await?;
            let queue = call.api.queue.clone();
            call.api.db.write(voice.workspace_id, async move |tx| queue.start(tx, voice.id, doubtful).await).await
        }
    });
    started.await.map(Row::wire).map(ok)
}

/// It waits until a folder is free.
pub async fn wait(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    OptionalBody(wish): OptionalBody<WaitTask>,
) -> Result<Response> {
    let call = Call::new(&api, &caller, &segment)?;
    let waiting = patiently(LONG, |doubtful| {
        let (call, reason) = (call.clone(), wish.reason.clone());
        async move {
            let voice = call.heard().await?;
            let queue = call.api.queue.clone();
            let write = async move |tx: &mut Tx| queue.wait(tx, voice.id, &reason, doubtful).await;
            call.api.db.write(voice.workspace_id, write).await
        }
    });
    waiting.await.map(Row::wire).map(ok)
}

/// Where the agent's session can be taken up again.
pub async fn session(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(session): Body<PinSession>,
) -> Result<Response> {
    let call = Call::new(&api, &caller, &segment)?;
    if session.session_id.trim().is_empty() && session.work_dir.trim().is_empty() {
        call.heard_patiently().await?;
        return Err(Error::invalid("session_required", "session_id or work_dir is required"));
    }
    let pinned = patiently(SHORT, |_| {
        let (call, session) = (call.clone(), session.clone());
        async move {
            let voice = call.heard().await?;
            let queue = call.api.queue.clone();
            call.api.db.write(voice.workspace_id, async move |tx| queue.pin(tx, voice.id, &session).await).await
        }
    });
    pinned.await.map(|()| nothing())
}

/// How it is; a daemon that reads of an end stops the agent.
pub async fn status(State(api): State<Api>, caller: Caller, segment: Segment) -> Result<Response> {
    let voice = Call::new(&api, &caller, &segment)?.heard_patiently().await?;
    Ok(ok(json!({ "status": voice.status.word() })))
}

/// How far it is: told, and nowhere stored.
pub async fn progress(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(report): Body<ReportProgress>,
) -> Result<Response> {
    let voice = Call::new(&api, &caller, &segment)?.heard_patiently().await?;
    api.queue.tell_progress(&voice, &report);
    Ok(ok(json!({ "status": "ok" })))
}

/// What its agent said and did. Nobody asks whose task it is, if there is nothing.
pub async fn messages(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Large(report): Large<ReportMessages>,
) -> Result<Response> {
    if report.messages.is_empty() {
        return Ok(ok(json!({ "status": "ok" })));
    }
    let call = Call::new(&api, &caller, &segment)?;
    let cleaned = tasks::messages::cleaned(report.messages).await?;
    let reported = patiently(SHORT, |_| {
        let (call, cleaned) = (call.clone(), cleaned.clone());
        async move { call.api.queue.report(call.heard().await?, cleaned).await }
    });
    reported.await.map(|()| ok(json!({ "status": "ok" })))
}

/// Where a list of messages begins.
#[derive(Debug, Default, Deserialize)]
pub struct MessagesQuery {
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    since_pos: Option<String>,
}

impl MessagesQuery {
    /// Refuses what is no number.
    pub fn since(&self) -> Result<tasks::messages::Since> {
        let number = |text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => {
                let invalid = |_| Error::invalid("invalid_since", "invalid since parameter");
                text.parse::<i64>().map(Some).map_err(invalid)
            }
        };
        Ok(tasks::messages::Since { seq: number(&self.since)?, pos: number(&self.since_pos)?.unwrap_or(0) })
    }
}

/// What was said so far.
pub async fn list_messages(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Asked(query): Asked<MessagesQuery>,
) -> Result<Response> {
    let voice = Call::new(&api, &caller, &segment)?.heard_patiently().await?;
    let since = query.since()?;
    let listed: Listed =
        api.db.read(async move |db| tasks::messages::list(db, voice.id, voice.issue_id, since).await).await?;
    Ok(transcript(listed))
}

/// What it used. Good rows are stored, whatever the others are like.
pub async fn usage(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Body(report): Body<ReportUsage>,
) -> Result<Response> {
    let call = Call::new(&api, &caller, &segment)?;
    let rejected = patiently(SHORT, |_| {
        let (call, report) = (call.clone(), report.clone());
        async move { call.api.queue.note_usage(call.heard().await?, report).await }
    });
    let rejected = rejected.await?;
    Ok(match rejected.is_empty() {
        true => ok(json!({ "status": "ok" })),
        false => ok(json!({ "status": "ok", "rejected": rejected })),
    })
}

/// It came to an end.
pub async fn complete(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Large(report): Large<CompleteTask>,
) -> Result<Response> {
    let call = Call::new(&api, &caller, &segment)?;
    let end = Arc::new(beside(report.output.len(), move || Completion::reported(&report)).await?);
    let ended = patiently(LONG, |_| {
        let (call, end) = (call.clone(), end.clone());
        async move {
            let voice = call.heard().await?;
            let queue = call.api.queue.clone();
            call.api.db.write(voice.workspace_id, async move |tx| queue.complete(tx, voice.id, &end).await).await
        }
    });
    ended.await.map(Row::wire).map(ok)
}

/// It came to a bad end.
pub async fn fail(
    State(api): State<Api>,
    caller: Caller,
    segment: Segment,
    Large(report): Large<FailTask>,
) -> Result<Response> {
    let call = Call::new(&api, &caller, &segment)?;
    let failure = Arc::new(beside(report.error.len(), move || Failure::reported(&report)).await?);
    let ended = patiently(LONG, |_| {
        let (call, failure) = (call.clone(), failure.clone());
        async move {
            let voice = call.heard().await?;
            let queue = call.api.queue.clone();
            let write = async move |tx: &mut Tx| tasks::fail_reported(&queue, tx, voice.id, &failure).await;
            call.api.db.write(voice.workspace_id, write).await
        }
    });
    ended.await.map(Row::wire).map(ok)
}

/// Reads a report; a large one on a thread that has the time.
async fn beside<T: Send + 'static>(size: usize, read: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if size < LARGE {
        return Ok(read());
    }
    tokio::task::spawn_blocking(read).await.map_err(Error::internal)
}
