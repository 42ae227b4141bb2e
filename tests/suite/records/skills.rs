//! Skills and their files.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    skills_have_the_fields_that_clients_read,
    skills_change_with_their_files,
    files_that_are_one_on_some_machine_are_refused,
    files_are_stored_one_by_one,
    agents_are_shown_with_the_skills_of_today,
    skills_are_changed_by_their_makers_and_by_admins,
    whatever_is_wrong_is_refused_and_changes_nothing,
);

const SUMMARY: [&str; 8] =
    ["config", "created_at", "created_by", "description", "id", "name", "updated_at", "workspace_id"];
const SKILL: [&str; 10] = [
    "config",
    "content",
    "created_at",
    "created_by",
    "description",
    "files",
    "id",
    "name",
    "updated_at",
    "workspace_id",
];
const FILE: [&str; 6] = ["content", "created_at", "id", "path", "skill_id", "updated_at"];

fn paths(skill: &Value) -> Vec<&str> {
    skill["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

async fn skills_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    let wish = json!({
        "name": " review ", "description": "d", "content": "# text", "config": { "a": 1 },
        "files": [{ "path": "z.md", "content": "z" }, { "path": "a/b.sh" }, { "path": "SKILL.md", "content": "x" }],
    });
    let made = hub.cli("POST", "/api/skills", wish).await.expect(201);
    assert_eq!((keys(&made), keys(&made["files"][0])), (SKILL.to_vec(), FILE.to_vec()));
    assert_eq!(
        (&made["name"], &made["content"], &made["config"]),
        (&json!("review"), &json!("# text"), &json!({ "a": 1 }))
    );
    assert_eq!(paths(&made), ["a/b.sh", "z.md"], "by path, without the skill's own text");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("skill:created"), &json!({ "skill": made })));
    let bare = hub.cli("POST", "/api/skills", json!({ "name": "alpha", "files": null })).await.expect(201);
    assert_eq!((&bare["description"], &bare["config"], &bare["files"]), (&json!(""), &json!({}), &json!([])));
    let answer = hub.cli("GET", "/api/skills", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "2");
    let list = answer.expect(200);
    assert_eq!(
        (keys(&list[0]), &list[0]["name"], &list[1]["name"]),
        (SUMMARY.to_vec(), &json!("alpha"), &json!("review"))
    );
    assert_eq!(hub.cli("GET", &format!("/api/skills/{}", id(&made)), Value::Null).await.expect(200), made);
    let files = hub.cli("GET", &format!("/api/skills/{}/files", id(&made)), Value::Null).await.expect(200);
    assert_eq!(files, made["files"]);
}

async fn skills_change_with_their_files(backend: Backend) {
    let hub = Hub::start(backend).await;
    let files = json!([{ "path": "a", "content": "1" }, { "path": "b", "content": "2" }]);
    let made = hub.cli("POST", "/api/skills", json!({ "name": "s", "files": files })).await.expect(201);
    let path = format!("/api/skills/{}", id(&made));
    let (mut browser, _) = hub.browser().await;
    assert_eq!(hub.cli("PUT", &path, json!({})).await.expect(200), made);
    assert_eq!(hub.cli("PUT", &path, json!({ "name": "s", "files": files })).await.expect(200), made);
    let change = json!({ "name": "t", "content": "c", "files": [{ "path": "b", "content": "2" }, { "path": "c" }] });
    let changed = hub.cli("PUT", &path, change).await.expect(200);
    assert_eq!((&changed["name"], paths(&changed)), (&json!("t"), vec!["b", "c"]));
    assert_eq!(changed["files"][0], made["files"][1], "what is the same stays as it is");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("skill:updated"), &json!({ "skill": changed })));
    let none = hub.cli("PUT", &path, json!({ "files": [] })).await.expect(200);
    assert_eq!((&none["files"], &none["content"]), (&json!([]), &json!("c")));
    browser.next().await;
    hub.cli("DELETE", &path, Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("skill:deleted"), &json!({ "skill_id": made["id"] })));
    hub.cli("GET", &path, Value::Null).await.refused(404, "skill not found");
    // A large one is announced without what makes it large.
    let large = json!({ "name": "large", "files": [{ "path": "x", "content": "x".repeat(300_000) }] });
    let large = hub.cli("POST", "/api/skills", large).await.expect(201);
    let event = browser.next().await;
    assert_eq!((&event["payload"]["truncated"], &event["payload"]["skill"]["name"]), (&json!(true), &json!("large")));
    assert_eq!(event["payload"]["skill"].get("files"), None);
    assert_eq!(large["files"][0]["content"].as_str().unwrap().len(), 300_000);
}

