//! Autopilots at work: set off by hand and by the clock.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub, Socket,
    hub::{id, keys},
    until,
};

on_both_stores!(
    a_run_without_an_issue_is_a_task,
    a_run_with_an_issue_makes_one_and_has_it_done,
    a_squad_s_runs_are_its_leader_s,
    what_is_in_the_way_is_said_by_a_skipped_run,
    whoever_may_not_set_one_off_changes_nothing,
    schedules_set_autopilots_off_once_however_many_times_they_missed,
    what_is_not_to_run_does_not,
    one_that_cannot_run_keeps_no_other_from_it,
    many_are_due_at_once,
    dates_are_those_of_the_trigger_s_zone,
    texts_that_no_issue_could_hold_are_refused,
    an_autopilot_s_end_is_its_runs_end,
    a_new_node_takes_up_what_the_last_one_left_due,
);

const RUN: [&str; 13] = [
    "autopilot_id",
    "completed_at",
    "created_at",
    "failure_reason",
    "id",
    "issue_id",
    "result",
    "source",
    "status",
    "task_id",
    "trigger_id",
    "trigger_payload",
    "triggered_at",
];

/// An agent that is there.
struct Crew {
    runtime: Uuid,
    agent: Uuid,
}

async fn crew(hub: &Hub) -> Crew {
    let runtime = hub.register("d", &["claude"]).await[0];
    let wish = json!({ "name": "a", "runtime_id": runtime, "visibility": "workspace" });
    Crew { runtime, agent: id(&hub.cli("POST", "/api/agents", wish).await.expect(201)) }
}

/// An autopilot of an agent's.
async fn make(hub: &Hub, agent: Uuid, mode: &str) -> Value {
    make_with(hub, agent, mode, json!({})).await
}

async fn make_with(hub: &Hub, assignee: Uuid, mode: &str, more: Value) -> Value {
    let mut wish = json!({ "title": "Nightly", "assignee_id": assignee, "execution_mode": mode });
    wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hub.cli("POST", "/api/autopilots", wish).await.expect(201)
}

fn path(autopilot: &Value) -> String {
    format!("/api/autopilots/{}", id(autopilot))
}

async fn set_off(hub: &Hub, autopilot: &Value) -> Value {
    hub.cli("POST", &format!("{}/trigger", path(autopilot)), Value::Null).await.expect(200)
}

async fn read(hub: &Hub, path: &str) -> Value {
    hub.cli("GET", path, Value::Null).await.expect(200)
}

async fn runs(hub: &Hub, autopilot: &Value) -> Vec<Value> {
    let list = read(hub, &format!("{}/runs", path(autopilot))).await;
    list["runs"].as_array().unwrap().clone()
}

/// A schedule that comes due at the beginning of each year.
async fn yearly(hub: &Hub, autopilot: &Value) -> Value {
    schedule(hub, autopilot, json!({ "cron_expression": "0 0 1 1 *" })).await
}

async fn schedule(hub: &Hub, autopilot: &Value, more: Value) -> Value {
    let mut wish = json!({ "kind": "schedule" });
    wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hub.cli("POST", &format!("{}/triggers", path(autopilot)), wish).await.expect(201)
}

/// Everything with a schedule that would run once in a while has been due for long.
const ALL_DUE: &str = "UPDATE autopilot_trigger SET next_run_at = 1 WHERE next_run_at IS NOT NULL";

fn started(run: &Value) -> Value {
    json!({ "run_id": run["id"], "autopilot_id": run["autopilot_id"], "source": run["source"],
        "status": run["status"] })
}

fn ended(run: &Value) -> Value {
    json!({ "run_id": run["id"], "autopilot_id": run["autopilot_id"], "status": run["status"] })
}

/// The next event is this one, of the system.
async fn expect(browser: &mut Socket, kind: &str, payload: Value) {
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!(kind), &payload), "{event}");
    assert_eq!(event["actor_type"], "system", "{event}");
}

fn woken(runtime: Uuid, task: &Value) -> Value {
    json!({ "type": "daemon:task_available", "payload": { "runtime_id": runtime, "task_id": task } })
}

fn queued(task: &Value, agent: Uuid, issue: &Value) -> Value {
    json!({ "task_id": task, "agent_id": agent, "issue_id": issue, "status": "queued" })
}

