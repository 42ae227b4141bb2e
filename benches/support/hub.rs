//! The hub under test: the real one, on a port of its own, in a runtime whose threads are known by
//! name.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use heartwire::{app::App, config::Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{
    Target,
    machine::{self, Cpu},
};

/// Its worker threads; the machine has two cores.
const WORKERS: usize = 2;
const THREAD: &str = "hub";

/// Where the hub keeps its data.
#[derive(Debug, Clone, clap::Args)]
pub struct Store {
    /// An empty PostgreSQL database; without it the hub uses its embedded store.
    #[arg(long)]
    pub database_url: Option<String>,
    /// Folder for the embedded store's own temporary folder.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub on: PathBuf,
    /// Settings as name=value, for trying them out.
    #[arg(long = "set")]
    pub set: Vec<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Store {
    /// The folder that a commit is flushed to, as far as we know it.
    pub fn folder(&self) -> &Path {
        &self.on
    }

    /// For a table's title.
    pub fn name(&self) -> &'static str {
        if self.database_url.is_some() { "PostgreSQL" } else { "SQLite, synchronous=full" }
    }
}

/// A running hub.
pub struct Hub {
    runtime: Runtime,
    /// The hub itself.
    pub app: Arc<App>,
    /// The first owner's token.
    pub token: String,
    /// The first owner's workspace.
    pub workspace: Uuid,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Hub {
    /// Starts one on an empty store.
    pub fn start(store: &Store) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        std::fs::create_dir_all(&store.on).expect("the folder for data");
        let folder = tempfile::tempdir_in(&store.on).expect("a temporary folder");
        let mut flags = vec![
            ("server.listen", "127.0.0.1:0".to_owned()),
            ("db.data_dir", folder.path().display().to_string()),
            ("db.url", store.database_url.clone().unwrap_or_default()),
        ];
        for set in &store.set {
            let (name, value) = set.split_once('=').expect("--set name=value");
            flags.push((name, value.to_owned()));
        }
        let config = Config::load(None, |_| None, &flags).unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(THREAD)
            .enable_all()
            .build()
            .expect("a runtime");
        // In a task, so that nothing of the hub runs on a thread of another name.
        let app = runtime
            .block_on(runtime.spawn(App::start(config)))
            .expect("no panic")
            .unwrap_or_else(|error| panic!("starting the hub: {error}"));
        let token = app.first_token().expect("an empty store: the first start makes a token").to_owned();
        let mut hub =
            Self { runtime, app: Arc::new(app), token, workspace: Uuid::nil(), http: reqwest::Client::new(), folder };
        let list = hub.call(reqwest::Method::GET, "/api/workspaces", None);
        hub.workspace = id_of(&list[0]);
        hub
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.app.address
    }

    /// Runs a task among the hub's own.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Runs a task among the hub's own, to its end.
    pub fn run<F>(&self, task: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.runtime.block_on(self.runtime.spawn(task)).expect("no panic")
    }

    /// The first workspace and new ones, so many together.
    pub fn workspaces(&self, count: usize) -> Vec<Uuid> {
        let more = (1..count).map(|index| {
            let tag = Uuid::new_v4().simple().to_string();
            let wish = json!({ "name": format!("Bench {index}"), "slug": format!("bench-{}", &tag[..8]) });
            id_of(&self.call(reqwest::Method::POST, "/api/workspaces", Some(wish)))
        });
        std::iter::once(self.workspace).chain(more).collect()
    }

    /// A socket's way into a workspace.
    pub fn target(&self, workspace: Uuid) -> Target {
        Target { address: self.address(), workspace, token: self.token.clone(), resume: None }
    }

    /// Emits `count` events in transactions of fifty.
    pub fn emit(&self, count: usize) {
        let (app, workspace) = (self.app.clone(), self.workspace);
        self.run(async move {
            for done in (0..count).step_by(50) {
                app.emit(&[(workspace, 50.min(count - done))], "0", super::FILLER).await.expect("emit");
            }
        });
    }

    /// CPU time of the hub's threads and of the embedded store's, so far.
    pub fn cpu(&self) -> Cpu {
        machine::cpu(THREAD)
    }

    /// The folder of its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Calls an address about the first workspace; gives the answer's bytes.
    pub fn fetch(&self, path: &str) -> usize {
        let url = format!("http://{}{path}", self.address());
        let (token, workspace) = (self.token.clone(), self.workspace.to_string());
        let http = self.http.clone();
        self.run(async move {
            let request = http.get(&url).bearer_auth(token).header("x-workspace-id", workspace);
            let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
            let status = answer.status();
            let body = answer.bytes().await.expect("a body");
            assert!(status.is_success(), "{url}: {status} {}", String::from_utf8_lossy(&body));
            body.len()
        })
    }

    /// Stops it in order.
    pub fn stop(self) {
        let Self { runtime, app, .. } = self;
        let app = Arc::try_unwrap(app).unwrap_or_else(|_| panic!("a publisher still holds the hub"));
        runtime.block_on(app.stop());
    }

    /// Posts something about the first workspace; gives the answer.
    pub fn post(&self, path: &str, body: Value) -> Value {
        let path = format!("{path}?workspace_id={}", self.workspace);
        self.call(reqwest::Method::POST, &path, Some(body))
    }

    /// Reads something about the first workspace.
    pub fn get(&self, path: &str) -> Value {
        self.call(reqwest::Method::GET, &format!("{path}?workspace_id={}", self.workspace), None)
    }

    fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("http://{}{path}", self.address());
        let token = self.token.clone();
        self.run(async move {
            let mut request = reqwest::Client::new().request(method, &url).bearer_auth(token);
            if let Some(body) = body {
                request = request.json(&body);
            }
            let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
            let status = answer.status();
            let text = answer.text().await.expect("a body");
            assert!(status.is_success(), "{url}: {status} {text}");
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
        })
    }
}

/// The id of something that the hub answered.
pub fn id_of(thing: &Value) -> Uuid {
    let id = thing["id"].as_str().unwrap_or_else(|| panic!("it has an id: {thing}"));
    id.parse().expect("a UUID")
}
