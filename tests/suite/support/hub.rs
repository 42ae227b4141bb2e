//! A running hub, and people and daemons who call it.

use std::{path::PathBuf, time::Duration};

use heartwire::{app::App, config::Config};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Socket, postgres, redis};

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
    PostgresRedis,
}

/// A hub and its first owner.
pub struct Hub {
    pub app: App,
    pub config: Config,
    /// The first owner's token.
    pub token: String,
    /// The first workspace.
    pub workspace: Uuid,
    pub database_url: Option<String>,
    pub dir: TempDir,
    http: reqwest::Client,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Fails unless the status is this one; gives the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Fails unless this is the named refusal.
    #[track_caller]
    pub fn refused(self, status: u16, text: &str) {
        let body = self.expect(status);
        assert_eq!(body["error"], text);
        assert!(body["code"].as_str().is_some_and(|code| !code.is_empty()), "no code: {body}");
    }
}

/// A client for any hub.
pub fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The hub closes idle connections after ten seconds; a request must not meet that.
    let idle = Duration::from_secs(5);
    reqwest::Client::builder().timeout(Duration::from_secs(60)).pool_idle_timeout(idle).build().expect("a client")
}

impl Hub {
    /// A hub with default settings.
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, &[]).await
    }

    /// A hub with these settings, by environment name.
    pub async fn start_with(backend: Backend, settings: &[(&'static str, &str)]) -> Self {
        let database_url = match backend {
            Backend::Sqlite => None,
            Backend::Postgres | Backend::PostgresRedis => Some(postgres::fresh_database(postgres::shared()).await),
        };
        let mut settings = settings.to_vec();
        if backend == Backend::PostgresRedis {
            settings.push(("REDIS_URL", &redis::shared().url));
        }
        let hub = Self::start_on(database_url, &settings).await;
        hub.connected().await;
        hub
    }

    /// A hub on a given database.
    pub async fn start_on(database_url: Option<String>, settings: &[(&'static str, &str)]) -> Self {
        Self::start_hurried(database_url, settings, |_| ()).await
    }

    /// As [`Hub::start_on`], with more changed than people may set.
    pub async fn start_hurried(
        database_url: Option<String>,
        settings: &[(&'static str, &str)],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(dir.path().to_path_buf(), database_url.clone(), settings);
        change(&mut config);
        let app = App::start(config.clone()).await.expect("the hub starts");
        let token = app.first_token().expect("a first start").to_owned();
        let http = http_client();
        let mut hub = Self { app, config, token, workspace: Uuid::nil(), database_url, dir, http };
        let workspaces = hub.get("/api/workspaces").await.expect(200);
        hub.workspace = id(&workspaces[0]);
        hub
    }

    /// Another node of the same hub. Its store is the first one's.
    pub async fn another_node(&self, settings: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut all = vec![("REDIS_URL", redis::shared().url.as_str())];
        all.extend_from_slice(settings);
        let config = config(dir.path().to_path_buf(), self.database_url.clone(), &all);
        let app = App::start(config.clone()).await.expect("another node starts");
        let node = Self {
            app,
            config,
            token: self.token.clone(),
            workspace: self.workspace,
            database_url: self.database_url.clone(),
            dir,
            http: http_client(),
        };
        node.connected().await;
        node
    }

    /// Waits until the lease store answers and the relay brings back what is published.
    pub async fn connected(&self) {
        super::until("Redis answers", async || self.app.is_connected()).await;
    }

    /// Stops the hub and starts it again on the same store.
    pub async fn restart(mut self) -> Self {
        self.app.stop().await;
        self.app = App::start(self.config.clone()).await.expect("the hub starts again");
        self
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.app.address)
    }

    /// A request with any token and body; `null` sends none.
    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.raw(method, path, token, body, &[]).await
    }

    /// A request about a record of the first workspace, with the headers and the literal `null`
    /// body that the CLI sends.
    pub async fn cli(&self, method: &str, path: &str, body: Value) -> Answer {
        self.cli_as(&self.token, method, path, body).await
    }

    /// As [`Hub::cli`], by somebody else.
    pub async fn cli_as(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let workspace = self.workspace.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-workspace-id", workspace.as_str()),
            ("x-client-platform", "cli"),
            ("x-client-version", "0.2.30"),
            ("x-client-os", "linux"),
        ];
        let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
        self.raw(method, path, Some(token), body, &headers).await
    }

    /// A request with bytes for a body.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.http.request(method.parse().expect("a method"), self.url(path)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("a body"),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Some(&self.token), Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(&self.token), body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, Some(&self.token), body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, Some(&self.token), Value::Null).await
    }

    /// Registers one runtime per provider for the first owner's daemon.
    pub async fn register(&self, daemon: &str, providers: &[&str]) -> Vec<Uuid> {
        self.register_as(&self.token, self.workspace, daemon, providers).await
    }

    pub async fn register_as(&self, token: &str, workspace: Uuid, daemon: &str, providers: &[&str]) -> Vec<Uuid> {
        let runtimes: Vec<Value> =
            providers.iter().map(|provider| json!({ "type": provider, "status": "online" })).collect();
        let body =
            json!({ "workspace_id": workspace, "daemon_id": daemon, "device_name": "box", "runtimes": runtimes });
        let answer = self.call("POST", "/api/daemon/register", Some(token), body).await.expect(200);
        answer["runtimes"].as_array().expect("a list").iter().map(id).collect()
    }

    /// A row of the runtime list.
    pub async fn runtime(&self, runtime: Uuid) -> Option<Value> {
        let list = self.get(&format!("/api/runtimes?workspace_id={}", self.workspace)).await.expect(200);
        list.as_array().expect("a list").iter().find(|row| id(row) == runtime).cloned()
    }

    /// Another workspace of the first owner.
    pub async fn another_workspace(&self, slug: &str) -> Uuid {
        id(&self.post("/api/workspaces", json!({ "name": slug, "slug": slug })).await.expect(201))
    }

    /// Runs `heartwire admin …` as a process of its own on this hub's store.
    pub async fn admin(&self, arguments: &[&str]) -> Value {
        let output = self.admin_process(arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    pub async fn admin_process(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_heartwire"));
        command.arg("admin").args(arguments).arg("--json").env_clear();
        match &self.database_url {
            Some(url) => command.arg("--database-url").arg(url),
            None => command.arg("--data-dir").arg(self.dir.path()),
        };
        command.output().await.expect("heartwire admin")
    }

    /// A person who is nobody's member, and their token.
    pub async fn stranger(&self, email: &str) -> String {
        self.admin(&["create-user", "--email", email, "--name", "Stranger"]).await;
        let token = self.admin(&["create-token", "--user", email, "--name", "t"]).await;
        token["token"].as_str().expect("a token").to_owned()
    }

    /// A member of the first workspace, and their token.
    pub async fn member(&self, email: &str, role: &str) -> String {
        let token = self.stranger(email).await;
        self.admin(&["add-member", "--workspace", "home-base", "--user", email, "--role", role]).await;
        token
    }

    /// Runs statements on the store, beside the hub, which is made to read everything anew.
    pub async fn sql(&self, sql: &'static str) {
        self.execute(sql).await;
        self.app.forget_beliefs();
    }

    /// Runs statements on the store without the hub being told.
    pub async fn sql_unnoticed(&self, sql: &'static str) {
        self.execute(sql).await;
    }

    async fn execute(&self, sql: &'static str) {
        match &self.database_url {
            Some(url) => postgres::execute(url, sql).await,
            None => {
                let path = self.dir.path().join("heartwire.db");
                let mut connection =
                    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("the store");
                sqlx::raw_sql(sql).execute(&mut connection).await.expect(sql);
            }
        }
    }

    /// What the store holds, in brief: the same if and only if nobody changed anything.
    pub async fn fingerprint(&self) -> String {
        const ROWS: &str = "
            SELECT 'users ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0) FROM users
            UNION ALL SELECT 'workspace ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COUNT(deleted_at) FROM workspace
            UNION ALL SELECT 'member ' || COUNT(*) || ' ' || COALESCE(SUM(LENGTH(role)), 0) FROM member
            UNION ALL SELECT 'token ' || COUNT(*) || ' ' || COUNT(revoked_at) || ' ' || COALESCE(SUM(expires_at), 0)
                FROM personal_access_token
            UNION ALL SELECT 'session ' || COUNT(*) FROM session WHERE ended_at IS NULL
            UNION ALL SELECT 'daemon_token ' || COUNT(*) FROM daemon_token
            UNION ALL SELECT 'task_token ' || COUNT(*) FROM task_token
            UNION ALL SELECT 'runtime ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COALESCE(SUM(last_seen_at), 0) || ' ' || COUNT(offline_cause) FROM agent_runtime
            UNION ALL SELECT 'profile ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0) FROM runtime_profile
            UNION ALL SELECT 'agent ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COUNT(archived_at) FROM agent
            UNION ALL SELECT 'skill ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0) FROM skill
            UNION ALL SELECT 'issue ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0) FROM issue
            UNION ALL SELECT 'comment ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0) FROM comment
            UNION ALL SELECT 'project ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0) FROM project
            UNION ALL SELECT 'resource ' || COUNT(*) || ' ' || COALESCE(SUM(position), 0) FROM project_resource
            UNION ALL SELECT 'squad ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COUNT(archived_at) FROM squad
            UNION ALL SELECT 'squad_member ' || COUNT(*) || ' ' || COALESCE(SUM(LENGTH(role)), 0) FROM squad_member
            UNION ALL SELECT 'chat_session ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COUNT(unread_since) FROM chat_session
            UNION ALL SELECT 'chat_message ' || COUNT(*) FROM chat_message
            UNION ALL SELECT 'attachment ' || COUNT(*) || ' ' || COUNT(issue_id) || ' ' || COUNT(comment_id)
                || ' ' || COUNT(chat_session_id) || ' ' || COUNT(chat_message_id)
                || ' ' || COUNT(sweep_after) FROM attachment
            UNION ALL SELECT 'attachment_chunk ' || COUNT(*) FROM attachment_chunk
            UNION ALL SELECT 'autopilot ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COALESCE(SUM(LENGTH(status)), 0) || ' ' || COUNT(was_private_to) FROM autopilot
            UNION ALL SELECT 'subscriber ' || COUNT(*) FROM autopilot_subscriber
            UNION ALL SELECT 'trigger ' || COUNT(*) || ' ' || COALESCE(SUM(updated_at), 0)
                || ' ' || COALESCE(SUM(next_run_at), 0) FROM autopilot_trigger
            UNION ALL SELECT 'run ' || COUNT(*) FROM autopilot_run
            UNION ALL SELECT 'task ' || COUNT(*) || ' ' || COALESCE(SUM(LENGTH(status)), 0)
                || ' ' || COALESCE(SUM(dispatched_at), 0) || ' ' || COUNT(session_id) || ' ' || COALESCE(SUM(completed_at), 0)
                || ' ' || COUNT(runtime_id) || ' ' || COUNT(private_to) FROM task
            UNION ALL SELECT 'evaluation ' || COUNT(*) FROM squad_evaluation
            UNION ALL SELECT 'message ' || COUNT(*) FROM task_message
            UNION ALL SELECT 'usage ' || COUNT(*) || ' ' || COALESCE(SUM(input_tokens), 0) FROM task_usage
            UNION ALL SELECT 'events ' || COALESCE(SUM(seq), 0) FROM event_counter";
        self.rows(ROWS).await.join("; ")
    }

    /// One text column of the store, read beside the hub.
    pub async fn rows(&self, sql: &'static str) -> Vec<String> {
        match &self.database_url {
            Some(url) => {
                let mut connection = sqlx::PgConnection::connect(url).await.expect("the private server");
                sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect(sql)
            }
            None => {
                let path = self.dir.path().join("heartwire.db");
                let mut connection =
                    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("the store");
                sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect(sql)
            }
        }
    }

    /// A browser socket of the first owner on the first workspace, authenticated.
    pub async fn browser(&self) -> (Socket, Value) {
        self.browser_of(self.workspace, json!({})).await
    }

    /// A browser socket of the first owner; `position` goes into the auth payload.
    pub async fn browser_of(&self, workspace: Uuid, position: Value) -> (Socket, Value) {
        let mut socket = Socket::open(&self.ws(&format!("/ws?workspace_id={workspace}")), None).await;
        let mut payload = position;
        payload["token"] = json!(self.token);
        socket.send(json!({ "type": "auth", "payload": payload })).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "auth_ack", "{ack}");
        (socket, ack["payload"].clone())
    }

    /// A daemon socket of the first owner.
    pub async fn daemon(&self, runtimes: &[Uuid]) -> Socket {
        Socket::open(&self.daemon_url(runtimes), Some(&self.token)).await
    }

    pub fn daemon_url(&self, runtimes: &[Uuid]) -> String {
        let ids: Vec<String> = runtimes.iter().map(Uuid::to_string).collect();
        self.ws(&format!("/api/daemon/ws?runtime_ids={}", ids.join("%2C")))
    }

    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.app.address)
    }
}

/// A configuration of defaults, a folder, a store and whatever else.
pub fn config(dir: PathBuf, database_url: Option<String>, settings: &[(&'static str, &str)]) -> Config {
    let mut environment: Vec<(String, String)> = vec![
        ("HEARTWIRE_LISTEN".into(), "127.0.0.1:0".into()),
        ("HEARTWIRE_DATA_DIR".into(), dir.display().to_string()),
    ];
    environment.extend(database_url.map(|url| ("DATABASE_URL".into(), url)));
    environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let find = |name: &str| environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Config::load(None, find, &[]).expect("a configuration")
}

/// The names of an object's members, sorted.
pub fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The `id` of an object.
pub fn id(object: &Value) -> Uuid {
    object["id"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no id: {object}"))
}