async fn a_run_without_an_issue_is_a_task(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { runtime, agent } = crew(&hub).await;
    let made = make(&hub, agent, "run_only").await;
    let mut daemon = hub.daemon(&[runtime]).await;
    let (mut browser, _) = hub.browser().await;
    let run = set_off(&hub, &made).await;
    assert_eq!(keys(&run), RUN);
    assert_eq!(
        run,
        json!({
            "id": run["id"], "autopilot_id": made["id"], "trigger_id": null, "source": "manual", "status": "running",
            "issue_id": null, "task_id": run["task_id"], "triggered_at": run["created_at"], "completed_at": null,
            "failure_reason": null, "trigger_payload": null, "result": null, "created_at": run["created_at"],
        })
    );
    expect(&mut browser, "task:queued", queued(&run["task_id"], agent, &json!(""))).await;
    expect(&mut browser, "autopilot:run_start", started(&run)).await;
    assert_eq!(daemon.next_of("daemon:task_available").await, woken(runtime, &run["task_id"]));
    assert_eq!(read(&hub, &format!("{}/runs/{}", path(&made), id(&run))).await, run);
    assert_eq!(runs(&hub, &made).await, vec![run.clone()]);
    let mut after = made.clone();
    after["last_run_at"] = run["triggered_at"].clone();
    assert_eq!(read(&hub, &path(&made)).await["autopilot"], after);
    let rows = "SELECT priority || ' ' || status || ' ' || (autopilot_run_id = (SELECT id FROM autopilot_run))
                || ' ' || attempt || ' ' || is_leader_task || ' ' || (issue_id IS NULL) FROM task";
    let row = hub.rows(rows).await;
    assert!(["0 queued true 1 false true", "0 queued 1 1 0 1"].contains(&row[0].as_str()), "{row:?}");

    // One run does not wait for the other, nor for anybody's word on it; an agent may ask, too.
    let me = id(&hub.get("/api/me").await.expect(200));
    let task = hub.app.mint_task_token(hub.workspace, me).await.unwrap();
    let again = format!("{}/trigger", path(&made));
    let second = hub.cli_as(&task, "POST", &again, json!("whatever")).await.expect(200);
    expect(&mut browser, "task:queued", queued(&second["task_id"], agent, &json!(""))).await;
    expect(&mut browser, "autopilot:run_start", started(&second)).await;
    assert_eq!(daemon.next_of("daemon:task_available").await, woken(runtime, &second["task_id"]));
    assert_eq!(runs(&hub, &made).await, [second, run]);
    let listed = read(&hub, "/api/autopilots").await;
    assert_eq!(listed["autopilots"][0]["last_run_status"], "running");
    browser.quiet_for(Duration::from_millis(50)).await;
    daemon.quiet_for(Duration::from_millis(50)).await;
}

async fn a_run_with_an_issue_makes_one_and_has_it_done(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { runtime, agent } = crew(&hub).await;
    let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
    let made = make_with(&hub, agent, "create_issue", json!({ "description": "Look.\n", "project_id": project })).await;
    hub.cli("POST", "/api/issues", json!({ "title": "Nightly", "project_id": project })).await.expect(201);
    let mut daemon = hub.daemon(&[runtime]).await;
    let (mut browser, _) = hub.browser().await;
    for number in [2, 3] {
        let run = set_off(&hub, &made).await;
        assert_eq!(keys(&run), RUN);
        assert_eq!(
            (&run["status"], &run["task_id"], &run["completed_at"]),
            (&json!("issue_created"), &Value::Null, &Value::Null)
        );
        let event = browser.next().await;
        assert_eq!((&event["type"], &event["actor_type"]), (&json!("issue:created"), &json!("agent")));
        assert_eq!(event["actor_id"], json!(agent));
        let issue = &event["payload"]["issue"];
        let minute = run["triggered_at"].as_str().unwrap()[..16].replace('T', " ");
        assert_eq!(
            *issue,
            json!({
                "id": run["issue_id"], "workspace_id": hub.workspace, "number": number,
                "identifier": issue["identifier"], "title": "Nightly",
                "description": format!("Look.\n\nTriggered at {minute} (UTC)"), "status": "todo", "priority": "none",
                "assignee_type": "agent", "assignee_id": agent, "creator_type": "agent", "creator_id": agent,
                "parent_issue_id": null, "project_id": project, "position": issue["position"], "start_date": null,
                "due_date": null, "created_at": run["created_at"], "updated_at": run["created_at"], "metadata": {},
            })
        );
        let task = browser.next().await;
        let task_id = task["payload"]["task_id"].clone();
        assert_eq!(
            (&task["type"], &task["payload"]),
            (&json!("task:queued"), &queued(&task_id, agent, &run["issue_id"]))
        );
        expect(&mut browser, "autopilot:run_start", started(&run)).await;
        assert_eq!(daemon.next_of("daemon:task_available").await, woken(runtime, &task_id));
        let read = read(&hub, &format!("/api/issues/{}", run["issue_id"].as_str().unwrap())).await;
        for (name, value) in issue.as_object().unwrap() {
            assert_eq!(read[name], *value, "{name}");
        }
    }
    browser.quiet_for(Duration::from_millis(50)).await;
    let origins = "SELECT origin_type FROM issue i JOIN autopilot_run r ON r.id = i.origin_id AND r.issue_id = i.id";
    assert_eq!(hub.rows(origins).await, ["autopilot", "autopilot"]);
    let positions = hub.rows("SELECT CAST(position AS text) FROM issue ORDER BY position").await;
    assert_eq!(positions.len(), 3, "each lies on top of the one before: {positions:?}");
    let unlinked = "SELECT 'x' FROM task WHERE autopilot_run_id IS NULL AND NOT is_leader_task AND priority = 0
                    AND trigger_comment_id IS NULL AND initiator_user_id IS NULL";
    assert_eq!(hub.rows(unlinked).await.len(), 2, "such a task is the issue's");
}

