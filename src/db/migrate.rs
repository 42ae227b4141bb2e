//! Bringing a store to the current schema. Two processes that start at once take turns: by the
//! advisory lock that the migrator takes on PostgreSQL, by a locked file beside the SQLite store,
//! for which the migrator has none.

use std::{fs::File, path::Path};

use sqlx::{PgPool, SqlitePool, migrate::Migrator};

use crate::error::{Error, Result};

static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");

pub(super) async fn postgres(pool: &PgPool) -> Result<()> {
    POSTGRES.run(pool).await.map_err(|error| failed(&error))
}

pub(super) async fn sqlite(writer: &SqlitePool) -> Result<()> {
    SQLITE.run(writer).await.map_err(|error| failed(&error))
}

/// Waits until no other process opens the store in this folder; the turn ends with the file.
pub(super) async fn take_turn(folder: &Path) -> Result<File> {
    let path = folder.join("migrate.lock");
    let turn = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    });
    turn.await.map_err(Error::internal)?.map_err(Error::internal)
}

fn failed(error: &sqlx::migrate::MigrateError) -> Error {
    Error::internal(format_args!("migrating the database: {error}"))
}
