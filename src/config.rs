//! The one configuration: each room's own settings, read from defaults, a commented file, the
//! environment and flags, each stronger than the one before. Unknown keys are refused; what does
//! not fit together refuses to start and says which numbers.

use std::{fmt::Write, net::SocketAddr, path::Path};

use crate::{
    api, db, events, fleet, identity,
    settings::{Key, Origin, Unusable, Values},
    ws,
};

/// Where the hub listens.
pub const LISTEN: Key = Key {
    name: "server.listen",
    env: "HEARTWIRE_LISTEN",
    default: "127.0.0.1:8080",
    doc: "Address and port of HTTP and WebSockets. 0.0.0.0 or [::] opens it to the network; put TLS in\nfront of it then.",
};
/// Redis.
pub const REDIS_URL: Key = Key {
    name: "redis.url",
    env: "REDIS_URL",
    default: "",
    doc: "redis://host:port/0. Empty: liveness is kept in memory and there is one node.",
};

/// What belongs to no other room.
const OWN: &[Key] = &[LISTEN];

/// A key by its name; for the command line.
pub fn key(name: &str) -> Option<Key> {
    keys().into_iter().find(|key| key.name == name)
}

fn keys() -> Vec<Key> {
    [OWN, api::KEYS, &[REDIS_URL], identity::KEYS, db::KEYS, events::KEYS, fleet::KEYS, ws::KEYS].concat()
}

/// The configuration, typed and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Redis, when set.
    pub redis_url: Option<String>,
    pub(crate) api: api::Settings,
    pub(crate) identity: identity::Settings,
    pub(crate) db: db::Settings,
    pub(crate) events: events::Settings,
    pub(crate) fleet: fleet::Settings,
    pub(crate) ws: ws::Settings,
    /// Everything as text, for `check-config`.
    values: Values,
}

