//! What a daemon is told of a chat, an autopilot's run, a wish for an issue, and of a squad's work.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    claim::{set_workspace, user, world},
    support::{Given, agent, given, given_and_ended, run},
};
use crate::support::{Backend, hub::id};

on_both_stores!(
    a_chat_comes_with_all_that_was_not_answered,
    an_autopilot_s_run_comes_with_what_set_it_off,
    a_wish_for_an_issue_comes_with_what_is_left_of_it,
    a_squad_s_leader_is_briefed,
);

async fn a_chat_comes_with_all_that_was_not_answered(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "visibility": "workspace" })).await.expect(200);
    let member = hub.member("m@example.com", "member").await;
    let sender = user(&hub, &hub.token).await;
    let chat = async |title: &str| {
        let wish = json!({ "agent_id": agent, "title": title });
        id(&hub.cli_as(&member, "POST", "/api/chat/sessions", wish).await.expect(201))
    };
    let named = chat("Plans").await;
    let send = async |chat: Uuid, body: Value| {
        hub.cli_as(&member, "POST", &format!("/api/chat/sessions/{chat}/messages"), body).await.expect(201)
    };
    let upload = async |name: &'static str| {
        let file: crate::support::hub::Answer =
            crate::records::attachments::upload_as(&hub, &member, &[("file", Some((name, "text/x")), b"x")]).await;
        file.expect(200)
    };
    send(named, json!({ "content": "before" })).await;
    hub.sql("UPDATE chat_message SET role = 'assistant' WHERE content = 'before'").await;
    let (a, b, c) = (upload("a.txt").await, upload("b.txt").await, upload("c.txt").await);
    send(named, json!({ "content": "one", "attachment_ids": [b["id"], a["id"]] })).await;
    send(named, json!({ "content": "two\n", "attachment_ids": [c["id"]] })).await;
    let asked = |chat| Given { agent, runtime, chat: Some(chat), initiator: Some(id(&sender)), ..Given::default() };
    let task = given_and_ended(&hub, asked(named)).await;
    assert_eq!(
        (&task["kind"], &task["chat_session_id"], &task["issue_id"]),
        (&json!("chat"), &json!(named), &json!(""))
    );
    assert_eq!((&task["chat_message"], &task["thread_name"]), (&json!("one\n\ntwo\n"), &json!("Plans")));
    let file = |file: &Value| json!({ "id": file["id"], "filename": file["filename"], "content_type": "text/x" });
    assert_eq!(task["chat_message_attachments"], json!([file(&a), file(&b), file(&c)]));
    // Who sent it, who need not have begun the chat.
    assert_eq!((&task["initiator_type"], &task["initiator_id"]), (&json!("member"), &sender["id"]));
    assert_eq!((&task["initiator_name"], &task["initiator_email"]), (&sender["name"], &sender["email"]));

    hub.sql("UPDATE chat_message SET role = 'assistant' WHERE content = 'one'").await;
    let task = given_and_ended(&hub, asked(named)).await;
    assert_eq!(task["chat_message"], "two\n", "only what came after the answer");
    hub.sql("UPDATE chat_message SET role = 'assistant'").await;
    let task = given_and_ended(&hub, Given { initiator: None, ..asked(named) }).await;
    for absent in ["chat_message", "chat_message_attachments", "initiator_type", "initiator_id"] {
        assert_eq!(task.get(absent), None, "{absent}");
    }

    // Without a title the words are the name.
    let untitled = chat("").await;
    send(untitled, json!({ "content": "hi" })).await;
    assert_eq!(given(&hub, asked(untitled)).await["thread_name"], "hi");
}

