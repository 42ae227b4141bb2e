//! What silence means: the sweep, the brakes, and when nothing may be concluded from it. Time is
//! moved, not waited for.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    fleet::{acked, http_beat, status, suspected},
    until,
};

on_all_stores!(
    a_stale_row_without_a_lease_is_swept_and_one_with_a_lease_is_not,
    old_evidence_is_held_back_after_a_start,
    runtimes_that_nobody_came_back_to_are_removed_after_a_week,
    a_runtime_with_agents_stays_and_keeps_no_other_from_going,
    trouble_in_one_workspace_keeps_no_other_from_being_swept,
    a_hub_that_stood_still_says_nothing_about_silence,
    many_daemons_that_vanish_at_once_pull_the_brake,
    one_machine_with_many_runtimes_does_not_pull_the_brake,
    a_silence_that_spreads_pulls_the_brake,
    the_sweep_s_brake_works_again_after_it_has_let_go,
    the_brake_sees_the_whole_of_a_large_fleet,
);

const OLD: &str = "UPDATE agent_runtime SET last_seen_at = last_seen_at - 1000000000";

/// Makes everything look dead to the sweep.
async fn age(hub: &Hub, runtimes: &[Uuid]) {
    hub.sql(OLD).await;
    for runtime in runtimes {
        hub.app.forget_lease(*runtime).await;
    }
}

async fn verdicts(hub: &Hub) -> Value {
    hub.call("GET", "/readyz", None, Value::Null).await.expect(200)["checks"]["verdicts"].clone()
}

async fn a_stale_row_without_a_lease_is_swept_and_one_with_a_lease_is_not(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["dead", "alive"]).await;
    let (mut browser, _) = hub.browser().await;
    hub.sql("UPDATE agent_runtime SET last_seen_at = last_seen_at - 1000000000").await;
    hub.app.advance_clock(Duration::from_secs(151));
    // A touch whose row has not been flushed yet; the other one's lease is removed with its end.
    http_beat(&hub, runtimes[1]).await;
    hub.app.forget_lease(runtimes[0]).await;
    assert_eq!(hub.app.sweep().await, (1, 0));
    assert_eq!(status(&hub, runtimes[0]).await, "offline");
    assert_eq!(status(&hub, runtimes[1]).await, "online");
    let event = browser.next_of("daemon:register").await;
    assert_eq!(event["payload"], json!({ "action": "stale_sweep", "runtime_ids": [runtimes[0]] }));
    assert_eq!(hub.rows("SELECT offline_cause FROM agent_runtime WHERE status = 'offline'").await, ["stale"]);
    assert_eq!(hub.app.sweep().await, (0, 0), "once");
}

async fn old_evidence_is_held_back_after_a_start(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    hub.sql("UPDATE agent_runtime SET last_seen_at = last_seen_at - 1000000000").await;
    hub.app.forget_lease(runtime).await;
    assert_eq!(hub.app.sweep().await, (0, 0), "the hub has just begun");
    hub.app.advance_clock(Duration::from_secs(140));
    assert_eq!(hub.app.sweep().await, (0, 0));
    hub.app.advance_clock(Duration::from_secs(11));
    assert_eq!(hub.app.sweep().await, (1, 0));
    assert_eq!(status(&hub, runtime).await, "offline");
}

async fn runtimes_that_nobody_came_back_to_are_removed_after_a_week(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["old", "new"]).await;
    let (mut browser, _) = hub.browser().await;
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": runtimes })).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(7 * 86_400 + 1));
    http_beat(&hub, runtimes[1]).await;
    assert_eq!(status(&hub, runtimes[1]).await, "online");
    assert_eq!(hub.app.sweep().await.1, 1);
    assert!(hub.runtime(runtimes[0]).await.is_none());
    let event = loop {
        let event = browser.next_of("daemon:register").await;
        if event["payload"]["action"] == "runtime_gc" {
            break event;
        }
    };
    assert_eq!(event["payload"]["runtime_ids"], json!([runtimes[0]]));
    hub.post("/api/daemon/heartbeat", json!({ "runtime_id": runtimes[0] })).await.refused(404, "runtime not found");
}

