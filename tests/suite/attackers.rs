//! Who may call what: every route of the table with every kind of credential, of this and of another
//! workspace. A route that is not in this table fails, as does an answer that is not the named one,
//! and a refusal that changed anything.

use heartwire::test_hooks;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{
        Backend, Hub, Socket,
        hub::{Answer, id},
    },
    tasks::support::{self, Given},
};

on_both_stores!(every_route_refuses_whom_it_does_not_accept, nothing_a_client_sends_is_read_as_identity);

/// Headers that are refused, the status and the text.
type Refused = (Vec<(&'static str, String)>, u16, &'static str);

/// What a route does with one kind of caller.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    /// It lets them in: the answer is the route's own.
    In,
    /// 401 `invalid token`.
    Unknown,
    /// 403 `task tokens may not do this`.
    NotForTasks,
    /// 403 `task token is bound to a different workspace`.
    OtherWorkspace,
    /// 404 `workspace not found`.
    NoWorkspace,
    /// 404 `runtime not found`.
    NoRuntime,
    /// 404 `not found`.
    NotYours,
    /// 404 of a call that has no effect on other people's things and says nothing about them.
    Nothing,
    /// 403 `insufficient permissions`.
    Rank,
    /// It lets them in, and may find fault with what they ask for.
    Inside,
}
use Is::{In, Inside, NoRuntime, NoWorkspace, NotForTasks, NotYours, Nothing, OtherWorkspace, Rank, Unknown};

/// The callers of one route, beside those whom every guarded route refuses alike.
struct Case {
    method: &'static str,
    path: &'static str,
    body: fn(&World) -> Value,
    /// A member of another workspace only.
    foreigner: Is,
    /// A plain member of this workspace.
    member: Is,
    /// A daemon token of this workspace, for another daemon than the runtime's.
    daemon: Is,
    /// A task's token of this workspace.
    task: Is,
    /// A task's token of another workspace.
    foreign_task: Is,
}

/// What the requests are about.
struct World {
    workspace: Uuid,
    runtime: Uuid,
    member: Uuid,
    daemon_token: Uuid,
    token: Uuid,
    task: Uuid,
}

fn none(_: &World) -> Value {
    Value::Null
}

/// A route about a workspace's records: for its members and their agents.
const RECORD: Case = Case {
    method: "GET",
    path: "",
    body: |_| json!({}),
    foreigner: NoWorkspace,
    member: Inside,
    daemon: Unknown,
    task: Inside,
    foreign_task: OtherWorkspace,
};