async fn a_squad_s_runs_are_its_leader_s(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { runtime, agent } = crew(&hub).await;
    let squad = json!({ "name": "s", "leader_id": agent });
    let squad = id(&hub.cli("POST", "/api/squads", squad).await.expect(201));
    let kind = json!({ "assignee_type": "squad" });
    let with = make_with(&hub, squad, "create_issue", kind.clone()).await;
    let without = make_with(&hub, squad, "run_only", kind).await;
    let mut daemon = hub.daemon(&[runtime]).await;
    let (mut browser, _) = hub.browser().await;
    let run = set_off(&hub, &with).await;
    let event = browser.next().await;
    let issue = &event["payload"]["issue"];
    assert_eq!((&issue["assignee_type"], &issue["assignee_id"]), (&json!("squad"), &json!(squad)));
    assert_eq!((&issue["creator_type"], &issue["creator_id"]), (&json!("agent"), &json!(agent)));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("agent"), &json!(agent)));
    let task = browser.next().await["payload"].clone();
    assert_eq!(task, queued(&task["task_id"], agent, &run["issue_id"]));
    expect(&mut browser, "autopilot:run_start", started(&run)).await;
    assert_eq!(daemon.next_of("daemon:task_available").await, woken(runtime, &task["task_id"]));
    assert_eq!(hub.rows("SELECT 'x' FROM task WHERE is_leader_task AND issue_id IS NOT NULL").await.len(), 1);

    let run = set_off(&hub, &without).await;
    expect(&mut browser, "task:queued", queued(&run["task_id"], agent, &json!(""))).await;
    expect(&mut browser, "autopilot:run_start", started(&run)).await;
    let kept = "SELECT 'x' FROM autopilot_run r JOIN squad s ON s.id = r.squad_id";
    assert_eq!(hub.rows(kept).await.len(), 2);
}

async fn what_is_in_the_way_is_said_by_a_skipped_run(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { runtime, agent } = crew(&hub).await;
    let squad = json!({ "name": "s", "leader_id": agent });
    let squad = id(&hub.cli("POST", "/api/squads", squad).await.expect(201));
    let kind = json!({ "assignee_type": "squad" });
    let agents = [make(&hub, agent, "run_only").await, make(&hub, agent, "create_issue").await];
    let squads =
        [make_with(&hub, squad, "run_only", kind.clone()).await, make_with(&hub, squad, "create_issue", kind).await];
    let mut daemon = hub.daemon(&[runtime]).await;
    let (mut browser, _) = hub.browser().await;
    const ONLINE: &str = "UPDATE agent_runtime SET status = 'online'";
    const KEPT: &str = "UPDATE agent SET archived_at = NULL";
    const BACK: &str = "UPDATE squad SET archived_at = NULL";
    for (change, back, of_agents, of_squads) in [
        (
            "UPDATE agent_runtime SET status = 'offline'",
            ONLINE,
            Some("agent runtime is offline"),
            Some("agent runtime is offline"),
        ),
        ("UPDATE agent SET archived_at = 1", KEPT, Some("agent is archived"), Some("squad leader is archived")),
        ("UPDATE squad SET archived_at = 1", BACK, None, Some("squad is archived")),
        ("UPDATE autopilot SET assignee_id = id", "", Some("agent no longer exists"), Some("squad no longer exists")),
    ] {
        hub.sql_unnoticed(change).await;
        let cases = [(&agents, of_agents), (&squads, of_squads)];
        for (autopilot, reason) in cases.into_iter().flat_map(|(two, reason)| two.iter().map(move |one| (one, reason)))
        {
            let Some(reason) = reason else { continue };
            let before = hub.rows("SELECT CAST(COUNT(*) AS text) FROM task").await;
            let run = set_off(&hub, autopilot).await;
            assert_eq!(keys(&run), RUN);
            assert_eq!(
                run,
                json!({
                    "id": run["id"], "autopilot_id": autopilot["id"], "trigger_id": null, "source": "manual",
                    "status": "skipped", "issue_id": null, "task_id": null, "triggered_at": run["created_at"],
                    "completed_at": run["created_at"], "failure_reason": reason, "trigger_payload": null,
                    "result": null, "created_at": run["created_at"],
                }),
                "{change}"
            );
            expect(&mut browser, "autopilot:run_done", ended(&run)).await;
            assert_eq!(runs(&hub, autopilot).await[0], run);
            assert_eq!(hub.rows("SELECT CAST(COUNT(*) AS text) FROM task").await, before);
        }
        if !back.is_empty() {
            hub.sql_unnoticed(back).await;
        }
    }
    assert_eq!(hub.rows("SELECT 'x' FROM issue").await.len(), 0);
    browser.quiet_for(Duration::from_millis(50)).await;
    daemon.quiet_for(Duration::from_millis(50)).await;
}

