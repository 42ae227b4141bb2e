//! Signing in: the session's cookies, what a foreign page cannot do with them, sessions for the CLI,
//! and the browser socket by cookie.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Backend, Hub, Socket, hub::Answer, until};

on_both_stores!(
    a_token_comes_in_and_cookies_go_out,
    a_change_by_cookie_needs_the_csrf_token_of_that_cookie,
    a_session_ends_with_its_token_and_by_signing_out,
    a_session_lasts_no_longer_than_its_token,
    a_cookie_opens_a_socket_or_is_refused_before_the_upgrade,
    a_session_for_the_cli_works_as_bearer_and_makes_tokens,
    a_client_is_asked_for_a_new_token_before_the_old_one_ends,
    a_listed_origin_may_call_from_its_pages_and_others_may_not,
);

struct Cookies {
    auth: String,
    csrf: String,
}

impl Cookies {
    fn of(answer: &Answer) -> Self {
        let value = |name: &str| {
            let all = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
            let prefix = format!("{name}=");
            all.filter_map(|text| text.strip_prefix(&prefix))
                .map(|rest| rest.split(';').next().unwrap().to_owned())
                .next()
        };
        Self { auth: value("multica_auth").expect("a session"), csrf: value("multica_csrf").expect("a CSRF token") }
    }

    fn header(&self) -> String {
        format!("multica_csrf={}; multica_auth={}", self.csrf, self.auth)
    }
}

async fn sign_in(hub: &Hub, token: &str) -> Cookies {
    let answer = hub.call("POST", "/auth/session", None, json!({ "token": token })).await;
    let cookies = Cookies::of(&answer);
    answer.expect(200);
    cookies
}

async fn with(hub: &Hub, method: &str, path: &str, cookies: &Cookies, csrf: Option<&str>) -> Answer {
    let header = cookies.header();
    let mut headers = vec![("cookie", header.as_str())];
    headers.extend(csrf.map(|token| ("x-csrf-token", token)));
    hub.raw(method, path, None, b"null".to_vec(), &headers).await
}