impl Config {
    /// Gathers the sources. `flags` are names and values of keys.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        flags: &[(&str, String)],
    ) -> Result<Self, Unusable> {
        let keys = keys();
        let mut values = Values::default();
        if let Some(path) = file {
            read_file(path, &keys, &mut values)?;
        }
        for key in &keys {
            if let Some(value) = environment(key.env) {
                values.put(key, value, Origin::Environment);
            }
        }
        for (name, value) in flags {
            let key =
                keys.iter().find(|key| key.name == *name).ok_or_else(|| Unusable(format!("{name} is no setting")))?;
            values.put(key, value.clone(), Origin::Flag);
        }
        Self::read(values)
    }

    fn read(values: Values) -> Result<Self, Unusable> {
        let (listen, origin) = values.get(&LISTEN);
        let listen = listen.parse().map_err(|_| {
            crate::settings::unusable(&LISTEN, listen, origin, "is not an address such as 127.0.0.1:8080")
        })?;
        Ok(Self {
            listen,
            api: api::Settings::read(&values)?,
            identity: identity::Settings::read(&values)?,
            redis_url: values.text(&REDIS_URL),
            db: db::Settings::read(&values)?,
            events: events::Settings::read(&values)?,
            fleet: fleet::Settings::read(&values)?,
            ws: ws::Settings::read(&values)?,
            values,
        })
    }

    /// Every setting, its value and where it comes from, for a person. Passwords in addresses are
    /// left out.
    pub fn explain(&self) -> String {
        let mut out = String::new();
        for key in keys() {
            let (value, origin) = self.values.get(&key);
            let shown = match key.name {
                name if name.ends_with(".url") => without_password(value),
                name if name.ends_with("_token") && !value.is_empty() => "(set)".to_owned(),
                _ => value.to_owned(),
            };
            let _ = writeln!(out, "{:<28} {:<28} {origin}", key.name, if shown.is_empty() { "-" } else { &shown });
        }
        let _ = writeln!(out, "\nWhat ties the fleet's limits together:");
        for (link, _) in self.fleet.chain() {
            let _ = writeln!(out, "  {link}");
        }
        out
    }

    /// The commented reference file, every key at its default.
    pub fn reference() -> String {
        let mut out = String::from(
            "# heartwire's settings, each at its default.\n\
             # Weakest first: these defaults, a file like this one (--config), the environment, flags.\n\
             # Durations: 250ms, 15s, 2m, 24h, 7d. Sizes: 65536, 64KiB, 8MiB.\n",
        );
        let mut room = "";
        for key in keys() {
            let Some((section, name)) = key.name.split_once('.') else { continue };
            if section != room {
                let _ = write!(out, "\n[{section}]\n");
                room = section;
            }
            for line in key.doc.lines() {
                let _ = writeln!(out, "# {line}");
            }
            let _ = write!(out, "# Environment: {}\n# {name} = {:?}\n\n", key.env, key.default);
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

fn read_file(path: &Path, keys: &[Key], values: &mut Values) -> Result<(), Unusable> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Unusable(format!("{shown}: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error| Unusable(format!("{shown}: {error}")))?;
    for (room, section) in table {
        let toml::Value::Table(section) = section else {
            return Err(Unusable(format!("{shown}: {room} belongs into a [section]")));
        };
        for (name, value) in section {
            let full = format!("{room}.{name}");
            let key = keys.iter().find(|key| key.name == full).ok_or_else(|| {
                Unusable(format!("{shown}: {full} is no setting; `check-config --reference` lists them"))
            })?;
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => return Err(Unusable(format!("{shown}: {full} takes a single value"))),
            };
            values.put(key, value, Origin::File);
        }
    }
    Ok(())
}

/// An address without what stands between `://` and `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Unusable> {
        let path = std::env::temp_dir().join(format!("heartwire-config-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&path, file).expect("temp file");
        let environment: std::collections::HashMap<_, _> = environment.iter().copied().collect();
        let flags: Vec<_> = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let loaded = Config::load(Some(&path), |name| environment.get(name).map(|v| (*v).to_owned()), &flags);
        let _ = std::fs::remove_file(path);
        loaded
    }

    #[test]
    fn each_source_is_stronger_than_the_one_before() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\n[events]\npace = \"3ms\"\nmax_events = 7\n";
        let config =
            load(file, &[("HEARTWIRE_LISTEN", "127.0.0.1:2")], &[("server.listen", "127.0.0.1:3")]).expect("fits");
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.events.pace.as_millis(), 3);
        assert_eq!(config.events.max_events, 7);
        let explained = config.explain();
        assert!(explained.contains("127.0.0.1:3") && explained.contains("flag"), "{explained}");
    }

    #[test]
    fn unknown_keys_and_unusable_values_are_refused_by_name() {
        for (file, says) in [
            ("[server]\nlissen = \"x\"", "server.lissen is no setting"),
            ("listen = \"x\"", "belongs into a [section]"),
            ("[server]\nlisten = [1]", "takes a single value"),
            ("[server]\nlisten = \"here\"", "server.listen = \"here\" (file, HEARTWIRE_LISTEN)"),
            ("[sockets]\nbrowser_ping = \"soon\"", "is not a duration"),
            ("[sockets]\nbrowser_silence = \"20s\"", "at least twice"),
        ] {
            let error = load(file, &[], &[]).expect_err(file);
            assert!(error.0.contains(says), "{file:?}: {error}");
        }
    }

    #[test]
    fn the_reference_file_is_valid_and_says_the_defaults() {
        let reference = Config::reference();
        load(&reference, &[], &[]).expect("as printed");
        // With the comment marks before the values taken away, it still is.
        let active: String = reference
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = \"") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        load(&active, &[], &[]).expect(&active);
    }

    #[test]
    fn passwords_are_not_shown() {
        let config = load("", &[("DATABASE_URL", "postgres://u:secret@h/d")], &[]).expect("fits");
        assert!(!config.explain().contains("secret"));
        assert!(config.explain().contains("postgres://…@h/d"));
    }
}