async fn many_daemons_that_vanish_at_once_pull_the_brake(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut sockets = Vec::new();
    for index in 0..20 {
        let runtime = hub.register(&format!("daemon-{index}"), &["claude"]).await[0];
        let mut socket = hub.daemon(&[runtime]).await;
        acked(&mut socket, runtime).await;
        sockets.push((runtime, socket));
    }
    let rest = sockets.split_off(12);
    let gone: Vec<Uuid> = sockets.iter().map(|(runtime, _)| *runtime).collect();
    sockets.into_iter().for_each(|(_, socket)| socket.cut());
    suspected(&hub, 12).await;
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    for runtime in &gone {
        assert_eq!(status(&hub, *runtime).await, "online", "held");
    }
    let ready = hub.call("GET", "/readyz", None, Value::Null).await.expect(200);
    assert_eq!(ready["checks"]["verdicts"], "held");
    // A fifth of them comes back: the brake lets go, with a fresh grace.
    for runtime in &gone[..3] {
        http_beat(&hub, *runtime).await;
    }
    hub.app.judge().await;
    hub.app.advance_clock(Duration::from_secs(20));
    hub.app.judge().await;
    assert_eq!(status(&hub, gone[5]).await, "online", "a fresh grace");
    hub.app.advance_clock(Duration::from_secs(11));
    hub.app.judge().await;
    for runtime in &gone[..3] {
        assert_eq!(status(&hub, *runtime).await, "online");
    }
    for runtime in &gone[3..] {
        assert_eq!(status(&hub, *runtime).await, "offline");
    }
    for (runtime, _) in &rest {
        assert_eq!(status(&hub, *runtime).await, "online");
    }
}

async fn one_machine_with_many_runtimes_does_not_pull_the_brake(backend: Backend) {
    let hub = Hub::start(backend).await;
    let names: Vec<String> = (0..15).map(|index| format!("p{index}")).collect();
    let providers: Vec<&str> = names.iter().map(String::as_str).collect();
    let laptop = hub.register("laptop", &providers).await;
    let mut socket = hub.daemon(&laptop).await;
    for runtime in &laptop {
        acked(&mut socket, *runtime).await;
    }
    let mut others = Vec::new();
    for index in 0..10 {
        let runtime = hub.register(&format!("desk-{index}"), &["claude"]).await[0];
        let mut socket = hub.daemon(&[runtime]).await;
        acked(&mut socket, runtime).await;
        others.push((runtime, socket));
    }
    socket.cut();
    suspected(&hub, 15).await;
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    for runtime in laptop {
        assert_eq!(status(&hub, runtime).await, "offline");
    }
    for (runtime, _) in &others {
        assert_eq!(status(&hub, *runtime).await, "online");
    }
}

async fn a_hub_that_stood_still_says_nothing_about_silence(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.app.advance_clock(Duration::from_secs(151));
    let runtimes = hub.register("d", &["socket", "http"]).await;
    let mut socket = hub.daemon(&runtimes[..1]).await;
    acked(&mut socket, runtimes[0]).await;
    socket.cut();
    suspected(&hub, 1).await;
    // Nothing was heard, and nothing could be.
    hub.app.oversleep(Duration::from_secs(200));
    hub.app.forget_lease(runtimes[1]).await;
    hub.app.judge().await;
    assert_eq!(hub.app.sweep().await, (0, 0));
    for runtime in &runtimes {
        assert_eq!(status(&hub, *runtime).await, "online");
    }
    hub.app.advance_clock(Duration::from_secs(31));
    hub.app.judge().await;
    assert_eq!(status(&hub, runtimes[0]).await, "offline", "a grace later");
    assert_eq!(hub.app.sweep().await, (0, 0));
    hub.app.advance_clock(Duration::from_secs(120));
    assert_eq!(hub.app.sweep().await, (1, 0), "a stale window later");
}

async fn the_sweep_s_brake_works_again_after_it_has_let_go(backend: Backend) {
    let hub = Hub::start(backend).await;
    let mut runtimes = Vec::new();
    for index in 0..12 {
        runtimes.extend(hub.register(&format!("daemon-{index}"), &["claude"]).await);
    }
    hub.app.advance_clock(Duration::from_secs(151));
    for round in 0..2 {
        age(&hub, &runtimes).await;
        assert_eq!(hub.app.sweep().await, (0, 0), "round {round}");
        assert_eq!(verdicts(&hub).await, "held");
        hub.app.advance_clock(Duration::from_secs(151));
        assert_eq!(hub.app.sweep().await, (0, 0), "a fresh grace: until the next sweep");
        assert_eq!(verdicts(&hub).await, "ok");
        assert_eq!(hub.app.sweep().await, (12, 0));
        for runtime in &runtimes {
            http_beat(&hub, *runtime).await;
        }
        assert_eq!(hub.app.sweep().await, (0, 0));
    }
}

