//! Following without a WebSocket, and lists that say their position.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Backend, Hub};

on_both_stores!(
    a_poll_gives_what_was_missed_and_waits_for_what_is_next,
    a_poll_judges_positions_like_the_socket,
    a_list_and_a_stream_from_its_position_miss_nothing,
    the_first_page_is_served_with_a_strict_policy,
    a_waiting_poll_is_answered_when_the_hub_goes_down,
    the_last_pruned_event_is_a_position_to_go_on_from,
);

fn seqs(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

async fn a_poll_gives_what_was_missed_and_waits_for_what_is_next(backend: Backend) {
    let hub = Hub::start(backend).await;
    let path = format!("/api/events?workspace_id={}", hub.workspace);
    let first = hub.get(&path).await.expect(200);
    assert_eq!((&first["seq"], &first["recovered"], &first["events"]), (&json!(0), &Value::Null, &json!([])));
    let epoch = first["epoch"].as_str().unwrap();
    hub.app.emit(&[(hub.workspace, 5)], "a", 0).await.unwrap();
    let two = hub.get(&format!("{path}&since=0&epoch={epoch}&limit=2")).await.expect(200);
    assert_eq!((seqs(&two), &two["seq"], &two["recovered"]), (vec![1, 2], &json!(2), &json!(true)));
    // The same frame as on a socket.
    let position = json!({ "since": 0, "epoch": epoch });
    let (mut socket, _) = hub.browser_of(hub.workspace, position).await;
    assert_eq!(socket.next().await, two["events"][0]);
    let rest = hub.get(&format!("{path}&since=2&epoch={epoch}&wait_ms=20000")).await.expect(200);
    assert_eq!(seqs(&rest), [3, 4, 5], "what is there is not waited for");

    let began = Instant::now();
    let url = format!("{path}&since=5&epoch={epoch}&wait_ms=20000");
    let (waited, ()) = tokio::join!(hub.get(&url), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hub.app.emit(&[(hub.workspace, 1)], "b", 0).await.unwrap();
    });
    assert_eq!(seqs(&waited.expect(200)), [6]);
    assert!((Duration::from_millis(200)..Duration::from_secs(15)).contains(&began.elapsed()));
    let nothing = hub.get(&format!("{path}&since=6&epoch={epoch}&wait_ms=100")).await.expect(200);
    assert_eq!((seqs(&nothing), &nothing["seq"]), (vec![], &json!(6)));
}

async fn a_poll_judges_positions_like_the_socket(backend: Backend) {
    let hub = Hub::start(backend).await;
    hub.app.emit(&[(hub.workspace, 5)], "a", 0).await.unwrap();
    let path = format!("/api/events?workspace_id={}", hub.workspace);
    let epoch = hub.get(&path).await.expect(200)["epoch"].as_str().unwrap().to_owned();
    for query in [
        "since=2&epoch=x".to_owned(),
        "since=2".into(),
        format!("since=6&epoch={epoch}"),
        format!("since=2&epoch={epoch}&since_id=x"),
    ] {
        let answer = hub.get(&format!("{path}&{query}")).await.expect(200);
        assert_eq!(
            (seqs(&answer), &answer["seq"], &answer["recovered"]),
            (vec![], &json!(5), &json!(false)),
            "{query}"
        );
    }
    let stranger = hub.stranger("s@example.com").await;
    hub.call("GET", &path, Some(&stranger), Value::Null).await.refused(404, "workspace not found");
    hub.call("GET", &path, None, Value::Null).await.refused(401, "missing authorization");
    hub.get("/api/events").await.refused(400, "workspace_id or workspace_slug is required");
    hub.get(&format!("{path}&since=x")).await.refused(400, "invalid query");
    // A token that ends while its poll waits gets nothing more.
    let made = hub.post("/api/tokens", json!({ "name": "t" })).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let url = format!("{path}&since=5&epoch={epoch}&wait_ms=20000");
    let (waited, ()) = tokio::join!(hub.call("GET", &url, Some(token), Value::Null), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hub.delete(&format!("/api/tokens/{}", made["id"].as_str().unwrap())).await.expect(204);
        hub.app.emit(&[(hub.workspace, 1)], "b", 0).await.unwrap();
    });
    waited.refused(401, "invalid token");
}

