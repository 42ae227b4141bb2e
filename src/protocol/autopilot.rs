//! The objects and bodies of autopilots, their triggers and their runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::lenient::{self, Patch};
use crate::{
    ids::{AutopilotId, IssueId, ProjectId, RunId, TaskId, TriggerId, UserId, WorkspaceId},
    time::Timestamp,
};

/// Work that is asked for by the clock, or by hand.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Autopilot {
    pub id: AutopilotId,
    pub workspace_id: WorkspaceId,
    pub title: String,
    pub description: Option<String>,
    pub project_id: Option<ProjectId>,
    pub assignee_type: String,
    /// An agent, or a squad.
    pub assignee_id: Uuid,
    pub status: String,
    pub execution_mode: String,
    pub issue_title_template: Option<String>,
    pub created_by_type: String,
    pub created_by_id: Uuid,
    pub last_run_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Empty in lists.
    pub subscribers: Vec<Subscriber>,
    /// The owner of the private agent that does the work, if one does. Then nobody else may know of
    /// it but the workspace's owners and admins.
    #[serde(skip)]
    pub private_to: Option<UserId>,
}

/// Somebody who is told of an autopilot's runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Subscriber {
    pub user_type: String,
    pub user_id: UserId,
    pub created_at: Timestamp,
}

/// An autopilot in the list, with what its row there shows.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct ListedAutopilot {
    #[serde(flatten)]
    pub autopilot: Autopilot,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trigger_kinds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
}

/// What sets an autopilot off.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Trigger {
    pub id: TriggerId,
    pub autopilot_id: AutopilotId,
    pub kind: String,
    pub enabled: bool,
    pub cron_expression: Option<String>,
    /// None stands for UTC.
    pub timezone: Option<String>,
    pub next_run_at: Option<Timestamp>,
    pub label: Option<String>,
    pub last_fired_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Null, as there are no webhooks; so is the next.
    pub webhook_token: Option<String>,
    pub event_filters: Option<Value>,
}

/// One time that an autopilot was set off.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Run {
    pub id: RunId,
    pub autopilot_id: AutopilotId,
    pub trigger_id: Option<TriggerId>,
    pub source: String,
    pub status: String,
    pub issue_id: Option<IssueId>,
    pub task_id: Option<TaskId>,
    pub triggered_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub failure_reason: Option<String>,
    /// Null in lists.
    pub trigger_payload: Option<Value>,
    pub result: Option<Value>,
    pub created_at: Timestamp,
}

/// `GET /api/autopilots`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Autopilots {
    pub autopilots: Vec<ListedAutopilot>,
    pub total: usize,
}

/// `GET /api/autopilots/{id}`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct WithTriggers {
    pub autopilot: Autopilot,
    pub triggers: Vec<Trigger>,
}

/// `GET /api/autopilots/{id}/runs`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct Runs {
    pub runs: Vec<Run>,
    /// Of this page.
    pub total: usize,
}

/// `POST /api/autopilots`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateAutopilot {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub title: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub project_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub assignee_type: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub assignee_id: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub execution_mode: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub issue_title_template: String,
    #[serde(default, deserialize_with = "lenient::list")]
    pub subscribers: Vec<WishedSubscriber>,
}

/// `PATCH /api/autopilots/{id}`: null clears description, template and project, and leaves the rest.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PatchAutopilot {
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub project_id: Patch<String>,
    #[serde(default)]
    pub assignee_type: Option<String>,
    #[serde(default)]
    pub assignee_id: Option<String>,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub execution_mode: Option<String>,
    #[serde(default)]
    pub issue_title_template: Patch<String>,
    /// All of them.
    #[serde(default)]
    pub subscribers: Option<Vec<WishedSubscriber>>,
}

/// A subscriber as bodies name one.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct WishedSubscriber {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub user_type: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub user_id: String,
}

/// `POST /api/autopilots/{id}/triggers`.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct CreateTrigger {
    #[serde(default, deserialize_with = "lenient::zero")]
    pub kind: String,
    /// True unless it says otherwise.
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub cron_expression: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub timezone: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    pub label: String,
}

/// `PATCH /api/autopilots/{id}/triggers/{tid}`: what is absent stays; an empty label or zone clears.
#[derive(Debug, Default, Clone, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named in docs/protocol.md")]
pub struct PatchTrigger {
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub cron_expression: Option<String>,
    #[serde(default)]
    pub timezone: Option<String>,
    #[serde(default)]
    pub label: Option<String>,
}
