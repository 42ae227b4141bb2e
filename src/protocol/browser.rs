//! The browser socket's frames, both ways.

use serde::{Deserialize, Serialize};

use super::lenient;
use crate::time::Timestamp;

/// A position to continue from, in a query or in the auth frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last event the client has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// The epoch it belongs to.
    #[serde(default, deserialize_with = "lenient::zero", skip_serializing_if = "String::is_empty")]
    pub epoch: String,
    /// The id of that event, if the client knows it.
    #[serde(default, deserialize_with = "lenient::zero", skip_serializing_if = "String::is_empty")]
    pub since_id: String,
}

/// A frame from a browser.
#[derive(Debug, Default, Deserialize)]
pub struct Inbound {
    /// What it is.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub r#type: String,
    /// Its content.
    #[serde(default)]
    pub payload: serde_json::Value,
}

/// The payload of `auth`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Auth {
    /// A person's token.
    #[serde(default, deserialize_with = "lenient::zero")]
    pub token: String,
    /// Where to continue.
    #[serde(flatten)]
    pub position: Position,
}

/// The payload of `auth_ack` and `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The sequence's epoch.
    pub epoch: String,
    /// The position from which this connection is live.
    pub seq: u64,
    /// Null: nothing was asked. True: the missed events follow. False: refetch.
    pub recovered: Option<bool>,
    /// How often the server says `heartbeat`.
    pub ping_interval_ms: u64,
    /// Which node.
    pub node: String,
    /// The database's time.
    pub server_time: String,
}

/// Something to follow.
#[derive(Debug, Default, Serialize)]
pub struct Scope {
    /// workspace, user, task, chat or fleet.
    pub scope: String,
    /// Which.
    pub id: String,
    /// Of a task: the position from which its messages follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pos: Option<u64>,
}

/// A frame to a browser that is no event.
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum Outbound {
    /// Authenticated by a token.
    AuthAck(Welcome),
    /// Authenticated by the session's cookie.
    Hello(Welcome),
    /// The credential ends soon: send `auth` with another token of the same person.
    Refresh {
        /// When.
        expires_at: Option<Timestamp>,
    },
    /// The scope is followed.
    SubscribeAck(Scope),
    /// The scope is no longer followed.
    UnsubscribeAck(Scope),
    /// The scope is not followed.
    SubscribeError {
        /// Which.
        #[serde(flatten)]
        scope: Scope,
        /// `forbidden`, `lookup_failed`, `unknown_scope` or `invalid payload`.
        error: String,
    },
    /// `n` is the last sequence number written to this socket.
    Heartbeat {
        /// That number.
        seq: u64,
    },
    /// The answer to `ping`.
    Pong {},
    /// Hints may have been lost: the client asks for what they are about.
    #[serde(rename = "personal:resync")]
    PersonalResync {},
    /// A frame that could not be read.
    Error {
        /// What was wrong.
        error: String,
    },
    /// The last frame of a socket that did not authenticate.
    #[serde(untagged)]
    AuthError(AuthError),
}

/// `{"type":"auth_error","error":…}`: the reference's clients know the text at the top.
#[derive(Debug, Serialize)]
pub struct AuthError {
    /// Always `auth_error`.
    pub r#type: &'static str,
    /// Why.
    pub error: String,
}

impl Outbound {
    /// The failure frame.
    pub fn auth_error(error: impl Into<String>) -> Self {
        Self::AuthError(AuthError { r#type: "auth_error", error: error.into() })
    }

    /// The frame's JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
