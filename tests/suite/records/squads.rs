//! Squads and who is in them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Backend, Hub,
    hub::{id, keys},
};

on_both_stores!(
    squads_have_the_fields_that_clients_read,
    squads_change_field_by_field,
    a_new_leader_joins_and_comes_first,
    members_come_and_go,
    whatever_is_wrong_is_refused_and_changes_nothing,
    only_owners_and_admins_and_their_agents_change_squads,
    a_squad_s_end_leaves_its_work_to_its_leader,
    a_longer_list_costs_no_more_statements,
    one_of_two_who_add_the_same_member_is_told,
);

const SQUAD: [&str; 14] = [
    "archived_at",
    "archived_by",
    "avatar_url",
    "created_at",
    "creator_id",
    "description",
    "id",
    "instructions",
    "leader_id",
    "member_count",
    "member_preview",
    "name",
    "updated_at",
    "workspace_id",
];

async fn me(hub: &Hub) -> Uuid {
    id(&hub.get("/api/me").await.expect(200))
}

/// Agents of the first owner.
async fn agents(hub: &Hub, names: &[&str]) -> Vec<Uuid> {
    let runtime = hub.register("d", &["claude"]).await[0];
    let mut agents = Vec::new();
    for name in names {
        let wish = json!({ "name": name, "runtime_id": runtime });
        agents.push(id(&hub.cli("POST", "/api/agents", wish).await.expect(201)));
    }
    agents
}

async fn squad(hub: &Hub, name: &str, leader: Uuid) -> Value {
    hub.cli("POST", "/api/squads", json!({ "name": name, "leader_id": leader })).await.expect(201)
}

fn path(squad: &Value) -> String {
    format!("/api/squads/{}", id(squad))
}

async fn squads_have_the_fields_that_clients_read(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann"]).await;
    let answer = hub.cli("GET", "/api/squads", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "2", "the runtime's and the agent's events");
    assert_eq!(answer.expect(200), json!([]));
    let (mut browser, _) = hub.browser().await;

    let made = hub.cli("POST", "/api/squads", json!({ "name": " Core ", "leader_id": agents[0] })).await.expect(201);
    assert_eq!(keys(&made), SQUAD);
    assert_eq!(
        made,
        json!({
            "id": made["id"], "workspace_id": hub.workspace, "name": "Core", "description": "", "instructions": "",
            "avatar_url": null, "leader_id": agents[0], "creator_id": me(&hub).await,
            "created_at": made["created_at"], "updated_at": made["created_at"],
            "archived_at": null, "archived_by": null, "member_count": 1,
            "member_preview": [{ "member_type": "agent", "member_id": agents[0], "role": "leader" }],
        })
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("squad:created"), &json!({ "squad": made })));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &json!(me(&hub).await)));

    let wish = json!({
        "name": "Site", "leader_id": agents[0], "description": "d", "instructions": "i", "avatar_url": "u",
        "unknown": 1,
    });
    let site = hub.cli("POST", "/api/squads", wish).await.expect(201);
    assert_eq!(
        (&site["description"], &site["instructions"], &site["avatar_url"]),
        (&json!("d"), &json!("i"), &json!("u"))
    );
    assert_eq!(browser.next().await["payload"]["squad"], site);
    let nulls = json!({ "name": "Nulls", "leader_id": agents[0], "description": null, "avatar_url": null });
    let nulls = hub.cli("POST", "/api/squads", nulls).await.expect(201);
    assert_eq!((&nulls["description"], &nulls["avatar_url"]), (&json!(""), &Value::Null));
    browser.next().await;

    let answer = hub.cli("GET", "/api/squads", Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "5");
    assert!(answer.headers.contains_key("x-event-epoch"));
    assert_eq!(answer.expect(200), json!([made, site, nulls]), "oldest first");
    assert_eq!(hub.cli("GET", &path(&site), Value::Null).await.expect(200), site);

    let answer = hub.cli("GET", &format!("{}/members", path(&made)), Value::Null).await;
    assert_eq!(answer.headers["x-event-seq"], "5");
    let members = answer.expect(200);
    assert_eq!(
        members,
        json!([{
            "id": members[0]["id"], "squad_id": made["id"], "member_type": "agent", "member_id": agents[0],
            "role": "leader", "created_at": made["created_at"],
        }])
    );
}