async fn files_that_are_one_on_some_machine_are_refused(backend: Backend) {
    let hub = Hub::start(backend).await;
    let files = json!([{ "path": "a/b.md", "content": "1" }, { "path": "skill.MD", "content": "x" }]);
    let made = hub.cli("POST", "/api/skills", json!({ "name": "s", "content": "c", "files": files })).await.expect(201);
    assert_eq!((paths(&made), &made["content"]), (vec!["a/b.md"], &json!("c")), "without the skill's own text");
    let one = format!("/api/skills/{}", id(&made));
    let files = format!("{one}/files");
    let before = hub.fingerprint().await;
    for (path, text) in [
        ("Skill.md", "SKILL.md is the skill's content, not one of its files"),
        ("A/B.md", r#"file paths "a/b.md" and "A/B.md" differ only in letter case"#),
        ("a", r#"file path "a/b.md" needs a folder where "a" is a file"#),
        ("A", r#"file path "a/b.md" needs a folder where "A" is a file"#),
        ("a/B.MD/c", r#"file path "a/B.MD/c" needs a folder where "a/b.md" is a file"#),
        ("skill.md/x", r#"file path "skill.md/x" needs a folder where "SKILL.md" is a file"#),
    ] {
        hub.cli("PUT", &files, json!({ "path": path })).await.refused(400, text);
    }
    for (first, second, text) in [
        ("x", "X", r#"file paths "X" and "x" differ only in letter case"#),
        ("x/y", "x", r#"file path "x/y" needs a folder where "x" is a file"#),
    ] {
        let files = json!([{ "path": first }, { "path": "fine" }, { "path": second }]);
        hub.cli("PUT", &one, json!({ "files": files })).await.refused(400, text);
        hub.cli("POST", "/api/skills", json!({ "name": "t", "files": files })).await.refused(400, text);
    }
    assert_eq!(hub.fingerprint().await, before);
    // What was there goes first: another case of its name is its new one.
    let changed = hub.cli("PUT", &one, json!({ "files": [{ "path": "A" }] })).await.expect(200);
    assert_eq!(paths(&changed), ["A"]);
    hub.cli("PUT", &files, json!({ "path": "A", "content": "again" })).await.expect(200);
    // There is no way round the limit of a list.
    let most: Vec<Value> = (0..500).map(|n| json!({ "path": format!("f{n}") })).collect();
    hub.cli("PUT", &one, json!({ "files": most })).await.expect(200);
    hub.cli("PUT", &files, json!({ "path": "one more" })).await.refused(400, "a skill has at most 500 files");
}

async fn files_are_stored_one_by_one(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.cli("POST", "/api/skills", json!({ "name": "s" })).await.expect(201);
    let path = format!("/api/skills/{}/files", id(&made));
    let (mut browser, _) = hub.browser().await;
    let file = hub.cli("PUT", &path, json!({ "path": "a.md", "content": "1" })).await.expect(200);
    assert_eq!(keys(&file), FILE);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["skill"]["files"]), (&json!("skill:updated"), &json!([file])));
    assert_eq!(hub.cli("PUT", &path, json!({ "path": "a.md", "content": "1" })).await.expect(200), file);
    let again = hub.cli("PUT", &path, json!({ "path": "a.md", "content": "2" })).await.expect(200);
    assert_eq!((&again["id"], &again["content"]), (&file["id"], &json!("2")));
    browser.next().await;
    hub.cli("PUT", &path, json!({ "path": "SKILL.md" }))
        .await
        .refused(400, "SKILL.md is the skill's content, not one of its files");
    hub.cli("DELETE", &format!("{path}/{}", id(&file)), Value::Null).await.expect(204);
    assert_eq!(browser.next().await["payload"]["skill"]["files"], json!([]));
    hub.cli("DELETE", &format!("{path}/{}", id(&file)), Value::Null).await.expect(204);
    browser.quiet_for(std::time::Duration::from_millis(50)).await;
}

async fn agents_are_shown_with_the_skills_of_today(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let skill = hub.cli("POST", "/api/skills", json!({ "name": "s" })).await.expect(201);
    let wish = json!({ "name": "a", "runtime_id": runtime });
    let agent = hub.cli("POST", "/api/agents", wish).await.expect(201);
    let skills = format!("/api/agents/{}/skills", id(&agent));
    hub.cli("PUT", &skills, json!({ "skill_ids": [skill["id"]] })).await.expect(200);
    let (mut browser, _) = hub.browser().await;
    let path = format!("/api/skills/{}", id(&skill));
    hub.cli("PUT", &path, json!({ "content": "c" })).await.expect(200);
    assert_eq!(browser.next().await["type"], "skill:updated");
    hub.cli("PUT", &path, json!({ "name": "t" })).await.expect(200);
    assert_eq!(browser.next().await["type"], "skill:updated", "an agent shows nothing of the content");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["agent_id"]), (&json!("agent:status"), &agent["id"]));
    assert_eq!(event["payload"]["skills"][0]["name"], "t");
    hub.cli("DELETE", &path, Value::Null).await.expect(204);
    assert_eq!(browser.next().await["type"], "skill:deleted");
    assert_eq!(browser.next().await["payload"]["skills"], json!([]));
}

async fn skills_are_changed_by_their_makers_and_by_admins(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let other = hub.member("other@example.com", "member").await;
    let made = hub.cli_as(&plain, "POST", "/api/skills", json!({ "name": "s" })).await.expect(201);
    let path = format!("/api/skills/{}", id(&made));
    const REFUSAL: &str = "only the skill creator or a workspace admin can do this";
    hub.cli_as(&other, "PUT", &path, json!({ "name": "x" })).await.refused(403, REFUSAL);
    hub.cli_as(&other, "PUT", &format!("{path}/files"), json!({ "path": "a" })).await.refused(403, REFUSAL);
    hub.cli_as(&other, "DELETE", &path, Value::Null).await.refused(403, REFUSAL);
    hub.cli_as(&plain, "PUT", &path, json!({ "name": "x" })).await.expect(200);
    hub.cli("DELETE", &path, Value::Null).await.expect(204);
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.cli("POST", "/api/skills", json!({ "name": "s" })).await.expect(201);
    let elsewhere = hub.another_workspace("other").await;
    let theirs = hub.post(&format!("/api/skills?workspace_id={elsewhere}"), json!({ "name": "s" })).await.expect(201);
    hub.cli("POST", "/api/skills", json!({ "name": "t" })).await.expect(201);
    let before = hub.fingerprint().await;
    for (body, status, text) in [
        (json!({}), 400, "name is required"),
        (json!({ "name": "s" }), 409, "a skill with this name already exists"),
        (json!({ "name": "Multica-x" }), 400, "skill names beginning with multica- are reserved"),
        (json!({ "name": "ä".repeat(256) }), 400, "name must be 255 characters or fewer"),
        (json!({ "name": "x", "config": 1 }), 400, "config must be an object"),
        (json!({ "name": "x", "files": [{ "path": "" }] }), 400, "invalid file path \"\""),
        (json!({ "name": "x", "files": [{ "path": "/etc/passwd" }] }), 400, "invalid file path \"/etc/passwd\""),
        (json!({ "name": "x", "files": [{ "path": "a" }, { "path": "../b" }] }), 400, "invalid file path \"../b\""),
    ] {
        hub.cli("POST", "/api/skills", body).await.refused(status, text);
    }
    let path = format!("/api/skills/{}", id(&made));
    hub.cli("PUT", &path, json!({ "name": "t" })).await.refused(409, "a skill with this name already exists");
    hub.cli("PUT", &path, json!({ "name": "" })).await.refused(400, "name is required");
    hub.cli("PUT", &path, json!({ "files": [{ "path": "C:x" }] })).await.refused(400, "invalid file path \"C:x\"");
    for missing in [id(&theirs), Uuid::new_v4()] {
        for (method, rest) in [
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("GET", "/files"),
            ("PUT", "/files"),
            ("DELETE", "/files/{missing}"),
        ] {
            let path = format!("/api/skills/{missing}{}", rest.replace("{missing}", &missing.to_string()));
            hub.cli(method, &path, json!({})).await.refused(404, "skill not found");
        }
    }
    hub.cli("GET", "/api/skills/x", Value::Null).await.refused(400, "invalid skill_id");
    assert_eq!(hub.fingerprint().await, before);
}
