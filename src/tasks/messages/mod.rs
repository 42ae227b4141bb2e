//! What an agent says and does while a task runs, as its daemon reports it.
//!
//! A daemon numbers its messages from 1, and from 1 again when it runs the agent once more within the
//! task; batches may come twice, late, or after the end. So every message gets a position of the hub's,
//! and a number that is unique within the task: the daemon's, plus an offset that grows when a number
//! comes again with other words. A batch is stored and told as a whole, once.

mod clean;
mod read;
mod store;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{json, value::RawValue};
use tokio_util::sync::CancellationToken;

use super::{Queue, Voice};
use crate::{
    error::{Error, Result},
    events::Talk,
    ids::{TaskId, WorkspaceId},
    protocol::{
        event::Event,
        transcript::{MessageReport, ReportProgress, TaskMessage},
    },
};

pub use clean::Clean;
pub use read::{Since, last_position, list, page};

/// The type of the frames.
const MESSAGE: &str = "task:message";
/// Bytes of a report that are cleaned beside the sockets, not among them.
const LARGE: usize = 128 << 10;
/// Between two looks at what was said while the relay was away.
const COMPARE: Duration = Duration::from_secs(2);
/// Characters of a progress report.
const LONGEST_SUMMARY: usize = 2 << 10;

impl Queue {
    /// Stores what a task's agent said and did, and tells it. In any status of the task: a daemon's
    /// last report may come after the end.
    pub async fn report(self: &Arc<Self>, voice: Voice, cleaned: Arc<[Clean]>) -> Result<()> {
        let queue = self.clone();
        self.db
            .write(voice.workspace_id, async move |tx| {
                let stored = store::batch(tx, &voice, &cleaned).await?;
                let Some(first) = stored.first().map(|message| message.pos as u64) else { return Ok(()) };
                let payloads = stored.iter().map(payload).collect();
                let talk =
                    Talk { task: voice.id, kind: Cow::Borrowed(MESSAGE), first, payloads, private: voice.private() };
                let (queue, workspace) = (queue.clone(), voice.workspace_id);
                tx.after_commit(move || queue.lanes.say(workspace, talk));
                Ok(())
            })
            .await
    }

    /// Tells how far a task is. It is nowhere stored.
    pub fn tell_progress(&self, voice: &Voice, report: &ReportProgress) {
        let summary = super::redact::text(&report.summary);
        let mut progress = json!({
            "task_id": voice.id,
            "summary": super::lifecycle::cut(&summary, LONGEST_SUMMARY),
        });
        for (name, number) in [("step", report.step), ("total", report.total)] {
            if number != 0 {
                progress[name] = json!(number);
            }
        }
        let talk = Talk {
            task: voice.id,
            kind: Cow::Borrowed("task:progress"),
            first: 0,
            payloads: vec![Event::payload_of("task:progress", &progress)],
            private: voice.private(),
        };
        self.lanes.say(voice.workspace_id, talk);
    }

    /// Tells those who listen here of what was said elsewhere and got lost on the way, until
    /// cancelled. Nothing can, as long as there is one node.
    pub async fn keep_listeners_whole(self: Arc<Self>, stop: CancellationToken) {
        if !self.db.is_shared() {
            return;
        }
        let mut tick = tokio::time::interval(COMPARE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let tasks = self.lanes.listened_to();
            if tasks.is_empty() {
                continue;
            }
            match self.db.read(async move |db| read::last_positions(db, &tasks).await).await {
                Ok(positions) => {
                    positions.into_iter().for_each(|(task, position)| self.lanes.reaches(task, position as u64));
                }
                Err(error) => tracing::warn!(%error, "comparing what tasks said with what was heard"),
            }
        }
    }
}

/// A message as sockets get it.
fn payload(message: &TaskMessage) -> Box<RawValue> {
    Event::payload_of(MESSAGE, message)
}

/// Messages that were read from the store, as ready frames with their positions.
pub fn frames(workspace: WorkspaceId, task: TaskId, messages: &[TaskMessage]) -> Vec<(u64, Bytes)> {
    let first = messages.first().map_or(0, |message| message.pos as u64);
    let payloads = messages.iter().map(payload).collect();
    Talk { task, kind: Cow::Borrowed(MESSAGE), first, payloads, private: None }.frames(workspace)
}

/// Messages as they may be kept.
pub async fn cleaned(messages: Vec<MessageReport>) -> Result<Arc<[Clean]>> {
    let size: usize = messages.iter().map(|message| message.content.len() + message.output.len()).sum();
    let all = move || messages.into_iter().map(Clean::from).collect::<Arc<[Clean]>>();
    // Structured input is not weighed; there is more of it than of plain words only in odd reports.
    if size < LARGE {
        return Ok(all());
    }
    tokio::task::spawn_blocking(all).await.map_err(Error::internal)
}