async fn squads_change_field_by_field(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann"]).await;
    let wish = json!({ "name": "n", "leader_id": agents[0], "description": "d", "avatar_url": "u" });
    let made = hub.cli("POST", "/api/squads", wish).await.expect(201);
    let (mut browser, _) = hub.browser().await;
    // To the microsecond, where the wire has whole seconds.
    let touched = async |hub: &Hub| hub.rows("SELECT CAST(updated_at AS text) FROM squad").await;
    let mut before = touched(&hub).await;

    let same = json!({ "name": " n ", "description": null, "avatar_url": null, "leader_id": agents[0], "x": 1 });
    assert_eq!(hub.cli("PUT", &path(&made), same).await.expect(200), made, "null is absent, so nothing changed");
    assert_eq!(hub.cli("PUT", &path(&made), Value::Null).await.expect(200), made, "the literal null is an empty body");

    assert_eq!(touched(&hub).await, before);

    for (field, value) in [("name", "m"), ("description", ""), ("instructions", "do"), ("avatar_url", "v")] {
        let changed = hub.cli("PUT", &path(&made), json!({ field: value })).await.expect(200);
        assert_eq!((keys(&changed), &changed[field]), (SQUAD.to_vec(), &json!(value)));
        let touched = touched(&hub).await;
        assert_ne!(touched, before, "{field}");
        before = touched;
        let event = browser.next().await;
        assert_eq!((&event["type"], &event["payload"]), (&json!("squad:updated"), &json!({ "squad": changed })));
    }
    let one = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!(
        (&one["name"], &one["description"], &one["instructions"], &one["avatar_url"]),
        (&json!("m"), &json!(""), &json!("do"), &json!("v"))
    );
    assert_eq!((&one["created_at"], &one["member_count"]), (&made["created_at"], &json!(1)));
}

async fn a_new_leader_joins_and_comes_first(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "bob", "cem"]).await;
    let made = squad(&hub, "n", agents[0]).await;
    let members = format!("{}/members", path(&made));
    let person = json!({ "member_type": "member", "member_id": me(&hub).await, "role": "host" });
    hub.cli("POST", &members, person.clone()).await.expect(201);
    let reviewer = json!({ "member_type": "agent", "member_id": agents[2], "role": "reviewer" });
    hub.cli("POST", &members, reviewer.clone()).await.expect(201);
    let (mut browser, _) = hub.browser().await;

    // One who was not a member joins; the old leader stays with the role.
    let old = json!({ "member_type": "agent", "member_id": agents[0], "role": "leader" });
    let new = json!({ "member_type": "agent", "member_id": agents[1], "role": "leader" });
    let changed = hub.cli("PUT", &path(&made), json!({ "leader_id": agents[1] })).await.expect(200);
    assert_eq!((&changed["leader_id"], &changed["member_count"]), (&json!(agents[1]), &json!(4)));
    assert_eq!(changed["member_preview"], json!([new, old, person]), "three at most, the leader first");
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("squad:updated"), &json!({ "squad": changed })));

    // One who was keeps their role.
    let changed = hub.cli("PUT", &path(&made), json!({ "leader_id": agents[2] })).await.expect(200);
    assert_eq!(changed["member_count"], 4);
    assert_eq!(changed["member_preview"], json!([reviewer, old, person]));
    let event = browser.next().await;
    assert_eq!(event["payload"], json!({ "squad": changed }), "one event for each change");
    assert_eq!(hub.cli("GET", "/api/squads", Value::Null).await.expect(200), json!([changed]));
    let list = hub.cli("GET", &members, Value::Null).await.expect(200);
    let ids: Vec<&Value> = list.as_array().unwrap().iter().map(|member| &member["member_id"]).collect();
    assert_eq!(json!(ids), json!([agents[0], me(&hub).await, agents[2], agents[1]]), "in the order of joining");

    // An archived one may go on leading, but nobody archived begins to.
    hub.cli("POST", &format!("/api/agents/{}/archive", agents[2]), Value::Null).await.expect(200);
    let kept = json!({ "leader_id": agents[2], "name": "renamed" });
    assert_eq!(hub.cli("PUT", &path(&made), kept).await.expect(200)["name"], "renamed");
}

