//! The command line, as a process of its own beside a running hub.

use std::process::Command;

use serde_json::json;

use crate::support::{Backend, Hub};

on_both_stores!(
    a_member_added_beside_the_hub_is_seen_by_its_browsers,
    people_workspaces_and_tokens_are_made_on_the_command_line,
    commands_that_cannot_be_done_say_why,
);

async fn a_member_added_beside_the_hub_is_seen_by_its_browsers(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (mut browser, _) = hub.browser().await;
    hub.admin(&["create-user", "--email", "New@Example.com", "--name", "New"]).await;
    let added = hub.admin(&["add-member", "--workspace", "home-base", "--user", "new@example.com"]).await;
    let began = std::time::Instant::now();
    let event = browser.next().await;
    assert!(began.elapsed().as_secs() < 10, "within seconds");
    assert_eq!(event["type"], "member:added");
    assert_eq!(event["payload"]["member"]["id"], added["id"]);
    assert_eq!(event["payload"]["member"]["email"], "new@example.com");
    assert_eq!(event["payload"]["member"]["role"], "member");
    assert_eq!(event["payload"]["workspace_name"], "Home");
    // What the hub itself commits afterwards comes after it.
    hub.register("d", &["claude"]).await;
    assert_eq!(browser.next().await["seq"], json!(event["seq"].as_u64().unwrap() + 1));
}

async fn people_workspaces_and_tokens_are_made_on_the_command_line(backend: Backend) {
    let hub = Hub::start(backend).await;
    let user = hub.admin(&["create-user", "--email", "a@example.com", "--name", "A"]).await;
    let home =
        hub.admin(&["create-workspace", "--name", "Second", "--slug", "second", "--owner", "a@example.com"]).await;
    let token = hub.admin(&["create-token", "--user", "a@example.com", "--name", "laptop"]).await;
    let token = token["token"].as_str().unwrap();
    let me = hub.call("GET", "/api/me", Some(token), json!(null)).await.expect(200);
    assert_eq!(me["id"], user["id"]);
    let workspaces = hub.call("GET", "/api/workspaces", Some(token), json!(null)).await.expect(200);
    assert_eq!(workspaces[0]["id"], home["id"]);
    assert_eq!(workspaces.as_array().map(Vec::len), Some(1));
}

async fn commands_that_cannot_be_done_say_why(backend: Backend) {
    let hub = Hub::start(backend).await;
    for (arguments, says) in [
        (vec!["create-user", "--email", "nonsense", "--name", "A"], "invalid email"),
        (vec!["create-user", "--email", "OWNER@localhost", "--name", "A"], "already exists"),
        (vec!["create-token", "--user", "nobody@example.com", "--name", "t"], "nobody has the address"),
        (vec!["add-member", "--workspace", "nowhere", "--user", "owner@localhost"], "there is no workspace nowhere"),
        (vec!["add-member", "--workspace", "home-base", "--user", "owner@localhost"], "already a member"),
        (vec!["add-member", "--workspace", "home-base", "--user", "owner@localhost", "--role", "king"], "the role is"),
    ] {
        let output = hub.admin_process(&arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

fn heartwire(arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_heartwire"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("heartwire")
}

#[test]
fn check_config_explains_or_refuses() {
    let output = heartwire(
        &["check-config", "--listen", "127.0.0.1:9"],
        &[("DATABASE_URL", "postgres://u:secret@h/d"), ("HEARTWIRE_BROWSER_PING", "20")],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for line in ["server.listen", "127.0.0.1:9", "flag", "postgres://…@h/d", "environment", "default"] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
    assert!(!text.contains("secret"));
    let output = heartwire(&["check-config"], &[("HEARTWIRE_BROWSER_PING", "soon")]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sockets.browser_ping"));
}

#[tokio::test]
async fn two_hubs_do_not_share_a_data_folder() {
    let hub = Hub::start(Backend::Sqlite).await;
    let second = heartwire::app::App::start(hub.config.clone()).await.err().expect("refused");
    assert!(second.to_string().contains("another hub uses the data folder"), "{second}");
}

#[test]
fn limits_that_would_call_the_living_dead_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let environment = [("HEARTWIRE_FLUSH_TICK", "120s"), ("HEARTWIRE_DATA_DIR", dir.path().to_str().unwrap())];
    for command in ["check-config", "serve"] {
        let output = heartwire(&[command], &environment);
        assert!(!output.status.success(), "{command} accepted it");
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(
            says.contains("flush_after (60s) + beat_interval (15s) + 2 x flush_tick (120s) <= stale_after (150s)"),
            "{says}"
        );
    }
    let explained = String::from_utf8(heartwire(&["check-config"], &[]).stdout).unwrap();
    assert!(explained.contains("2 x flush_tick (30s) <= stale_after (150s)"), "{explained}");
}

#[tokio::test]
async fn a_first_start_on_a_taken_port_makes_nothing_that_is_told_only_once() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let busy = crate::support::hub::config(dir.path().to_path_buf(), None, &[("HEARTWIRE_LISTEN", &address)]);
    let refused = heartwire::app::App::start(busy).await.err().expect("the port is taken").to_string();
    assert!(refused.contains(&address), "{refused}");
    let free = crate::support::hub::config(dir.path().to_path_buf(), None, &[]);
    let app = heartwire::app::App::start(free).await.unwrap();
    assert!(app.first_token().is_some(), "the first owner was made unseen");
    app.stop().await;
}
