//! What can be set about sockets.

use std::time::Duration;

use crate::settings::{Key, Unusable, Values};

const BROWSER_PING: Key = Key {
    name: "sockets.browser_ping",
    env: "HEARTWIRE_BROWSER_PING",
    default: "25s",
    doc: "Between two heartbeat frames (and pings) to a browser. Proxies cut idle connections after\n30 to 60 seconds.",
};
const BROWSER_SILENCE: Key = Key {
    name: "sockets.browser_silence",
    env: "HEARTWIRE_BROWSER_SILENCE",
    default: "60s",
    doc: "A browser from which not even a pong came for this long is disconnected (4003).",
};
const DAEMON_PING: Key = Key {
    name: "sockets.daemon_ping",
    env: "HEARTWIRE_DAEMON_PING",
    default: "20s",
    doc: "Between two pings to a daemon.",
};
const DAEMON_SILENCE: Key = Key {
    name: "sockets.daemon_silence",
    env: "HEARTWIRE_DAEMON_SILENCE",
    default: "50s",
    doc: "A daemon from which not even a pong came for this long is disconnected (4003).",
};
const STUCK: Key = Key {
    name: "sockets.stuck_after",
    env: "HEARTWIRE_STUCK_AFTER",
    default: "10s",
    doc: "A peer that accepted no byte for this long, while there was something to write, is\ndisconnected (4002).",
};
const AUTH: Key = Key {
    name: "sockets.auth_within",
    env: "HEARTWIRE_AUTH_WITHIN",
    default: "10s",
    doc: "How long a browser has to send its auth frame.",
};
const MESSAGE: Key = Key {
    name: "sockets.max_message",
    env: "HEARTWIRE_MAX_MESSAGE",
    default: "64KiB",
    doc: "Largest message a socket takes (1009 beyond it).",
};
const PER_USER: Key = Key {
    name: "sockets.max_per_user",
    env: "HEARTWIRE_MAX_SOCKETS_PER_USER",
    default: "20000",
    doc: "Sockets that one person may have open on this node (4004, or 429, beyond it), daemons' included. Only\na backstop by default: a page uses one, and so does a daemon.",
};
const UNAUTHENTICATED: Key = Key {
    name: "sockets.max_unauthenticated",
    env: "HEARTWIRE_MAX_UNAUTHENTICATED_SOCKETS",
    default: "256",
    doc: "Sockets that may wait for their auth frame, from one address (429 beyond it). This machine's own\naddresses are exempt: behind a proxy here, name it in server.trusted_proxies.",
};
const LOOKUPS: Key = Key {
    name: "sockets.lookups_per_second",
    env: "HEARTWIRE_SOCKET_LOOKUPS_PER_SECOND",
    default: "50",
    doc: "Workspaces that one address may look up with a socket's request, a second; ten times that at\nonce (429 beyond it). This machine's own addresses are exempt.",
};

/// The keys.
pub const KEYS: &[Key] = &[
    BROWSER_PING,
    BROWSER_SILENCE,
    DAEMON_PING,
    DAEMON_SILENCE,
    STUCK,
    AUTH,
    MESSAGE,
    PER_USER,
    UNAUTHENTICATED,
    LOOKUPS,
];

/// The sockets' rhythm and limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two heartbeat frames to a browser.
    pub browser_ping: Duration,
    /// Silence that ends a browser socket.
    pub browser_silence: Duration,
    /// Between two pings to a daemon.
    pub daemon_ping: Duration,
    /// Silence that ends a daemon socket.
    pub daemon_silence: Duration,
    /// A blocked write that ends a socket.
    pub stuck_after: Duration,
    /// For the auth frame.
    pub auth_within: Duration,
    /// Bytes of a message.
    pub max_message: usize,
    /// Browser sockets of one person.
    pub max_per_user: usize,
    /// Sockets of one address that have not authenticated.
    pub max_unauthenticated: usize,
    /// Look-ups of one address, a second.
    pub lookups_per_second: u32,
}

impl Settings {
    /// Reads the room's part.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        let settings = Self {
            browser_ping: values.duration(&BROWSER_PING)?,
            browser_silence: values.duration(&BROWSER_SILENCE)?,
            daemon_ping: values.duration(&DAEMON_PING)?,
            daemon_silence: values.duration(&DAEMON_SILENCE)?,
            stuck_after: values.duration(&STUCK)?,
            auth_within: values.duration(&AUTH)?,
            max_message: values.size(&MESSAGE)?,
            max_per_user: values.number(&PER_USER, 1, 1 << 30)? as usize,
            max_unauthenticated: values.number(&UNAUTHENTICATED, 1, 1 << 30)? as usize,
            lookups_per_second: values.number(&LOOKUPS, 1, 1 << 20)? as u32,
        };
        for (ping, silence, who) in [
            (settings.browser_ping, settings.browser_silence, "browser"),
            (settings.daemon_ping, settings.daemon_silence, "daemon"),
        ] {
            if ping.is_zero() || silence < 2 * ping {
                return Err(Unusable(format!(
                    "sockets.{who}_silence ({silence:?}) must be at least twice sockets.{who}_ping ({ping:?}): \
                     one lost pong would end a living socket"
                )));
            }
        }
        Ok(settings)
    }
}
