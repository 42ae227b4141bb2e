//! Files: how they come in and go out, who may see them, and what is left of one that breaks off.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{Answer, http_client, id, keys},
    until,
};

on_both_stores!(
    an_attachment_has_the_fields_that_clients_read,
    five_mebibytes_come_back_byte_for_byte,
    an_upload_that_breaks_off_leaves_nothing,
    what_a_crash_left_is_swept,
    too_much_is_refused,
    files_belong_to_issues_and_comments_of_the_workspace,
    a_file_is_its_uploaders_until_it_belongs_somewhere,
    files_come_with_issues_and_comments_and_leave_them,
    whoever_shows_an_issue_is_told_of_files_that_come_and_go,
    whatever_is_wrong_is_refused_and_changes_nothing,
);

const ATTACHMENT: [&str; 15] = [
    "chat_message_id",
    "chat_session_id",
    "comment_id",
    "content_type",
    "created_at",
    "download_url",
    "filename",
    "id",
    "issue_id",
    "markdown_url",
    "size_bytes",
    "uploader_id",
    "uploader_type",
    "url",
    "workspace_id",
];
pub const FORM: &str = "multipart/form-data; boundary=XyZ";
/// Incomplete ones included.
const STORED: &str = "SELECT 'x' FROM attachment";

/// A part of a form: the field, the file's name and type, the bytes.
pub type Part<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [u8]);

pub fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        body.extend(format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"").bytes());
        if let Some((filename, kind)) = file {
            body.extend(format!("; filename=\"{filename}\"\r\nContent-Type: {kind}").bytes());
        }
        body.extend(b"\r\n\r\n");
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XyZ--\r\n");
    body
}

/// Uploads as the CLI does.
pub async fn upload_as(hub: &Hub, token: &str, parts: &[Part<'_>]) -> Answer {
    let workspace = hub.workspace.to_string();
    let headers = [("content-type", FORM), ("x-workspace-id", workspace.as_str())];
    hub.raw("POST", "/api/upload-file", Some(token), form(parts), &headers).await
}

async fn upload(hub: &Hub, parts: &[Part<'_>]) -> Answer {
    upload_as(hub, &hub.token, parts).await
}

/// An issue and a comment of each workspace, both with its id.
const WORK: &str = "
    INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank, creator_type,
                       creator_id, position, created_at, updated_at)
        SELECT id, id, 1, 't', 't', 'todo', 'none', 0, 'member', id, 0, 1, 1 FROM workspace;
    INSERT INTO comment (id, workspace_id, issue_id, author_type, author_id, content, type, root_id, last_activity_at,
                         created_at, updated_at)
        SELECT id, id, id, 'member', id, 'c', 'comment', id, 1, 1, 1 FROM workspace";

async fn an_attachment_has_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let me = hub.get("/api/me").await.expect(200)["id"].clone();
    let made = upload(&hub, &[("file", Some(("../notes ä.txt", "text/plain")), b"hello")]).await.expect(200);
    assert_eq!(keys(&made), ATTACHMENT);
    let url = format!("/api/attachments/{}/content", id(&made));
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "issue_id": null, "comment_id": null,
            "chat_session_id": null, "chat_message_id": null, "uploader_type": "member", "uploader_id": me,
            "filename": "notes ä.txt", "url": url, "download_url": url, "markdown_url": url,
            "content_type": "text/plain", "size_bytes": 5, "created_at": made["created_at"],
        })
    );
    let path = format!("/api/attachments/{}", id(&made));
    assert_eq!(hub.cli("GET", &path, Value::Null).await.expect(200), made);
    assert_eq!(hub.get(&path).await.expect(200), made, "pages name no workspace");

    let bytes = hub.cli("GET", made["download_url"].as_str().unwrap(), Value::Null).await;
    assert_eq!((bytes.status, bytes.text.as_str()), (200, "hello"));
    let header = |name: &str| bytes.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"notes _.txt\"; filename*=UTF-8''notes%20%C3%A4.txt"
    );
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").starts_with("sandbox"));
    assert_eq!((header("content-length"), header("cache-control")), ("5".into(), "private, no-store".into()));

    // Nothing that a browser would run, whatever it is said to be.
    let page = upload(&hub, &[("file", Some(("x.html", "text/html")), b"<script>")]).await.expect(200);
    assert_eq!(page["content_type"], "text/html");
    let bytes = hub.get(page["url"].as_str().unwrap()).await;
    assert_eq!(bytes.headers["content-type"], "application/octet-stream");
    // The CLI says nothing about what it sends.
    let unsaid = ("shot.png", "application/octet-stream");
    let picture = upload(&hub, &[("file", Some(unsaid), b"\x89PNG\r\n\x1a\n...")]).await.expect(200);
    assert_eq!(picture["content_type"], "image/png");
    let empty = upload(&hub, &[("file", Some(("", "text/plain")), b"")]).await.expect(200);
    assert_eq!((&empty["filename"], &empty["size_bytes"]), (&json!("file"), &json!(0)));
    assert_eq!(hub.get(empty["url"].as_str().unwrap()).await.text, "");

    hub.cli("DELETE", &path, Value::Null).await.expect(204);
    hub.cli("GET", &path, Value::Null).await.refused(404, "attachment not found");
    hub.cli("DELETE", &path, Value::Null).await.refused(404, "attachment not found");
    assert_eq!(hub.rows("SELECT 'x' FROM attachment_chunk").await.len(), 2, "of the page and the picture");
}

