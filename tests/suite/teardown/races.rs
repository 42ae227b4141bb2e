//! Removals against everything that may happen at the same time, at two nodes. Whoever comes first
//! wins, and nothing is ever half there.

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::cascade;
use crate::{
    support::{
        Hub,
        fleet::beat_status,
        hub::{Answer, id},
        postgres,
        race::{rounds, some_time, two},
    },
    tasks::{desk, support as given},
};

async fn after<T>(most: u64, what: impl Future<Output = T>) -> T {
    some_time(most).await;
    what.await
}

fn no_trouble(round: usize, answers: &[&Answer]) {
    for answer in answers {
        assert!(answer.status < 500, "round {round}: {} {}", answer.status, answer.text);
    }
}

/// Nothing points to what is gone, nothing is to be done where nobody can do it.
async fn is_whole(hub: &Hub, round: usize) {
    const BROKEN: &str = "
        SELECT 'task ' || t.status FROM task t
        WHERE t.runtime_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM agent_runtime r WHERE r.id = t.runtime_id)
        UNION ALL SELECT 'homeless ' || t.status FROM task t
        WHERE t.runtime_id IS NULL AND t.status NOT IN ('completed', 'failed', 'cancelled')
        UNION ALL SELECT 'ownerless ' || t.status FROM task t
        WHERE t.status NOT IN ('completed', 'failed', 'cancelled')
          AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = t.agent_id AND a.archived_at IS NULL)
        UNION ALL SELECT 'token' FROM task_token k JOIN task t ON t.id = k.task_id
        WHERE t.status IN ('completed', 'failed', 'cancelled')";
    assert_eq!(hub.rows(BROKEN).await, [""; 0], "round {round}");
}

