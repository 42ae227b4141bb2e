//! Reading the log.

use std::borrow::Cow;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::frame::encode;
use crate::{
    db::{Session, on},
    error::{Error, Result},
    hub::Frame,
    ids::{EventId, UserId, WorkspaceId},
    protocol::event::{Audience, Event, Reduced},
};

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    id: Uuid,
    kind: String,
    actor_type: String,
    actor_id: Option<Uuid>,
    payload: String,
    audience: Option<String>,
    audience_user: Option<UserId>,
    reduced: Option<String>,
}

/// The stored names of the audiences.
pub(super) const ONLY: &str = "only";
pub(super) const OWNER_AND_ADMINS: &str = "owner_and_admins";

/// The events with `after < seq <= upto`, in order. The caller checks for holes.
pub(super) async fn read(db: &mut Session, workspace: WorkspaceId, after: u64, upto: u64) -> Result<Vec<(u64, Event)>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT seq, id, kind, actor_type, actor_id, payload, audience, audience_user, reduced FROM event_log
         WHERE workspace_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq"
    )
    .bind(workspace)
    .bind(after as i64)
    .bind(i64::try_from(upto).unwrap_or(i64::MAX))
    .fetch_all(c))?;
    rows.into_iter().map(|row| row.event(workspace)).collect()
}

/// As [`read`], as many of them as begin within so many characters.
pub(super) async fn read_some(
    db: &mut Session,
    workspace: WorkspaceId,
    after: u64,
    upto: u64,
    letters: i64,
) -> Result<Vec<(u64, Event)>> {
    let rows: Vec<Row> = on!(db, |c| sqlx::query_as(
        "SELECT seq, id, kind, actor_type, actor_id, payload, audience, audience_user, reduced FROM (
             SELECT l.*, SUM(LENGTH(payload)) OVER (ORDER BY seq) - LENGTH(payload) AS before FROM event_log l
             WHERE workspace_id = $1 AND seq > $2 AND seq <= $3
         ) m WHERE before < $4 ORDER BY seq"
    )
    .bind(workspace)
    .bind(after as i64)
    .bind(i64::try_from(upto).unwrap_or(i64::MAX))
    .bind(letters)
    .fetch_all(c))?;
    rows.into_iter().map(|row| row.event(workspace)).collect()
}

/// As [`read`], encoded for the wire.
pub(super) async fn frames(db: &mut Session, workspace: WorkspaceId, after: u64, upto: u64) -> Result<Vec<Frame>> {
    let events = read(db, workspace, after, upto).await?;
    Ok(events.iter().map(|(seq, event)| encode(event, *seq)).collect())
}

impl Row {
    fn event(self, workspace: WorkspaceId) -> Result<(u64, Event)> {
        let seq = self.seq as u64;
        let id = self.id;
        let json = |text: String| {
            RawValue::from_string(text)
                .map_err(|error| Error::internal(format_args!("event {id} of the log is not JSON: {error}")))
        };
        let reduced = match (self.audience.as_deref(), self.audience_user, self.reduced) {
            (None, ..) => None,
            (Some(ONLY), Some(user), Some(text)) => {
                Some(Reduced { audience: Audience::Only(user), payload: json(text)? })
            }
            (Some(OWNER_AND_ADMINS), Some(user), Some(text)) => {
                Some(Reduced { audience: Audience::OwnerAndAdmins(user), payload: json(text)? })
            }
            // Better nobody than somebody it is not for.
            _ => return Err(Error::internal(format_args!("event {id} of the log has an unknown audience"))),
        };
        let event = Event {
            workspace,
            id: EventId(self.id),
            kind: Cow::Owned(self.kind),
            actor_type: Cow::Owned(self.actor_type),
            actor_id: self.actor_id,
            payload: json(self.payload)?,
            reduced,
        };
        Ok((seq, event))
    }
}
