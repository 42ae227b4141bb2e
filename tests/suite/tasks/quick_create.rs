//! Wishes for issues: what becomes of them, what goes along, and what is refused.

use serde_json::{Value, json};
use uuid::Uuid;

use super::desk::{self, events, uuid};
use crate::{
    records::attachments::upload_as,
    support::{
        Backend, Hub,
        hub::{id, keys},
    },
};

on_both_stores!(
    a_wish_is_a_task_with_all_that_was_wished,
    a_squad_is_asked_by_its_leader,
    files_that_went_along_are_the_agent_s_to_give_to_the_issue,
    whatever_is_wrong_is_refused_and_asks_for_nothing,
    an_agent_that_cannot_do_it_is_said_so,
);

const ROUTE: &str = "/api/issues/quick-create";

async fn me(hub: &Hub, token: &str) -> Uuid {
    id(&hub.call("GET", "/api/me", Some(token), Value::Null).await.expect(200))
}

async fn file(hub: &Hub, token: &str) -> Uuid {
    id(&upload_as(hub, token, &[("file", Some(("f", "x/y")), b"x")]).await.expect(200))
}

async fn a_wish_is_a_task_with_all_that_was_wished(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let member = hub.member("m@example.com", "member").await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let parent = id(&hub.cli("POST", "/api/issues", json!({ "title": "above" })).await.expect(201));
    let files = [file(&hub, &member).await, file(&hub, &member).await];
    let mut daemon = hub.daemon(&[runtime]).await;
    let mut browser = desk::browser(&hub, &member).await;

    let wish = json!({
        "prompt": "  make it\nso ", "agent_id": agent, "squad_id": null, "project_id": project,
        "parent_issue_id": parent, "attachment_ids": [files[1], files[0], files[1]], "more": 1,
    });
    let answer = hub.cli_as(&member, "POST", ROUTE, wish).await.expect(202);
    assert_eq!(keys(&answer), ["task_id"]);
    let task = uuid(&answer["task_id"]);
    assert_eq!(events(&mut browser, 1).await, [desk::told(task, agent, "queued", None)]);
    assert_eq!(desk::woken(&mut daemon).await, (runtime, task));
    let claimed = desk::claim(&hub, runtime).await;
    assert_eq!((id(&claimed), &claimed["kind"], &claimed["priority"]), (task, &json!("quick_create"), &json!(3)));
    let dispatched = events(&mut browser, 2).await.remove(1);
    let context = json!({
        "type": "quick_create", "prompt": "make it\nso", "requester_id": me(&hub, &member).await,
        "workspace_id": hub.workspace, "project_id": project, "parent_issue_id": parent,
        "attachment_ids": [files[1], files[0]],
        "task_id": task, "runtime_id": runtime, "agent_id": agent, "issue_id": "",
    });
    assert_eq!(dispatched, ("task:dispatch".to_owned(), context));

    // Without anything else it has nothing else. Wishes of one agent are done one after the other.
    let plain = desk::wish(&hub, &member, agent).await;
    assert_eq!(desk::claim(&hub, runtime).await, Value::Null);
    desk::report(&hub, task, "start", json!({})).await;
    desk::report(&hub, task, "complete", json!({})).await;
    assert_eq!(id(&desk::claim(&hub, runtime).await), plain);
    let context = browser.next_of("task:dispatch").await["payload"].take();
    let expected = ["agent_id", "issue_id", "prompt", "requester_id", "runtime_id", "task_id", "type", "workspace_id"];
    assert_eq!(keys(&context), expected);
}

async fn a_squad_is_asked_by_its_leader(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let squad = hub.cli("POST", "/api/squads", json!({ "name": "s", "leader_id": agent })).await.expect(201);
    let wish = json!({ "prompt": "x", "squad_id": squad["id"], "agent_id": "" });
    let task = uuid(&hub.cli("POST", ROUTE, wish.clone()).await.expect(202)["task_id"]);
    let mut browser = desk::browser(&hub, &hub.token).await;
    let claimed = desk::claim(&hub, runtime).await;
    assert_eq!((id(&claimed), &claimed["agent_id"]), (task, &json!(agent)));
    assert_eq!(browser.next_of("task:dispatch").await["payload"]["squad_id"], squad["id"]);

    hub.cli("DELETE", &format!("/api/squads/{}", id(&squad)), Value::Null).await.expect(204);
    let before = hub.fingerprint().await;
    hub.cli("POST", ROUTE, wish).await.refused(400, "squad is archived");
    assert_eq!(hub.fingerprint().await, before);
}

