//! Giving uploaded files to what they were uploaded for. Only one's own files that belong to nothing
//! yet can be given away, and those that went along with a wish for an issue to that issue; all of
//! them, or none.

use super::{super::references, Row, entrusted};
use crate::{
    db::{Arm, Tx, exec, lists},
    error::{Error, Result},
    identity::Insider,
    ids::{AttachmentId, ChatMessageId, ChatSessionId, CommentId, IssueId},
};

#[derive(Clone, Copy)]
enum Home {
    Issue(IssueId),
    Comment(IssueId, CommentId),
    Message(ChatSessionId, ChatMessageId),
}

impl Home {
    /// Whether a file is there already: naming it once more is no mistake.
    fn has(self, row: &Row) -> bool {
        match self {
            Self::Issue(issue) => row.issue_id == Some(issue) && row.comment_id.is_none(),
            Self::Comment(_, comment) => row.comment_id == Some(comment),
            Self::Message(_, message) => row.chat_message_id == Some(message),
        }
    }

    /// Whether a file can come here from where it is: from nowhere, from the comment's own issue,
    /// or from the chat whose message was taken back. A picture of somebody stays one.
    fn takes(self, row: &Row) -> bool {
        let free = |issue: Option<IssueId>, session: Option<ChatSessionId>| {
            !row.shown_as_avatar
                && row.comment_id.is_none()
                && row.chat_message_id.is_none()
                && (row.issue_id.is_none() || row.issue_id == issue)
                && (row.chat_session_id.is_none() || row.chat_session_id == session)
        };
        match self {
            Self::Issue(_) => free(None, None),
            Self::Comment(issue, _) => free(Some(issue), None),
            Self::Message(session, _) => free(None, Some(session)),
        }
    }
}

/// Gives files to an issue, which the caller has locked. Answers those that it had not before, in
/// the order in which they were named.
pub async fn bind_to_issue(tx: &mut Tx, who: &Insider, ids: &[String], issue: IssueId) -> Result<Vec<AttachmentId>> {
    bind(tx, who, ids, Home::Issue(issue)).await
}

/// As [`bind_to_issue`], to a comment of an issue; files of that issue will do as well.
pub async fn bind_to_comment(
    tx: &mut Tx,
    who: &Insider,
    ids: &[String],
    issue: IssueId,
    comment: CommentId,
) -> Result<Vec<AttachmentId>> {
    bind(tx, who, ids, Home::Comment(issue, comment)).await
}

/// As [`bind_to_issue`], to a message of a chat, which then decides who may read them.
pub async fn bind_to_chat_message(
    tx: &mut Tx,
    who: &Insider,
    ids: &[String],
    session: ChatSessionId,
    message: ChatMessageId,
) -> Result<Vec<AttachmentId>> {
    bind(tx, who, ids, Home::Message(session, message)).await
}

async fn bind(tx: &mut Tx, who: &Insider, ids: &[String], home: Home) -> Result<Vec<AttachmentId>> {
    let mut wished: Vec<AttachmentId> = Vec::with_capacity(ids.len());
    for text in ids {
        wished.push(references::id("attachment_ids", text)?);
    }
    let mut sorted = wished.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.is_empty() {
        return Ok(Vec::new());
    }
    let mut fresh = Vec::with_capacity(sorted.len());
    let rows = locked(tx, who, &sorted).await?;
    if rows.len() != sorted.len() {
        return Err(invalid());
    }
    let entrusted = match home {
        Home::Issue(_) if rows.iter().any(|row| !row.is_by(who)) => entrusted::to(tx, who).await?,
        _ => Vec::new(),
    };
    for row in rows {
        if home.has(&row) {
            continue;
        }
        if !(row.is_by(who) || entrusted.contains(&row.id)) || !home.takes(&row) {
            return Err(invalid());
        }
        fresh.push(row.id);
    }
    store(tx, &fresh, home).await?;
    // Sorted, since the rows came by id. Each is taken out once, so one named twice is bound once.
    wished.retain(|id| fresh.binary_search(id).is_ok_and(|at| fresh.remove(at) == *id));
    Ok(wished)
}

