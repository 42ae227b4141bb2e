//! The half-minute check of everything that is believed and of every open socket, in one statement:
//! what a lost control message, an expired row or a change by another process left behind.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Credentials;
use crate::{
    db::{Arm, Session, lists},
    error::Result,
    ids::{UserId, WorkspaceId},
    time::Timestamp,
};

/// What no longer holds.
#[derive(Debug, Default)]
pub struct Ended {
    /// Tokens and sessions.
    pub tokens: Vec<Uuid>,
    /// Memberships.
    pub memberships: Vec<(WorkspaceId, UserId)>,
}

impl Credentials {
    /// Asks the store about everything believed here, and about these tokens and memberships.
    pub async fn recheck(&self, tokens: Vec<Uuid>, memberships: Vec<(WorkspaceId, UserId)>) -> Result<Ended> {
        let (believed_tokens, believed) = self.believed.rows();
        let tokens: HashSet<Uuid> = tokens.into_iter().chain(believed_tokens).collect();
        let memberships = memberships.into_iter().chain(believed.iter().map(|(membership, _)| *membership));
        let memberships: HashSet<(WorkspaceId, UserId)> = memberships.collect();
        if tokens.is_empty() && memberships.is_empty() {
            return Ok(Ended::default());
        }
        let asked: Vec<Uuid> = tokens.iter().copied().collect();
        let users: HashSet<UserId> = memberships.iter().map(|(_, user)| *user).collect();
        let users: Vec<UserId> = users.into_iter().collect();
        let now = self.db.clock().now();
        let rows = self.db.read(async move |db| holding(db, &asked, &users, now).await).await?;
        let (mut rows_held, mut roles) = (HashSet::new(), HashMap::new());
        for (row, membership) in rows.into_iter().map(Holding::split) {
            match membership {
                Some((workspace, role)) => drop(roles.insert((workspace, UserId(row)), role)),
                None => drop(rows_held.insert(row)),
            }
        }
        // Who has another role is still a member.
        for (membership, role) in believed {
            if let (Some(role), Some(now)) = (role, roles.get(&membership))
                && role.name() != now
            {
                self.believed.drop_membership(membership.0, Some(membership.1));
            }
        }
        Ok(Ended {
            tokens: tokens.difference(&rows_held).copied().collect(),
            memberships: memberships.into_iter().filter(|membership| !roles.contains_key(membership)).collect(),
        })
    }
}

/// The row of a token or a session; or a person, with where they are a member and as what.
#[derive(sqlx::FromRow)]
struct Holding {
    id: Uuid,
    workspace_id: Option<WorkspaceId>,
    role: Option<String>,
}

impl Holding {
    fn split(self) -> (Uuid, Option<(WorkspaceId, String)>) {
        (self.id, self.workspace_id.zip(self.role))
    }
}

/// The tokens and sessions that hold, and all memberships of these people (with their workspace).
async fn holding(db: &mut Session, tokens: &[Uuid], users: &[UserId], now: Timestamp) -> Result<Vec<Holding>> {
    let rows = match db.arm() {
        Arm::Postgres(c) => {
            sqlx::query_as(
                "SELECT id, NULL::uuid AS workspace_id, NULL::text AS role FROM personal_access_token
                 WHERE id = ANY($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)
                 UNION ALL
                 SELECT id, NULL, NULL FROM session WHERE id = ANY($1) AND ended_at IS NULL AND expires_at > $3
                 UNION ALL
                 SELECT id, NULL, NULL FROM daemon_token WHERE id = ANY($1) AND (expires_at IS NULL OR expires_at > $3)
                 UNION ALL
                 SELECT id, NULL, NULL FROM task_token WHERE id = ANY($1) AND expires_at > $3
                 UNION ALL
                 SELECT m.user_id, m.workspace_id, m.role FROM member m JOIN workspace w ON w.id = m.workspace_id
                 WHERE m.user_id = ANY($2) AND w.deleted_at IS NULL",
            )
            .bind(tokens)
            .bind(users)
            .bind(now)
            .fetch_all(c)
            .await
        }
        Arm::Sqlite(c) => {
            sqlx::query_as(
                "WITH asked AS (SELECT unhex(value) AS id FROM json_each($1)),
                      people AS (SELECT unhex(value) AS id FROM json_each($2))
                 SELECT id, NULL AS workspace_id, NULL AS role FROM personal_access_token
                 WHERE id IN asked AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)
                 UNION ALL
                 SELECT id, NULL, NULL FROM session WHERE id IN asked AND ended_at IS NULL AND expires_at > $3
                 UNION ALL
                 SELECT id, NULL, NULL FROM daemon_token WHERE id IN asked AND (expires_at IS NULL OR expires_at > $3)
                 UNION ALL
                 SELECT id, NULL, NULL FROM task_token WHERE id IN asked AND expires_at > $3
                 UNION ALL
                 SELECT m.user_id, m.workspace_id, m.role FROM member m JOIN workspace w ON w.id = m.workspace_id
                 WHERE m.user_id IN people AND w.deleted_at IS NULL",
            )
            .bind(lists::ids(tokens.iter().copied()))
            .bind(lists::ids(users.iter().copied()))
            .bind(now)
            .fetch_all(c)
            .await
        }
    };
    db.note(rows)
}