async fn files_that_went_along_are_the_agent_s_to_give_to_the_issue(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let member = hub.member("m@example.com", "member").await;
    let (along, not_along) = (file(&hub, &member).await, file(&hub, &member).await);
    let wish = json!({ "prompt": "x", "agent_id": agent, "attachment_ids": [along] });
    let task = uuid(&hub.cli_as(&member, "POST", ROUTE, wish).await.expect(202)["task_id"]);
    let above = id(&hub.cli("POST", "/api/issues", json!({ "title": "above" })).await.expect(201));
    let claimed = desk::claim(&hub, runtime).await;
    let token = claimed["auth_token"].as_str().unwrap();
    let another = hub.app.mint_agent_token(hub.workspace, me(&hub, &hub.token).await, agent).await.unwrap();

    let path = |file: Uuid| format!("/api/attachments/{file}");
    hub.cli_as(token, "GET", &path(along), Value::Null).await.expect(200);
    let before = hub.fingerprint().await;
    hub.cli_as(token, "GET", &path(not_along), Value::Null).await.refused(404, "attachment not found");
    hub.cli_as(&another, "GET", &path(along), Value::Null).await.refused(404, "attachment not found");
    let made = |file: Uuid| {
        json!({
            "title": "made", "origin_type": "quick_create", "origin_id": task, "attachment_ids": [file],
        })
    };
    hub.cli_as(token, "POST", "/api/issues", made(not_along)).await.refused(400, "invalid attachment_ids");
    // Nobody else's issue comes of the wish.
    for who in [another.as_str(), hub.token.as_str()] {
        hub.cli_as(who, "POST", "/api/issues", made(along)).await.refused(400, "invalid origin_id");
    }
    // To the issue, not to what is said somewhere.
    let comment = json!({ "content": "c", "attachment_ids": [along] });
    let comments = format!("/api/issues/{above}/comments");
    hub.cli_as(token, "POST", &comments, comment).await.refused(400, "invalid attachment_ids");
    assert_eq!(hub.fingerprint().await, before);

    let issue = hub.cli_as(token, "POST", "/api/issues", made(along)).await.expect(201);
    assert_eq!((&issue["creator_type"], &issue["creator_id"]), (&json!("agent"), &json!(agent)));
    assert_eq!(issue["attachments"][0]["id"], json!(along));
    assert_eq!(issue["attachments"][0]["uploader_id"], json!(me(&hub, &member).await), "still whose it is");
    // Once given it belongs there.
    let again = json!({ "title": "another", "attachment_ids": [along] });
    hub.cli_as(token, "POST", "/api/issues", again).await.refused(400, "invalid attachment_ids");
}