async fn five_mebibytes_come_back_byte_for_byte(backend: Backend) {
    let hub = Hub::start(backend).await;
    let bytes: Vec<u8> = (0..(5 << 20) + 77_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let made = upload(&hub, &[("file", Some(("b.bin", "x/y")), &bytes), ("issue_id", None, b"")]).await.expect(200);
    assert_eq!(made["size_bytes"], bytes.len());
    assert_eq!(hub.rows("SELECT 'x' FROM attachment_chunk").await.len(), 6);
    let request = http_client().get(hub.url(made["url"].as_str().unwrap())).bearer_auth(&hub.token);
    let back = request.send().await.unwrap();
    assert_eq!(back.content_length(), Some(bytes.len() as u64));
    assert!(back.bytes().await.unwrap() == bytes, "other bytes came back");
}

async fn an_upload_that_breaks_off_leaves_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let whole = form(&[("file", Some(("b.bin", "x/y")), &vec![7; 3 << 20])]);
    for (kept_waiting, cut) in [(true, (2 << 20) + 4096), (false, 1 << 20)] {
        let mut stream = TcpStream::connect(hub.app.address).await.unwrap();
        let head = format!(
            "POST /api/upload-file HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\nx-workspace-id: {}\r\n\
             content-type: {FORM}\r\ncontent-length: {}\r\n\r\n",
            hub.token,
            hub.workspace,
            whole.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&whole[..cut]).await.unwrap();
        if kept_waiting {
            until("a chunk is stored", async || hub.rows("SELECT 'x' FROM attachment_chunk").await.len() == 2).await;
            let sql = match backend {
                Backend::Sqlite => "SELECT lower(hex(id)) FROM attachment",
                _ => "SELECT CAST(id AS text) FROM attachment",
            };
            let half: Uuid = hub.rows(sql).await[0].parse().unwrap();
            for path in [format!("/api/attachments/{half}"), format!("/api/attachments/{half}/content")] {
                hub.cli("GET", &path, Value::Null).await.refused(404, "attachment not found");
                hub.get(&path).await.refused(404, "attachment not found");
            }
            hub.cli("DELETE", &format!("/api/attachments/{half}"), Value::Null)
                .await
                .refused(404, "attachment not found");
        }
        drop(stream);
        until("the rest of it is gone", async || hub.rows(STORED).await.is_empty()).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(hub.rows(STORED).await.len() + hub.rows("SELECT 'x' FROM attachment_chunk").await.len(), 0);
}

async fn what_a_crash_left_is_swept(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = upload(&hub, &[("file", Some(("a", "x/y")), b"old and complete")]).await.expect(200);
    hub.sql("UPDATE attachment SET created_at = 1").await;
    hub.sql(
        "INSERT INTO attachment (id, workspace_id, uploader_type, uploader_id, filename, content_type, size_bytes,
                                 sweep_after, created_at)
         SELECT id, id, 'member', id, 'left', 'x/y', 0, 2, 1 FROM workspace",
    )
    .await;
    hub.sql(
        "INSERT INTO attachment (id, workspace_id, uploader_type, uploader_id, filename, content_type, size_bytes,
                                 sweep_after, created_at)
         SELECT user_id, workspace_id, 'member', user_id, 'coming', 'x/y', 0, 9000000000000000, 1 FROM member",
    )
    .await;
    assert_eq!(hub.rows(STORED).await.len(), 3);
    let hub = hub.restart().await;
    until("the sweep has been", async || {
        hub.rows("SELECT filename FROM attachment ORDER BY filename").await == ["a", "coming"]
    })
    .await;
    hub.get(&format!("/api/attachments/{}", id(&made))).await.expect(200);
}