#[rustfmt::skip]
const TABLE: &[Case] = &[
    Case { method: "GET", path: "/api/events?workspace_id={ws}", body: none, foreigner: NoWorkspace, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/auth/session", body: none, foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "POST", path: "/auth/logout", body: none, foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "POST", path: "/api/cli-token", body: none, foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/me", body: none, foreigner: In, member: In, daemon: Unknown, task: In, foreign_task: In },
    Case { method: "PATCH", path: "/api/me", body: |_| json!({}), foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/tokens", body: none, foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "POST", path: "/api/tokens", body: |_| json!({ "name": "t" }), foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "POST", path: "/api/tokens/current/renew", body: none, foreigner: In, member: In, daemon: In, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/api/tokens/{token}", body: none, foreigner: Nothing, member: Nothing, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/workspaces", body: none, foreigner: In, member: In, daemon: In, task: In, foreign_task: In },
    Case { method: "POST", path: "/api/workspaces", body: |_| json!({ "name": "n", "slug": format!("s-{}", Uuid::new_v4()) }), foreigner: In, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/workspaces/{ws}", body: none, foreigner: NoWorkspace, member: In, daemon: Unknown, task: In, foreign_task: OtherWorkspace },
    Case { method: "PATCH", path: "/api/workspaces/{ws}", body: |_| json!({ "name": "n" }), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "PUT", path: "/api/workspaces/{ws}", body: |_| json!({ "name": "n" }), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/api/workspaces/{ws}", body: none, foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    // The member is not let in here: they would be gone for the routes that follow.
    Case { method: "POST", path: "/api/workspaces/{ws}/leave", body: none, foreigner: NoWorkspace, member: Nothing, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/workspaces/{ws}/members", body: none, foreigner: NoWorkspace, member: In, daemon: Unknown, task: In, foreign_task: OtherWorkspace },
    Case { method: "POST", path: "/api/workspaces/{ws}/members", body: |_| json!({ "email": "new@example.com" }), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "PATCH", path: "/api/workspaces/{ws}/members/{member}", body: |_| json!({ "role": "admin" }), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/api/workspaces/{ws}/members/{member}", body: none, foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/workspaces/{ws}/daemon-tokens", body: none, foreigner: NoWorkspace, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "POST", path: "/api/workspaces/{ws}/daemon-tokens", body: |_| json!({ "daemon_id": "d" }), foreigner: NoWorkspace, member: In, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/api/workspaces/{ws}/daemon-tokens/{daemon_token}", body: none, foreigner: NoWorkspace, member: Nothing, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/workspaces/{ws}/runtime-profiles", body: none, foreigner: NoWorkspace, member: In, daemon: Unknown, task: In, foreign_task: OtherWorkspace },
    Case { method: "POST", path: "/api/workspaces/{ws}/runtime-profiles", body: |_| json!({ "display_name": "n", "protocol_family": "claude", "command_name": "c" }), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/workspaces/{ws}/runtime-profiles/{record}", body: none, foreigner: NoWorkspace, member: Inside, daemon: Unknown, task: Inside, foreign_task: OtherWorkspace },
    Case { method: "PATCH", path: "/api/workspaces/{ws}/runtime-profiles/{record}", body: |_| json!({}), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "PUT", path: "/api/workspaces/{ws}/runtime-profiles/{record}", body: |_| json!({}), foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/api/workspaces/{ws}/runtime-profiles/{record}", body: none, foreigner: NoWorkspace, member: Rank, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "GET", path: "/api/runtimes?workspace_id={ws}", body: none, foreigner: NoWorkspace, member: In, daemon: Unknown, task: In, foreign_task: OtherWorkspace },
    Case { method: "PATCH", path: "/api/runtimes/{runtime}", body: |_| json!({ "visibility": "public" }), foreigner: NoRuntime, member: Nothing, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "DELETE", path: "/api/runtimes/{runtime}", body: none, foreigner: NoRuntime, member: Nothing, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { method: "POST", path: "/api/runtimes/{runtime}/archive-agents-and-delete", body: |_| json!({}), foreigner: NoRuntime, member: Nothing, daemon: Unknown, task: NotForTasks, foreign_task: NotForTasks },
    Case { path: "/api/agents?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/agents?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/agents/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/agents/{record}?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/agents/{record}/archive?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/agents/{record}/restore?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/agents/{record}/cancel-tasks?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/agents/{record}/tasks?workspace_id={ws}", ..RECORD },
    Case { path: "/api/agents/{record}/skills?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/agents/{record}/skills?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/agents/{record}/skills/add?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/agents/{record}/env?workspace_id={ws}", member: Rank, task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "PUT", path: "/api/agents/{record}/env?workspace_id={ws}", member: Rank, task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/skills?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/skills?workspace_id={ws}", ..RECORD },
    Case { path: "/api/skills/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/skills/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/skills/{record}?workspace_id={ws}", ..RECORD },
    Case { path: "/api/skills/{record}/files?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/skills/{record}/files?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/skills/{record}/files/{record}?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/issues?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/issues/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/issues/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/issues/{record}/rerun?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/issues/{record}/squad-evaluated?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}/children?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}/timeline?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}/metadata?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/issues/{record}/metadata/key?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/issues/{record}/metadata/key?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}/comments?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/issues/{record}/comments?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/comments/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/comments/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/comments/{record}/resolve?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/comments/{record}/resolve?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/issues/quick-create?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}/active-task?workspace_id={ws}", ..RECORD },
    Case { path: "/api/issues/{record}/task-runs?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/issues/{record}/tasks/{record}/cancel?workspace_id={ws}", ..RECORD },
    Case { path: "/api/tasks/{record}/messages?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/tasks/{record}/cancel?workspace_id={ws}", ..RECORD },
    Case { path: "/api/agent-task-snapshot?workspace_id={ws}", ..RECORD },
    Case { path: "/api/projects?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/projects?workspace_id={ws}", body: |_| json!({ "title": "t" }), ..RECORD },
    Case { path: "/api/projects/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/projects/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/projects/{record}?workspace_id={ws}", ..RECORD },
    Case { path: "/api/projects/{record}/resources?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/projects/{record}/resources?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/projects/{record}/resources/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/projects/{record}/resources/{record}?workspace_id={ws}", ..RECORD },
    Case { path: "/api/squads?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/squads?workspace_id={ws}", member: Rank, task: Rank, ..RECORD },
    Case { path: "/api/squads/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "PUT", path: "/api/squads/{record}?workspace_id={ws}", member: Rank, task: Rank, ..RECORD },
    Case { method: "DELETE", path: "/api/squads/{record}?workspace_id={ws}", member: Rank, task: Rank, ..RECORD },
    Case { path: "/api/squads/{record}/members?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/squads/{record}/members?workspace_id={ws}", member: Rank, task: Rank, ..RECORD },
    Case { method: "DELETE", path: "/api/squads/{record}/members?workspace_id={ws}", member: Rank, task: Rank, ..RECORD },
    Case { method: "POST", path: "/api/upload-file?workspace_id={ws}", ..RECORD },
    Case { path: "/api/attachments/{record}?workspace_id={ws}", ..RECORD },
    Case { path: "/api/attachments/{record}/content?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/attachments/{record}?workspace_id={ws}", ..RECORD },
    Case { path: "/api/chat/sessions?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/chat/sessions?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/chat/sessions/{record}?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "PATCH", path: "/api/chat/sessions/{record}?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "DELETE", path: "/api/chat/sessions/{record}?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/chat/sessions/{record}/messages?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/chat/sessions/{record}/messages?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/chat/sessions/{record}/pending-task?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { method: "POST", path: "/api/chat/sessions/{record}/read?workspace_id={ws}", task: NotForTasks, foreign_task: NotForTasks, ..RECORD },
    Case { path: "/api/autopilots?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/autopilots?workspace_id={ws}", ..RECORD },
    Case { path: "/api/autopilots/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "PATCH", path: "/api/autopilots/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/autopilots/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/autopilots/{record}/trigger?workspace_id={ws}", ..RECORD },
    Case { path: "/api/autopilots/{record}/runs?workspace_id={ws}", ..RECORD },
    Case { path: "/api/autopilots/{record}/runs/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/autopilots/{record}/triggers?workspace_id={ws}", ..RECORD },
    Case { method: "PATCH", path: "/api/autopilots/{record}/triggers/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "DELETE", path: "/api/autopilots/{record}/triggers/{record}?workspace_id={ws}", ..RECORD },
    Case { method: "POST", path: "/api/daemon/register", body: |w| json!({ "workspace_id": w.workspace, "daemon_id": "d", "runtimes": [{ "type": "claude" }] }), foreigner: NoWorkspace, member: In, daemon: Nothing, task: Unknown, foreign_task: Unknown },
    // Other people's ids are skipped without a word.
    Case { method: "POST", path: "/api/daemon/deregister", body: |w| json!({ "runtime_ids": [w.runtime] }), foreigner: Nothing, member: Nothing, daemon: Nothing, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/heartbeat", body: |w| json!({ "runtime_id": w.runtime }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/workspaces/{ws}/repos", body: none, foreigner: NotYours, member: In, daemon: In, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/workspaces/{ws}/runtime-profiles", body: none, foreigner: NotYours, member: In, daemon: In, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/runtimes/{runtime}/recover-orphans", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/runtimes/{runtime}/tasks/claim", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/runtimes/{runtime}/tasks/pending", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/start", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/wait-local-directory", body: |_| json!({ "reason": "r" }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/session", body: |_| json!({ "session_id": "s" }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/tasks/{task}/status", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/progress", body: |_| json!({ "summary": "s" }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/tasks/{task}/messages", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/messages", body: |_| json!({ "messages": [{ "seq": 1, "content": "c" }] }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/usage", body: |_| json!({ "usage": [{ "model": "m", "input_tokens": 1 }] }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    // Any daemon of the workspace asks whether folders are still of use.
    Case { method: "GET", path: "/api/daemon/tasks/{task}/gc-check", body: none, foreigner: NotYours, member: In, daemon: In, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/issues/{record}/gc-check", body: none, foreigner: Nothing, member: Nothing, daemon: Nothing, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/chat-sessions/{record}/gc-check", body: none, foreigner: Nothing, member: Nothing, daemon: Nothing, task: Unknown, foreign_task: Unknown },
    Case { method: "GET", path: "/api/daemon/autopilot-runs/{record}/gc-check", body: none, foreigner: Nothing, member: Nothing, daemon: Nothing, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/complete", body: |_| json!({ "output": "o" }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    Case { method: "POST", path: "/api/daemon/tasks/{task}/fail", body: |_| json!({ "error": "e" }), foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
    // A socket: see below.
    Case { method: "GET", path: "/api/daemon/ws?runtime_ids={runtime}", body: none, foreigner: NotYours, member: NotYours, daemon: NotYours, task: Unknown, foreign_task: Unknown },
];

/// Routes that answer everybody, or for themselves.
const PUBLIC: &[(&str, &str)] = &[
    ("GET", "/health"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/api/config"),
    ("GET", "/ws"),
    ("GET", "/"),
    ("GET", "/assets/{name}"),
    ("POST", "/auth/session"),
];

fn fill(path: &str, world: &World) -> String {
    path.replace("{ws}", &world.workspace.to_string())
        .replace("{runtime}", &world.runtime.to_string())
        .replace("{member}", &world.member.to_string())
        .replace("{daemon_token}", &world.daemon_token.to_string())
        .replace("{token}", &world.token.to_string())
        .replace("{task}", &world.task.to_string())
        // Nobody's: whoever is let in finds nothing, and so changes nothing.
        .replace("{record}", "00000000-0000-7000-8000-000000000000")
}

/// An address of the table with its parameters' names taken out, so that ours and the program's
/// compare.
fn shape(path: &str) -> String {
    let path = path.split('?').next().unwrap();
    // A metadata key is no parameter in our addresses, but is one in the program's.
    let part = |part: &str| if part.starts_with('{') || part == "key" { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

async fn call(hub: &Hub, case: &Case, world: &World, headers: &[(&str, &str)]) -> Answer {
    let mut all: Vec<(&str, &str)> = headers.to_vec();
    if case.path.starts_with("/api/daemon/ws") {
        all.extend([
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
    }
    let body = (case.body)(world);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    hub.raw(case.method, &fill(case.path, world), None, body, &all).await
}

async fn every_route_refuses_whom_it_does_not_accept(backend: Backend) {
    let hub = Hub::start(backend).await;
    let guarded: Vec<(String, String)> = test_hooks::routes()
        .into_iter()
        .filter(|(method, path, access)| {
            assert_eq!(
                access == "Public",
                PUBLIC.contains(&(method.as_str(), path)),
                "{method} {path} is {access}: say so in this test"
            );
            access != "Public"
        })
        .map(|(method, path, _)| (method, shape(path)))
        .collect();
    for (method, path) in &guarded {
        let listed = TABLE.iter().any(|case| case.method == method && shape(case.path) == *path);
        assert!(listed, "{method} {path} is missing from this test's table");
    }
    assert_eq!(guarded.len(), TABLE.len(), "this test's table has more than the program's");

    let me = id(&hub.get("/api/me").await.expect(200));
    let runtime = hub.register("owners-daemon", &["claude"]).await[0];
    let foreigner = hub.stranger("foreigner@example.com").await;
    let member = hub.member("member@example.com", "member").await;
    let elsewhere = {
        let made =
            hub.call("POST", "/api/workspaces", Some(&foreigner), json!({ "name": "e", "slug": "elsewhere" })).await;
        id(&made.expect(201))
    };
    let foreigner_id = id(&hub.call("GET", "/api/me", Some(&foreigner), Value::Null).await.expect(200));
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    let owners = members.as_array().unwrap().iter().find(|m| m["role"] == "owner").map(id).unwrap();
    let daemon_tokens = format!("/api/workspaces/{}/daemon-tokens", hub.workspace);
    let made = hub.post(&daemon_tokens, json!({ "daemon_id": "another-daemon" })).await.expect(201);
    let daemon = made["token"].as_str().unwrap().to_owned();
    let tokens = hub.get("/api/tokens").await.expect(200);
    let agent = support::agent(&hub, "ann", runtime).await;
    let given = Given { agent, runtime, status: "dispatched", dispatched: Some(1), ..Given::default() };
    let world = World {
        workspace: hub.workspace,
        runtime,
        member: owners,
        daemon_token: id(&made),
        token: id(&tokens[0]),
        task: support::give(&hub, &given).await,
    };
    let task = hub.app.mint_task_token(hub.workspace, me).await.unwrap();
    let foreign_task = hub.app.mint_task_token(elsewhere, foreigner_id).await.unwrap();

    // Credentials that are worth nothing anywhere.
    let revoked = hub.post("/api/tokens", json!({ "name": "revoked" })).await.expect(201);
    hub.delete(&format!("/api/tokens/{}", id(&revoked))).await.expect(204);
    let expired = hub.post("/api/tokens", json!({ "name": "expired", "expires_in_days": 1 })).await.expect(201);
    hub.sql("UPDATE personal_access_token SET expires_at = 1 WHERE name = 'expired'").await;
    let session = hub.post("/api/cli-token", Value::Null).await.expect(200)["token"].as_str().unwrap().to_owned();
    let mut parts = session.split('.');
    let (header, claims) = (parts.next().unwrap(), parts.next().unwrap());
    let unsigned = format!("{header}.{claims}.");
    let ended = hub.post("/api/cli-token", Value::Null).await.expect(200)["token"].as_str().unwrap().to_owned();
    hub.call("DELETE", "/auth/session", Some(&ended), Value::Null).await.expect(204);
    let worthless = [
        format!("mul_{}", "0".repeat(40)),
        format!("mdt_{}", "0".repeat(40)),
        format!("mat_{}", "0".repeat(40)),
        "mcn_anything".to_owned(),
        "nonsense".to_owned(),
        revoked["token"].as_str().unwrap().to_owned(),
        expired["token"].as_str().unwrap().to_owned(),
        unsigned,
        ended,
        format!("{}{}", daemon, "0"),
    ];

    for case in TABLE {
        let daemons = case.path.starts_with("/api/daemon");
        let named = format!("{} {}", case.method, case.path);
        let before = hub.fingerprint().await;

        let missing = if daemons { "missing authorization header" } else { "missing authorization" };
        let malformed = if daemons { "invalid authorization format" } else { "invalid token" };
        let mut refusals: Vec<Refused> = vec![
            (vec![], 401, missing),
            (vec![("authorization", hub.token.clone())], 401, malformed),
            (vec![("authorization", format!("Basic {}", hub.token))], 401, malformed),
            (vec![("x-user-id", me.to_string())], 401, missing),
            (vec![("x-user-id", me.to_string()), ("x-actor-source", "task_token".into())], 401, missing),
            (vec![("x-agent-id", Uuid::new_v4().to_string()), ("x-task-id", Uuid::new_v4().to_string())], 401, missing),
            (
                vec![("cookie", format!("multica_auth={}", worthless[0]))],
                if daemons || case.method == "GET" { 401 } else { 403 },
                if daemons {
                    missing
                } else if case.method == "GET" {
                    "invalid token"
                } else {
                    "CSRF validation failed"
                },
            ),
        ];
        for token in &worthless {
            refusals.push((vec![("authorization", format!("Bearer {token}"))], 401, "invalid token"));
        }
        if daemons {
            refusals.push((vec![("cookie", format!("multica_auth={session}"))], 401, missing));
        } else if case.method != "GET" {
            // A page of another site: the cookie comes along, the token that fits it cannot.
            refusals.push((vec![("cookie", format!("multica_auth={session}"))], 403, "CSRF validation failed"));
        }
        for (headers, status, text) in &refusals {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = call(&hub, case, &world, &headers).await;
            assert_eq!(answer.status, *status, "{named} {headers:?}: {}", answer.text);
            answer.refused(*status, text);
        }
        assert_eq!(hub.fingerprint().await, before, "{named}: a refused call changed something");

        for (who, token, expected) in [
            ("a foreigner", &foreigner, case.foreigner),
            ("a member", &member, case.member),
            ("a daemon token", &daemon, case.daemon),
            ("a task token", &task, case.task),
            ("a foreign task token", &foreign_task, case.foreign_task),
        ] {
            if expected == Nothing && case.path.ends_with("/leave") {
                continue;
            }
            let before = hub.fingerprint().await;
            let bearer = format!("Bearer {token}");
            let answer = call(&hub, case, &world, &[("authorization", &bearer), ("x-user-id", &me.to_string())]).await;
            let says = format!("{named} by {who}: {} {}", answer.status, answer.text);
            let status = answer.status;
            match expected {
                In => assert!(
                    status < 300 || answer.text.contains("only personal access tokens can be renewed"),
                    "{says}"
                ),
                // Whatever it says, it has no effect; see the fingerprint.
                Nothing => assert!([200, 204, 403, 404].contains(&status), "{says}"),
                Inside => assert!(status < 500 && status != 401 && status != 403, "{says}"),
                Unknown => answer.refused(401, "invalid token"),
                NotForTasks => answer.refused(403, "task tokens may not do this"),
                OtherWorkspace => answer.refused(403, "task token is bound to a different workspace"),
                NoWorkspace => answer.refused(404, "workspace not found"),
                NoRuntime => answer.refused(404, "runtime not found"),
                NotYours => answer.refused(404, "not found"),
                Rank => answer.refused(403, "insufficient permissions"),
            }
            if ![In, Inside].contains(&expected) {
                assert_eq!(hub.fingerprint().await, before, "{says}: changed something");
            }
            // What is not there and what is not theirs are one answer on people's routes.
            if [NoWorkspace, NoRuntime].contains(&expected) && !daemons {
                let nowhere = World { workspace: Uuid::new_v4(), runtime: Uuid::new_v4(), ..world };
                let absent = call(&hub, case, &nowhere, &[("authorization", &bearer)]).await;
                assert_eq!(absent.status, status, "{says}: absent differs from foreign");
            }
        }
    }

    // The browser's socket: the first frame is the credential.
    for token in worthless.iter().chain([&daemon, &task, &foreigner]) {
        let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
        socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
        let refusal = socket.next().await;
        assert_eq!(refusal["type"], "auth_error");
        let why = if *token == foreigner { "workspace not found" } else { "invalid token" };
        assert_eq!(refusal["error"], why);
        assert_eq!(socket.closed().await.0, 4501);
    }
    // And signing in takes people's own credentials only.
    for token in worthless.iter().chain([&daemon, &task]) {
        hub.call("POST", "/auth/session", None, json!({ "token": token })).await.refused(401, "invalid token");
    }
}

async fn nothing_a_client_sends_is_read_as_identity(backend: Backend) {
    let hub = Hub::start(backend).await;
    let member = hub.member("member@example.com", "member").await;
    let me = hub.call("GET", "/api/me", Some(&member), Value::Null).await.expect(200);
    let owner = id(&hub.get("/api/me").await.expect(200)).to_string();
    let agent = Uuid::new_v4().to_string();
    for headers in [
        vec![("x-user-id", owner.as_str())],
        vec![("x-user-email", "owner@localhost"), ("x-user-id", owner.as_str())],
        vec![("x-actor-source", "task_token"), ("x-agent-id", agent.as_str()), ("x-task-id", agent.as_str())],
    ] {
        let answer = hub.raw("GET", "/api/me", Some(&member), Vec::new(), &headers).await.expect(200);
        assert_eq!(answer, me, "{headers:?}");
    }
    // A cookie counts for nothing beside a bearer token.
    let session = hub.post("/api/cli-token", Value::Null).await.expect(200)["token"].as_str().unwrap().to_owned();
    let cookie = format!("multica_auth={session}");
    let answer = hub.raw("GET", "/api/me", Some(&member), Vec::new(), &[("cookie", &cookie)]).await.expect(200);
    assert_eq!(answer, me);
    hub.raw("GET", "/api/me", Some("nonsense"), Vec::new(), &[("cookie", &cookie)]).await.refused(401, "invalid token");
}