async fn whoever_may_not_set_one_off_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let [private, paused, archived] = [
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "create_issue").await,
        make(&hub, agent, "run_only").await,
    ];
    hub.cli("PATCH", &path(&paused), json!({ "status": "paused" })).await.expect(200);
    hub.cli("PATCH", &path(&archived), json!({ "status": "archived" })).await.expect(200);
    hub.cli("PUT", &format!("/api/agents/{agent}"), json!({ "visibility": "private" })).await.expect(200);
    let plain = hub.member("plain@example.com", "member").await;
    let stranger = hub.stranger("stranger@example.com").await;
    let (mut browser, _) = hub.browser().await;
    let before = hub.fingerprint().await;
    let address = |one: &Value| format!("{}/trigger", path(one));
    const REFUSAL: &str = "you do not have access to this agent";
    hub.cli_as(&plain, "POST", &address(&private), Value::Null).await.refused(403, REFUSAL);
    hub.cli_as(&stranger, "POST", &address(&private), Value::Null).await.refused(404, "workspace not found");
    for one in [&paused, &archived] {
        hub.cli("POST", &address(one), Value::Null).await.refused(400, "autopilot is not active");
        hub.cli_as(&plain, "POST", &address(one), Value::Null).await.refused(403, REFUSAL);
    }
    let nowhere = format!("/api/autopilots/{}/trigger", Uuid::new_v4());
    hub.cli("POST", &nowhere, Value::Null).await.refused(404, "autopilot not found");
    hub.cli("POST", "/api/autopilots/x/trigger", Value::Null).await.refused(400, "invalid autopilot_id");
    hub.cli("GET", &address(&private), Value::Null).await.refused(405, "method not allowed");
    assert_eq!(hub.fingerprint().await, before);
    browser.quiet_for(Duration::from_millis(50)).await;
    set_off(&hub, &private).await;
    assert_ne!(hub.fingerprint().await, before, "runs and tasks are in it");
}

async fn schedules_set_autopilots_off_once_however_many_times_they_missed(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { runtime, agent } = crew(&hub).await;
    let made = make(&hub, agent, "run_only").await;
    let trigger = schedule(&hub, &made, json!({ "cron_expression": "*/5 * * * *" })).await;
    let mut daemon = hub.daemon(&[runtime]).await;
    let (mut browser, _) = hub.browser().await;
    hub.app.run_due_autopilots().await.unwrap();
    assert!(runs(&hub, &made).await.is_empty(), "it is not due");
    // An hour late is twelve times missed.
    for _ in 0..2 {
        hub.sql_unnoticed("UPDATE autopilot_trigger SET next_run_at = next_run_at - 3900000000").await;
        hub.app.run_due_autopilots().await.unwrap();
        let event = browser.next().await;
        let run = runs(&hub, &made).await[0].clone();
        assert_eq!(
            (&event["type"], &event["payload"]),
            (&json!("task:queued"), &queued(&run["task_id"], agent, &json!("")))
        );
        expect(&mut browser, "autopilot:run_start", started(&run)).await;
        assert_eq!(
            (&run["source"], &run["trigger_id"], &run["status"]),
            (&json!("schedule"), &trigger["id"], &json!("running"))
        );
        assert_eq!(daemon.next_of("daemon:task_available").await, woken(runtime, &run["task_id"]));
        let after = read(&hub, &path(&made)).await;
        let mut waiting = trigger.clone();
        waiting["last_fired_at"] = run["triggered_at"].clone();
        waiting["next_run_at"] = after["triggers"][0]["next_run_at"].clone();
        assert_eq!(after["triggers"], json!([waiting]));
        assert!(waiting["next_run_at"].as_str() > run["triggered_at"].as_str(), "{waiting}");
        assert_eq!(after["autopilot"]["last_run_at"], run["triggered_at"]);
        assert_eq!(after["autopilot"]["updated_at"], made["updated_at"]);
        hub.app.run_due_autopilots().await.unwrap();
        browser.quiet_for(Duration::from_millis(50)).await;
    }
    assert_eq!(runs(&hub, &made).await.len(), 2);
    // By the clock itself.
    hub.app.advance_clock(Duration::from_secs(301));
    hub.app.run_due_autopilots().await.unwrap();
    assert_eq!(runs(&hub, &made).await.len(), 3);
    // Nobody is there: that is a run, too, and it is not tried again at once.
    hub.sql_unnoticed("UPDATE agent_runtime SET status = 'offline'").await;
    hub.app.advance_clock(Duration::from_secs(301));
    for _ in 0..2 {
        hub.app.run_due_autopilots().await.unwrap();
    }
    let all = runs(&hub, &made).await;
    assert_eq!((all.len(), &all[0]["status"], &all[0]["source"]), (4, &json!("skipped"), &json!("schedule")));
}