async fn too_much_is_refused(backend: Backend) {
    let hub = Hub::start_with(backend, &[("HEARTWIRE_MAX_UPLOAD", "1MiB")]).await;
    let bytes = vec![7; (1 << 20) + 1];
    upload(&hub, &[("file", Some(("f", "x/y")), &bytes)]).await.refused(413, "file too large");
    upload(&hub, &[("file", Some(("f", "x/y")), &vec![7; 3 << 20])]).await.refused(413, "request body too large");
    // What is not the file is not kept in memory without end.
    let other = vec![b'x'; (1 << 20) + 4096];
    upload(&hub, &[("other", None, &other), ("file", Some(("f", "x/y")), b"x")])
        .await
        .refused(413, "request body too large");
    upload(&hub, &[("issue_id", None, &vec![b'x'; 10_000])]).await.refused(413, "request body too large");
    until("nothing of them is left", async || hub.rows(STORED).await.is_empty()).await;
    let made = upload(&hub, &[("file", Some(("f", "x/y")), &bytes[1..])]).await.expect(200);
    assert_eq!(made["size_bytes"], 1 << 20);
}

async fn files_belong_to_issues_and_comments_of_the_workspace(backend: Backend) {
    let hub = Hub::start(backend).await;
    let member = hub.member("m@example.com", "member").await;
    let elsewhere = hub.another_workspace("other").await;
    hub.sql(WORK).await;
    let (here, there) = (hub.workspace.to_string(), elsewhere.to_string());
    let file: Part<'_> = ("file", Some(("f", "x/y")), b"x");
    let of_issue = upload(&hub, &[file, ("issue_id", None, here.as_bytes())]).await.expect(200);
    assert_eq!((&of_issue["issue_id"], &of_issue["comment_id"]), (&json!(here), &Value::Null));
    let of_comment = upload(&hub, &[("comment_id", None, here.as_bytes()), file]).await.expect(200);
    assert_eq!((&of_comment["issue_id"], &of_comment["comment_id"]), (&json!(here), &json!(here)));
    // Everybody of the workspace may read them; a plain member may not remove another's.
    for made in [&of_issue, &of_comment] {
        let path = format!("/api/attachments/{}", id(made));
        assert_eq!(hub.cli_as(&member, "GET", &path, Value::Null).await.expect(200), *made);
        assert_eq!(hub.cli_as(&member, "GET", &format!("{path}/content"), Value::Null).await.text, "x");
        hub.cli_as(&member, "DELETE", &path, Value::Null)
            .await
            .refused(403, "only the uploader or a workspace admin can do this");
    }
    let before = hub.fingerprint().await;
    for (field, value) in [
        ("issue_id", there.as_str()),
        ("issue_id", "x"),
        ("issue_id", "00000000-0000-7000-8000-000000000000"),
        ("comment_id", there.as_str()),
        ("comment_id", "x"),
        ("comment_id", "00000000-0000-7000-8000-000000000000"),
    ] {
        upload(&hub, &[file, (field, None, value.as_bytes())]).await.refused(400, &format!("invalid {field}"));
    }
    upload(&hub, &[file, ("issue_id", None, there.as_bytes()), ("comment_id", None, here.as_bytes())])
        .await
        .refused(400, "invalid issue_id");
    until("nothing of them is left", async || hub.fingerprint().await == before).await;

    let theirs = upload_as(&hub, &member, &[file, ("issue_id", None, here.as_bytes())]).await.expect(200);
    hub.cli("DELETE", &format!("/api/attachments/{}", id(&theirs)), Value::Null).await.expect(204);
    hub.sql("DELETE FROM issue").await;
    hub.cli("GET", &format!("/api/attachments/{}", id(&of_comment)), Value::Null)
        .await
        .refused(404, "attachment not found");
}

