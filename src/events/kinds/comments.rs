//! Comments.

use serde_json::json;

use crate::{
    ids::{CommentId, IssueId, WorkspaceId},
    protocol::{
        comment::Comment,
        event::{Actor, Event},
        issue::Issue,
    },
};

/// Somebody said something.
pub fn comment_created(actor: Actor, issue: &Issue, comment: &Comment) -> Event {
    let payload = json!({
        "comment": comment,
        "issue_title": issue.title,
        "issue_assignee_type": issue.assignee_type,
        "issue_assignee_id": issue.assignee_id,
        "issue_status": issue.status,
    });
    Event::new(issue.workspace_id, "comment:created", actor, &payload)
}

/// Somebody said something else instead.
pub fn comment_updated(workspace: WorkspaceId, actor: Actor, comment: &Comment) -> Event {
    Event::new(workspace, "comment:updated", actor, &json!({ "comment": comment }))
}

/// A thread is settled.
pub fn comment_resolved(workspace: WorkspaceId, actor: Actor, comment: &Comment) -> Event {
    Event::new(workspace, "comment:resolved", actor, &json!({ "comment": comment }))
}

/// A thread is open again.
pub fn comment_unresolved(workspace: WorkspaceId, actor: Actor, comment: &Comment) -> Event {
    Event::new(workspace, "comment:unresolved", actor, &json!({ "comment": comment }))
}

/// A comment is gone.
pub fn comment_deleted(workspace: WorkspaceId, actor: Actor, issue: IssueId, comment: CommentId) -> Event {
    let payload = json!({ "comment_id": comment, "issue_id": issue });
    Event::new(workspace, "comment:deleted", actor, &payload)
}
