//! What a setting is. Each room declares its own keys beside the code they steer, with default,
//! meaning and unit; `config` gathers them, reads file, environment and flags, and hands each room
//! its typed part. The commented reference file is printed from the same declarations, so it cannot
//! drift from the program.

use std::{collections::BTreeMap, time::Duration};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `room.name`, as in the file.
    pub name: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// What holds when nobody says anything; empty for "none".
    pub default: &'static str,
    /// For the reader of the reference file: meaning, unit, danger.
    pub doc: &'static str,
}

/// Where a value came from, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The program.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// A value that cannot be used, in words for the person who wrote it.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct Unusable(pub String);

/// Every setting's effective value, as text, with its origin.
#[derive(Debug, Clone, Default)]
pub struct Values(BTreeMap<&'static str, (String, Origin)>);

impl Values {
    /// Sets a value, unless a stronger origin already did.
    pub fn put(&mut self, key: &Key, value: String, origin: Origin) {
        match self.0.get(key.name) {
            Some((_, holder)) if *holder > origin => {}
            _ => drop(self.0.insert(key.name, (value, origin))),
        }
    }

    /// A value and where it came from.
    pub fn get(&self, key: &Key) -> (&str, Origin) {
        self.0.get(key.name).map_or((key.default, Origin::Default), |(text, origin)| (text, *origin))
    }

    /// Text; `None` when empty.
    pub fn text(&self, key: &Key) -> Option<String> {
        let (text, _) = self.get(key);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A duration: `250ms`, `15s`, `2m`, `24h`, `7d`; a bare number is seconds.
    pub fn duration(&self, key: &Key) -> Result<Duration, Unusable> {
        let (text, origin) = self.get(key);
        parse_duration(text).ok_or_else(|| unusable(key, text, origin, "is not a duration such as 15s, 250ms or 2m"))
    }

    /// A whole number between `least` and `most`.
    pub fn number(&self, key: &Key, least: u64, most: u64) -> Result<u64, Unusable> {
        let (text, origin) = self.get(key);
        text.parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| unusable(key, text, origin, &format!("is not a whole number from {least} to {most}")))
    }

    /// A size in bytes: `65536`, `64KiB`, `64MiB`.
    pub fn size(&self, key: &Key) -> Result<usize, Unusable> {
        let (text, origin) = self.get(key);
        parse_size(text).ok_or_else(|| unusable(key, text, origin, "is not a size such as 65536, 64KiB or 64MiB"))
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&self, key: &Key, choices: &[(&str, T)]) -> Result<T, Unusable> {
        let (text, origin) = self.get(key);
        choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            unusable(key, text, origin, &format!("is none of {}", names.join(", ")))
        })
    }
}

/// The sentence for a value that does not do.
pub fn unusable(key: &Key, text: &str, origin: Origin, why: &str) -> Unusable {
    Unusable(format!("{} = {text:?} ({origin}, {}) {why}", key.name, key.env))
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

/// A duration as people write it; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = |per: u64| number.checked_mul(per).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let per = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(per)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!(parse_duration("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("1.5s"), None);
        assert_eq!(parse_duration("s"), None);
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("64MB"), None);
    }

    #[test]
    fn a_stronger_origin_wins_in_any_order() {
        let key = Key { name: "a.b", env: "A_B", default: "1", doc: "" };
        let mut values = Values::default();
        values.put(&key, "3".into(), Origin::Environment);
        values.put(&key, "2".into(), Origin::File);
        assert_eq!(values.get(&key), ("3", Origin::Environment));
    }
}