async fn whatever_is_wrong_is_refused_and_asks_for_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let member = hub.member("m@example.com", "member").await;
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let (hidden, old) =
        (desk::agent(&hub, runtime, "b", "private").await, desk::agent(&hub, runtime, "c", "workspace").await);
    let squad = async |leader: Uuid, name: &str| {
        id(&hub.cli("POST", "/api/squads", json!({ "name": name, "leader_id": leader })).await.expect(201))
    };
    let (of_hidden, of_old, squad) = (squad(hidden, "h").await, squad(old, "o").await, squad(agent, "s").await);
    hub.cli("POST", &format!("/api/agents/{old}/archive"), Value::Null).await.expect(200);
    let elsewhere = hub.another_workspace("elsewhere").await;
    let there = hub.register_as(&hub.token, elsewhere, "e", &["claude"]).await[0];
    let at = |path: &str| format!("{path}?workspace_id={elsewhere}");
    let theirs = hub.post(&at("/api/agents"), json!({ "name": "t", "runtime_id": there })).await.expect(201);
    let foreign = hub.post(&at("/api/squads"), json!({ "name": "s", "leader_id": theirs["id"] })).await.expect(201);
    let (mine, others) = (file(&hub, &member).await, file(&hub, &hub.token).await);
    let issue = json!({ "title": "i", "attachment_ids": [file(&hub, &member).await] });
    let issue = hub.cli_as(&member, "POST", "/api/issues", issue).await.expect(201);
    let bound = &issue["attachments"][0]["id"];
    let before = hub.fingerprint().await;

    let long = "x".repeat((64 << 10) + 1);
    for (body, status, text) in [
        (Value::Null, 400, "prompt is required"),
        (json!({ "prompt": " ", "agent_id": agent }), 400, "prompt is required"),
        (json!({ "prompt": 1, "agent_id": agent }), 400, "invalid request body"),
        (json!({ "prompt": long, "agent_id": agent }), 400, "prompt must be 64 KiB or less"),
        (json!({ "prompt": "x" }), 400, "agent_id or squad_id is required"),
        (
            json!({ "prompt": "x", "agent_id": agent, "squad_id": squad }),
            400,
            "agent_id and squad_id exclude each other",
        ),
        (json!({ "prompt": "x", "agent_id": "x" }), 400, "invalid agent_id"),
        (json!({ "prompt": "x", "agent_id": Uuid::new_v4() }), 400, "invalid agent_id"),
        (json!({ "prompt": "x", "agent_id": theirs["id"] }), 400, "invalid agent_id"),
        (json!({ "prompt": "x", "agent_id": old }), 400, "cannot assign to an archived agent"),
        (json!({ "prompt": "x", "agent_id": hidden }), 403, "cannot assign to private agent"),
        (json!({ "prompt": "x", "squad_id": "x" }), 400, "invalid squad_id"),
        (json!({ "prompt": "x", "squad_id": Uuid::new_v4() }), 404, "squad not found"),
        (json!({ "prompt": "x", "squad_id": foreign["id"] }), 404, "squad not found"),
        (json!({ "prompt": "x", "squad_id": of_old }), 400, "cannot assign to a squad with an archived leader"),
        (json!({ "prompt": "x", "squad_id": of_hidden }), 403, "cannot assign to squad with private leader"),
        (json!({ "prompt": "x", "agent_id": agent, "project_id": Uuid::new_v4() }), 400, "invalid project_id"),
        (json!({ "prompt": "x", "agent_id": agent, "parent_issue_id": "HOM-1" }), 400, "invalid parent_issue_id"),
        (json!({ "prompt": "x", "agent_id": agent, "attachment_ids": ["x"] }), 400, "invalid attachment_ids"),
        (json!({ "prompt": "x", "agent_id": agent, "attachment_ids": [mine, others] }), 400, "invalid attachment_ids"),
        (json!({ "prompt": "x", "agent_id": agent, "attachment_ids": [bound] }), 400, "invalid attachment_ids"),
    ] {
        hub.cli_as(&member, "POST", ROUTE, body).await.refused(status, text);
    }
    assert_eq!(hub.fingerprint().await, before);
    // A private agent's owner may ask it.
    desk::wish(&hub, &hub.token, hidden).await;
}

async fn an_agent_that_cannot_do_it_is_said_so(backend: Backend) {
    let hub = Hub::start(backend).await;
    let register = async |version: &str| {
        let body = json!({
            "workspace_id": hub.workspace, "daemon_id": "d", "device_name": "box", "cli_version": version,
            "runtimes": [{ "type": "claude", "status": "online" }],
        });
        id(&hub.post("/api/daemon/register", body).await.expect(200)["runtimes"][0])
    };
    let runtime = register("0.2.20").await;
    let agent = desk::agent(&hub, runtime, "a", "workspace").await;
    let before = hub.fingerprint().await;
    let wish = json!({ "prompt": "x", "agent_id": agent });
    let refused = hub.cli("POST", ROUTE, wish.clone()).await.expect(422);
    let text = "the agent's daemon is too old for this: 0.2.20; 0.2.21 or newer is needed";
    assert_eq!(
        refused,
        json!({
            "error": text, "code": "daemon_version_unsupported", "current_version": "0.2.20",
            "min_version": "0.2.21", "runtime_id": runtime,
        })
    );
    assert_eq!(hub.fingerprint().await, before);
    for fine in ["dev", "", "v0.2.20-5-g1a2b3c4", "0.2.21", "v0.10.0"] {
        register(fine).await;
        hub.cli("POST", ROUTE, wish.clone()).await.expect(202);
    }
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })).await.expect(200);
    let before = hub.fingerprint().await;
    let refused = hub.cli("POST", ROUTE, wish).await.expect(422);
    let reason = "the agent's runtime is offline";
    assert_eq!(refused, json!({ "error": reason, "code": "agent_unavailable", "reason": reason }));
    assert_eq!(hub.fingerprint().await, before);
}