async fn a_list_and_a_stream_from_its_position_miss_nothing(backend: Backend) {
    let hub = Hub::start(backend).await;
    let writers = async {
        for n in 0..30 {
            hub.register(&format!("d{n}"), &["claude"]).await;
        }
    };
    let follower = async {
        let mut known = BTreeSet::new();
        let answer = hub.get(&format!("/api/runtimes?workspace_id={}", hub.workspace)).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let (epoch, seq): (String, u64) = (header("x-event-epoch"), header("x-event-seq").parse().unwrap());
        for row in answer.expect(200).as_array().unwrap() {
            known.insert(row["id"].as_str().unwrap().to_owned());
        }
        let (mut socket, ack) = hub.browser_of(hub.workspace, json!({ "since": seq, "epoch": epoch })).await;
        assert_eq!(ack["recovered"], true);
        while known.len() < 30 {
            let event = socket.next_of("daemon:register").await;
            for row in event["payload"]["runtimes"].as_array().unwrap() {
                known.insert(row["id"].as_str().unwrap().to_owned());
            }
        }
    };
    tokio::join!(writers, follower);
}

async fn the_first_page_is_served_with_a_strict_policy(backend: Backend) {
    let hub = Hub::start(backend).await;
    let page = hub.call("GET", "/", None, Value::Null).await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("<script>") && !page.text.contains("style="), "inline code");
    // Whatever it loads, and what that loads.
    let (mut texts, mut seen) = (vec![page.text], BTreeSet::new());
    while let Some(text) = texts.pop() {
        let named = text.split("'./").chain(text.split("/assets/")).filter_map(|rest| rest.split(['"', '\'']).next());
        for name in named.filter(|name| name.ends_with(".js") || name.ends_with(".css")) {
            if seen.insert(name.to_owned()) {
                let asset = hub.call("GET", &format!("/assets/{name}"), None, Value::Null).await;
                assert_eq!(asset.status, 200, "{name}");
                texts.push(asset.text);
            }
        }
    }
    for name in ["dashboard.css", "heartwire.js", "task.js", "transcript.js"] {
        assert!(seen.contains(name), "{name} is not among {seen:?}");
    }
    hub.call("GET", "/assets/nothing", None, Value::Null).await.refused(404, "404 page not found");
}

async fn a_waiting_poll_is_answered_when_the_hub_goes_down(backend: Backend) {
    let hub = Hub::start(backend).await;
    let epoch = hub.get(&format!("/api/events?workspace_id={}", hub.workspace)).await.expect(200)["epoch"].clone();
    let url = hub.url(&format!(
        "/api/events?workspace_id={}&since=0&epoch={}&wait_ms=20000",
        hub.workspace,
        epoch.as_str().unwrap()
    ));
    let poll = crate::support::hub::http_client().get(url).bearer_auth(&hub.token).send();
    let poll = tokio::spawn(poll);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    hub.app.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for the poll: {:?}", began.elapsed());
    assert_eq!(poll.await.unwrap().expect("an answer").status(), 200);
}

async fn the_last_pruned_event_is_a_position_to_go_on_from(backend: Backend) {
    let hub = Hub::start(backend).await;
    let path = format!("/api/events?workspace_id={}", hub.workspace);
    hub.app.emit(&[(hub.workspace, 3)], "a", 0).await.unwrap();
    let epoch = hub.get(&path).await.expect(200)["epoch"].as_str().unwrap().to_owned();
    let last = hub.get(&format!("{path}&since=0&epoch={epoch}")).await.expect(200)["events"][2]["event_id"].clone();
    hub.app.advance_clock(Duration::from_secs(25 * 3600));
    assert_eq!(hub.app.prune_events(&hub.config).await.unwrap(), 3);
    let position = format!("{path}&epoch={epoch}&since_id={}", last.as_str().unwrap());
    assert_eq!(hub.get(&format!("{position}&since=3")).await.expect(200)["recovered"], true, "it has missed nothing");
    assert_eq!(hub.get(&format!("{position}&since=2")).await.expect(200)["recovered"], false);
}