async fn a_file_is_its_uploaders_until_it_belongs_somewhere(backend: Backend) {
    let hub = Hub::start(backend).await;
    let me = id(&hub.get("/api/me").await.expect(200));
    let member = hub.member("m@example.com", "member").await;
    let agent = hub.app.mint_task_token(hub.workspace, me).await.unwrap();
    let another = hub.app.mint_task_token(hub.workspace, me).await.unwrap();
    let file: Part<'_> = ("file", Some(("f", "x/y")), b"x");
    let mut made = Vec::new();
    for token in [&hub.token, &member, &agent, &another] {
        made.push((token, upload_as(&hub, token, &[file]).await.expect(200)));
    }
    assert_eq!((&made[0].1["uploader_type"], &made[0].1["uploader_id"]), (&json!("member"), &json!(me)));
    assert_eq!(made[2].1["uploader_type"], "agent");
    let before = hub.fingerprint().await;
    for (uploader, attachment) in &made {
        let path = format!("/api/attachments/{}", id(attachment));
        for (reader, _) in &made {
            if uploader == reader {
                assert_eq!(hub.cli_as(reader, "GET", &path, Value::Null).await.expect(200), *attachment);
                continue;
            }
            for (method, path) in [("GET", path.clone()), ("GET", format!("{path}/content")), ("DELETE", path.clone())]
            {
                hub.cli_as(reader, method, &path, Value::Null).await.refused(404, "attachment not found");
                hub.call(method, &path, Some(reader), Value::Null).await.refused(404, "attachment not found");
            }
        }
    }
    assert_eq!(hub.fingerprint().await, before);
    for (uploader, attachment) in &made {
        let path = format!("/api/attachments/{}", id(attachment));
        hub.cli_as(uploader, "DELETE", &path, Value::Null).await.expect(204);
    }
}

async fn whoever_shows_an_issue_is_told_of_files_that_come_and_go(backend: Backend) {
    let hub = Hub::start(backend).await;
    let plain = hub.member("plain@example.com", "member").await;
    let issue = hub.cli("POST", "/api/issues", json!({ "title": "t" })).await.expect(201);
    let path = format!("/api/issues/{}", id(&issue));
    let comment = hub.cli("POST", &format!("{path}/comments"), json!({ "content": "c" })).await.expect(201);
    let (issue, comment) = (id(&issue).to_string(), id(&comment).to_string());
    let (mut browser, _) = hub.browser().await;
    let file: Part<'_> = ("file", Some(("f", "text/plain")), b"x");

    let made = upload_as(&hub, &plain, &[file, ("issue_id", None, issue.as_bytes())]).await.expect(200);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["issue"]["attachments"]), (&json!("issue:updated"), &json!([made])));
    let ours = upload(&hub, &[file, ("comment_id", None, comment.as_bytes())]).await.expect(200);
    let event = browser.next().await;
    assert_eq!(event["type"], "comment:updated");
    assert_eq!(event["payload"]["comment"]["attachments"], json!([ours]));

    // A comment is its author's.
    let before = hub.fingerprint().await;
    let theirs = upload_as(&hub, &plain, &[file, ("comment_id", None, comment.as_bytes())]).await;
    theirs.refused(403, "only the comment author or a workspace admin can do this");
    until("nothing of it is left", async || hub.fingerprint().await == before).await;

    // One that a comment takes from its issue is gone from there.
    let wish = json!({ "content": "d", "attachment_ids": [made["id"]] });
    hub.cli_as(&plain, "POST", &format!("{path}/comments"), wish).await.expect(201);
    assert_eq!(browser.next().await["type"], "comment:created");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["issue"]["attachments"]), (&json!("issue:updated"), &json!([])));

    hub.cli("DELETE", &format!("/api/attachments/{}", id(&ours)), Value::Null).await.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["comment"]["attachments"]), (&json!("comment:updated"), &json!([])));
}

