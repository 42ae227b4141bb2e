//! Hides secrets in what agents say, before it is stored or sent.
//!
//! What is hidden is known by its form alone, so there is no promise that nothing gets through; where a form
//! is doubtful, text is hidden rather than shown. What is hidden stays hidden: redacted text is not changed
//! by another pass. Texts are as long as a request may be, so everything here takes time in proportion to
//! them: one pass says which rules apply, and each of those is one more.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex, RegexSet};
use serde_json::{Map, Value};

/// What stands for a credential, known by the name that it is given to.
const CREDENTIAL: &str = "[REDACTED CREDENTIAL]";

/// Names of credentials. Longer ones may end so, in any case; `_` may be `-` or missing.
const NAMES: &[&str] = &[
    "API_KEY",
    "API_SECRET",
    "SECRET_KEY",
    "SECRET",
    "ACCESS_TOKEN",
    "AUTH_TOKEN",
    "PRIVATE_KEY",
    "DATABASE_URL",
    "DB_PASSWORD",
    "DB_URL",
    "REDIS_URL",
    "PASSWORD",
    "TOKEN",
];

/// What follows "Bearer" where prose speaks of the scheme.
const SPEAKS_OF_BEARERS: &[&str] =
    &["auth", "authentication", "authorization", "credentials", "header", "of", "scheme", "token", "tokens"];

/// A lower-case "bearer" is mostly a person: then only this many characters, or a digit, make a token.
const BEARER_TOKEN: usize = 20;

/// Where a short form may begin: not inside a word, but what escapes and colours end with is none.
const EDGE: &str = r"(?P<edge>(?-u:\b)|_|\\[nrt]|%[0-9A-Fa-f]{2}|\x1b\[[0-9;]*m)";

/// The server's own home, whose last part is the name of a user.
static HOME: LazyLock<String> = LazyLock::new(|| std::env::var("HOME").unwrap_or_default());

/// Hides secrets in a text.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    text_at(text, &HOME)
}

/// Hides secrets in every string of a value, names of members included. A string whose member is named like
/// a credential is hidden whatever it is: so are environments given to tools.
pub(super) fn value(value: &mut Value) {
    value_at(value, &HOME);
}

fn text_at<'t>(text: &'t str, home: &str) -> Cow<'t, str> {
    let mut hidden = Cow::Borrowed(text);
    // No rule makes text to which another begins to apply: the original says which do.
    for rule in &RULES.triggers.matches(text) {
        if let Some(rule) = RULES.rules.get(rule)
            && let Cow::Owned(next) = rule.apply(&hidden)
        {
            hidden = Cow::Owned(next);
        }
    }
    match without_user(&hidden, home) {
        Some(next) => Cow::Owned(next),
        None => hidden,
    }
}

