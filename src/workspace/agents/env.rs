//! An agent's environment: variables that its tasks run with. Secrets, so they have an address of
//! their own and are in no other answer and in no event.

use std::collections::BTreeMap;

use sqlx::types::Json;

use super::{Row, announce, find, not_found};
use crate::{
    db::{Session, Tx, on},
    error::{Error, Result},
    identity::Insider,
    ids::AgentId,
    protocol::agent::AgentEnv,
};

/// Stands for the stored value.
const KEPT: &str = "****";

/// Refuses what cannot be a variable's name.
pub(super) fn check(env: &BTreeMap<String, String>) -> Result<()> {
    match env.keys().find(|name| name.is_empty() || name.contains(['=', '\u{FFFD}'])) {
        Some(name) => Err(Error::invalid("invalid_env_name", format!("invalid environment variable name {name:?}"))),
        None => Ok(()),
    }
}

/// The environment, for owners and admins.
pub async fn get(db: &mut Session, who: &Insider, agent: AgentId) -> Result<AgentEnv> {
    who.require_rule()?;
    let row = find(db, who.workspace, agent).await?.ok_or_else(not_found)?;
    Ok(AgentEnv { agent_id: agent, custom_env: row.custom_env.0 })
}

/// Replaces the environment, for owners and admins.
pub async fn put(tx: &mut Tx, who: &Insider, agent: AgentId, wished: &BTreeMap<String, String>) -> Result<AgentEnv> {
    who.require_rule()?;
    check(wished)?;
    let row = super::lock(tx, who, agent).await?;
    let mut env = wished.clone();
    env.retain(|name, value| {
        if value == KEPT {
            match row.custom_env.get(name) {
                Some(stored) => value.clone_from(stored),
                None => return false,
            }
        }
        true
    });
    if env != row.custom_env.0 {
        let now = tx.now();
        let row: Row =
            on!(tx, |c| sqlx::query_as("UPDATE agent SET custom_env = $2, updated_at = $3 WHERE id = $1 RETURNING *")
                .bind(agent)
                .bind(Json(&env))
                .bind(now)
                .fetch_one(c))?;
        announce(tx, who, &row).await?;
    }
    Ok(AgentEnv { agent_id: agent, custom_env: env })
}