fn invalid() -> Error {
    references::invalid("attachment_ids")
}

/// By id: the order in which rows of one table are locked.
pub(super) async fn locked(tx: &mut Tx, who: &Insider, ids: &[AttachmentId]) -> Result<Vec<Row>> {
    let rows = match tx.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as(
                "SELECT * FROM attachment WHERE id = ANY($1) AND workspace_id = $2 AND complete
                 ORDER BY id FOR NO KEY UPDATE",
            )
            .bind(ids)
            .bind(who.workspace)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "SELECT * FROM attachment
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND workspace_id = $2 AND complete ORDER BY id",
            )
            .bind(lists::ids(ids.iter().copied()))
            .bind(who.workspace)
            .fetch_all(c)
            .await
        }
    };
    tx.note(rows)
}

async fn store(tx: &mut Tx, ids: &[AttachmentId], home: Home) -> Result<()> {
    let (issue, comment, session, message) = match home {
        Home::Issue(issue) => (Some(issue), None, None, None),
        Home::Comment(issue, comment) => (Some(issue), Some(comment), None, None),
        Home::Message(session, message) => (None, None, Some(session), Some(message)),
    };
    for id in ids {
        exec!(tx, |c| sqlx::query(
            "UPDATE attachment SET issue_id = $2, comment_id = $3, chat_session_id = $4, chat_message_id = $5,
                 sweep_after = NULL
             WHERE id = $1"
        )
        .bind(*id)
        .bind(issue)
        .bind(comment)
        .bind(session)
        .bind(message))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{ids::WorkspaceId, time::Timestamp};

    #[test]
    fn a_file_moves_from_nowhere_or_closer_to_where_it_is_and_never_away() {
        let (issue, other) = (IssueId::fresh(), IssueId::fresh());
        let (comment, session, message) = (CommentId::fresh(), ChatSessionId::fresh(), ChatMessageId::fresh());
        let free = Row {
            id: AttachmentId::fresh(),
            filename: String::new(),
            content_type: String::new(),
            size_bytes: 0,
            workspace_id: WorkspaceId::fresh(),
            issue_id: None,
            comment_id: None,
            chat_session_id: None,
            chat_message_id: None,
            uploader_type: "member".into(),
            uploader_id: Uuid::nil(),
            shown_as_avatar: false,
            created_at: Timestamp(0),
        };
        let of_issue = Row { issue_id: Some(issue), ..free.clone() };
        let of_comment = Row { comment_id: Some(comment), ..of_issue.clone() };
        let of_chat = Row { chat_session_id: Some(session), ..free.clone() };
        let picture = Row { shown_as_avatar: true, ..free.clone() };
        let of_message = Row { chat_message_id: Some(message), ..of_chat.clone() };
        let homes = [
            Home::Issue(issue),
            Home::Issue(other),
            Home::Comment(issue, CommentId::fresh()),
            Home::Comment(other, CommentId::fresh()),
            Home::Message(session, ChatMessageId::fresh()),
            Home::Message(ChatSessionId::fresh(), ChatMessageId::fresh()),
        ];
        for (row, expected) in [
            (&free, [true, true, true, true, true, true]),
            (&of_issue, [false, false, true, false, false, false]),
            (&of_comment, [false, false, false, false, false, false]),
            (&of_chat, [false, false, false, false, true, false]),
            (&of_message, [false, false, false, false, false, false]),
            (&picture, [false, false, false, false, false, false]),
        ] {
            assert_eq!(homes.map(|home| home.takes(row)), expected, "{row:?}");
        }
        assert!(Home::Issue(issue).has(&of_issue) && !Home::Issue(issue).has(&of_comment));
        assert!(Home::Comment(issue, comment).has(&of_comment) && Home::Message(session, message).has(&of_message));
    }
}
