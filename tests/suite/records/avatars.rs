//! Uploaded files that are somebody's picture, and those that are nothing of anybody's.

use serde_json::{Value, json};
use uuid::Uuid;

use super::attachments::{FORM, Part, form, upload_as};
use crate::support::{Backend, Hub, hub::id, until};

on_both_stores!(
    pictures_are_seen_by_the_whole_workspace,
    only_one_s_own_loose_files_become_pictures,
    forgotten_files_are_swept_and_nothing_else,
);

const FILE: Part<'static> = ("file", Some(("f.png", "image/png")), b"x");

async fn upload(hub: &Hub, token: &str) -> Value {
    upload_as(hub, token, &[FILE]).await.expect(200)
}

fn address(file: &Value) -> &str {
    file["url"].as_str().unwrap()
}

async fn pictures_are_seen_by_the_whole_workspace(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let other = hub.member("other@example.com", "member").await;
    let stranger = hub.stranger("s@example.com").await;
    let me = id(&hub.get("/api/me").await.expect(200));
    let task = hub.app.mint_task_token(hub.workspace, me).await.unwrap();
    let runtime = hub.register_as(&plain, hub.workspace, "theirs", &["claude"]).await[0];
    let seen = async |file: &Value, status: u16| {
        for token in [&other, &task] {
            assert_eq!(hub.cli_as(token, "GET", address(file), Value::Null).await.status, status);
            // As an `<img>` asks for it.
            assert_eq!(hub.call("GET", address(file), Some(token), Value::Null).await.status, status);
        }
        assert_eq!(hub.call("GET", address(file), Some(&stranger), Value::Null).await.status, 404);
    };

    let file = upload(&hub, &plain).await;
    seen(&file, 404).await;
    let wish = json!({ "name": "a", "runtime_id": runtime, "avatar_url": address(&file) });
    let agent = hub.cli_as(&plain, "POST", "/api/agents", wish).await.expect(201);
    assert_eq!(agent["avatar_url"], file["url"]);
    seen(&file, 200).await;
    // It stays what it is.
    let bound = json!({ "title": "t", "attachment_ids": [file["id"]] });
    hub.cli_as(&plain, "POST", "/api/issues", bound).await.refused(400, "invalid attachment_ids");
    let one = format!("/api/attachments/{}", id(&file));
    assert_eq!(hub.cli_as(&other, "GET", &one, Value::Null).await.expect(200), file);
    hub.cli_as(&other, "DELETE", &one, Value::Null)
        .await
        .refused(403, "only the uploader or a workspace admin can do this");

    let file = upload(&hub, &plain).await;
    let path = format!("/api/agents/{}", id(&agent));
    let url = format!("https://hub.example.com{}", address(&file));
    let changed = hub.cli_as(&plain, "PUT", &path, json!({ "avatar_url": url })).await.expect(200);
    assert_eq!(changed["avatar_url"], json!(url), "as it came");
    seen(&file, 200).await;

    let file = upload(&hub, &hub.token).await;
    let wish = json!({ "name": "s", "leader_id": agent["id"], "avatar_url": address(&file) });
    let squad = hub.cli("POST", "/api/squads", wish).await.expect(201);
    seen(&file, 200).await;
    let file = upload(&hub, &hub.token).await;
    let path = format!("/api/squads/{}", id(&squad));
    hub.cli("PUT", &path, json!({ "avatar_url": address(&file) })).await.expect(200);
    seen(&file, 200).await;

    let file = upload(&hub, &plain).await;
    let change = json!({ "avatar_url": address(&file) });
    let me = hub.call("PATCH", "/api/me", Some(&plain), change).await.expect(200);
    assert_eq!(me["avatar_url"], file["url"]);
    seen(&file, 200).await;

    let file = upload(&hub, &hub.token).await;
    let workspace = format!("/api/workspaces/{}", hub.workspace);
    hub.patch(&workspace, json!({ "avatar_url": address(&file) })).await.expect(200);
    seen(&file, 200).await;
}

