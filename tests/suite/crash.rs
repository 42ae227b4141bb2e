//! A hub that dies between a commit and its announcement.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Backend, Socket, hub::http_client, postgres, until};

on_both_stores!(a_commit_that_was_not_announced_is_there_after_the_restart);

struct Process {
    child: Child,
    address: String,
}

impl Process {
    async fn start(dir: &Path, database_url: Option<&str>, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwire"));
        command.args(["serve", "--listen", &address, "--data-dir"]).arg(dir);
        command.env_clear().env("HEARTWIRE_FAULT_FILE", dir.join("die")).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(url) = database_url {
            command.env("DATABASE_URL", url);
        }
        let process = Self { child: command.spawn().expect("heartwire serve"), address };
        let http = http_client();
        let url = format!("http://{}/readyz", process.address);
        until("the hub is ready", async || http.get(&url).send().await.is_ok_and(|a| a.status().is_success())).await;
        process
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Result<Value, reqwest::Error> {
        let url = format!("http://{}{path}", self.address);
        let request = http_client().request(method.parse().unwrap(), url).bearer_auth(token);
        request.body(body.to_string()).send().await?.json().await
    }

    async fn browser(&self, token: &str, workspace: &str, mut position: Value) -> (Socket, Value) {
        let url = format!("ws://{}/ws?workspace_id={workspace}", self.address);
        let mut socket = Socket::open(&url, None).await;
        position["token"] = json!(token);
        socket.send(json!({ "type": "auth", "payload": position })).await;
        let ack = socket.next().await;
        assert_eq!(ack["type"], "auth_ack", "{ack}");
        (socket, ack["payload"].clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn a_commit_that_was_not_announced_is_there_after_the_restart(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let database = match backend {
        Backend::Sqlite => None,
        Backend::Postgres | Backend::PostgresRedis => Some(postgres::fresh_database(postgres::shared()).await),
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut hub = Process::start(dir.path(), database.as_deref(), port).await;
    let file = dir.path().join("first-token");
    until("the first token is written", async || file.exists()).await;
    let token = std::fs::read_to_string(file).unwrap().trim().to_owned();
    let workspaces = hub.call("GET", "/api/workspaces", &token, Value::Null).await.unwrap();
    let workspace = workspaces[0]["id"].as_str().unwrap().to_owned();
    let register = json!({ "workspace_id": workspace, "daemon_id": "d", "runtimes": [{ "type": "claude" }] });
    let registered = hub.call("POST", "/api/daemon/register", &token, register).await.unwrap();
    let runtime = registered["runtimes"][0]["id"].as_str().unwrap().to_owned();
    let (mut socket, ack) = hub.browser(&token, &workspace, json!({})).await;

    std::fs::write(dir.path().join("die"), "").unwrap();
    let path = format!("/api/runtimes/{runtime}");
    let answer = hub.call("PATCH", &path, &token, json!({ "visibility": "public" })).await;
    assert!(answer.is_err(), "the process should have died: {answer:?}");
    assert_eq!(socket.next_or_close().await.unwrap_err().0, 0, "the socket is cut without the event");
    let status = hub.child.wait().unwrap();
    assert!(!status.success(), "{status}");
    let mut log = String::new();
    hub.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(!log.contains(&token), "a token in the log");

    std::fs::remove_file(dir.path().join("die")).unwrap();
    let hub = Process::start(dir.path(), database.as_deref(), port).await;
    let (mut socket, resumed) =
        hub.browser(&token, &workspace, json!({ "since": ack["seq"], "epoch": ack["epoch"] })).await;
    assert_eq!(resumed["recovered"], true, "{resumed}");
    let event = socket.next().await;
    assert_eq!(event["seq"], json!(ack["seq"].as_u64().unwrap() + 1));
    assert_eq!(event["payload"], json!({ "action": "update" }));
    let runtimes = hub.call("GET", &format!("/api/runtimes?workspace_id={workspace}"), &token, Value::Null).await;
    assert_eq!(runtimes.unwrap()[0]["visibility"], "public");
    socket.quiet_for(Duration::from_millis(100)).await;
}