async fn files_come_with_issues_and_comments_and_leave_them(backend: Backend) {
    let hub = Hub::start(backend).await;
    let file = async |name: &str| {
        let part: Part<'_> = ("file", Some((name, "text/plain")), b"x");
        upload(&hub, &[part]).await.expect(200)["id"].clone()
    };
    let (first, second, third) = (file("1").await, file("2").await, file("3").await);
    let ids = |object: &Value| {
        let list = object["attachments"].as_array().unwrap();
        list.iter().map(|attachment| attachment["id"].clone()).collect::<Vec<_>>()
    };
    let (mut browser, _) = hub.browser().await;
    let issue = hub.cli("POST", "/api/issues", json!({ "title": "t", "attachment_ids": [first] })).await.expect(201);
    assert_eq!(ids(&issue), std::slice::from_ref(&first));
    assert_eq!(browser.next().await["payload"]["issue"], issue);
    let path = format!("/api/issues/{}", id(&issue));
    let changed = hub.cli("PUT", &path, json!({ "attachment_ids": [first, second] })).await.expect(200);
    assert_eq!(ids(&changed), [first.clone(), second.clone()]);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["issue"]), (&json!("issue:updated"), &changed));
    hub.cli("PUT", &path, json!({ "attachment_ids": [first, second] })).await.expect(200);
    browser.quiet_for(Duration::from_millis(50)).await;

    let wish = json!({ "content": "c", "attachment_ids": [third, second] });
    let comment = hub.cli("POST", &format!("{path}/comments"), wish).await.expect(201);
    assert_eq!(ids(&comment), [second.clone(), third.clone()], "oldest first; one of the issue's went over to it");
    assert_eq!(browser.next().await["payload"]["comment"], comment);
    let detail = hub.cli("GET", &path, Value::Null).await.expect(200);
    assert_eq!(ids(&detail), std::slice::from_ref(&first));
    let event = browser.next().await;
    let told = (&event["type"], ids(&event["payload"]["issue"]));
    assert_eq!(told, (&json!("issue:updated"), vec![first.clone()]), "it lost a file");
    let list = hub.cli("GET", &format!("{path}/comments"), Value::Null).await.expect(200);
    assert_eq!(list, json!([comment]));
    let one = format!("/api/comments/{}", id(&comment));
    let put = hub.cli("PUT", &one, json!({ "content": "c", "attachment_ids": [third] })).await.expect(200);
    assert_eq!(ids(&put), std::slice::from_ref(&third));
    assert_eq!(browser.next().await["payload"]["comment"], put);
    assert_eq!(hub.cli("PUT", &one, json!({ "content": "c" })).await.expect(200), put, "absent is no change");
    let loose = hub.cli("GET", &format!("/api/attachments/{}", second.as_str().unwrap()), Value::Null).await;
    assert_eq!(loose.expect(200)["comment_id"], Value::Null, "its uploader's again");

    let other = hub.cli("POST", "/api/issues", json!({ "title": "u" })).await.expect(201);
    let before = hub.fingerprint().await;
    for taken in [&first, &third, &json!("x"), &json!(Uuid::new_v4())] {
        let wish = json!({ "title": "v", "content": "x", "attachment_ids": [taken] });
        hub.cli("POST", "/api/issues", wish.clone()).await.refused(400, "invalid attachment_ids");
        let path = format!("/api/issues/{}", id(&other));
        hub.cli("PUT", &path, wish.clone()).await.refused(400, "invalid attachment_ids");
        hub.cli("POST", &format!("{path}/comments"), wish).await.refused(400, "invalid attachment_ids");
    }
    assert_eq!(hub.fingerprint().await, before);
    // What is attached goes with what it is attached to.
    hub.cli("DELETE", &path, Value::Null).await.expect(204);
    assert_eq!(hub.rows(STORED).await.len(), 1);
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let elsewhere = hub.another_workspace("other").await;
    let headers = [("content-type", FORM)];
    let body = form(&[("file", Some(("f", "x/y")), b"x")]);
    let path = format!("/api/upload-file?workspace_id={elsewhere}");
    let foreign = hub.raw("POST", &path, Some(&hub.token), body.clone(), &headers).await.expect(200);
    let stranger = hub.stranger("s@example.com").await;
    let before = hub.fingerprint().await;

    upload(&hub, &[("name", None, b"x")]).await.refused(400, "file is required");
    upload(&hub, &[]).await.refused(400, "file is required");
    hub.cli("POST", "/api/upload-file", json!({})).await.refused(400, "invalid multipart form");
    let here = format!("/api/upload-file?workspace_id={}", hub.workspace);
    for broken in [&b""[..], b"nonsense", &body[..body.len() - 8]] {
        hub.raw("POST", &here, Some(&hub.token), broken.to_vec(), &headers)
            .await
            .refused(400, "invalid multipart form");
    }
    hub.raw("POST", "/api/upload-file", Some(&hub.token), body.clone(), &headers)
        .await
        .refused(400, "workspace_id or workspace_slug is required");
    hub.raw("POST", &here, Some(&stranger), body, &headers).await.refused(404, "workspace not found");

    let path = format!("/api/attachments/{}", id(&foreign));
    for missing in [path.clone(), format!("/api/attachments/{}", Uuid::new_v4())] {
        for (method, path) in [("GET", missing.clone()), ("GET", format!("{missing}/content")), ("DELETE", missing)] {
            hub.cli(method, &path, Value::Null).await.refused(404, "attachment not found");
            hub.call(method, &path, Some(&stranger), Value::Null).await.refused(404, "attachment not found");
        }
    }
    for method in ["GET", "DELETE"] {
        hub.cli(method, "/api/attachments/x", Value::Null).await.refused(400, "invalid attachment_id");
    }
    until("nothing of them is left", async || hub.fingerprint().await == before).await;
    assert_eq!(hub.get(&path).await.expect(200), foreign, "by its bare address, for who may");
}
