//! The PostgreSQL that the cases use: the one that `scripts/test` started, or one that this process
//! starts for itself.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use sqlx::{Connection, PgConnection};

/// A private server; ends when it is dropped or its process dies.
pub struct Server {
    pub url: String,
    pub log: PathBuf,
    script: Option<Child>,
}

impl Server {
    /// Starts one.
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-postgres");
        let mut child = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/private-postgres");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut line = || lines.next().expect("the script says where it runs").expect("readable");
        Self { url: line(), log: line().into(), script: Some(child) }
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the server's log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut script) = self.script.take() {
            drop(script.stdin.take());
            let _ = script.wait();
        }
    }
}

/// The server that all cases share.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        match (std::env::var("HEARTWIRE_TEST_POSTGRES"), std::env::var("HEARTWIRE_TEST_POSTGRES_LOG")) {
            (Ok(url), Ok(log)) => Server { url, log: log.into(), script: None },
            _ => Server::start(),
        }
    })
}

/// A database of its own on `server`.
pub async fn fresh_database(server: &Server) -> String {
    let name = format!("t_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server.url).await.expect("the private server");
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .expect("CREATE DATABASE");
    let (base, _) = server.url.rsplit_once('/').expect("a URL with a database");
    format!("{base}/{name}")
}

/// Runs statements on a database, beside the hub.
pub async fn execute(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("the private server");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect(sql);
}