async fn what_is_not_to_run_does_not(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let [disabled, webhook, paused, later] = [
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "run_only").await,
    ];
    for one in [&disabled, &webhook, &paused, &later] {
        yearly(&hub, one).await;
    }
    hub.cli("PATCH", &path(&paused), json!({ "status": "paused" })).await.expect(200);
    let set = |column: &str, of: &Value| {
        let hex = id(of).simple().to_string();
        let which = match backend {
            Backend::Sqlite => format!("hex(autopilot_id) = upper('{hex}')"),
            _ => format!("autopilot_id = '{hex}'"),
        };
        &*format!("UPDATE autopilot_trigger SET next_run_at = 1, {column} WHERE {which}").leak()
    };
    hub.sql_unnoticed(set("enabled = false", &disabled)).await;
    hub.sql_unnoticed(set("kind = 'webhook'", &webhook)).await;
    hub.sql_unnoticed(set("enabled = true", &paused)).await;
    // A workspace that is gone: its autopilots are at rest.
    let before = hub.fingerprint().await;
    hub.app.run_due_autopilots().await.unwrap();
    assert_eq!(hub.fingerprint().await, before);
    hub.sql_unnoticed(set("enabled = true", &disabled)).await;
    hub.sql_unnoticed("UPDATE workspace SET deleted_at = 1").await;
    let before = hub.fingerprint().await;
    hub.app.run_due_autopilots().await.unwrap();
    assert_eq!(hub.fingerprint().await, before);
    hub.sql_unnoticed("UPDATE workspace SET deleted_at = NULL").await;
    hub.app.run_due_autopilots().await.unwrap();
    assert_eq!(runs(&hub, &disabled).await.len(), 1);
    for other in [&webhook, &paused, &later] {
        assert!(runs(&hub, other).await.is_empty());
    }
}

async fn one_that_cannot_run_keeps_no_other_from_it(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let [unreadable, failing, well] = [
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "create_issue").await,
        make(&hub, agent, "run_only").await,
    ];
    schedule(&hub, &unreadable, json!({ "cron_expression": "0 0 2 2 *" })).await;
    schedule(&hub, &failing, json!({ "cron_expression": "0 0 3 3 *" })).await;
    schedule(&hub, &well, json!({ "cron_expression": "0 0 4 4 *" })).await;
    hub.cli("POST", "/api/issues", json!({ "title": "x" })).await.expect(201);
    hub.sql_unnoticed("UPDATE autopilot_trigger SET next_run_at = 1 WHERE cron_expression = '0 0 2 2 *'").await;
    hub.sql_unnoticed("UPDATE autopilot_trigger SET next_run_at = 2 WHERE cron_expression = '0 0 3 3 *'").await;
    hub.sql_unnoticed("UPDATE autopilot_trigger SET next_run_at = 3 WHERE cron_expression = '0 0 4 4 *'").await;
    hub.sql_unnoticed("UPDATE autopilot_trigger SET cron_expression = 'soon' WHERE next_run_at = 1").await;
    // The next number is one that an issue has.
    hub.sql_unnoticed("UPDATE issue_number SET last = 0").await;
    let (mut browser, _) = hub.browser().await;
    hub.app.run_due_autopilots().await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(browser.next().await);
    }
    let [of_unreadable, of_failing, of_well] =
        [runs(&hub, &unreadable).await, runs(&hub, &failing).await, runs(&hub, &well).await];
    let told: Vec<(&Value, &Value)> = seen.iter().map(|event| (&event["type"], &event["payload"])).collect();
    assert_eq!(
        told,
        [
            (&json!("autopilot:run_done"), &ended(&of_unreadable[0])),
            (&json!("autopilot:run_done"), &ended(&of_failing[0])),
            (&json!("task:queued"), &queued(&of_well[0]["task_id"], agent, &json!(""))),
            (&json!("autopilot:run_start"), &started(&of_well[0])),
        ]
    );
    for (run, reason) in [
        (
            &of_unreadable[0],
            "invalid cron_expression; five fields are wanted: minute, hour, day of month, month, day of week",
        ),
        (&of_failing[0], "the run could not be started"),
    ] {
        assert_eq!((&run["status"], &run["failure_reason"]), (&json!("failed"), &json!(reason)));
        assert_eq!((&run["completed_at"], &run["source"]), (&run["triggered_at"], &json!("schedule")));
    }
    // No more of it.
    let next = async |one: &Value| read(&hub, &path(one)).await["triggers"][0]["next_run_at"].clone();
    assert_eq!(next(&unreadable).await, Value::Null);
    assert!(next(&failing).await.as_str() > of_failing[0]["triggered_at"].as_str());
    hub.app.run_due_autopilots().await.unwrap();
    browser.quiet_for(Duration::from_millis(50)).await;
    assert_eq!(hub.rows("SELECT 'x' FROM autopilot_run").await.len(), 3);
    // By hand it is our fault in the answer, and no run.
    let answer = hub.cli("POST", &format!("{}/trigger", path(&failing)), Value::Null).await;
    assert!(answer.status >= 500, "{} {}", answer.status, answer.text);
    assert_eq!(hub.rows("SELECT 'x' FROM autopilot_run").await.len(), 3);
}

