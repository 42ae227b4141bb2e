//! What can be set about sign-ins.

use std::time::Duration;

use crate::settings::{Key, Unusable, Values};

const SESSION: Key = Key {
    name: "auth.session_ttl",
    env: "HEARTWIRE_SESSION_TTL",
    default: "30d",
    doc: "How long a sign-in in a browser, or a session made for the CLI, lasts.",
};

/// The keys.
pub const KEYS: &[Key] = &[SESSION];

/// Lives of credentials.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of a session.
    pub session_ttl: Duration,
}

impl Settings {
    /// Reads the room's part.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        let settings = Self { session_ttl: values.duration(&SESSION)? };
        if settings.session_ttl.is_zero() {
            return Err(Unusable("auth.session_ttl is 0: nobody could sign in".into()));
        }
        Ok(settings)
    }
}