async fn an_autopilot_s_run_comes_with_what_set_it_off(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    set_workspace(&hub, json!({ "context": "c", "repos": [{ "url": "https://h/ws" }] })).await;
    let autopilot = async |more: Value| {
        let mut wish = json!({
            "title": "Nightly", "assignee_type": "agent", "assignee_id": agent, "execution_mode": "run_only",
        });
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        id(&hub.cli("POST", "/api/autopilots", wish).await.expect(201))
    };
    let (full, bare) = (autopilot(json!({ "description": "Look\naround" })).await, autopilot(json!({})).await);
    let payload = json!({ "ref": ["x", 1, null] });
    let (one, other) = (run(&hub, full, Some(payload.clone())).await, run(&hub, bare, None).await);
    let of = |run| Given { agent, runtime, run: Some(run), ..Given::default() };
    let task = given(&hub, of(one)).await;
    assert_eq!((&task["workspace_id"], &task["issue_id"]), (&json!(hub.workspace), &json!("")));
    assert_eq!((&task["kind"], &task["autopilot_run_id"]), (&json!("autopilot"), &json!(one)));
    assert_eq!((&task["autopilot_id"], &task["autopilot_title"]), (&json!(full), &json!("Nightly")));
    assert_eq!((&task["thread_name"], &task["autopilot_source"]), (&json!("Nightly"), &json!("manual")));
    assert_eq!(
        (&task["autopilot_description"], &task["autopilot_trigger_payload"]),
        (&json!("Look\naround"), &payload)
    );
    assert_eq!((&task["repos"], &task["workspace_context"]), (&json!([{ "url": "https://h/ws" }]), &json!("c")));
    let task = given(&hub, of(other)).await;
    for absent in ["autopilot_description", "autopilot_trigger_payload"] {
        assert_eq!(task.get(absent), None, "{absent}");
    }
}

async fn a_wish_for_an_issue_comes_with_what_is_left_of_it(backend: Backend) {
    let (hub, runtime, agent) = world(backend).await;
    let me = id(&user(&hub, &hub.token).await);
    set_workspace(&hub, json!({ "repos": [{ "url": "https://h/ws" }] })).await;
    let repo = json!({ "resource_type": "github_repo", "resource_ref": { "url": "https://h/own" } });
    let wish = json!({ "title": "Site", "resources": [repo] });
    let project = hub.cli("POST", "/api/projects", wish).await.expect(201);
    let parent = hub.cli("POST", "/api/issues", json!({ "title": "p" })).await.expect(201);
    let squad = hub.cli("POST", "/api/squads", json!({ "name": "Core", "leader_id": agent })).await.expect(201);
    let files = [Uuid::now_v7(), Uuid::now_v7()];
    let wish = |more: Value| {
        let mut context =
            json!({ "type": "quick_create", "prompt": "Make it", "requester_id": me, "workspace_id": hub.workspace });
        context.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Given { agent, runtime, context: Some(context), ..Given::default() }
    };
    let all = json!({
        "project_id": project["id"], "squad_id": squad["id"], "parent_issue_id": parent["id"], "attachment_ids": files,
    });
    let task = given_and_ended(&hub, wish(all.clone())).await;
    assert_eq!((&task["kind"], &task["issue_id"]), (&json!("quick_create"), &json!("")));
    assert_eq!((&task["quick_create_prompt"], &task["thread_name"]), (&json!("Make it"), &json!("Make it")));
    assert_eq!(task["quick_create_attachment_ids"], json!(files));
    assert_eq!((&task["project_id"], &task["project_title"]), (&project["id"], &json!("Site")));
    assert_eq!(task["project_resources"].as_array().unwrap().len(), 1);
    assert_eq!(task["repos"], json!([{ "url": "https://h/own" }]));
    assert_eq!((&task["squad_id"], &task["squad_name"]), (&squad["id"], &json!("Core")));
    assert!(task["agent"]["instructions"].as_str().unwrap().starts_with("## Squad protocol"), "{task}");
    assert_eq!((&task["parent_issue_id"], &task["parent_issue_identifier"]), (&parent["id"], &json!("HOM-1")));

    // What is gone, or another workspace's, is not told of; its id is where it is of use.
    hub.cli("DELETE", &format!("/api/projects/{}", id(&project)), Value::Null).await.expect(204);
    hub.cli("DELETE", &format!("/api/issues/{}", id(&parent)), Value::Null).await.expect(204);
    hub.cli("DELETE", &format!("/api/squads/{}", id(&squad)), Value::Null).await.expect(204);
    let is_bare = |task: &Value| {
        for absent in ["project_title", "project_resources", "squad_id", "squad_name", "parent_issue_identifier"] {
            assert_eq!(task.get(absent), None, "{absent}");
        }
        assert_eq!(task["repos"], json!([{ "url": "https://h/ws" }]));
        assert_eq!(task["agent"]["instructions"], "");
    };
    let task = given_and_ended(&hub, wish(all)).await;
    is_bare(&task);
    assert_eq!((&task["project_id"], &task["parent_issue_id"]), (&project["id"], &parent["id"]));
    let elsewhere = hub.another_workspace("elsewhere").await;
    let at = |path: &str| format!("{path}?workspace_id={elsewhere}");
    let repo = json!({ "resource_type": "github_repo", "resource_ref": { "url": "https://h/theirs" } });
    let theirs = json!({ "title": "Theirs", "resources": [repo] });
    let project = hub.post(&at("/api/projects"), theirs).await.expect(201);
    let parent = hub.post(&at("/api/issues"), json!({ "title": "Theirs" })).await.expect(201);
    let foreign = json!({ "project_id": project["id"], "parent_issue_id": parent["id"], "attachment_ids": null });
    let task = given_and_ended(&hub, wish(foreign)).await;
    is_bare(&task);
    let task = given(&hub, wish(json!({}))).await;
    is_bare(&task);
    for absent in ["project_id", "parent_issue_id", "quick_create_attachment_ids"] {
        assert_eq!(task.get(absent), None, "{absent}");
    }
}