async fn the_brake_sees_the_whole_of_a_large_fleet(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtime = hub.register("d", &["claude"]).await[0];
    let many = match backend {
        Backend::Sqlite => {
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10100)
             INSERT INTO agent_runtime (id, workspace_id, owner_id, daemon_id, daemon_id_folded, provider, name, status,
                                        last_seen_at, created_at, updated_at)
             SELECT randomblob(16), workspace_id, owner_id, 'd' || n, 'd' || n, 'x', 'x', 'online',
                    last_seen_at, created_at, updated_at FROM agent_runtime, n"
        }
        Backend::Postgres | Backend::PostgresRedis => {
            "INSERT INTO agent_runtime (id, workspace_id, owner_id, daemon_id, daemon_id_folded, provider, name, status,
                                        last_seen_at, created_at, updated_at)
             SELECT gen_random_uuid(), workspace_id, owner_id, 'd' || n, 'd' || n, 'x', 'x', 'online',
                    last_seen_at, created_at, updated_at FROM agent_runtime, generate_series(1, 10100) AS n"
        }
    };
    hub.sql(many).await;
    hub.app.advance_clock(Duration::from_secs(151));
    age(&hub, &[runtime]).await;
    assert_eq!(hub.app.sweep().await, (0, 0), "more than half of them, however many are written at once");
    assert_eq!(verdicts(&hub).await, "held");
    hub.app.advance_clock(Duration::from_secs(151));
    assert_eq!(hub.app.sweep().await, (0, 0));
    assert_eq!(hub.app.sweep().await, (5000, 0));
}

async fn a_silence_that_spreads_pulls_the_brake(backend: Backend) {
    let settings = [("HEARTWIRE_BEAT_INTERVAL", "5s"), ("HEARTWIRE_PEER_GRACE", "10s")];
    let hub = Hub::start_with(backend, &settings).await;
    let mut sockets = Vec::new();
    for index in 0..20 {
        let runtime = hub.register(&format!("daemon-{index}"), &["claude"]).await[0];
        let mut socket = hub.daemon(&[runtime]).await;
        acked(&mut socket, runtime).await;
        sockets.push((runtime, socket));
    }
    let mut vanish = async |count: usize| {
        let gone: Vec<_> = sockets.drain(..count).collect();
        let runtimes: Vec<Uuid> = gone.iter().map(|(runtime, _)| *runtime).collect();
        gone.into_iter().for_each(|(_, socket)| socket.cut());
        suspected(&hub, count).await;
        hub.app.advance_clock(Duration::from_secs(11));
        hub.app.judge().await;
        runtimes
    };
    for runtime in vanish(8).await {
        until("fewer than half are condemned", async || status(&hub, runtime).await == "offline").await;
    }
    // Six of the twelve that are left; fourteen of twenty.
    for runtime in vanish(6).await {
        assert_eq!(status(&hub, runtime).await, "online");
    }
    assert_eq!(verdicts(&hub).await, "held");
}

async fn a_runtime_with_agents_stays_and_keeps_no_other_from_going(backend: Backend) {
    let hub = Hub::start(backend).await;
    let runtimes = hub.register("d", &["bound", "free"]).await;
    let bind = match backend {
        Backend::Sqlite => {
            "INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, created_at, updated_at)
             SELECT randomblob(16), workspace_id, owner_id, id, 'A', 1, 1 FROM agent_runtime WHERE provider = 'bound'"
        }
        Backend::Postgres | Backend::PostgresRedis => {
            "INSERT INTO agent (id, workspace_id, owner_id, runtime_id, name, created_at, updated_at)
             SELECT gen_random_uuid(), workspace_id, owner_id, id, 'A', 1, 1
             FROM agent_runtime WHERE provider = 'bound'"
        }
    };
    hub.sql(bind).await;
    hub.post("/api/daemon/deregister", json!({ "runtime_ids": runtimes })).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(7 * 86_400 + 1));
    assert_eq!(hub.app.sweep().await.1, 1);
    assert!(hub.runtime(runtimes[0]).await.is_some());
    assert!(hub.runtime(runtimes[1]).await.is_none());
}

async fn trouble_in_one_workspace_keeps_no_other_from_being_swept(backend: Backend) {
    let hub = Hub::start(backend).await;
    let stuck = hub.register("stuck", &["claude"]).await[0];
    let other = hub.another_workspace("other").await;
    let free = hub.register_as(&hub.token, other, "free", &["claude"]).await[0];
    let trouble = match backend {
        Backend::Sqlite => {
            "CREATE TRIGGER refuse BEFORE UPDATE ON agent_runtime
             WHEN NEW.daemon_id = 'stuck' AND NEW.status = 'offline' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        Backend::Postgres | Backend::PostgresRedis => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''refused''; END';
             CREATE TRIGGER refuse BEFORE UPDATE ON agent_runtime FOR EACH ROW
             WHEN (NEW.daemon_id = 'stuck' AND NEW.status = 'offline') EXECUTE FUNCTION refuse()"
        }
    };
    hub.sql(trouble).await;
    hub.app.advance_clock(Duration::from_secs(151));
    age(&hub, &[stuck, free]).await;
    assert_eq!(hub.app.sweep().await, (1, 0));
    assert_eq!(hub.rows("SELECT daemon_id FROM agent_runtime WHERE status = 'offline'").await, ["free"]);
    // Nor is it trouble with the database.
    age(&hub, &hub.register_as(&hub.token, other, "next", &["claude"]).await).await;
    assert_eq!(hub.app.sweep().await, (1, 0));
}
