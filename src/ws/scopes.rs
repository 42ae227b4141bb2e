//! What a browser may follow beside its workspace's sequence.

use serde::Deserialize;

use crate::{
    ids::{UserId, WorkspaceId},
    protocol::{
        browser::{Outbound, Scope},
        lenient,
    },
};

#[derive(Deserialize)]
struct Wish {
    #[serde(default, deserialize_with = "lenient::zero")]
    scope: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    id: String,
}

/// Answers a wish to follow something or no longer to. Also says whether the socket follows the
/// fleet's beats from now on, if the wish was about them.
///
/// A socket follows its own workspace and its own person whatever it says. Tasks and chats cannot
/// be followed as long as there are none.
pub(super) fn answer(
    workspace: WorkspaceId,
    user: UserId,
    wants: bool,
    payload: serde_json::Value,
) -> (Outbound, Option<bool>) {
    let wish =
        serde_json::from_value::<Wish>(payload).ok().filter(|wish| !wish.scope.is_empty() && !wish.id.is_empty());
    let Some(Wish { scope, id }) = wish else {
        return (refused(Scope::default(), "invalid payload"), None);
    };
    let own_workspace = id == workspace.to_string();
    let (allowed, fleet) = match scope.as_str() {
        "workspace" => (own_workspace && wants, None),
        "user" => (id == user.to_string(), None),
        "fleet" => (own_workspace, own_workspace.then_some(wants)),
        "task" | "chat" => (!wants, None),
        _ => return (refused(Scope { scope, id }, "unknown_scope"), None),
    };
    let scope = Scope { scope, id };
    let answer = match (allowed, wants) {
        (false, _) => refused(scope, "forbidden"),
        (true, true) => Outbound::SubscribeAck(scope),
        (true, false) => Outbound::UnsubscribeAck(scope),
    };
    (answer, fleet)
}

fn refused(scope: Scope, error: &str) -> Outbound {
    Outbound::SubscribeError { scope, error: error.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_socket_follows_what_is_its_own() {
        let (workspace, user) = (WorkspaceId::fresh(), UserId::fresh());
        let ask = |wants: bool, payload: Value| {
            let (frame, fleet) = answer(workspace, user, wants, payload);
            let frame: Value = serde_json::from_str(&frame.json()).expect("JSON");
            let error = frame["payload"]["error"].as_str().unwrap_or("").to_owned();
            (frame["type"].as_str().expect("a type").to_owned(), error, fleet)
        };
        let is = |kind: &str, error: &str, fleet: Option<bool>| (kind.to_owned(), error.to_owned(), fleet);
        let ack = || is("subscribe_ack", "", None);
        let no = |error: &str| is("subscribe_error", error, None);

        assert_eq!(ask(true, json!({ "scope": "workspace", "id": workspace })), ack());
        assert_eq!(ask(true, json!({ "scope": "user", "id": user })), ack());
        assert_eq!(ask(false, json!({ "scope": "user", "id": user })), is("unsubscribe_ack", "", None));
        assert_eq!(ask(true, json!({ "scope": "fleet", "id": workspace })), is("subscribe_ack", "", Some(true)));
        assert_eq!(ask(false, json!({ "scope": "fleet", "id": workspace })), is("unsubscribe_ack", "", Some(false)));

        assert_eq!(ask(false, json!({ "scope": "workspace", "id": workspace })), no("forbidden"));
        assert_eq!(ask(true, json!({ "scope": "workspace", "id": WorkspaceId::fresh() })), no("forbidden"));
        assert_eq!(ask(true, json!({ "scope": "fleet", "id": WorkspaceId::fresh() })), no("forbidden"));
        assert_eq!(ask(true, json!({ "scope": "user", "id": UserId::fresh() })), no("forbidden"));
        assert_eq!(ask(true, json!({ "scope": "task", "id": UserId::fresh() })), no("forbidden"));
        assert_eq!(ask(true, json!({ "scope": "planet", "id": "x" })), no("unknown_scope"));
        for bad in [json!(null), json!("x"), json!({}), json!({ "scope": "workspace" }), json!({ "scope": 1, "id": 2 })]
        {
            assert_eq!(ask(true, bad), no("invalid payload"));
        }
    }
}