async fn many_are_due_at_once(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let made = make(&hub, agent, "run_only").await;
    for _ in 0..3 {
        yearly(&hub, &made).await;
    }
    // As many again, and again.
    for _ in 0..6 {
        hub.sql_unnoticed(match backend {
            Backend::Sqlite => {
                "INSERT INTO autopilot_trigger (id, autopilot_id, kind, enabled, cron_expression, next_run_at,
                     created_at, updated_at)
                 SELECT randomblob(16), autopilot_id, kind, enabled, cron_expression, next_run_at, 1, 1
                 FROM autopilot_trigger"
            }
            _ => {
                "INSERT INTO autopilot_trigger (id, autopilot_id, kind, enabled, cron_expression, next_run_at,
                     created_at, updated_at)
                 SELECT gen_random_uuid(), autopilot_id, kind, enabled, cron_expression, next_run_at, 1, 1
                 FROM autopilot_trigger"
            }
        })
        .await;
    }
    hub.sql_unnoticed(ALL_DUE).await;
    hub.app.run_due_autopilots().await.unwrap();
    const TIMES: &str = "SELECT CAST(COUNT(*) AS text) FROM autopilot_run GROUP BY trigger_id";
    until("all have run", async || hub.rows(TIMES).await.len() == 192).await;
    assert!(hub.rows(TIMES).await.iter().all(|times| times == "1"));
}

async fn dates_are_those_of_the_trigger_s_zone(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let template = json!({ "issue_title_template": " {{date}} and {{date}} " });
    let made = make_with(&hub, agent, "create_issue", template).await;
    let by_hand = set_off(&hub, &made).await;
    let now: jiff::Timestamp = by_hand["triggered_at"].as_str().unwrap().parse().unwrap();
    let titled = async |run: &Value| {
        let issue = read(&hub, &format!("/api/issues/{}", run["issue_id"].as_str().unwrap())).await;
        (issue["title"].as_str().unwrap().to_owned(), issue["description"].as_str().unwrap().to_owned())
    };
    let today = |zone: &str| now.in_tz(zone).unwrap().strftime("%Y-%m-%d").to_string();
    let (title, description) = titled(&by_hand).await;
    assert_eq!(title, format!("{0} and {0}", today("UTC")));
    assert!(description.starts_with("Triggered at ") && description.ends_with(" (UTC)"), "{description}");

    // In New York the clock is five hours behind in winter and four in summer; with the wrong of the two
    // each of these would be dated a day off. The last two are never the same day.
    for (cron, zone, month, day, hour) in [
        ("30 23 1 1 *", "America/New_York", 1, 1, 23),
        ("30 0 2 7 *", "America/New_York", 7, 2, 0),
        ("30 12 1 5 *", "Pacific/Kiritimati", 5, 1, 12),
        ("30 12 1 5 *", "Etc/GMT+12", 5, 1, 12),
    ] {
        let trigger = schedule(&hub, &made, json!({ "cron_expression": cron, "timezone": zone })).await;
        let due = (0..2)
            .map(|years| {
                let local = jiff::civil::date(now.in_tz(zone).unwrap().year() - years, month, day).at(hour, 30, 0, 0);
                local.in_tz(zone).unwrap()
            })
            .find(|due| due.timestamp() < now)
            .unwrap();
        let micros = due.timestamp().as_microsecond();
        let hex = id(&trigger).simple().to_string();
        let sql = match backend {
            Backend::Sqlite => {
                format!("UPDATE autopilot_trigger SET next_run_at = {micros} WHERE hex(id) = upper('{hex}')")
            }
            _ => format!("UPDATE autopilot_trigger SET next_run_at = {micros} WHERE id = '{hex}'"),
        };
        hub.sql_unnoticed(sql.leak()).await;
        hub.app.run_due_autopilots().await.unwrap();
        let all = runs(&hub, &made).await;
        let run = all.iter().find(|run| run["trigger_id"] == trigger["id"]).expect("it ran");
        let (title, description) = titled(run).await;
        assert_eq!(title, format!("{0} and {0}", due.strftime("%Y-%m-%d")), "{cron} in {zone}");
        let at: jiff::Timestamp = run["triggered_at"].as_str().unwrap().parse().unwrap();
        let line = at.in_tz(zone).unwrap().strftime("%Y-%m-%d %H:%M");
        assert_eq!(description, format!("Triggered at {line} ({zone})"));
    }

    // One that stands for many is dated by when it is.
    let trigger =
        schedule(&hub, &made, json!({ "cron_expression": "0 * * * *", "timezone": "Pacific/Kiritimati" })).await;
    hub.sql_unnoticed("UPDATE autopilot_trigger SET next_run_at = 1 WHERE cron_expression = '0 * * * *'").await;
    hub.app.run_due_autopilots().await.unwrap();
    let all = runs(&hub, &made).await;
    let run = all.iter().find(|run| run["trigger_id"] == trigger["id"]).expect("it ran");
    let at: jiff::Timestamp = run["triggered_at"].as_str().unwrap().parse().unwrap();
    let day = at.in_tz("Pacific/Kiritimati").unwrap().strftime("%Y-%m-%d");
    assert_eq!(titled(run).await.0, format!("{day} and {day}"));

    // Nothing but blanks is no title; one that is too long is cut.
    hub.cli("PATCH", &path(&made), json!({ "issue_title_template": " \t " })).await.expect(200);
    assert_eq!(titled(&set_off(&hub, &made).await).await.0, "Nightly");
    hub.cli("PATCH", &path(&made), json!({ "issue_title_template": "ä".repeat(600) })).await.expect(200);
    assert_eq!(titled(&set_off(&hub, &made).await).await.0, "ä".repeat(500));
}