fn value_at(value: &mut Value, home: &str) {
    match value {
        Value::String(string) => {
            if let Cow::Owned(hidden) = text_at(string, home) {
                *string = hidden;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| value_at(item, home)),
        Value::Object(members) => members_at(members, home),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn members_at(members: &mut Map<String, Value>, home: &str) {
    let mut renamed = Vec::new();
    for (name, member) in members.iter_mut() {
        match member {
            Value::String(string) if !string.trim().is_empty() && RULES.name.is_match(name) => {
                CREDENTIAL.clone_into(string);
            }
            other => value_at(other, home),
        }
        if let Cow::Owned(hidden) = text_at(name, home) {
            renamed.push((name.clone(), hidden));
        }
    }
    let mut same = 1;
    for (name, hidden) in renamed {
        let Some(member) = members.remove(&name) else { continue };
        let mut free = hidden.clone();
        // Two secrets may be hidden by the same words, and none of their members gets lost.
        while members.contains_key(&free) {
            same += 1;
            free = format!("{hidden} ({same})");
        }
        members.insert(free, member);
    }
}

/// The text with the user's name hidden, wherever the home of that user stands; nothing if it stands nowhere,
/// or if it is not one of a user: `/root`, `/`, or no absolute path.
fn without_user(text: &str, home: &str) -> Option<String> {
    let home = home.trim_end_matches('/');
    let (parent, user) = home.rsplit_once('/')?;
    if !parent.starts_with('/') || parent.ends_with('/') || user.chars().all(|sign| sign == '.') {
        return None;
    }
    let (mut hidden, mut kept) = (String::new(), 0);
    for (at, _) in text.match_indices(home) {
        let end = at + home.len();
        if !is_longer_name(&text[end..]) {
            hidden.push_str(&text[kept..=at + parent.len()]);
            hidden.push_str("****");
            kept = end;
        }
    }
    hidden.push_str(&text[kept..]);
    (kept > 0).then_some(hidden)
}

/// Whether a name goes on, and so is another one. A point ends a sentence, if nothing follows it.
fn is_longer_name(rest: &str) -> bool {
    let mut signs = rest.chars();
    match signs.next() {
        Some('.') => signs.next().is_some_and(char::is_alphanumeric),
        Some(sign) => sign.is_alphanumeric() || matches!(sign, '_' | '-'),
        None => false,
    }
}

/// What hides one kind of secret.
struct Rule {
    pattern: Regex,
    by: By,
}

/// What is put in the place of a match.
enum By {
    /// These words, after what the match has only for its edge.
    Words(&'static str),
    /// As for `Bearer` tokens, which prose has in another sense.
    Bearer,
}

impl Rule {
    fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.pattern.replace_all(text, |found: &Captures<'_>| match self.by {
            By::Words(words) => {
                let edge = found.name("edge").map_or("", |edge| edge.as_str());
                format!("{edge}{words}")
            }
            By::Bearer if is_prose(&found["scheme"], &found["token"]) => found[0].to_owned(),
            By::Bearer => "Bearer [REDACTED]".to_owned(),
        })
    }
}

fn is_prose(scheme: &str, token: &str) -> bool {
    let word = token.trim_end_matches('.');
    let is_token = || token.len() >= BEARER_TOKEN || token.bytes().any(|sign| sign.is_ascii_digit());
    SPEAKS_OF_BEARERS.iter().any(|known| known.eq_ignore_ascii_case(word)) || scheme.starts_with('b') && !is_token()
}

struct Rules {
    /// By the number of a rule, what a text must have for it to apply: one cheap look for all.
    triggers: RegexSet,
    /// In the order in which they apply.
    rules: Vec<Rule>,
    /// Whether a name is that of a credential.
    name: Regex,
}

static RULES: LazyLock<Rules> = LazyLock::new(Rules::compiled);

impl Rules {
    #[allow(clippy::expect_used, reason = "the patterns are constants, and a test compiles them")]
    fn compiled() -> Self {
        let names = NAMES.join("|").replace('_', "[_-]?");
        let (triggers, rules) = Self::table(&names)
            .into_iter()
            .map(|(trigger, pattern, by)| (trigger, Rule { pattern: Regex::new(&pattern).expect("a pattern"), by }))
            .unzip::<_, _, Vec<String>, Vec<Rule>>();
        Self {
            triggers: RegexSet::new(triggers).expect("triggers"),
            rules,
            // The last has a rule of its own in texts, that asks for a value as AWS has them. A member's whole
            // string is a value, so its name is enough.
            name: Regex::new(&format!(r"(?i-u)(?:{names}|SECRET[_-]?ACCESS[_-]?KEY)\z")).expect("a name"),
        }
    }

    /// A trigger, a pattern and what to put in its place, for each rule.
    ///
    /// The order matters: what has a form of its own is hidden before what is only known by where it stands.
    /// The hub's own tokens come last, for then they are hidden like any other as credentials and behind
    /// "Bearer", and by their form where nothing else says what they are. Whatever a pattern takes ends where
    /// a word ends: otherwise the rest would begin a word for the next pass.
    fn table(names: &str) -> Vec<(String, String, By)> {
        let rule = |trigger: &str, pattern: &str, by| (trigger.to_owned(), pattern.replace("EDGE", EDGE), by);
        vec![
            rule("AKIA", "AKIA[0-9A-Z]{16}", By::Words("[REDACTED AWS KEY]")),
            rule(
                "(?i-u)secret[ _-]?access[ _-]?key",
                concat!(
                    r#"(?i-u)(?:\\?["'](?:aws[ _-]?)?secret[ _-]?access[ _-]?key\\?["']"#,
                    r#"|(?:aws[ _-]?)?secret[ _-]?access[ _-]?key)"#,
                    r#"[ \t]*[=:]+>?[ \t]*(?:\\?["'])?[a-z0-9/+=]{40,}(?:\\?["'])?"#,
                ),
                By::Words("[REDACTED AWS SECRET]"),
            ),
            rule(
                "PRIVATE KEY",
                concat!(
                    "(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?",
                    "-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
                ),
                By::Words("[REDACTED PRIVATE KEY]"),
            ),
            // One whose end was cut off: as far as lines look like those of a key.
            rule(
                "PRIVATE KEY-----",
                concat!(
                    "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
                    r#"(?:(?:[ \t\r\n"'+,>|]|\\[nr])*[A-Za-z0-9+/=]{16,})+"#,
                ),
                By::Words("[REDACTED PRIVATE KEY]"),
            ),
            rule("gh[pousr]_", "gh[pousr]_[A-Za-z0-9_]{36,}", By::Words("[REDACTED GITHUB TOKEN]")),
            rule("sk-", "EDGEsk-[A-Za-z0-9_-]{20,}", By::Words("[REDACTED API KEY]")),
            rule("xox[bporas]-", "xox[bporas]-[A-Za-z0-9-]{10,}", By::Words("[REDACTED SLACK TOKEN]")),
            rule("glpat-", "glpat-[A-Za-z0-9_-]{20,}", By::Words("[REDACTED GITLAB TOKEN]")),
            // JSON in base64 begins with `ey`, nearly always with `eyJ`. Both the header and the claims are
            // JSON: of the rarer beginning both are asked for, lest paths of modules be hidden.
            rule(
                r"ey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{10,}\.",
                concat!(
                    r"EDGE(?:eyJ[A-Za-z0-9_-]{7,}\.[A-Za-z0-9_-]{10,}|ey[A-Za-z0-9_-]{8,}\.ey[A-Za-z0-9_-]{8,})",
                    r"\.[A-Za-z0-9_-]{10,}",
                ),
                By::Words("[REDACTED JWT]"),
            ),
            rule(r"(?i-u)bearer[ \t]", r"(?i-u)(?P<scheme>(?:bearer[ \t]+)+)(?P<token>[a-z0-9._~+/=-]+)", By::Bearer),
            // A password may hold `@` itself: as many as stand before the path.
            rule(
                "(?i-u)(?:postgres|postgresql|mysql|mongodb|redis|amqp)s?(?:[+][a-z0-9]+)?://",
                concat!(
                    r"(?i-u:(?:postgres|postgresql|mysql|mongodb|redis|amqp)s?(?:[+][a-z0-9]+)?://)",
                    r#"[^ \t\r\n:/@"<>]*:[^ \t\r\n@"<>]+@(?:[^ \t\r\n/@?#"<>]+@)*"#,
                ),
                By::Words("[REDACTED CONNECTION STRING]@"),
            ),
            rule(&format!(r#"(?i-u)(?:{names})\\?["']?[ \t]*[=:]"#), &assignment(names), By::Words(CREDENTIAL)),
            // Cut ones too. These may stand inside a word: nothing else looks like them.
            rule(
                "m(?:ul|dt|at|cn)_[0-9A-Fa-f]{20}",
                "m(?:ul|dt|at|cn)_[0-9A-Fa-f]{20,}[0-9A-Za-z_]*",
                By::Words("[REDACTED HEARTWIRE TOKEN]"),
            ),
        ]
    }
}

/// `NAME=value` and `NAME: value`, the name in quotes or not, as in JSON, also inside a string.
///
/// The value is what its quotes hold, and what is joined to them; else all up to the next space, except that
/// a placeholder is one word. It stands on the same line. `::` gives no value: it leads a path.
fn assignment(names: &str) -> String {
    let name = format!("(?i-u:(?:[a-z0-9_][a-z0-9_-]*)?(?:{names}))");
    let quote = r#"\\?["']"#;
    // None of these looks further than to the next quote of its kind, or to the end of the line.
    let quoted =
        r#"(?:"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'|\\"[^"\\\n]*\\")(?:[^ \t\r\n,;)\]}>`&|\\<][^ \t\r\n]*)?"#;
    let placeholder = r"\[REDACTED(?: [A-Z]+){0,2}\]";
    let value = format!(r"(?:{quoted}|(?:{placeholder}|[^ \t\r\n])+)");
    let after_colon = format!(r"(?:{quoted}|(?:{placeholder}|[^ \t\r\n:=])(?:{placeholder}|[^ \t\r\n])*)");
    format!(r"(?:{quote}{name}{quote}|{name}(?:{quote})?)[ \t]*(?::?=[=>]*[ \t]*{value}|:[ \t]+{value}|:{after_colon})")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOME: &str = "/home/ann";

    /// Texts and what becomes of them. Secrets are put together here, lest scanners take them for real ones.
    fn examples() -> Vec<(String, String)> {
        let akia = format!("AKIA{}", "Q7".repeat(8));
        let aws = "wJal/XUt+n".repeat(4);
        let (hex, jot) = ("0123456789abcdef".repeat(3), "0aZ_-".repeat(4));
        let [mul, mdt, mat, mcn] = ["mul", "mdt", "mat", "mcn"].map(|kind| format!("{kind}_{}", &hex[..40]));
        let (gh, sk) = (format!("ghp_{}", "aB3".repeat(12)), format!("sk-proj-{jot}"));
        let (slack, lab) = (format!("xoxb-{}", "12-ab".repeat(3)), format!("glpat-{jot}"));
        let jwt = format!("eyJ{jot}.eyJ{jot}.{jot}");
        let (begin, end) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
        let body = "MIIEpAIBAAKCAQEA".repeat(4);
        let (key, api, github) = ("[REDACTED AWS KEY]", "[REDACTED API KEY]", "[REDACTED GITHUB TOKEN]");
        let (pem, own, conn) =
            ("[REDACTED PRIVATE KEY]", "[REDACTED HEARTWIRE TOKEN]", "[REDACTED CONNECTION STRING]@");
        let (secret, cred) = ("[REDACTED AWS SECRET]", CREDENTIAL);
        [
            // AWS.
            (format!("id {akia}, and"), format!("id {key}, and")),
            (format!("aws_secret_access_key = {aws}\n"), format!("{secret}\n")),
            (format!("{{\"SecretAccessKey\": \"{aws}\", \"a\": 1}}"), format!("{{{secret}, \"a\": 1}}")),
            (format!("Secret Access Key: {aws}"), secret.into()),
            // Private keys.
            (format!("a\n{begin}\n{body}\n{body}\n{end}\nb"), format!("a\n{pem}\nb")),
            (format!("{begin}\\n{body}\\n{end}\\n"), format!("{pem}\\n")),
            (format!("{begin}\n{body}\n{end} {begin}{body}{end}"), format!("{pem} {pem}")),
            (format!("{begin}\n{body}\n{body}\n[cut]"), format!("{pem}\n[cut]")),
            // Tokens with a form of their own.
            (format!("push {gh}."), format!("push {github}.")),
            (format!("{} {}", gh.replace("ghp", "ghs"), gh.replace("ghp", "gho")), format!("{github} {github}")),
            (format!("use {sk}"), format!("use {api}")),
            (format!("\x1b[32m{sk}\x1b[0m"), format!("\x1b[32m{api}\x1b[0m")),
            (format!("\"a\\n{sk}\\n\""), format!("\"a\\n{api}\\n\"")),
            (format!("q=%20{sk}"), format!("q=%20{api}")),
            (format!("({slack})"), "([REDACTED SLACK TOKEN])".into()),
            (format!("{lab}@"), "[REDACTED GITLAB TOKEN]@".into()),
            (format!("jwt {jwt}, {jwt}"), "jwt [REDACTED JWT], [REDACTED JWT]".into()),
            // Bearers.
            (format!("Authorization: Bearer {jot}=="), "Authorization: Bearer [REDACTED]".into()),
            ("-H 'Authorization: Bearer mysecret'".into(), "-H 'Authorization: Bearer [REDACTED]'".into()),
            ("authorization: bearer abc123".into(), "authorization: Bearer [REDACTED]".into()),
            ("Bearer Bearer abc123".into(), "Bearer [REDACTED]".into()),
            ("Bearer token=abc".into(), "Bearer [REDACTED]".into()),
            (format!("Bearer {jwt}"), "Bearer [REDACTED JWT]".into()),
            (format!("Bearer {mat}"), "Bearer [REDACTED]".into()),
            // Connections.
            ("postgres://ann:pw@db:5432/x?a=b".into(), format!("{conn}db:5432/x?a=b")),
            ("postgresql+asyncpg://ann:p/w@d@db/x".into(), format!("{conn}db/x")),
            ("redis://:pw@h1,redis://:pw@h2/0".into(), format!("{conn}h1,{conn}h2/0")),
            ("mongodb+srv://a:b@c MYSQL://a:b@c amqps://a:b@c".into(), format!("{conn}c {conn}c {conn}c")),
            // Names of credentials.
            ("export DB_PASSWORD=hunter2 && run".into(), format!("export {cred} && run")),
            ("MY_API_KEY: abc\nother: x".into(), format!("{cred}\nother: x")),
            ("password = \"two words\", more".into(), format!("{cred}, more")),
            ("PASSWORD='two words'tail more".into(), format!("{cred} more")),
            ("{\"token\":\"a \\\" b\",\"n\":1}".into(), format!("{{{cred},\"n\":1}}")),
            (r#""{\"apiKey\":\"a b\",\"n\":1}""#.into(), format!(r#""{{{cred},\"n\":1}}""#)),
            ("X-Api-Key: abc".into(), cred.into()),
            ("'password' => 'a b', x".into(), format!("{cred}, x")),
            ("secret := \"a b\"".into(), cred.into()),
            ("let password = input();".into(), format!("let {cred}")),
            ("token: of appreciation".into(), format!("{cred} appreciation")),
            ("DATABASE_URL=postgres://a:b@c/d next".into(), format!("{cred} next")),
            (format!("OPENAI_API_KEY={sk} next"), format!("{cred} next")),
            (format!("SECRET=x{gh}y{akia} next"), format!("{cred} next")),
            (format!("TOKEN={mat} next"), format!("{cred} next")),
            (format!("https://x.y/z?token={mat}"), format!("https://x.y/z?{cred}")),
            // The hub's own.
            (format!("{mul} {mdt} {mat} {mcn}"), format!("{own} {own} {own} {own}")),
            (format!("cut {}", &mat[..24]), format!("cut {own}")),
            (format!("my_{mat}, a\\n{mul}"), format!("my_{own}, a\\n{own}")),
            (format!("{mat}{sk}"), format!("{own}{}", &sk[2..])),
            // The home.
            ("cd /home/ann/x; ls /home/ann".into(), "cd /home/****/x; ls /home/****".into()),
            ("It is /home/ann. So".into(), "It is /home/****. So".into()),
            // Several.
            (
                format!("{akia} and {gh}\nTOKEN=x /home/ann/{sk} redis://a:b@c Bearer {jot}"),
                format!("{key} and {github}\n{cred} /home/****/{api} {conn}c Bearer [REDACTED]"),
            ),
        ]
        .into()
    }

    /// Texts that stay as they are.
    const ORDINARY: &[&str] = &[
        "",
        "I fixed the issue and ran the tests.",
        "import sklearn  # sk-learn, the task-management-system-of-the-year",
        "AKIA is how they begin; so do gh_ and ghp_short, xoxb-1, glpat-short, mat_1234 and sk-short",
        "eyes.eyelids.eyebrows, eyetracking.preprocessing.calibration, e.g. monkeyJumping.overthefence.andbackagain",
        "The bearer of this, a Bearer token or Bearer authentication.",
        "https://example.org:8080/a?b=c@d ssh://git@host postgres://localhost:5432/db redis://cache/0",
        "\"postgres://localhost:5432/db\",\"ann@example.org\"",
        "max_tokens: 4096, token_count=3, tokenizer: fast, passwords = 2, secretary: Bob, url: x",
        "use crate::token::Kind; Token::new(), secret ::= x, the password, a token.",
        "password:\n  type: string",
        "grep -- '-----BEGIN PRIVATE KEY-----' in the files",
        "/home/annabel /home/ann-2 /home/ann_x /home/ann.lee /Home/ann /home/bob",
        "naïve prose — “quoted”, 日本語: テスト",
    ];

    #[test]
    fn secrets_are_hidden() {
        for (text, expected) in examples() {
            assert_eq!(text_at(&text, HOME), expected, "of {text}");
        }
    }

    #[test]
    fn every_pattern_compiles_and_has_a_trigger() {
        let rules = Rules::compiled();
        assert_eq!(rules.triggers.len(), rules.rules.len());
    }

    #[test]
    fn ordinary_text_stays() {
        for text in ORDINARY {
            assert_eq!(text_at(text, HOME), *text);
        }
    }

    #[test]
    fn text_without_a_trigger_is_not_copied() {
        assert!(matches!(text_at(ORDINARY[1], HOME), Cow::Borrowed(_)));
        assert!(matches!(text(""), Cow::Borrowed("")));
    }

    #[test]
    fn what_is_hidden_stays_as_it_is() {
        let examples = examples();
        let joined = ["", " ", "=\"", "_", "TOKEN:", "\\"];
        let mut texts: Vec<String> = ORDINARY.iter().map(|&text| text.to_owned()).collect();
        for (one, hidden) in &examples {
            texts.push(hidden.clone());
            for (other, _) in &examples {
                texts.extend(joined.iter().map(|between| format!("{one}{between}{other}")));
            }
            // Cut anywhere.
            texts.extend(one.char_indices().map(|(at, _)| one[..at].to_owned()));
            texts.extend(one.char_indices().map(|(at, _)| one[at..].to_owned()));
        }
        for text in texts {
            let once = text_at(&text, HOME);
            assert_eq!(text_at(&once, HOME), once, "of {text}");
            let untriggered = RULES.rules.iter().fold(text.clone(), |text, rule| rule.apply(&text).into_owned());
            assert_eq!(without_user(&untriggered, HOME).unwrap_or(untriggered), once, "triggers miss {text}");
        }
    }

    #[test]
    fn a_home_without_a_user_hides_nothing() {
        let text = "/root/x / /home/ann home/ann root //x /. /home/.";
        for home in ["/root", "/root/", "/", "//", "", "home/ann", "ann", "//x", "/home/.", "/home/..", "."] {
            assert_eq!(text_at(text, home), text, "with {home}");
        }
    }

    #[test]
    fn a_home_may_be_anywhere() {
        for (home, expected) in [
            ("/Users/ann", "/Users/****/x and /export/home/ann"),
            ("/Users/ann/", "/Users/****/x and /export/home/ann"),
            ("/export/home/ann", "/Users/ann/x and /export/home/****"),
        ] {
            assert_eq!(text_at("/Users/ann/x and /export/home/ann", home), expected, "with {home}");
        }
    }

    fn redacted(mut value: Value) -> Value {
        value_at(&mut value, HOME);
        let once = value.clone();
        value_at(&mut value, HOME);
        assert_eq!(value, once, "another pass changes nothing");
        value
    }

    #[test]
    fn every_string_of_a_value_is_hidden_and_the_rest_stays() {
        let mat = format!("mat_{}", "ab".repeat(20));
        let own = "[REDACTED HEARTWIRE TOKEN]";
        assert_eq!(
            redacted(json!({
                "command": format!("echo {mat}"),
                "list": [mat, ["/home/ann/x", {"deep": ["PASSWORD=x"]}], 1, null, true],
                "n": 1.5, "none": null,
            })),
            json!({
                "command": format!("echo {own}"),
                "list": [own, ["/home/****/x", {"deep": [CREDENTIAL]}], 1, null, true],
                "n": 1.5, "none": null,
            })
        );
        for plain in [json!(null), json!({}), json!([]), json!("a"), json!(7)] {
            assert_eq!(redacted(plain.clone()), plain);
        }
    }

    #[test]
    fn strings_named_like_credentials_are_hidden() {
        for name in [
            "API_KEY",
            "MY_API_KEY",
            "apiKey",
            "openaiApiKey",
            "api-key",
            "X-Api-Key",
            "access-token",
            "accessToken",
            "password",
            "DB_URL",
            "databaseUrl",
            "clientSecret",
            "privateKey",
            "AWS_SECRET_ACCESS_KEY",
            "SecretAccessKey",
        ] {
            assert_eq!(redacted(json!({"env": {name: "two words"}})), json!({"env": {name: CREDENTIAL}}));
        }
    }

    #[test]
    fn other_members_and_other_types_stay() {
        let plain = json!({
            "max_tokens": 4096, "token_count": "3", "tokenizer": "fast", "secretary": "Bob", "passwords": "two",
            "url": "x", "key": "k", "token": 7, "password": null, "secret": true, "api_key": "", "TOKEN": {"a": "b"},
        });
        assert_eq!(redacted(plain.clone()), plain);
    }

    #[test]
    fn names_of_members_are_hidden_and_no_member_is_lost() {
        let [one, two, three] = ["aa", "bb", "cc"].map(|hex| format!("mul_{}", hex.repeat(20)));
        let own = "[REDACTED HEARTWIRE TOKEN]";
        assert_eq!(
            redacted(json!({one: 1, two: {"PASSWORD=x": [2]}, three: 3, "z": 4})),
            json!({own: 1, format!("{own} (2)"): {CREDENTIAL: [2]}, format!("{own} (3)"): 3, "z": 4})
        );
    }

    #[test]
    fn the_longest_texts_are_read_to_their_end() {
        const LONGEST: usize = 16 << 20;
        let secret = " TOKEN=x";
        for part in ["a", "ey.", "sk-"] {
            let text = part.repeat(LONGEST / part.len()) + secret;
            assert!(text_at(&text, HOME).ends_with(CREDENTIAL), "{part}");
        }
    }

    #[test]
    fn what_repeats_without_an_end_is_read_once() {
        let begin = "-----BEGIN PRIVATE KEY-----";
        for part in [
            begin,
            "TOKEN=\"",
            "TOKEN='\"",
            "TOKEN=\\\" ",
            "\"TOKEN\":\"\\",
            "TOKEN=[REDACTED ",
            "redis://a:",
            "redis://a:b@c",
            "Bearer ",
            "eyJabcdefghi.",
            "\x1b[0;",
            "/home/ann",
            "secret_access_key=",
        ] {
            let text = part.repeat((1 << 18) / part.len());
            assert!(matches!(text_at(&text_at(&text, HOME), HOME), Cow::Borrowed(_)), "{part}");
        }
    }
}
