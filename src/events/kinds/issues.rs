//! Issues.

use serde_json::json;

use crate::{
    ids::{IssueId, WorkspaceId},
    protocol::{
        event::{Actor, Event},
        issue::{Issue, Metadata},
    },
};

/// An issue before and after a change.
pub struct IssueChange<'c> {
    /// Before.
    pub old: &'c Issue,
    /// After.
    pub new: &'c Issue,
}

/// There is a new issue.
pub fn issue_created(actor: Actor, issue: &Issue) -> Event {
    Event::new(issue.workspace_id, "issue:created", actor, &json!({ "issue": issue }))
}

/// An issue's own fields changed.
pub fn issue_updated(actor: Actor, change: &IssueChange<'_>) -> Event {
    let IssueChange { old, new } = change;
    let assignee = |issue: &Issue| (issue.assignee_type.clone(), issue.assignee_id);
    let payload = json!({
        "issue": new,
        "assignee_changed": assignee(old) != assignee(new),
        "status_changed": old.status != new.status,
        "priority_changed": old.priority != new.priority,
        "start_date_changed": old.start_date != new.start_date,
        "due_date_changed": old.due_date != new.due_date,
        "description_changed": old.description != new.description,
        "title_changed": old.title != new.title,
        "prev_title": old.title,
        "prev_assignee_type": old.assignee_type,
        "prev_assignee_id": old.assignee_id,
        "prev_status": old.status,
        "prev_priority": old.priority,
        "prev_start_date": old.start_date,
        "prev_due_date": old.due_date,
        "prev_description": old.description,
        "creator_type": new.creator_type,
        "creator_id": new.creator_id,
    });
    Event::new(new.workspace_id, "issue:updated", actor, &payload)
}

/// An issue is gone, with its comments.
pub fn issue_deleted(workspace: WorkspaceId, actor: Actor, issue: IssueId) -> Event {
    Event::new(workspace, "issue:deleted", actor, &json!({ "issue_id": issue }))
}

/// An issue is marked differently.
pub fn issue_metadata_changed(workspace: WorkspaceId, actor: Actor, issue: IssueId, metadata: &Metadata) -> Event {
    let payload = json!({ "issue_id": issue, "metadata": metadata });
    Event::new(workspace, "issue_metadata:changed", actor, &payload)
}
