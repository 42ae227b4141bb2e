//! What the lease store remembers beside leases, for a short while: who was told that a runtime is
//! gone, and which tasks were heard of.

use std::{collections::BTreeMap, time::Duration};

use super::Fleet;
use crate::{
    ids::{TaskId, UserId},
    time::Timestamp,
};

/// A daemon that was told so recovers the orphans of all its runtimes within this.
const TOLD_GONE: Duration = Duration::from_secs(180);
/// A task runs if one of its calls came within this; its daemon asks for its status every 5 s.
pub const TASK_HEARD: Duration = Duration::from_secs(15);

/// Beside that, for a store that answers again: a daemon's next call is under way.
const SETTLED: Duration = Duration::from_secs(2);

impl Fleet {
    /// Somebody's daemon is told that a runtime's row is gone.
    pub(super) fn note_told_gone(&self, user: UserId) {
        self.liveness.mark(format!("gone:{user}"), TOLD_GONE);
    }

    /// Some people's daemons are about to be told so; noted when this returns, if the store answers.
    pub(super) async fn note_told_gone_now(&self, users: impl IntoIterator<Item = UserId>) {
        let names: Vec<String> = users.into_iter().map(|user| format!("gone:{user}")).collect();
        self.liveness.mark_now(&names, TOLD_GONE).await;
    }

    /// Whether somebody's daemon was told so a short while ago; `None` if nobody knows.
    pub async fn was_told_gone(&self, user: UserId) -> Option<bool> {
        // What it was told while the store was away was not noted. Its first answer is no such trouble.
        let health = self.liveness.health();
        if health.changes > 1 && self.db.clock().now().since(health.well_since) < TOLD_GONE {
            return None;
        }
        self.liveness.marked(&[format!("gone:{user}")]).await?.pop().map(|noted| noted.is_some())
    }

    /// A daemon called for a task.
    pub fn hear_of_task(&self, task: TaskId) {
        self.liveness.mark(format!("task:{task}"), TASK_HEARD.max(self.settings.stale_after));
    }

    /// As if it had not.
    #[cfg(feature = "test-hooks")]
    pub async fn forget_task(&self, task: TaskId) {
        self.liveness.mark(format!("task:{task}"), Duration::from_millis(1));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    /// When those of some tasks that were heard of within a stale window were so last; `None` if nobody
    /// knows. Nobody was, if the lease store stays away: then what the rows say counts.
    pub async fn heard_of(&self, tasks: &[TaskId]) -> Option<BTreeMap<TaskId, Timestamp>> {
        let (now, health) = (self.db.clock().now(), self.liveness.health());
        if !health.well && self.evidence.leases_stay_away(now) && now >= self.evidence.old_until() {
            return Some(BTreeMap::new());
        }
        // Whoever is heard of has not had the time for it.
        if now.since(health.well_since) < TASK_HEARD + SETTLED {
            return None;
        }
        let names: Vec<String> = tasks.iter().map(|task| format!("task:{task}")).collect();
        let noted = self.liveness.marked(&names).await?;
        Some(tasks.iter().zip(noted).filter_map(|(task, noted)| Some((*task, noted?))).collect())
    }
}
