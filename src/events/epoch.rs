//! The epoch: which history the numbers belong to. It is made with the database and made again
//! whenever the history may have changed under the clients: the database was restored or replaced,
//! or a store that does not flush its commits was not stopped cleanly.

use uuid::Uuid;

use crate::{
    db::{Db, Session, Synchronous, Tx, exec, on},
    error::Result,
};

const EPOCH: &str = "epoch";
/// Which PostgreSQL cluster and timeline the epoch was made on.
const MADE_ON: &str = "epoch_made_on";
/// Present while a hub runs on an embedded store that does not flush its commits.
const UNFLUSHED: &str = "running_unflushed";

/// Makes sure that there is an epoch that fits the database, and returns it. Called once per start
/// of a hub.
pub async fn establish(db: &Db, synchronous: Synchronous) -> Result<String> {
    let made_on = identity(db).await;
    let unflushed = !db.is_shared() && synchronous == Synchronous::Normal;
    db.write_global(async move |tx| {
        let epoch = get(tx, EPOCH).await?;
        let moved = match (&made_on, get(tx, MADE_ON).await?) {
            (Some(now), Some(then)) => *now != then,
            _ => false,
        };
        let unclean = get(tx, UNFLUSHED).await?.is_some();
        if let Some(made_on) = &made_on {
            put(tx, MADE_ON, made_on).await?;
        }
        if unflushed {
            put(tx, UNFLUSHED, "1").await?;
        } else {
            delete(tx, UNFLUSHED).await?;
        }
        match epoch {
            Some(epoch) if !moved && !unclean => Ok(epoch),
            Some(_) => {
                tracing::warn!(moved, unclean, "the database's history may have changed: new event epoch");
                fresh(tx).await
            }
            None => fresh(tx).await,
        }
    })
    .await
}

/// Notes that the store was closed in order.
pub async fn close(db: &Db) -> Result<()> {
    db.write_global(async |tx| delete(tx, UNFLUSHED).await).await
}

/// Makes another epoch, whatever the present one is.
pub async fn renew(db: &Db) -> Result<String> {
    db.write_global(async |tx| fresh(tx).await).await
}

/// Makes another epoch unless somebody already did; returns the one in force.
pub(super) async fn replace(db: &Db, stale: &str) -> Result<String> {
    let stale = stale.to_owned();
    db.write_global(async move |tx| match get(tx, EPOCH).await? {
        Some(epoch) if epoch != stale => Ok(epoch),
        _ => fresh(tx).await,
    })
    .await
}

async fn fresh(tx: &mut Tx) -> Result<String> {
    let epoch = Uuid::new_v4().simple().to_string();
    put(tx, EPOCH, &epoch).await?;
    Ok(epoch)
}

/// The cluster's identity and timeline; a restore to a point in time changes the latter. `None`
/// where the server does not tell.
async fn identity(db: &Db) -> Option<String> {
    if !db.is_shared() {
        return None;
    }
    let told = db
        .read(async |db: &mut Session| {
            on!(
                db,
                pg "SELECT s.system_identifier || ':' || c.timeline_id
                    FROM pg_control_system() s, pg_control_checkpoint() c",
                lite "SELECT NULL",
                |c, sql| sqlx::query_scalar::<_, Option<String>>(sql).fetch_one(c)
            )
        })
        .await;
    told.unwrap_or_else(|error| {
        tracing::warn!(%error, "the database does not tell its identity; after a restore run `heartwire admin new-epoch`");
        None
    })
}

async fn get(tx: &mut Tx, key: &str) -> Result<Option<String>> {
    on!(
        tx,
        pg "SELECT value FROM hub_meta WHERE key = $1 FOR UPDATE",
        lite "SELECT value FROM hub_meta WHERE key = $1",
        |c, sql| sqlx::query_scalar(sql).bind(key).fetch_optional(c)
    )
}

async fn put(tx: &mut Tx, key: &str, value: &str) -> Result<()> {
    exec!(tx, |c| sqlx::query(
        "INSERT INTO hub_meta (key, value) VALUES ($1, $2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    .bind(key)
    .bind(value))?;
    Ok(())
}

async fn delete(tx: &mut Tx, key: &str) -> Result<()> {
    exec!(tx, |c| sqlx::query("DELETE FROM hub_meta WHERE key = $1").bind(key))?;
    Ok(())
}
