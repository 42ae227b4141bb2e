//! Mentions: links in what somebody says, to agents, squads, people, issues or everybody.

use std::{collections::HashSet, sync::LazyLock};

use regex::Regex;

use crate::ids::{AgentId, IssueId, SquadId, UserId};

/// Whom or what a comment mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mention {
    /// A person.
    Member(UserId),
    /// An agent: it is woken.
    Agent(AgentId),
    /// A squad: its leader is woken.
    Squad(SquadId),
    /// An issue: a reference, nobody is addressed.
    Issue(IssueId),
    /// All people.
    All,
}

impl Mention {
    /// Whether somebody is addressed.
    pub fn addresses(self) -> bool {
        !matches!(self, Self::Issue(_))
    }
}

/// The form of a mention; what its label says means nothing.
#[allow(clippy::expect_used, reason = "a constant, read by every case of this module")]
static FORM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\[@?(.+?)\]\(mention://(member|agent|squad|issue|all)/([0-9a-fA-F-]+|all)\)").expect("a form")
});

/// What a text mentions, each once, in its order. A mention whose id is none mentions nobody.
pub fn of(text: &str) -> Vec<Mention> {
    let mut seen = HashSet::new();
    FORM.captures_iter(text)
        .filter_map(|found| {
            let (kind, id) = (found.get(2)?.as_str(), found.get(3)?.as_str());
            match kind {
                "member" => id.parse().ok().map(Mention::Member),
                "agent" => id.parse().ok().map(Mention::Agent),
                "squad" => id.parse().ok().map(Mention::Squad),
                "issue" => id.parse().ok().map(Mention::Issue),
                _ => Some(Mention::All),
            }
        })
        .filter(|mention| seen.insert(*mention))
        .collect()
}

/// Whether a text is a note, which is for its readers only.
pub fn is_note(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("/note"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5a0-0000-7000-8000-00000000000a";

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>() -> T {
        ID.parse().unwrap()
    }

    #[test]
    fn mentions_are_links_of_five_kinds() {
        let text = format!(
            "[@Ann](mention://member/{ID}) [B](mention://agent/{ID}) [@C c](mention://squad/{ID})
             [HOM-1](mention://issue/{ID}) [@all](mention://all/all)"
        );
        let all =
            [Mention::Member(id()), Mention::Agent(id()), Mention::Squad(id()), Mention::Issue(id()), Mention::All];
        assert_eq!(of(&text), all);
        assert_eq!(all.map(Mention::addresses), [true, true, true, false, true]);
    }

    #[test]
    fn the_same_one_counts_once_whatever_it_is_called() {
        let capitals = ID.to_uppercase();
        let text = format!("[a](mention://agent/{ID}) [@b](mention://agent/{capitals})");
        assert_eq!(of(&text), [Mention::Agent(id())]);
    }

    #[test]
    fn what_is_no_mention_mentions_nobody() {
        for text in [
            "@ann".to_owned(),
            "[@ann](mention://agent/abc)".into(),
            "[@ann](mention://agent/all)".into(),
            "[@ann](mention://agent/xyz)".into(),
            "[@ann](mention://agent/)".into(),
            format!("[](mention://agent/{ID})"),
            format!("[a\nb](mention://agent/{ID})"),
            format!("[a](mention://robot/{ID})"),
            format!("[a] (mention://agent/{ID})"),
            format!("[a](MENTION://agent/{ID})"),
            format!("[a](mention://agent/{ID}x)"),
        ] {
            assert_eq!(of(&text), [], "{text}");
        }
        assert_eq!(of(&format!("[a] [b](mention://agent/{ID})")), [Mention::Agent(id())]);
    }

    #[test]
    fn a_hostile_text_takes_no_longer_than_another() {
        let began = std::time::Instant::now();
        assert_eq!(of(&"[".repeat(64 << 10)), []);
        assert_eq!(of(&"[@](mention://agent/".repeat(3200)), []);
        of(&"[@](mention://agent/0)".repeat(3000));
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn a_note_begins_with_the_word() {
        for (text, note) in [
            ("/note x", true),
            ("  /NOTE\nx", true),
            ("/note", true),
            ("/notes x", false),
            ("a /note", false),
            ("", false),
        ] {
            assert_eq!(is_note(text), note, "{text}");
        }
    }
}