/// So many lines of the shared server's log say so; other cases' deadlocks are none of ours, but there
/// must be none at all.
fn deadlocks() -> usize {
    postgres::shared().log().matches("deadlock detected").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_come_during_a_cascade_come_before_it_or_not_at_all() {
    let (a, b) = two(&[]).await;
    let before = deadlocks();
    let mut first = 0;
    for round in 0..rounds(10) {
        let stays = a.register(&format!("stays {round}"), &["claude"]).await[0];
        let runtime = a.register(&format!("d{round}"), &["claude"]).await[0];
        let name = |what: &str| format!("{what} {round}");
        let confirmed = desk::agent(&a, runtime, &name("confirmed"), "workspace").await;
        let moving = desk::agent(&a, stays, &name("moving"), "workspace").await;
        let aside = desk::agent(&a, runtime, &name("aside"), "workspace").await;
        a.cli("POST", &format!("/api/agents/{aside}/archive"), Value::Null).await.expect(200);
        let task = desk::wish(&a, &a.token, confirmed).await;
        let create = json!({ "name": name("late"), "runtime_id": runtime });
        let plan = [confirmed];
        let (put, restore) = (format!("/api/agents/{moving}"), format!("/api/agents/{aside}/restore"));
        let (torn, created, moved, restored, wished) = tokio::join!(
            after(8000, cascade(&a, runtime, &plan)),
            after(8000, b.cli("POST", "/api/agents", create)),
            after(8000, b.cli("PUT", &put, json!({ "runtime_id": runtime }))),
            after(8000, a.cli("POST", &restore, Value::Null)),
            after(8000, b.cli("POST", "/api/issues/quick-create", json!({ "prompt": "p", "agent_id": confirmed }))),
        );
        no_trouble(round, &[&torn, &created, &moved, &restored, &wished]);
        let agents = a.cli("GET", "/api/agents?include_archived=true", Value::Null).await.expect(200);
        let agents = agents.as_array().unwrap();
        let find = |agent: Uuid| agents.iter().find(|row| id(row) == agent);
        let mover = find(moving).expect("nobody wanted this one removed");
        assert_eq!(mover["archived_at"], Value::Null, "round {round}");
        if torn.status == 200 {
            first += 1;
            assert_eq!((created.status, moved.status, restored.status), (400, 400, 404), "round {round}");
            assert!(find(confirmed).is_none() && find(aside).is_none(), "round {round}");
            assert!(a.runtime(runtime).await.is_none());
            assert_eq!(mover["runtime_id"], json!(stays));
            assert_eq!(desk::status(&b, task).await, "cancelled");
        } else {
            assert_eq!(torn.json()["code"], "runtime_delete_plan_changed", "round {round}: {}", torn.text);
            assert!(a.runtime(runtime).await.is_some());
            assert_eq!((created.status, moved.status, restored.status), (201, 200, 200), "round {round}");
            assert_eq!(find(confirmed).unwrap()["archived_at"], Value::Null);
            assert_eq!(desk::status(&b, task).await, "queued");
            // With what it would be now, it goes.
            let now: Vec<Uuid> = agents
                .iter()
                .filter(|row| row["runtime_id"] == json!(runtime) && row["archived_at"].is_null())
                .map(id)
                .collect();
            cascade(&b, runtime, &now).await.expect(200);
        }
        let rest: &[Uuid] = if torn.status == 200 { &[moving] } else { &[] };
        cascade(&b, stays, rest).await.expect(200);
        assert_eq!(a.rows("SELECT name FROM agent").await, [""; 0], "round {round}");
        is_whole(&a, round).await;
    }
    println!("the removal came first {first} times");
    assert_eq!(deadlocks(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_removals_of_one_runtime_one_happens() {
    let (a, b) = two(&[]).await;
    let before = deadlocks();
    for round in 0..rounds(10) {
        let runtimes = a.register(&format!("d{round}"), &["claude", "codex"]).await;
        let here = desk::agent(&a, runtimes[0], &format!("here {round}"), "workspace").await;
        let there = desk::agent(&a, runtimes[1], &format!("there {round}"), "workspace").await;
        // Each has left work where the other one is.
        for (agent, to) in [(here, runtimes[1]), (there, runtimes[0])] {
            for _ in 0..3 {
                let issue = json!({ "title": Uuid::new_v4(), "assignee_type": "agent", "assignee_id": agent });
                a.cli("POST", "/api/issues", issue).await.expect(201);
            }
            a.cli("PUT", &format!("/api/agents/{agent}"), json!({ "runtime_id": to })).await.expect(200);
        }
        let strict = format!("/api/runtimes/{}", runtimes[0]);
        let (plan, neighbours) = ([there], [here]);
        let (first, second, third, crossed) = tokio::join!(
            after(4000, cascade(&a, runtimes[0], &plan)),
            after(4000, cascade(&b, runtimes[0], &plan)),
            after(4000, b.delete(&strict)),
            // The neighbour, with which it shares agents and tasks.
            after(4000, cascade(&b, runtimes[1], &neighbours)),
        );
        no_trouble(round, &[&first, &second, &third, &crossed]);
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404], "round {round}");
        assert!([404, 409].contains(&third.status), "round {round}: {}", third.text);
        assert_eq!(crossed.status, 200, "round {round}: {}", crossed.text);
        let ended = |answer: &Answer| answer.json()["tasks_cancelled"].as_u64().unwrap_or(0);
        assert_eq!(ended(&first) + ended(&second) + ended(&crossed), 6, "each task ends once");
        is_whole(&a, round).await;
    }
    assert_eq!(a.rows("SELECT 'x' FROM agent").await, [""; 0]);
    assert_eq!(deadlocks(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_claimed_from_a_runtime_that_is_gone() {
    let (a, b) = two(&[]).await;
    let before = deadlocks();
    let mut first = 0;
    for round in 0..rounds(8) {
        let runtime = a.register(&format!("d{round}"), &["claude"]).await[0];
        let mut agents = Vec::new();
        for n in 0..4 {
            agents.push(desk::agent(&a, runtime, &format!("{round} {n}"), "workspace").await);
            for _ in 0..3 {
                let issue = json!({ "title": Uuid::new_v4(), "assignee_type": "agent", "assignee_id": agents[n] });
                a.cli("POST", "/api/issues", issue).await.expect(201);
            }
        }
        let ask = |n: usize| {
            let hub = if n.is_multiple_of(2) { &a } else { &b };
            after(30_000, given::ask(hub, &hub.token, runtime))
        };
        let finish = async |answer: Answer| {
            // Whoever got one goes on with it, whatever became of it.
            let Some(task) = Some(answer.json()["task"].clone()).filter(Value::is_object) else { return answer };
            let path = format!("/api/daemon/tasks/{}", id(&task));
            let started = b.post(&format!("{path}/start"), json!({})).await;
            assert!(started.status < 500, "{}", started.text);
            let ended = b.post(&format!("{path}/complete"), json!({ "output": "o" })).await;
            assert!(ended.status < 500, "{}", ended.text);
            answer
        };
        let claims = join_all((0..10).map(|n| async move { finish(ask(n).await).await }));
        let (torn, claims) = tokio::join!(after(30_000, cascade(&a, runtime, &agents)), claims);
        torn.expect(200);
        let mut given = 0;
        for answer in &claims {
            assert!([200, 404].contains(&answer.status), "round {round}: {} {}", answer.status, answer.text);
            given += usize::from(answer.status == 200 && answer.json()["task"].is_object());
        }
        let begun = a.rows("SELECT status FROM task WHERE dispatched_at IS NOT NULL").await.len();
        assert!(begun >= given, "round {round}");
        first += given;
        is_whole(&a, round).await;
        given::ask(&b, &b.token, runtime).await.refused(404, "runtime not found");
        a.sql("DELETE FROM task").await;
    }
    println!("{first} tasks were claimed before");
    assert_eq!(deadlocks(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_and_registrations_during_a_removal_leave_no_ghost() {
    let (a, b) = two(&[]).await;
    let before = deadlocks();
    let mut first = 0;
    for round in 0..rounds(10) {
        let daemon = format!("d{round}");
        let runtime = a.register(&daemon, &["claude"]).await[0];
        if round % 2 == 0 {
            // A beat that would bring it back, and be written.
            a.sql("UPDATE agent_runtime SET status = 'offline', offline_cause = 'stale', offline_at = 1").await;
            b.app.forget_beliefs();
        }
        let path = format!("/api/runtimes/{runtime}");
        let (removed, beat, registered) = tokio::join!(
            after(5000, a.delete(&path)),
            after(5000, beat_status(&b, runtime)),
            after(5000, b.register(&daemon, &["claude"])),
        );
        removed.expect(200);
        assert!([200, 404].contains(&beat), "round {round}: {beat}");
        let row = a.runtime(registered[0]).await;
        if registered[0] == runtime {
            first += 1;
            assert!(row.is_none(), "round {round}: it was registered before, and is gone");
        } else {
            assert_eq!(row.expect("the new row")["status"], "online", "round {round}");
        }
        assert!(a.runtime(runtime).await.is_none(), "round {round}");
        for hub in [&a, &b] {
            assert_eq!(beat_status(hub, runtime).await, 404, "round {round}");
        }
    }
    println!("the registration came first {first} times");
    assert_eq!(deadlocks(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_removed_while_they_bind_and_register_leaves_nothing_at_work() {
    let (a, b) = two(&[]).await;
    let before = deadlocks();
    let mut first = 0;
    for round in 0..rounds(8) {
        let email = format!("m{round}@example.com");
        let token = a.member(&email, "member").await;
        let daemon = format!("d{round}");
        let runtime = a.register_as(&token, a.workspace, &daemon, &["claude"]).await[0];
        let wish = json!({ "name": format!("first {round}"), "runtime_id": runtime, "visibility": "workspace" });
        let agent = id(&a.cli_as(&token, "POST", "/api/agents", wish).await.expect(201));
        let late = json!({ "name": format!("late {round}"), "runtime_id": runtime });
        let body = json!({
            "workspace_id": a.workspace, "daemon_id": daemon,
            "runtimes": [{ "type": "claude", "status": "online" }, { "type": "codex", "status": "online" }],
        });
        let members = format!("/api/workspaces/{}/members/{}", a.workspace, super::scene::member_id(&a, &email).await);
        let (removed, bound, registered, wished, claimed) = tokio::join!(
            after(8000, a.delete(&members)),
            after(8000, b.cli_as(&token, "POST", "/api/agents", late)),
            after(8000, b.call("POST", "/api/daemon/register", Some(&token), body)),
            after(8000, b.cli("POST", "/api/issues/quick-create", json!({ "prompt": "p", "agent_id": agent }))),
            after(8000, given::ask(&b, &token, runtime)),
        );
        no_trouble(round, &[&bound, &registered, &wished, &claimed]);
        removed.expect(204);
        assert!([201, 404].contains(&bound.status), "round {round}: {}", bound.text);
        assert!([200, 404].contains(&registered.status), "round {round}: {}", registered.text);
        first += usize::from(bound.status == 201) + usize::from(registered.status == 200);
        let online = a.rows("SELECT 'x' FROM agent_runtime WHERE status = 'online'").await;
        assert_eq!(online, [""; 0], "round {round}: a stranger's runtime is online");
        assert_eq!(a.rows("SELECT name FROM agent WHERE archived_at IS NULL").await, [""; 0], "round {round}");
        is_whole(&a, round).await;
    }
    println!("they bound or registered before {first} times");
    assert_eq!(deadlocks(), before);
}