async fn members_come_and_go(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "bob"]).await;
    let made = squad(&hub, "n", agents[0]).await;
    let members = format!("{}/members", path(&made));
    let (mut browser, _) = hub.browser().await;
    let told = json!({ "squad_id": made["id"] });

    let wish = json!({ "member_type": "agent", "member_id": agents[1], "role": "reviewer" });
    let added = hub.cli("POST", &members, wish.clone()).await.expect(201);
    assert_eq!(
        added,
        json!({
            "id": added["id"], "squad_id": made["id"], "member_type": "agent", "member_id": agents[1],
            "role": "reviewer", "created_at": added["created_at"],
        })
    );
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("squad:updated"), &told));
    hub.cli("POST", &members, wish.clone()).await.refused(409, "already a member of this squad");

    let person = json!({ "member_type": "member", "member_id": me(&hub).await });
    let added = hub.cli("POST", &members, person.clone()).await.expect(201);
    assert_eq!((&added["member_type"], &added["role"]), (&json!("member"), &json!("")));
    assert_eq!(browser.next().await["payload"], told);
    let one = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    assert_eq!((&one["member_count"], &one["updated_at"]), (&json!(3), &made["updated_at"]));

    let leader = json!({ "member_type": "agent", "member_id": agents[0] });
    hub.cli("DELETE", &members, leader)
        .await
        .refused(400, "the squad's leader cannot be removed; choose another one first");
    let answer = hub.cli("DELETE", &members, wish.clone()).await;
    assert_eq!(answer.text, "");
    answer.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("squad:updated"), &told), "and the refusals said nothing");
    hub.cli("DELETE", &members, wish).await.refused(404, "squad member not found");
    hub.cli("DELETE", &members, person).await.expect(204);
    assert_eq!(browser.next().await["payload"], told);
    assert_eq!(hub.cli("GET", &path(&made), Value::Null).await.expect(200), made);
}