async fn a_squad_s_leader_is_briefed(backend: Backend) {
    let (hub, runtime, ann) = world(backend).await;
    let bob = agent(&hub, "bob", runtime).await;
    let old = agent(&hub, "old", runtime).await;
    hub.member("m@example.com", "member").await;
    let them = hub.rows("SELECT name FROM users WHERE email = 'm@example.com'").await.remove(0);
    let members = hub.get(&format!("/api/workspaces/{}/members", hub.workspace)).await.expect(200);
    let person =
        members.as_array().unwrap().iter().find(|one| one["email"] == "m@example.com").unwrap()["user_id"].clone();
    hub.cli("PUT", &format!("/api/agents/{ann}"), json!({ "instructions": "Be quick" })).await.expect(200);
    let wish = json!({ "name": "Core", "leader_id": ann, "instructions": "Ship on Fridays" });
    let squad = hub.cli("POST", "/api/squads", wish).await.expect(201);
    let path = format!("/api/squads/{}", id(&squad));
    for (kind, member, role) in
        [("agent", json!(bob), "tests"), ("member", person.clone(), ""), ("agent", json!(old), "")]
    {
        let wish = json!({ "member_type": kind, "member_id": member, "role": role });
        hub.cli("POST", &format!("{path}/members"), wish).await.expect(201);
    }
    hub.cli("POST", &format!("/api/agents/{old}/archive"), Value::Null).await.expect(200);
    let wish = json!({ "title": "t", "assignee_type": "squad", "assignee_id": squad["id"] });
    let issue = id(&hub.cli("POST", "/api/issues", wish).await.expect(201));
    let task = |agent| Given { agent, runtime, issue: Some(issue), ..Given::default() };

    let told = async |agent| {
        let task = given_and_ended(&hub, task(agent)).await;
        assert_eq!(task.get("squad_id"), None, "that is a wish's");
        task["agent"]["instructions"].as_str().unwrap().to_owned()
    };
    let text = told(ann).await;
    assert!(text.starts_with("Be quick\n\n## Squad protocol\n\nYou lead the squad Core."), "{text}");
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(headings, ["## Squad protocol", "## Squad roster", "## Squad instructions"]);
    let roster: Vec<&str> = text.lines().filter(|line| line.contains("mention://")).collect();
    assert_eq!(
        roster,
        [
            format!("- ann (agent, leader, you): [@ann](mention://agent/{ann})"),
            format!("- bob (agent, tests): [@bob](mention://agent/{bob})"),
            format!("- {them} (person): [@{them}](mention://member/{})", person.as_str().unwrap()),
        ]
    );
    assert!(text.ends_with("## Squad instructions\n\nShip on Fridays"), "{text}");
    let stored = hub.cli("GET", &format!("/api/agents/{ann}"), Value::Null).await.expect(200);
    assert_eq!(stored["instructions"], "Be quick", "said in the claim only");

    // Whoever leads it now.
    assert_eq!(told(bob).await, "", "a member is not briefed");
    hub.cli("PUT", &path, json!({ "leader_id": bob, "instructions": "" })).await.expect(200);
    assert_eq!(told(ann).await, "Be quick", "no longer");
    let text = told(bob).await;
    assert!(text.starts_with("## Squad protocol") && text.ends_with("None beside your own."), "{text}");
}
