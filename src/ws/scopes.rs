//! What a browser may follow beside its workspace's sequence.

use serde::Deserialize;

use crate::{
    ids::{ChatSessionId, TaskId, UserId, WorkspaceId},
    protocol::{
        browser::{Outbound, Scope},
        lenient,
    },
};

/// Bytes of a scope's name, and of an id, at most.
const NAME: usize = 64;

#[derive(Deserialize)]
struct Wish {
    #[serde(default, deserialize_with = "lenient::zero")]
    scope: String,
    #[serde(default, deserialize_with = "lenient::zero")]
    id: String,
    /// The position in a task's messages that the client has.
    #[serde(default)]
    since: Option<u64>,
}

/// What comes of a wish to follow something or no longer to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The answer, and that is all.
    Answered(Outbound),
    /// The socket follows the fleet's beats from now on, or no longer.
    Fleet(Outbound, bool),
    /// The socket listens to a task no longer.
    LeaveTask(Outbound, TaskId),
    /// It wants to listen to one: the store knows whether it may.
    Task {
        /// What it asked for.
        scope: Scope,
        /// Which.
        task: TaskId,
        /// From where on; from now on, if it does not say.
        since: Option<u64>,
    },
    /// It wants to follow a chat: the store knows whether it may.
    Chat {
        /// What it asked for.
        scope: Scope,
        /// Which.
        chat: ChatSessionId,
    },
}

/// Judges a wish as far as that can be done without the store. A socket follows its own workspace and
/// its own person whatever it says; what is told of chats is part of the workspace's sequence.
pub(super) fn judge(workspace: WorkspaceId, user: UserId, wants: bool, payload: serde_json::Value) -> Verdict {
    // No longer than anything that there is: it is repeated in the answer.
    let fits = |text: &str| (1..=NAME).contains(&text.len());
    let wish = serde_json::from_value::<Wish>(payload).ok().filter(|wish| fits(&wish.scope) && fits(&wish.id));
    let Some(Wish { scope, id, since }) = wish else {
        return Verdict::Answered(refused(Scope::default(), "invalid payload"));
    };
    let own_workspace = id == workspace.to_string();
    let scope = Scope { scope, id, pos: None };
    let granted = |scope| if wants { Outbound::SubscribeAck(scope) } else { Outbound::UnsubscribeAck(scope) };
    let only_if = |allowed: bool, scope| match allowed {
        true => Verdict::Answered(granted(scope)),
        false => Verdict::Answered(refused(scope, FORBIDDEN)),
    };
    match scope.scope.as_str() {
        "workspace" => only_if(own_workspace && wants, scope),
        "user" => only_if(scope.id == user.to_string(), scope),
        "fleet" if own_workspace => Verdict::Fleet(granted(scope), wants),
        "task" => match scope.id.parse() {
            Ok(task) if wants => Verdict::Task { scope, task, since },
            Ok(task) => Verdict::LeaveTask(granted(scope), task),
            Err(_) => Verdict::Answered(refused(scope, FORBIDDEN)),
        },
        "chat" => match scope.id.parse() {
            Ok(chat) if wants => Verdict::Chat { scope, chat },
            Ok(_) => Verdict::Answered(granted(scope)),
            Err(_) => Verdict::Answered(refused(scope, FORBIDDEN)),
        },
        "fleet" => Verdict::Answered(refused(scope, FORBIDDEN)),
        _ => Verdict::Answered(refused(scope, "unknown_scope")),
    }
}

/// Not there, or not for whoever asks.
pub(super) const FORBIDDEN: &str = "forbidden";

/// The answer to a wish that is not granted.
pub(super) fn refused(scope: Scope, error: &str) -> Outbound {
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
            let (frame, fleet) = match judge(workspace, user, wants, payload) {
                Verdict::Answered(frame) | Verdict::LeaveTask(frame, _) => (frame, None),
                Verdict::Fleet(frame, follows) => (frame, Some(follows)),
                other => panic!("the store is to be asked: {other:?}"),
            };
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
        assert_eq!(ask(true, json!({ "scope": "task", "id": "x" })), no("forbidden"));
        assert_eq!(ask(false, json!({ "scope": "task", "id": UserId::fresh() })), is("unsubscribe_ack", "", None));
        assert_eq!(ask(true, json!({ "scope": "planet", "id": "x" })), no("unknown_scope"));
        for bad in [
            json!(null),
            json!("x"),
            json!({}),
            json!({ "scope": "workspace" }),
            json!({ "scope": 1, "id": 2 }),
            json!({ "scope": "task", "id": "x".repeat(65) }),
        ] {
            assert_eq!(ask(true, bad), no("invalid payload"));
        }
    }
    #[test]
    fn whether_tasks_and_chats_may_be_followed_is_asked_of_the_store() {
        let (workspace, user, id) = (WorkspaceId::fresh(), UserId::fresh(), TaskId::fresh());
        let ask = |scope: &str| judge(workspace, user, true, json!({ "scope": scope, "id": id, "since": 7 }));
        assert!(matches!(ask("task"), Verdict::Task { task, since: Some(7), .. } if task == id));
        assert!(matches!(ask("chat"), Verdict::Chat { chat, .. } if chat.0 == id.0));
    }
}