async fn whatever_is_wrong_is_refused_and_changes_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "old"]).await;
    let made = squad(&hub, "n", agents[0]).await;
    let ended = squad(&hub, "ended", agents[0]).await;
    hub.cli("DELETE", &path(&ended), Value::Null).await.expect(204);
    hub.cli("POST", &format!("/api/agents/{}/archive", agents[1]), Value::Null).await.expect(200);
    let elsewhere = hub.another_workspace("other").await;
    let runtime = hub.register_as(&hub.token, elsewhere, "d", &["claude"]).await[0];
    let theirs = json!({ "name": "theirs", "runtime_id": runtime });
    let theirs = id(&hub.post(&format!("/api/agents?workspace_id={elsewhere}"), theirs).await.expect(201));
    let foreign = json!({ "name": "theirs", "leader_id": theirs });
    let foreign = id(&hub.post(&format!("/api/squads?workspace_id={elsewhere}"), foreign).await.expect(201));
    let stranger = hub.stranger("s@example.com").await;
    let stranger = id(&hub.call("GET", "/api/me", Some(&stranger), Value::Null).await.expect(200));
    let before = hub.fingerprint().await;

    for (leader, text) in [
        (json!("x"), "invalid leader_id"),
        (json!(""), "invalid leader_id"),
        (json!(Uuid::new_v4()), "invalid leader_id"),
        (json!(theirs), "invalid leader_id"),
        (json!(stranger), "invalid leader_id"),
        (json!(agents[1]), "an archived agent cannot lead a squad"),
        (json!(7), "invalid request body"),
    ] {
        hub.cli("POST", "/api/squads", json!({ "name": "s", "leader_id": leader })).await.refused(400, text);
        hub.cli("PUT", &path(&made), json!({ "name": "s", "leader_id": leader })).await.refused(400, text);
    }
    for (body, text) in [
        (Value::Null, "name is required"),
        (json!({ "name": " ", "leader_id": agents[0] }), "name is required"),
        (json!({ "name": "s" }), "invalid leader_id"),
        (json!({ "name": "s", "leader_id": null }), "invalid leader_id"),
        (json!({ "name": 1 }), "invalid request body"),
        (json!([]), "invalid request body"),
    ] {
        hub.cli("POST", "/api/squads", body).await.refused(400, text);
    }
    hub.cli("PUT", &path(&made), json!({ "name": "" })).await.refused(400, "name is required");

    let members = format!("{}/members", path(&made));
    let types = "valid values: agent, member";
    for (kind, member, text) in [
        (json!("squad"), json!(agents[0]), format!("invalid member_type \"squad\"; {types}")),
        (Value::Null, json!(agents[0]), format!("invalid member_type \"\"; {types}")),
        (json!("agent"), json!("x"), "invalid member_id".to_owned()),
        (json!("member"), Value::Null, "invalid member_id".to_owned()),
    ] {
        let body = json!({ "member_type": kind, "member_id": member });
        hub.cli("POST", &members, body.clone()).await.refused(400, &text);
        hub.cli("DELETE", &members, body).await.refused(400, &text);
    }
    for (kind, member) in
        [("agent", theirs), ("agent", Uuid::new_v4()), ("agent", me(&hub).await), ("member", stranger)]
    {
        let body = json!({ "member_type": kind, "member_id": member });
        hub.cli("POST", &members, body.clone()).await.refused(400, "invalid member_id");
        hub.cli("DELETE", &members, body).await.refused(404, "squad member not found");
    }
    hub.raw("DELETE", &format!("{members}?workspace_id={}", hub.workspace), Some(&hub.token), Vec::new(), &[])
        .await
        .refused(400, "invalid request body");

    let body = json!({ "name": "s", "leader_id": agents[0], "member_type": "agent", "member_id": agents[0] });
    for (method, path) in [
        ("PUT", path(&ended)),
        ("DELETE", path(&ended)),
        ("POST", format!("{}/members", path(&ended))),
        ("DELETE", format!("{}/members", path(&ended))),
    ] {
        hub.cli(method, &path, body.clone()).await.refused(400, "squad is archived");
    }
    for (missing, status, text) in [
        (foreign.to_string(), 404, "squad not found"),
        (Uuid::new_v4().to_string(), 404, "squad not found"),
        ("nonsense".to_owned(), 400, "invalid squad_id"),
    ] {
        for (method, path) in [
            ("GET", format!("/api/squads/{missing}")),
            ("PUT", format!("/api/squads/{missing}")),
            ("DELETE", format!("/api/squads/{missing}")),
            ("GET", format!("/api/squads/{missing}/members")),
            ("POST", format!("/api/squads/{missing}/members")),
            ("DELETE", format!("/api/squads/{missing}/members")),
        ] {
            hub.cli(method, &path, body.clone()).await.refused(status, text);
        }
    }
    hub.get("/api/squads").await.refused(400, "workspace_id or workspace_slug is required");
    assert_eq!(hub.fingerprint().await, before);
}

