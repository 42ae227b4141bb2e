//! The nodes that share a PostgreSQL. Several of them need Redis, each of them: one that keeps
//! liveness in its own memory would take the others' runtimes for dead. So each holds a lease, and a
//! node that does not fit beside the others does not start.

use std::{sync::Arc, time::Duration};

use super::{Db, Place, Tx, exec, on};
use crate::error::{Error, Result};

/// How long a node that crashed elsewhere is taken for a running one.
const TTL: Duration = Duration::from_secs(60);

/// This node's lease on a shared database.
pub struct NodeLease {
    about: Arc<About>,
    /// Nobody else is at this node's place for as long as it has the lease.
    _place: Place,
}

struct About {
    node: String,
    place: String,
    has_redis: bool,
}

impl NodeLease {
    /// Between two renewals: one may fail.
    pub const RENEWAL: Duration = Duration::from_secs(20);

    /// Takes the lease, or says why this node cannot run beside the others.
    pub async fn take(db: &Db, node: &str, place: Place, has_redis: bool) -> Result<Self> {
        let about = Arc::new(About { node: node.to_owned(), place: place.name().to_owned(), has_redis });
        let mine = about.clone();
        db.write_global(async move |tx| {
            // Two that start at once must see each other; a statement of its own, because the next
            // one's snapshot has to be taken after the wait.
            exec!(tx, pg "SELECT pg_advisory_xact_lock(7302)", lite "SELECT 1", |c, sql| sqlx::query(sql))?;
            let now = tx.now();
            exec!(tx, |c| sqlx::query("DELETE FROM node_lease WHERE place = $1 OR expires_at <= $2")
                .bind(&mine.place)
                .bind(now))?;
            let others: Vec<bool> = on!(tx, |c| sqlx::query_scalar("SELECT has_redis FROM node_lease").fetch_all(c))?;
            let fits = others.is_empty() || mine.has_redis && others.iter().all(|has_redis| *has_redis);
            if !fits {
                return Err(Error::internal(format_args!(
                    "another node uses this database: set REDIS_URL on all of them, or stop it \
                     (one that crashed is forgotten after {} s)",
                    TTL.as_secs()
                )));
            }
            insert(tx, &mine).await
        })
        .await?;
        Ok(Self { about, _place: place })
    }

    /// Keeps the lease. One that is gone is taken again without asking: the node is serving, and its
    /// sockets are no better off without it.
    pub async fn renew(&self, db: &Db) -> Result<()> {
        let mine = self.about.clone();
        let kept = db
            .write_global(async move |tx| {
                let until = tx.now().plus(TTL);
                let kept = exec!(tx, |c| sqlx::query("UPDATE node_lease SET expires_at = $2 WHERE node = $1")
                    .bind(&mine.node)
                    .bind(until))?;
                if kept == 0 {
                    insert(tx, &mine).await?;
                }
                Ok(kept > 0)
            })
            .await?;
        if !kept {
            tracing::warn!(
                "this node's lease on the database was gone: it stood still for a minute, or another node started \
                 with a copy of its data folder; several nodes need REDIS_URL, all of them"
            );
        }
        Ok(())
    }

    /// Gives the lease up, so that another node may start at once.
    pub async fn give_up(&self, db: &Db) -> Result<()> {
        let mine = self.about.clone();
        db.write_global(async move |tx| {
            exec!(tx, |c| sqlx::query("DELETE FROM node_lease WHERE node = $1").bind(&mine.node))?;
            Ok(())
        })
        .await
    }
}

async fn insert(tx: &mut Tx, lease: &About) -> Result<()> {
    let until = tx.now().plus(TTL);
    exec!(tx, |c| sqlx::query("INSERT INTO node_lease (node, place, has_redis, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(&lease.node)
        .bind(&lease.place)
        .bind(lease.has_redis)
        .bind(until))?;
    Ok(())
}