async fn a_token_comes_in_and_cookies_go_out(backend: Backend) {
    let hub = Hub::start(backend).await;
    let answer = hub.call("POST", "/auth/session", None, json!({ "token": hub.token })).await;
    let cookies = Cookies::of(&answer);
    let set: Vec<&str> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(set.len(), 2);
    for cookie in &set {
        assert!(cookie.contains("SameSite=Strict") && cookie.contains("Path=/"), "{cookie}");
        assert!(!cookie.contains("Secure"), "over plain HTTP it would not come back: {cookie}");
        let days: i64 = cookie.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
        assert!((30 * 86_400 - 60..=30 * 86_400).contains(&days), "{cookie}");
    }
    assert!(set[0].starts_with("multica_auth=") && set[0].contains("HttpOnly"), "{}", set[0]);
    assert!(set[1].starts_with("multica_csrf=") && !set[1].contains("HttpOnly"), "{}", set[1]);
    let body = answer.expect(200);
    assert_eq!(body["user"]["email"], "owner@localhost");
    assert!(!body.to_string().contains(&cookies.auth), "the session is out of scripts' reach");
    let me = with(&hub, "GET", "/api/me", &cookies, None).await.expect(200);
    assert_eq!(me, body["user"]);
    // Under https it is Secure: by the public address, or by a trusted proxy's word.
    let hub = Hub::start_with(backend, &[("HEARTWIRE_PUBLIC_URL", "https://hub.example")]).await;
    let answer = hub.call("POST", "/auth/session", None, json!({ "token": hub.token })).await;
    assert!(answer.headers["set-cookie"].to_str().unwrap().contains("Secure"));
    let hub = Hub::start_with(backend, &[("HEARTWIRE_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let body = json!({ "token": hub.token }).to_string().into_bytes();
    let answer = hub.raw("POST", "/auth/session", None, body.clone(), &[("x-forwarded-proto", "https")]).await;
    assert!(answer.headers["set-cookie"].to_str().unwrap().contains("Secure"));
    // Another site's page may not sign its visitor in as somebody else.
    let answer = hub.raw("POST", "/auth/session", None, body, &[("origin", "https://evil.example")]).await;
    assert!(answer.headers.get("set-cookie").is_none());
    answer.refused(403, "origin not allowed");
}

async fn a_change_by_cookie_needs_the_csrf_token_of_that_cookie(backend: Backend) {
    let hub = Hub::start(backend).await;
    let (cookies, others) = (sign_in(&hub, &hub.token).await, sign_in(&hub, &hub.token).await);
    for csrf in [None, Some(""), Some("x"), Some(others.csrf.as_str())] {
        with(&hub, "POST", "/api/cli-token", &cookies, csrf).await.refused(403, "CSRF validation failed");
    }
    with(&hub, "POST", "/api/cli-token", &cookies, Some(&cookies.csrf)).await.expect(200);
    with(&hub, "GET", "/api/workspaces", &cookies, None).await.expect(200);
    // Daemons have no cookies.
    with(&hub, "GET", &format!("/api/daemon/workspaces/{}/repos", hub.workspace), &cookies, None)
        .await
        .refused(401, "missing authorization header");
}

async fn a_session_ends_with_its_token_and_by_signing_out(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/tokens", json!({ "name": "laptop" })).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let (one, two, three) = (sign_in(&hub, token).await, sign_in(&hub, token).await, sign_in(&hub, token).await);
    let url = hub.ws(&format!("/ws?workspace_id={}", hub.workspace));
    let origin = hub.url("");
    let mut socket = Socket::open_with(&url, &[("cookie", &two.header()), ("origin", &origin)]).await.unwrap();
    assert_eq!(socket.next().await["type"], "hello");

    let answer = with(&hub, "DELETE", "/auth/session", &one, Some(&one.csrf)).await;
    let cleared =
        answer.headers.get_all("set-cookie").iter().all(|value| value.to_str().unwrap().contains("Max-Age=0"));
    assert!(cleared, "{:?}", answer.headers);
    answer.expect(204);
    with(&hub, "GET", "/api/me", &one, None).await.refused(401, "invalid token");
    with(&hub, "GET", "/api/me", &two, None).await.expect(200);
    socket.quiet_for(Duration::from_millis(200)).await;
    assert_eq!(with(&hub, "POST", "/auth/logout", &two, Some(&two.csrf)).await.expect(200)["status"], "ok");
    assert_eq!(socket.closed().await.0, 4502);

    let mut socket = Socket::open_with(&url, &[("cookie", &three.header()), ("origin", &origin)]).await.unwrap();
    assert_eq!(socket.next().await["type"], "hello");
    hub.delete(&format!("/api/tokens/{}", made["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(socket.closed().await.0, 4502);
    with(&hub, "GET", "/api/me", &three, None).await.refused(401, "invalid token");
}

async fn a_session_lasts_no_longer_than_its_token(backend: Backend) {
    let hub = Hub::start(backend).await;
    let made = hub.post("/api/tokens", json!({ "name": "t", "expires_in_days": 2 })).await.expect(201);
    let cookies = sign_in(&hub, made["token"].as_str().unwrap()).await;
    let lasting = sign_in(&hub, &hub.token).await;
    hub.app.advance_clock(Duration::from_secs(2 * 86_400));
    with(&hub, "GET", "/api/me", &cookies, None).await.refused(401, "invalid token");
    with(&hub, "GET", "/api/me", &lasting, None).await.expect(200);
    hub.app.advance_clock(Duration::from_secs(28 * 86_400 + 60));
    with(&hub, "GET", "/api/me", &lasting, None).await.refused(401, "invalid token");
}

async fn a_cookie_opens_a_socket_or_is_refused_before_the_upgrade(backend: Backend) {
    let hub = Hub::start_with(backend, &[("HEARTWIRE_MAX_SOCKETS_PER_USER", "2")]).await;
    let cookies = sign_in(&hub, &hub.token).await;
    let (header, origin) = (cookies.header(), hub.url(""));
    let url = hub.ws(&format!("/ws?workspace_id={}", hub.workspace));
    let mut socket = Socket::open_with(&url, &[("cookie", &header), ("origin", &origin)]).await.unwrap();
    let hello = socket.next().await;
    assert_eq!(hello["type"], "hello");
    let keys: Vec<&String> = hello["payload"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["epoch", "node", "ping_interval_ms", "recovered", "seq", "server_time"]);
    hub.register("d", &["claude"]).await;
    assert_eq!(socket.next().await["seq"], 1);
    // A position in the query.
    let since = format!("{url}&since=0&epoch={}", hello["payload"]["epoch"].as_str().unwrap());
    let mut second = Socket::open_with(&since, &[("cookie", &header), ("origin", &origin)]).await.unwrap();
    assert_eq!(second.next().await["payload"]["recovered"], true);
    assert_eq!(second.next().await["seq"], 1);

    let refused = async |path: &str, headers: &[(&str, &str)]| match Socket::open_with(&hub.ws(path), headers).await {
        Ok(_) => panic!("{path} was accepted with {headers:?}"),
        Err((status, body)) => {
            (status, serde_json::from_str::<Value>(&body).unwrap()["error"].as_str().unwrap().to_owned())
        }
    };
    let path = format!("/ws?workspace_id={}", hub.workspace);
    let is = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(refused(&path, &[("cookie", &header), ("origin", &origin)]).await, is(429, "too many connections"));
    let runtime = hub.register("d", &["claude"]).await[0];
    let of_daemon = format!("/api/daemon/ws?runtime_ids={runtime}");
    let bearer = format!("Bearer {}", hub.token);
    assert_eq!(refused(&of_daemon, &[("authorization", &bearer)]).await, is(429, "too many connections"));
    assert_eq!(refused(&path, &[("cookie", &header)]).await, is(403, "a session cookie needs an Origin"));
    assert_eq!(
        refused(&path, &[("cookie", &header), ("origin", "https://evil.example")]).await,
        is(403, "origin not allowed")
    );
    assert_eq!(refused(&path, &[("origin", "https://evil.example")]).await, is(403, "origin not allowed"));
    assert_eq!(
        refused(&path, &[("cookie", "multica_auth=nonsense"), ("origin", &origin)]).await,
        is(401, "invalid token")
    );
    let stranger = hub.stranger("s@example.com").await;
    let strangers = sign_in(&hub, &stranger).await.header();
    assert_eq!(
        refused(&path, &[("cookie", &strangers), ("origin", &origin)]).await,
        is(403, "not a member of this workspace")
    );
    // By its token it is told after the upgrade, with a code of its own.
    let mut third = Socket::open(&url, None).await;
    third.send(json!({ "type": "auth", "payload": { "token": hub.token } })).await;
    assert_eq!(third.next().await["error"], "too many connections");
    assert_eq!(third.closed().await.0, 4004);
    drop(second);
    until("a place is free again", async || {
        Socket::open_with(&url, &[("cookie", &header), ("origin", &origin)]).await.is_ok()
    })
    .await;
}

async fn a_session_for_the_cli_works_as_bearer_and_makes_tokens(backend: Backend) {
    let hub = Hub::start(backend).await;
    assert_eq!(hub.call("GET", "/api/config", None, Value::Null).await.expect(200)["allow_signup"], false);
    let jwt = hub.call("POST", "/api/cli-token", Some(&hub.token), Value::Null).await.expect(200);
    let jwt = jwt["token"].as_str().unwrap();
    let made = hub.call("POST", "/api/tokens", Some(jwt), json!({ "name": "CLI (box)", "expires_in_days": 90 })).await;
    let token = made.expect(201)["token"].as_str().unwrap().to_owned();
    let me = hub.call("GET", "/api/me", Some(&token), Value::Null).await.expect(200);
    assert_eq!(me, hub.call("GET", "/api/me", Some(jwt), Value::Null).await.expect(200));
    hub.call("POST", "/api/tokens/current/renew", Some(jwt), Value::Null)
        .await
        .refused(400, "only personal access tokens can be renewed");
    // Daemons that sign in with a session are people's daemons.
    hub.register_as(jwt, hub.workspace, "d", &["claude"]).await;
    // It holds across a restart, since the key is the store's.
    let jwt = jwt.to_owned();
    let hub = hub.restart().await;
    hub.call("GET", "/api/me", Some(&jwt), Value::Null).await.expect(200);
}

async fn a_client_is_asked_for_a_new_token_before_the_old_one_ends(backend: Backend) {
    let hub = Hub::start_with(backend, &[("HEARTWIRE_SESSION_TTL", "8s")]).await;
    let somebody = hub.member("m@example.com", "member").await;
    let session = async || {
        let answer = hub.post("/api/cli-token", Value::Null).await.expect(200);
        answer["token"].as_str().unwrap().to_owned()
    };
    let open = async |token: &str| {
        let mut socket = Socket::open(&hub.ws(&format!("/ws?workspace_id={}", hub.workspace)), None).await;
        socket.send(json!({ "type": "auth", "payload": { "token": token } })).await;
        assert_eq!(socket.next().await["type"], "auth_ack");
        socket
    };
    let (mut lapses, mut refreshes, mut other) =
        (open(&session().await).await, open(&session().await).await, open(&session().await).await);
    assert_eq!(lapses.next().await["type"], "refresh");
    assert_eq!(refreshes.next().await["type"], "refresh");
    assert_eq!(other.next().await["type"], "refresh");
    refreshes.send(json!({ "type": "auth", "payload": { "token": hub.token } })).await;
    assert_eq!(refreshes.next().await["type"], "auth_ack");
    other.send(json!({ "type": "auth", "payload": { "token": somebody } })).await;
    assert_eq!(other.next().await, json!({ "type": "auth_error", "error": "the token is another person's" }));
    assert_eq!(other.closed().await.0, 4501);
    assert_eq!(lapses.closed().await, (4501, "the token has ended".to_owned()));
    // The refreshed one lives on, and rests on the new token alone.
    hub.register("d", &["claude"]).await;
    assert_eq!(refreshes.next_of("daemon:register").await["payload"]["runtimes"][0]["provider"], "claude");
}

async fn a_listed_origin_may_call_from_its_pages_and_others_may_not(backend: Backend) {
    let hub =
        Hub::start_with(backend, &[("HEARTWIRE_ALLOWED_ORIGINS", "https://app.example, http://localhost:3000")]).await;
    let from = async |origin: &str, method: &str| {
        hub.raw(
            method,
            "/api/runtimes",
            None,
            Vec::new(),
            &[
                ("origin", origin),
                ("access-control-request-method", "GET"),
                ("access-control-request-headers", "authorization,x-workspace-slug"),
            ],
        )
        .await
    };
    let preflight = from("https://app.example", "OPTIONS").await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(preflight.headers["access-control-allow-credentials"], "true");
    let answer = from("http://localhost:3000", "GET").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "http://localhost:3000");
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("x-event-epoch") && exposed.contains("x-event-seq"), "{exposed}");
    assert!(from("https://evil.example", "GET").await.headers.get("access-control-allow-origin").is_none());
    // And it may open sockets.
    let url = hub.ws(&format!("/ws?workspace_id={}", hub.workspace));
    assert!(Socket::open_with(&url, &[("origin", "https://app.example")]).await.is_ok());
    assert_eq!(Socket::open_with(&url, &[("origin", "https://evil.example")]).await.err().unwrap().0, 403);
}