async fn only_owners_and_admins_and_their_agents_change_squads(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "bob"]).await;
    let made = squad(&hub, "n", agents[0]).await;
    let admin = hub.member("a@example.com", "admin").await;
    let member = hub.member("m@example.com", "member").await;
    let member_id = id(&hub.call("GET", "/api/me", Some(&member), Value::Null).await.expect(200));
    let members_agent = hub.app.mint_task_token(hub.workspace, member_id).await.unwrap();
    let before = hub.fingerprint().await;
    let body = json!({ "name": "s", "leader_id": agents[1], "member_type": "agent", "member_id": agents[1] });
    for token in [&member, &members_agent] {
        for (method, path) in [
            ("POST", "/api/squads".to_owned()),
            ("PUT", path(&made)),
            ("DELETE", path(&made)),
            ("POST", format!("{}/members", path(&made))),
            ("DELETE", format!("{}/members", path(&made))),
        ] {
            hub.cli_as(token, method, &path, body.clone()).await.refused(403, "insufficient permissions");
        }
        for (path, shown) in [("/api/squads".to_owned(), json!([made])), (path(&made), made.clone())] {
            assert_eq!(hub.cli_as(token, "GET", &path, Value::Null).await.expect(200), shown);
        }
        let list = hub.cli_as(token, "GET", &format!("{}/members", path(&made)), Value::Null).await.expect(200);
        assert_eq!(list[0]["member_id"], json!(agents[0]));
    }
    assert_eq!(hub.fingerprint().await, before);

    // An admin may use the owner's private agents; an agent acts in its own name.
    let (mut browser, _) = hub.browser().await;
    hub.cli_as(&admin, "PUT", &path(&made), json!({ "leader_id": agents[1] })).await.expect(200);
    let admin_id = id(&hub.call("GET", "/api/me", Some(&admin), Value::Null).await.expect(200));
    let event = browser.next().await;
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &json!(admin_id)));
    let task = hub.app.mint_agent_token(hub.workspace, me(&hub).await, agents[0]).await.unwrap();
    let wish = json!({ "name": "made by an agent", "leader_id": agents[0] });
    let made = hub.cli_as(&task, "POST", "/api/squads", wish).await.expect(201);
    assert_eq!(made["creator_id"], json!(me(&hub).await));
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["actor_type"]), (&json!("squad:created"), &json!("agent")));

    // A member's agent on the owner's public runtime may no more than the member.
    let runtime = hub.register("public", &["claude"]).await[0];
    hub.patch(&format!("/api/runtimes/{runtime}"), json!({ "visibility": "public" })).await.expect(200);
    let wish = json!({ "name": "climber", "runtime_id": runtime });
    let climber = id(&hub.cli_as(&member, "POST", "/api/agents", wish).await.expect(201));
    let climber = hub.app.mint_agent_token(hub.workspace, me(&hub).await, climber).await.unwrap();
    hub.cli_as(&climber, "DELETE", &path(&made), Value::Null).await.refused(403, "insufficient permissions");
}