async fn texts_that_no_issue_could_hold_are_refused(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let made = make(&hub, agent, "create_issue").await;
    let before = hub.fingerprint().await;
    let long = "x".repeat((64 << 10) + 1);
    const REFUSAL: &str = "description must be 64 KiB or less";
    hub.cli("PATCH", &path(&made), json!({ "description": long })).await.refused(400, REFUSAL);
    let wish = json!({ "title": "t", "assignee_id": agent, "execution_mode": "run_only", "description": long });
    hub.cli("POST", "/api/autopilots", wish).await.refused(400, REFUSAL);
    assert_eq!(hub.fingerprint().await, before);
}

async fn an_autopilot_s_end_is_its_runs_end(backend: Backend) {
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let [made, other, with_issues] = [
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "run_only").await,
        make(&hub, agent, "create_issue").await,
    ];
    let [first, second, third] = [set_off(&hub, &made).await, set_off(&hub, &made).await, set_off(&hub, &made).await];
    let (another, issue) = (set_off(&hub, &other).await, set_off(&hub, &with_issues).await);
    // One is over, one has begun.
    let set = |status: &str, run: &Value| {
        let hex = run["task_id"].as_str().unwrap().replace('-', "");
        let which = match backend {
            Backend::Sqlite => format!("hex(id) = upper('{hex}')"),
            _ => format!("id = '{hex}'"),
        };
        &*format!("UPDATE task SET status = '{status}', dispatched_at = 1, started_at = 1 WHERE {which}").leak()
    };
    hub.sql_unnoticed(set("completed", &first)).await;
    hub.sql_unnoticed(set("running", &second)).await;
    hub.sql_unnoticed("UPDATE agent SET status = 'working'").await;
    let (mut browser, _) = hub.browser().await;
    hub.cli("DELETE", &path(&made), Value::Null).await.expect(204);
    let cancelled =
        |run: &Value| json!({ "task_id": run["task_id"], "agent_id": agent, "issue_id": "", "status": "cancelled" });
    let status = browser.next().await;
    assert_eq!((&status["type"], &status["payload"]["agent"]["status"]), (&json!("agent:status"), &json!("idle")));
    let failed = |run: &Value| json!({ "run_id": run["id"], "autopilot_id": made["id"], "status": "failed" });
    expect(&mut browser, "task:cancelled", cancelled(&second)).await;
    expect(&mut browser, "autopilot:run_done", failed(&second)).await;
    expect(&mut browser, "task:cancelled", cancelled(&third)).await;
    expect(&mut browser, "autopilot:run_done", failed(&third)).await;
    let gone = browser.next().await;
    assert_eq!(
        (&gone["type"], &gone["payload"]),
        (&json!("autopilot:deleted"), &json!({ "autopilot_id": made["id"] }))
    );
    let statuses = hub.rows("SELECT status FROM task ORDER BY created_at, id").await;
    assert_eq!(statuses, ["completed", "cancelled", "cancelled", "queued", "queued"]);
    assert_eq!(runs(&hub, &other).await, [another]);
    // An issue stays, and so does the work on it.
    hub.cli("DELETE", &path(&with_issues), Value::Null).await.expect(204);
    assert_eq!(browser.next().await["type"], "autopilot:deleted");
    read(&hub, &format!("/api/issues/{}", issue["issue_id"].as_str().unwrap())).await;
    assert_eq!(hub.rows("SELECT status FROM task ORDER BY created_at, id").await, statuses);
    browser.quiet_for(Duration::from_millis(50)).await;
}