async fn only_one_s_own_loose_files_become_pictures(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let agent = hub.cli("POST", "/api/agents", json!({ "name": "a", "runtime_id": runtime })).await.expect(201);
    let path = format!("/api/agents/{}", id(&agent));
    let theirs = upload(&hub, &plain).await;
    let attached = upload(&hub, &hub.token).await;
    hub.cli("POST", "/api/issues", json!({ "title": "t", "attachment_ids": [attached["id"]] })).await.expect(201);
    let elsewhere = hub.another_workspace("other").await;
    let there = format!("/api/upload-file?workspace_id={elsewhere}");
    let sent = hub.raw("POST", &there, Some(&hub.token), form(&[FILE]), &[("content-type", FORM)]);
    let foreign = sent.await.expect(200);
    let gone = format!("/api/attachments/{}/content", Uuid::new_v4());
    for url in [address(&theirs), address(&attached), address(&foreign), &gone, "https://example.com/a.png", ""] {
        let changed = hub.cli("PUT", &path, json!({ "avatar_url": url })).await.expect(200);
        assert_eq!(changed["avatar_url"], json!(url), "stored all the same");
    }
    hub.patch("/api/me", json!({ "avatar_url": address(&theirs) })).await.expect(200);
    assert_eq!(hub.rows("SELECT 'x' FROM attachment WHERE shown_as_avatar").await.len(), 0);
    hub.get(address(&theirs)).await.refused(404, "attachment not found");
    // A person's own, in whichever workspace of theirs it lies.
    hub.patch("/api/me", json!({ "avatar_url": address(&foreign) })).await.expect(200);
    assert_eq!(hub.rows("SELECT 'x' FROM attachment WHERE shown_as_avatar").await.len(), 1);
}

async fn forgotten_files_are_swept_and_nothing_else(backend: Backend) {
    let hub = Hub::start(backend).await;
    const DUE: &str = "SELECT COALESCE(CAST((sweep_after - created_at) / 3600000000 AS text), 'never') FROM attachment";
    let picture = upload(&hub, &hub.token).await;
    assert_eq!(hub.rows(DUE).await, ["24"], "hours after it came");
    hub.patch("/api/me", json!({ "avatar_url": address(&picture) })).await.expect(200);
    assert_eq!(hub.rows(DUE).await, ["never"]);
    let attached = upload(&hub, &hub.token).await;
    let wish = json!({ "title": "t", "attachment_ids": [attached["id"]] });
    let issue = hub.cli("POST", "/api/issues", wish).await.expect(201);
    let of_issue = id(&issue).to_string();
    upload_as(&hub, &hub.token, &[FILE, ("issue_id", None, of_issue.as_bytes())]).await.expect(200);
    assert_eq!(hub.rows(DUE).await, ["never"; 3]);
    // Taken from its comment, it is loose from then on, however old it is.
    let taken = upload(&hub, &hub.token).await;
    let comments = format!("/api/issues/{of_issue}/comments");
    let wish = json!({ "content": "c", "attachment_ids": [taken["id"]] });
    let comment = hub.cli("POST", &comments, wish).await.expect(201);
    hub.sql("UPDATE attachment SET created_at = created_at - 36000000000").await;
    let change = json!({ "content": "c", "attachment_ids": [] });
    hub.cli("PUT", &format!("/api/comments/{}", id(&comment)), change).await.expect(200);
    let mut due = hub.rows(DUE).await;
    due.sort_unstable();
    assert_eq!(due, ["34", "never", "never", "never"]);

    // More than go at once, all forgotten a day ago.
    for _ in 0..12 {
        upload(&hub, &hub.token).await;
    }
    hub.sql("UPDATE attachment SET sweep_after = sweep_after - 86500000000").await;
    let fresh = upload(&hub, &hub.token).await;
    let hub = hub.restart().await;
    until("the sweep has been", async || hub.rows("SELECT 'x' FROM attachment").await.len() == 4).await;
    for kept in [&picture, &attached, &fresh] {
        assert_eq!(hub.get(address(kept)).await.status, 200);
    }
    hub.get(address(&taken)).await.refused(404, "attachment not found");
}