async fn a_squad_s_end_leaves_its_work_to_its_leader(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "bob"]).await;
    let made = squad(&hub, "ended", agents[0]).await;
    let other = squad(&hub, "going on", agents[0]).await;
    let changed = hub.cli("PUT", &path(&made), json!({ "leader_id": agents[1] })).await.expect(200);
    // An issue and an autopilot for each.
    hub.sql(
        "INSERT INTO issue (id, workspace_id, number, title, title_key, status, priority, priority_rank,
                            assignee_type, assignee_id, creator_type, creator_id, position, created_at, updated_at)
         SELECT id, workspace_id, ROW_NUMBER() OVER (ORDER BY created_at), name, name, 'done', 'none', 0,
                'squad', id, 'member', creator_id, 0, 1, 1 FROM squad;
         INSERT INTO autopilot (id, workspace_id, title, assignee_type, assignee_id, status, execution_mode,
                                created_by_type, created_by_id, created_at, updated_at)
         SELECT id, workspace_id, name, 'squad', id, 'paused', 'run_only', 'member', creator_id, 1, 1 FROM squad",
    )
    .await;
    let (mut browser, _) = hub.browser().await;
    let answer = hub.cli("DELETE", &path(&made), Value::Null).await;
    assert_eq!(answer.text, "");
    answer.expect(204);
    let event = browser.next().await;
    assert_eq!((&event["type"], &event["payload"]["assignee_changed"]), (&json!("issue:updated"), &json!(true)));
    assert_eq!(event["payload"]["prev_assignee_id"], made["id"]);
    let event = browser.next().await;
    assert_eq!(event["type"], "autopilot:updated");
    assert_eq!(event["payload"]["autopilot"]["assignee_id"], json!(agents[1]));
    let event = browser.next().await;
    assert_eq!(event["type"], "squad:deleted");
    assert_eq!(event["payload"], json!({ "squad_id": made["id"], "leader_id": agents[1] }));
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("member"), &json!(me(&hub).await)));
    let work = hub
        .rows(
            "SELECT what || ' ' || s.name || ': ' || assignee_type || ' ' || CASE
                 WHEN assignee_type = 'squad' AND assignee_id = s.id AND w.updated_at = 1 THEN 'unchanged'
                 WHEN assignee_type = 'agent' AND assignee_id = s.leader_id
                      AND w.updated_at BETWEEN 2 AND s.archived_at THEN 'moved'
                 ELSE 'wrong' END
             FROM (SELECT 'autopilot' AS what, id, assignee_type, assignee_id, updated_at FROM autopilot
                   UNION ALL SELECT 'issue', id, assignee_type, assignee_id, updated_at FROM issue) w
             JOIN squad s ON s.id = w.id ORDER BY 1",
        )
        .await;
    assert_eq!(
        work,
        [
            "autopilot ended: agent moved",
            "autopilot going on: squad unchanged",
            "issue ended: agent moved",
            "issue going on: squad unchanged"
        ]
    );

    assert_eq!(hub.cli("GET", "/api/squads", Value::Null).await.expect(200), json!([other]));
    let shown = hub.cli("GET", &path(&made), Value::Null).await.expect(200);
    let mut expected = changed.clone();
    expected["archived_at"] = shown["updated_at"].clone();
    expected["updated_at"] = shown["updated_at"].clone();
    expected["archived_by"] = json!(me(&hub).await);
    assert_eq!(shown, expected, "archived, with its members");
    assert!(shown["archived_at"].is_string());
    let members = hub.cli("GET", &format!("{}/members", path(&made)), Value::Null).await.expect(200);
    assert_eq!(members.as_array().unwrap().len(), 2);
}

async fn a_longer_list_costs_no_more_statements(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "bob"]).await;
    squad(&hub, "0", agents[0]).await;
    let least = async || {
        let mut least = u64::MAX;
        for _ in 0..5 {
            let before = hub.app.statements();
            hub.cli("GET", "/api/squads", Value::Null).await.expect(200);
            least = least.min(hub.app.statements() - before);
        }
        least
    };
    let few = least().await;
    for n in 1..6 {
        let made = squad(&hub, &n.to_string(), agents[0]).await;
        let member = json!({ "member_type": "agent", "member_id": agents[1] });
        hub.cli("POST", &format!("{}/members", path(&made)), member).await.expect(201);
    }
    assert_eq!(least().await, few);
}

async fn one_of_two_who_add_the_same_member_is_told(backend: Backend) {
    let hub = Hub::start(backend).await;
    let agents = agents(&hub, &["ann", "bob"]).await;
    let made = squad(&hub, "n", agents[0]).await;
    let (mut browser, _) = hub.browser().await;
    let members = format!("{}/members", path(&made));
    let wish = json!({ "member_type": "agent", "member_id": agents[1] });
    let add = async || hub.cli("POST", &members, wish.clone()).await.status;
    let (a, b, c, d) = tokio::join!(add(), add(), add(), add());
    let mut answers = [a, b, c, d];
    answers.sort_unstable();
    assert_eq!(answers, [201, 409, 409, 409]);
    assert_eq!(browser.next().await["payload"], json!({ "squad_id": made["id"] }));
    // Nothing else was told: what comes next is the next change.
    hub.cli("PUT", &path(&made), json!({ "name": "m" })).await.expect(200);
    assert_eq!(browser.next().await["payload"]["squad"]["name"], "m");
}