async fn a_new_node_takes_up_what_the_last_one_left_due(backend: Backend) {
    const HOLDER: &str = "SELECT holder FROM job_lease WHERE name = 'autopilots'";
    let hub = Hub::start(backend).await;
    let Crew { agent, .. } = crew(&hub).await;
    let made = make(&hub, agent, "run_only").await;
    yearly(&hub, &made).await;
    until("the job has a holder", async || hub.rows(HOLDER).await.len() == 1).await;
    let first = hub.rows(HOLDER).await;
    hub.sql_unnoticed(ALL_DUE).await;
    let hub = hub.restart().await;
    until("the next node ran it", async || runs(&hub, &made).await.len() == 1).await;
    assert_ne!(hub.rows(HOLDER).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_run_nothing_twice() {
    let a = Hub::start(Backend::PostgresRedis).await;
    let b = a.another_node(&[]).await;
    let Crew { agent, .. } = crew(&a).await;
    let (mut browser, _) = a.browser().await;
    for mode in ["run_only", "create_issue", "run_only"] {
        let made = make(&a, agent, mode).await;
        yearly(&a, &made).await;
        assert_eq!(browser.next().await["type"], "autopilot:created");
        assert_eq!(browser.next().await["type"], "autopilot:updated");
    }
    for round in 1..=20 {
        a.sql_unnoticed(ALL_DUE).await;
        let (of_a, of_b) = tokio::join!(a.app.run_due_autopilots(), b.app.run_due_autopilots());
        let (of_a, of_b) = (of_a.unwrap(), of_b.unwrap());
        until("all ran", async || a.rows("SELECT 'x' FROM autopilot_run").await.len() >= 3 * round).await;
        assert!(of_a + of_b <= 3, "{of_a} and {of_b}");
        let times = a.rows("SELECT CAST(COUNT(*) AS text) FROM autopilot_run GROUP BY trigger_id").await;
        assert_eq!(times, vec![round.to_string(); 3]);
        assert_eq!(a.rows("SELECT 'x' FROM task").await.len(), 3 * round);
        let mut starts = 0;
        for _ in 0..7 {
            starts += usize::from(browser.next().await["type"] == "autopilot:run_start");
        }
        assert_eq!(starts, 3);
    }
    assert_eq!(a.rows("SELECT 'x' FROM autopilot_run WHERE status NOT IN ('running', 'issue_created')").await.len(), 0);
    browser.quiet_for(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_it_is_set_off_is_nobody_s_deadlock() {
    let hub = Hub::start(Backend::Postgres).await;
    let Crew { agent, .. } = crew(&hub).await;
    for round in 0..20 {
        let project = id(&hub.cli("POST", "/api/projects", json!({ "title": "p" })).await.expect(201));
        let with = make_with(&hub, agent, "create_issue", json!({ "project_id": project })).await;
        let without = make(&hub, agent, "run_only").await;
        let address = |one: &Value| format!("{}/trigger", path(one));
        let (of_with, of_without) = (address(&with), address(&without));
        let (project, gone) = (format!("/api/projects/{project}"), path(&without));
        let (ran, ended, tried, left) = tokio::join!(
            hub.cli("POST", &of_with, Value::Null),
            hub.cli("DELETE", &project, Value::Null),
            hub.cli("POST", &of_without, Value::Null),
            hub.cli("DELETE", &gone, Value::Null),
        );
        assert_eq!((ran.status, ended.status, left.status), (200, 204, 204), "{round}: {} {}", ran.text, ended.text);
        assert!([200, 404].contains(&tried.status), "{round}: {}", tried.text);
        let orphans = "SELECT 'x' FROM task t WHERE t.status = 'queued' AND t.autopilot_run_id IS NOT NULL
                       AND NOT EXISTS (SELECT 1 FROM autopilot_run r WHERE r.id = t.autopilot_run_id)";
        assert!(hub.rows(orphans).await.is_empty(), "{round}");
    }
    assert!(hub.rows("SELECT 'x' FROM issue WHERE project_id IS NOT NULL").await.is_empty());
    assert_eq!(hub.rows("SELECT 'x' FROM issue").await.len(), 20);
}
