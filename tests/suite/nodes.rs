//! Two nodes on one PostgreSQL and one Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Hub, Socket,
    fleet::{acked, beat_status, status},
    hub::id,
    race::{self, rounds},
    until,
};

/// Quick flushes and graces, the chain kept.
const QUICK: &[(&str, &str)] = &[("HEARTWIRE_FLUSH_TICK", "1s")];

async fn two() -> (Hub, Hub) {
    race::two(QUICK).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_one_node_reaches_the_browsers_of_both_once_and_in_order() {
    let (a, b) = two().await;
    let (mut at_a, _) = a.browser().await;
    let (mut at_b, _) = b.browser().await;
    let counts = [(a.workspace, 1)];
    let writers = async |hub: &Hub| {
        for _ in 0..50 {
            hub.app.emit(&counts, "x", 0).await.unwrap();
        }
    };
    let began = Instant::now();
    tokio::join!(writers(&a), writers(&b));
    // One too large for a publication is read from the log.
    b.app.emit(&counts, "large", 100_000).await.unwrap();
    a.app.emit(&counts, "last", 0).await.unwrap();
    for browser in [&mut at_a, &mut at_b] {
        for seq in 1..=102 {
            assert_eq!(browser.next().await["seq"], seq);
        }
        browser.quiet_for(Duration::from_millis(200)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_removed_and_the_revoked_lose_their_sockets_on_the_other_node() {
    let (a, b) = two().await;
    let token = a.member("m@example.com", "member").await;
    let runtime = b.register_as(&token, b.workspace, "d", &["claude"]).await[0];
    let mut daemon = Socket::open(&b.daemon_url(&[runtime]), Some(&token)).await;
    acked(&mut daemon, runtime).await;
    let mut browser = Socket::open(&b.ws(&format!("/ws?workspace_id={}", b.workspace)), None).await;
    browser.send(json!({ "type": "auth", "payload": { "token": token } })).await;
    assert_eq!(browser.next().await["type"], "auth_ack");
    let made = a.post("/api/tokens", json!({ "name": "t" })).await.expect(201);
    let mut mine = Socket::open(&b.ws(&format!("/ws?workspace_id={}", b.workspace)), None).await;
    mine.send(json!({ "type": "auth", "payload": { "token": made["token"] } })).await;
    assert_eq!(mine.next().await["type"], "auth_ack");

    let members = a.get(&format!("/api/workspaces/{}/members", a.workspace)).await.expect(200);
    let member = id(members.as_array().unwrap().iter().find(|m| m["email"] == "m@example.com").unwrap());
    a.delete(&format!("/api/workspaces/{}/members/{member}", a.workspace)).await.expect(204);
    assert_eq!(browser.next_of("member:removed").await["payload"]["member_id"], json!(member));
    assert_eq!(browser.closed().await.0, 4502);
    assert_eq!(daemon.closed().await.0, 4502);
    let beat = json!({ "runtime_id": runtime });
    b.call("POST", "/api/daemon/heartbeat", Some(&token), beat).await.refused(404, "not found");

    a.delete(&format!("/api/tokens/{}", made["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(mine.closed().await.0, 4502);
    until("the token is worth nothing there", async || {
        b.call("GET", "/api/me", made["token"].as_str(), Value::Null).await.status == 401
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_ended_at_one_node_is_known_at_the_other_with_the_next_beat() {
    let (a, b) = two().await;
    let runtimes = b.register("d", &["deregistered", "deleted"]).await;
    let mut socket = b.daemon(&runtimes).await;
    for runtime in &runtimes {
        acked(&mut socket, *runtime).await;
    }
    a.delete(&format!("/api/runtimes/{}", runtimes[1])).await.expect(200);
    let gone = socket.next_of("daemon:heartbeat_ack").await;
    assert_eq!(
        (&gone["payload"]["status"], &gone["payload"]["runtime_id"]),
        (&json!("runtime_gone"), &json!(runtimes[1]))
    );
    a.post("/api/daemon/deregister", json!({ "runtime_ids": [runtimes[0]] })).await.expect(200);
    until("the socket does not bring it back", async || {
        socket.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtimes[0] } })).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        status(&b, runtimes[0]).await == "offline"
    })
    .await;
    assert_eq!(beat_status(&b, runtimes[1]).await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_control_message_the_touch_or_the_flush_tells() {
    let (a, b) = two().await;
    let runtimes = b.register("d", &["deregistered", "deleted", "quietly"]).await;
    for runtime in &runtimes {
        assert_eq!(beat_status(&b, *runtime).await, 200);
    }
    b.app.deafen();
    a.post("/api/daemon/deregister", json!({ "runtime_ids": [runtimes[0]] })).await.expect(200);
    a.delete(&format!("/api/runtimes/{}", runtimes[1])).await.expect(200);
    // Their leases were forgotten with them, so the touch finds nothing and reads the row.
    assert_eq!(beat_status(&b, runtimes[1]).await, 404);
    assert_eq!(beat_status(&b, runtimes[0]).await, 200, "a request that began later brings it back");
    assert_eq!(status(&a, runtimes[0]).await, "online");
    // A change that left the lease alone is noticed by the flush.
    a.sql_unnoticed(
        "UPDATE agent_runtime SET status = 'offline', offline_cause = 'revoked' WHERE provider = 'quietly'",
    )
    .await;
    b.app.advance_clock(Duration::from_secs(61));
    assert_eq!(beat_status(&b, runtimes[2]).await, 200);
    b.app.flush().await;
    assert_eq!(beat_status(&b, runtimes[2]).await, 200);
    assert_eq!(status(&a, runtimes[2]).await, "offline", "revoked ends by registration only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_moves_to_the_other_node_never_goes_offline() {
    let (a, b) = two().await;
    let runtime = a.register("d", &["claude"]).await[0];
    let (mut browser, _) = b.browser().await;
    let mut at_a = a.daemon(&[runtime]).await;
    acked(&mut at_a, runtime).await;
    at_a.cut();
    until("A suspects it", async || a.app.suspected() == 1).await;
    assert_eq!(b.runtime(runtime).await.unwrap()["presence"], "reconnecting", "any node can show it");
    let mut at_b = b.daemon(&[runtime]).await;
    acked(&mut at_b, runtime).await;
    a.app.advance_clock(Duration::from_secs(40));
    a.app.judge().await;
    assert_eq!(a.app.suspected(), 0);
    assert_eq!(status(&a, runtime).await, "online");
    browser.quiet_for(Duration::from_millis(300)).await;
    // And one that does not come back anywhere is told to the browsers of both.
    at_b.cut();
    until("B suspects it", async || b.app.suspected() == 1).await;
    b.app.advance_clock(Duration::from_secs(40));
    b.app.judge().await;
    assert_eq!(browser.next_of("daemon:register").await["payload"]["action"], "offline");
    assert_eq!(status(&a, runtime).await, "offline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_against_beats_at_the_other_node_end_as_the_beats_say() {
    let (a, b) = two().await;
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    let runtimes = a.register("d", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for round in 0..rounds(8) {
        let mut socket = a.daemon(&runtimes).await;
        for runtime in &runtimes {
            socket.send(json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } })).await;
        }
        for _ in &runtimes {
            socket.next_of("daemon:heartbeat_ack").await;
        }
        socket.cut();
        until("A suspects them", async || a.app.suspected() == runtimes.len()).await;
        a.app.advance_clock(Duration::from_secs(31));
        // Half of them beat at B while A judges.
        let beats = runtimes[..4].iter().map(|runtime| beat_status(&b, *runtime));
        let (statuses, ()) = tokio::join!(futures_util::future::join_all(beats), a.app.judge());
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        for runtime in &runtimes[..4] {
            until("who beat is online", async || status(&a, *runtime).await == "online").await;
        }
        for runtime in &runtimes[4..] {
            assert_eq!(status(&a, *runtime).await, "offline", "round {round}");
        }
        let back = runtimes[4..].iter().map(|runtime| beat_status(&b, *runtime));
        futures_util::future::join_all(back).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_against_beats_and_registrations_never_leave_the_living_offline() {
    let (a, b) = two().await;
    let runtimes = a.register("d", &["beats", "registers", "dead"]).await;
    for round in 0..rounds(15) {
        a.sql("UPDATE agent_runtime SET last_seen_at = last_seen_at - 1000000000").await;
        b.app.forget_beliefs();
        for runtime in &runtimes {
            a.app.forget_lease(*runtime).await;
        }
        // Beyond the hold after the start.
        a.app.advance_clock(Duration::from_secs(if round == 0 { 151 } else { 1 }));
        let (_, swept, registered) =
            tokio::join!(beat_status(&b, runtimes[0]), a.app.sweep(), b.register("d", &["registers"]),);
        assert_eq!(registered, [runtimes[1]]);
        assert!(swept.0 >= 1, "round {round}: {swept:?}");
        // Whatever came first: the next beat settles it.
        assert_eq!(beat_status(&b, runtimes[0]).await, 200);
        assert_eq!(status(&a, runtimes[0]).await, "online", "round {round}");
        assert_eq!(beat_status(&a, runtimes[1]).await, 200);
        assert_eq!(status(&a, runtimes[1]).await, "online", "round {round}");
        assert_eq!(status(&a, runtimes[2]).await, "offline", "round {round}");
        assert_eq!(beat_status(&a, runtimes[2]).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deregistration_against_late_beats_of_an_older_socket_ends_offline() {
    let (a, b) = two().await;
    let runtime = a.register("d", &["claude"]).await[0];
    for round in 0..rounds(10) {
        assert_eq!(a.register("d", &["claude"]).await, [runtime]);
        let mut socket = b.daemon(&[runtime]).await;
        acked(&mut socket, runtime).await;
        let beat = json!({ "type": "daemon:heartbeat", "payload": { "runtime_id": runtime } });
        let late = async {
            for _ in 0..5 {
                socket.send(beat.clone()).await;
                tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
            }
        };
        let (_, ()) = tokio::join!(a.post("/api/daemon/deregister", json!({ "runtime_ids": [runtime] })), late);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(status(&a, runtime).await, "offline", "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_belief_that_a_runtime_is_offline_does_not_outlive_its_return() {
    let (a, b) = two().await;
    let runtime = a.register("d", &["claude"]).await[0];
    b.app.deafen();
    a.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale', offline_at = 1").await;
    b.app.forget_beliefs();
    // B reads that it is offline, and A has brought it back when B is about to.
    let later = async {
        tokio::time::sleep(Duration::from_millis(120)).await;
        beat_status(&b, runtime).await
    };
    assert_eq!(tokio::join!(beat_status(&a, runtime), later), (200, 200));
    assert_eq!(status(&a, runtime).await, "online");
    beat_status(&b, runtime).await;
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = b.app.statements();
        for _ in 0..5 {
            assert_eq!(beat_status(&b, runtime).await, 200);
        }
        least = least.min(b.app.statements() - before);
    }
    assert!(least <= 2, "{least} statements for five beats");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_removed_lose_their_daemon_s_sockets_though_nobody_told_their_node() {
    let (a, b) = two().await;
    let token = a.member("m@example.com", "member").await;
    let runtime = b.register_as(&token, b.workspace, "d", &["claude"]).await[0];
    let mut socket = Socket::open(&b.daemon_url(&[runtime]), Some(&token)).await;
    acked(&mut socket, runtime).await;
    let other = b.register("e", &["claude"]).await[0];
    let mut stays = b.daemon(&[other]).await;
    b.app.deafen();
    let members = a.get(&format!("/api/workspaces/{}/members", a.workspace)).await.expect(200);
    let member = id(members.as_array().unwrap().iter().find(|m| m["email"] == "m@example.com").unwrap());
    a.delete(&format!("/api/workspaces/{}/members/{member}", a.workspace)).await.expect(204);
    b.app.recheck().await.unwrap();
    assert_eq!(socket.closed().await.0, 4502);
    acked(&mut stays, other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_changes_at_one_node_is_told_to_the_daemons_of_both_once() {
    let (a, b) = two().await;
    let runtime = a.register("d", &["claude"]).await[0];
    let (mut at_a, mut at_b) = (a.daemon(&[runtime]).await, b.daemon(&[runtime]).await);
    let wish = json!({ "display_name": "P", "protocol_family": "claude", "command_name": "c" });
    let made = a.post(&format!("/api/workspaces/{}/runtime-profiles", a.workspace), wish).await.expect(201);
    for socket in [&mut at_a, &mut at_b] {
        let hint = socket.next_of("daemon:runtime_profiles_changed").await;
        assert_eq!(hint["payload"], json!({ "workspace_id": a.workspace, "runtime_profile_id": made["id"] }));
        socket.quiet_for(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_beside_the_end_of_their_profile_leave_nothing_behind() {
    let (a, b) = two().await;
    let path = format!("/api/workspaces/{}/runtime-profiles", a.workspace);
    for round in 0..rounds(10) {
        let wish = json!({ "display_name": format!("P{round}"), "protocol_family": "claude", "command_name": "c" });
        let profile = id(&a.post(&path, wish).await.expect(201));
        let body = |daemon: &str| json!({ "workspace_id": a.workspace, "daemon_id": daemon, "runtimes": [{ "profile_id": profile }] });
        b.post("/api/daemon/register", body("before")).await.expect(200);
        let one = format!("{path}/{profile}");
        let (ended, at_a, at_b) = tokio::join!(
            a.delete(&one),
            a.post("/api/daemon/register", body("d")),
            b.post("/api/daemon/register", body("before")),
        );
        assert_eq!(ended.status, 204, "{}", ended.text);
        for registered in [at_a, at_b] {
            if registered.status != 200 {
                registered.refused(400, &format!("unknown runtime profile: {profile}"));
            }
        }
        let left = a.rows("SELECT 'x' FROM agent_runtime WHERE profile_id IS NOT NULL").await;
        assert!(left.is_empty(), "round {round}: {}", left.len());
    }
}
