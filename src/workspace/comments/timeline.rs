//! An issue's timeline: comments, and changes of its status and assignee, as they came.

use super::list::{self, Filter};
use crate::{
    db::Session,
    error::Result,
    ids::IssueId,
    protocol::comment::{Comment, TimelineActivity, TimelineEntry},
    time::Timestamp,
    workspace::issues::activity,
};

/// The timeline, oldest first.
pub async fn timeline(db: &mut Session, issue: IssueId) -> Result<Vec<TimelineEntry>> {
    let comments = list::list(db, issue, &Filter::default()).await?.comments;
    let activity = activity::list(db, issue).await?;
    let mut entries: Vec<(Timestamp, TimelineEntry)> = Vec::with_capacity(comments.len() + activity.len());
    entries.extend(comments.into_iter().map(|comment| (comment.created_at, said(comment))));
    entries.extend(activity.into_iter().map(|activity| (activity.created_at, done(activity))));
    // Both came sorted, and equal times keep comments first.
    entries.sort_by_key(|(at, _)| *at);
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn said(comment: Comment) -> TimelineEntry {
    TimelineEntry::Comment {
        id: comment.id,
        actor_type: comment.author_type,
        actor_id: comment.author_id,
        created_at: comment.created_at,
        content: comment.content,
        parent_id: comment.parent_id,
        updated_at: comment.updated_at,
        comment_type: comment.r#type,
        reactions: [],
        attachments: comment.attachments,
        resolved_at: comment.resolved_at,
        resolved_by_type: comment.resolved_by_type,
        resolved_by_id: comment.resolved_by_id,
        source_task_id: comment.source_task_id,
    }
}

fn done(activity: TimelineActivity) -> TimelineEntry {
    TimelineEntry::Activity {
        id: activity.id,
        actor_type: activity.actor_type,
        actor_id: activity.actor_id,
        created_at: activity.created_at,
        action: activity.action,
        details: activity.details,
    }
}
