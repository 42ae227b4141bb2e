//! What the reasons of failures mean, in one place: what text they are read from, which are worth another
//! attempt, after which the agent's session is of no use, which give an issue back.

use std::sync::LazyLock;

use regex::Regex;

/// Nobody took it in time.
pub(super) const QUEUED_EXPIRED: &str = "queued_expired";
/// Its daemon went away.
pub(super) const RUNTIME_OFFLINE: &str = "runtime_offline";
/// Its daemon came back and does not know it.
pub(super) const RUNTIME_RECOVERY: &str = "runtime_recovery";
/// It ran, or was about to, for too long.
pub(super) const TIMEOUT: &str = "timeout";
/// Its daemon could not say that it begins.
pub(super) const START_FAILED: &str = "start_failed";
/// The agent gave up, since it had taken all its turns.
pub(super) const ITERATION_LIMIT: &str = "iteration_limit";
/// The agent gave up with a phrase instead of an answer.
pub(super) const AGENT_FALLBACK_MESSAGE: &str = "agent_fallback_message";
/// The model's provider refuses what the session holds, and will refuse it again.
pub(super) const API_INVALID_REQUEST: &str = "api_invalid_request";
/// Codex ran, and did nothing.
pub(super) const CODEX_SEMANTIC_INACTIVITY: &str = "codex_semantic_inactivity";
/// The agent failed and nobody said how; what was said before texts were read.
pub(super) const AGENT_ERROR: &str = "agent_error";

/// Those that lie not in the work but in what it ran on: worth another attempt.
const RETRYABLE: &[&str] = &[RUNTIME_OFFLINE, RUNTIME_RECOVERY, TIMEOUT, CODEX_SEMANTIC_INACTIVITY, START_FAILED];

/// Those that lie in the agent's session: whoever resumes it fails again.
const SESSION_SPOILING: &[&str] =
    &[ITERATION_LIMIT, AGENT_FALLBACK_MESSAGE, API_INVALID_REQUEST, CODEX_SEMANTIC_INACTIVITY];

/// Those after which nobody works on the issue, though it looks as if.
const ISSUE_RESETTING: &[&str] = &[RUNTIME_OFFLINE, RUNTIME_RECOVERY, TIMEOUT];

/// The rest of what is counted by itself: the first for ends that are not failures, then what daemons say.
const COUNTED: &[&str] =
    &["", QUEUED_EXPIRED, AGENT_ERROR, "agent_blocked", "idle_watchdog", "local_directory_error", "cancelled"];

/// What a text means to which no row applies.
const UNKNOWN: &str = "agent_error.unknown";

/// A row of the table by which texts are read.
struct Kind {
    reason: &'static str,
    /// Any of these is enough.
    any: &'static [&'static str],
    /// So is any of these pairs, far apart or not.
    both: &'static [(&'static str, &'static str)],
    /// So is an answer of the 5xx class.
    or_5xx: bool,
}

impl Kind {
    const fn new(reason: &'static str, any: &'static [&'static str]) -> Self {
        Self { reason, any, both: &[], or_5xx: false }
    }

    /// Whether a text, in lower case, is of it.
    fn has(&self, text: &str) -> bool {
        self.any.iter().any(|part| text.contains(part))
            || self.both.iter().any(|(one, other)| text.contains(one) && text.contains(other))
            || self.or_5xx && ANSWER_5XX.is_match(text)
    }
}

/// The table. The first row that applies wins, so the order is part of it: "token limit" is no matter of
/// access, and a quota stays one when it is told with a 429. The parts are looked for anywhere, numbers too.
const KINDS: &[Kind] = &[
    Kind {
        both: &[("token", "limit")],
        ..Kind::new(
            "agent_error.context_overflow",
            &[
                "context length",
                "context_length_exceeded",
                "maximum context",
                "prompt is too long",
                "context size has been exceeded",
            ],
        )
    },
    Kind {
        both: &[("missing", "api_key"), ("api key", "required")],
        ..Kind::new(
            "agent_error.missing_config",
            &["missing environment variable", "no llm provider configured", "no provider configured"],
        )
    },
    Kind::new(
        "agent_error.provider_auth_or_access",
        &[
            "401",
            "403",
            "unauthorized",
            "login required",
            "not logged in",
            "please login again",
            "refresh token",
            "invalid api key",
            "access token",
            "subscription access",
            "does not have access",
            "you may not have access",
        ],
    ),
    Kind::new(
        "agent_error.provider_quota_limit",
        &[
            "402",
            "insufficient_balance",
            "balance is too low",
            "monthly usage limit",
            "usage limit",
            "you've hit your limit",
            "you\u{2019}ve hit your limit",
            "credits",
            "quota",
        ],
    ),
    Kind::new(
        "agent_error.provider_capacity_or_rate_limit",
        &["429", "rate limit", "overloaded", "529", "no capacity available"],
    ),
    Kind {
        or_5xx: true,
        ..Kind::new(
            "agent_error.provider_server_error",
            &["server had an error", "provider returned error", "internal error", "service unavailable", "bad gateway"],
        )
    },
    Kind::new(
        "agent_error.provider_network",
        &[
            "stream disconnected",
            "error sending request",
            "unable to connect",
            "dial tcp",
            "connection refused",
            "connectionrefused",
            "dns",
            "i/o timeout",
        ],
    ),
    Kind {
        both: &[("model", "not found")],
        ..Kind::new(
            "agent_error.model_not_found_or_unavailable",
            &["unknown model", "selected model", "http 404", "404 page not found"],
        )
    },
    Kind::new("agent_error.empty_or_unparseable_output", &["returned empty output", "returned no parseable output"]),
    Kind::new("agent_error.agent_timeout", &["timed out after"]),
    Kind::new("agent_error.runtime_missing_executable", &["executable not found"]),
    Kind::new(
        "agent_error.runtime_version_unsupported",
        &["below the minimum supported version", "requires a newer version"],
    ),
    Kind::new(
        "agent_error.process_failure",
        &[
            "exit status",
            "signal",
            "panic",
            "sigsegv",
            "process exited",
            "pipe has been ended",
            "file already closed",
            "initialize failed",
        ],
    ),
];

/// A 5xx where it can only be an answer: after a word that announces one ("HTTP/1.1 503", "status code: 500",
/// "statusCode\":502", "API Error: 500", "HTTP 5xx"), with at most three signs between, or before the
/// protocol's phrase ("500 Internal Server Error", "504: gateway timeout"). A number by itself is none
/// ("line 512", "5000 files", "took 500 ms"), nor is a longer one after such a word ("code 50012").
/// For text in lower case.
static ANSWER_5XX: LazyLock<Regex> = LazyLock::new(|| {
    compiled(concat!(
        r"(?-u:\b|_)(?:http(?:/[0-9](?:\.[0-9])?)?|status|code|error|response)(?:[ _-]?(?:status|code|error))*",
        r"[^a-z0-9]{0,3}5(?:[0-9]{2}|xx)(?-u:\b)",
        r"|(?-u:\b)5[0-9]{2}[^a-z0-9]{1,3}(?:internal server|server error|not implemented|gateway time)",
    ))
});

#[allow(clippy::expect_used, reason = "the pattern is a constant, and a test compiles it")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}

/// The reason that a text tells, for daemons that give none.
pub(super) fn classify(error: &str) -> &'static str {
    let error = error.trim().to_lowercase();
    KINDS.iter().find(|kind| kind.has(&error)).map_or(UNKNOWN, |kind| kind.reason)
}

/// Whether another attempt may go better.
pub(super) fn is_retryable(reason: &str) -> bool {
    RETRYABLE.contains(&reason)
}

/// Whether the agent's session must not be resumed after it.
pub(super) fn spoils_session(reason: &str) -> bool {
    SESSION_SPOILING.contains(&reason)
}

/// Whether another attempt begins with nothing: no session, and no folder either.
pub(super) fn starts_afresh(reason: &str) -> bool {
    reason == CODEX_SEMANTIC_INACTIVITY
}

/// Whether an issue in progress that nobody works on after it goes back to the start.
pub(super) fn resets_issue(reason: &str) -> bool {
    ISSUE_RESETTING.contains(&reason)
}

/// The word under which it is counted. Daemons may say anything; the dashboard must not grow with it.
pub(super) fn counted(reason: &str) -> &'static str {
    let read = KINDS.iter().map(|kind| kind.reason).chain([UNKNOWN]);
    let lists = [COUNTED, RETRYABLE, SESSION_SPOILING].into_iter().flatten().copied();
    lists.chain(read).find(|known| *known == reason).unwrap_or("other")
}

/// The reasons that spoil a session, in statements.
macro_rules! session_spoiling {
    () => {
        "('iteration_limit', 'agent_fallback_message', 'api_invalid_request', 'codex_semantic_inactivity')"
    };
}
pub(crate) use session_spoiling;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two texts for each row, in the table's order.
    const TEXTS: &[(&str, [&str; 2])] = &[
        ("context_overflow", ["This model's maximum context is 200000", "Token count exceeds the limit"]),
        ("missing_config", ["missing ANTHROPIC_API_KEY", "An API key is required"]),
        ("provider_auth_or_access", ["HTTP 401 from the provider", "Not logged in"]),
        ("provider_quota_limit", ["You\u{2019}ve hit your limit", "insufficient_balance"]),
        ("provider_capacity_or_rate_limit", ["API Error: 529 {}", "Overloaded"]),
        ("provider_server_error", ["The server had an error", "HTTP 503"]),
        ("provider_network", ["dial tcp 10.0.0.1:443", "read: i/o timeout"]),
        ("model_not_found_or_unavailable", ["model gpt-9 was not found", "404 page not found"]),
        ("empty_or_unparseable_output", ["claude returned empty output", "codex returned no parseable output"]),
        ("agent_timeout", ["claude timed out after 2h0m0s", "Timed out after 30 minutes"]),
        ("runtime_missing_executable", ["executable not found in $PATH", "codex: Executable Not Found"]),
        ("runtime_version_unsupported", ["1.0 is below the minimum supported version", "requires a newer version"]),
        ("process_failure", ["exit status 1", "initialize failed: broken pipe"]),
        ("unknown", ["it did not work", "line 512 of 5000"]),
    ];

    #[test]
    fn each_row_reads_its_texts() {
        for (reason, texts) in TEXTS {
            for text in texts {
                assert_eq!(classify(text), format!("agent_error.{reason}"), "{text}");
            }
        }
        let rows: Vec<_> = TEXTS.iter().map(|(reason, _)| format!("agent_error.{reason}")).collect();
        assert_eq!(rows, KINDS.iter().map(|kind| kind.reason).chain([UNKNOWN]).collect::<Vec<_>>());
    }

    #[test]
    fn every_part_of_a_row_is_enough_by_itself_or_belongs_to_a_row_before() {
        for (row, kind) in KINDS.iter().enumerate() {
            let pairs = kind.both.iter().map(|(one, other)| format!("{other}, {one}"));
            for text in kind.any.iter().map(|part| part.to_string()).chain(pairs) {
                let read = classify(&format!("  Oh: {}\n", text.to_uppercase()));
                let at = KINDS.iter().position(|kind| kind.reason == read).unwrap_or(usize::MAX);
                assert!(at <= row, "{text} is read as {read}, not as {}", kind.reason);
            }
        }
    }

    #[test]
    fn the_first_row_that_applies_wins() {
        for (text, reason) in [
            ("429: quota exceeded", "provider_quota_limit"),
            ("token limit, 401", "context_overflow"),
            ("refresh token expired", "provider_auth_or_access"),
            ("missing OPENAI_API_KEY (401 Unauthorized)", "missing_config"),
            ("403: no credits", "provider_auth_or_access"),
            ("HTTP 503: overloaded", "provider_capacity_or_rate_limit"),
            ("502 bad gateway: dial tcp", "provider_server_error"),
            ("dns: model not found", "provider_network"),
            ("timed out after 5s: signal: killed", "agent_timeout"),
            ("executable not found: exit status 127", "runtime_missing_executable"),
        ] {
            assert_eq!(classify(text), format!("agent_error.{reason}"), "{text}");
        }
    }

    #[test]
    fn nothing_tells_nothing() {
        for text in ["", " ", "\n\t ", "\u{a0}"] {
            assert_eq!(classify(text), UNKNOWN, "{text:?}");
        }
    }

    #[test]
    fn a_5xx_counts_where_it_is_an_answer() {
        for text in [
            "HTTP 503",
            "http/1.1 500",
            "HTTP/2 502",
            "status 500",
            "status code: 502",
            "unexpected status=520",
            "http_status: 500",
            "{\"statusCode\":503}",
            "API Error: 500 {}",
            "error code 504",
            "(HTTP 5xx)",
            "500 Internal Server Error",
            "504 Gateway Timeout",
        ] {
            assert_eq!(classify(text), "agent_error.provider_server_error", "{text}");
        }
        for text in [
            "5000 files",
            "line 512",
            "code 50012",
            "unicode 512",
            "took 500 ms",
            "http://localhost:5003",
            "status 200",
            "room 500, server room",
        ] {
            assert_eq!(classify(text), UNKNOWN, "{text}");
        }
    }

    #[test]
    fn reasons_say_whether_to_resume_and_whether_to_retry() {
        for (reason, resumes, retries, afresh, resets) in [
            (TIMEOUT, true, true, false, true),
            (CODEX_SEMANTIC_INACTIVITY, false, true, true, false),
            (RUNTIME_RECOVERY, true, true, false, true),
            (RUNTIME_OFFLINE, true, true, false, true),
            (START_FAILED, true, true, false, false),
            (ITERATION_LIMIT, false, false, false, false),
            (AGENT_FALLBACK_MESSAGE, false, false, false, false),
            (API_INVALID_REQUEST, false, false, false, false),
            (AGENT_ERROR, true, false, false, false),
            (QUEUED_EXPIRED, true, false, false, false),
            ("agent_error.provider_server_error", true, false, false, false),
            ("", true, false, false, false),
        ] {
            assert_eq!(!spoils_session(reason), resumes, "{reason} and the session");
            assert_eq!(is_retryable(reason), retries, "{reason} and another attempt");
            assert_eq!(starts_afresh(reason), afresh, "{reason} and a fresh start");
            assert_eq!(resets_issue(reason), resets, "{reason} and the issue");
        }
    }

    #[test]
    fn the_list_in_statements_is_what_spoils_sessions() {
        let words: Vec<String> = SESSION_SPOILING.iter().map(|reason| format!("'{reason}'")).collect();
        assert_eq!(session_spoiling!(), format!("({})", words.join(", ")));
    }

    #[test]
    fn known_reasons_are_counted_by_themselves_and_others_together() {
        let said = ["agent_blocked", "idle_watchdog", "local_directory_error", "cancelled", "", UNKNOWN];
        let hub = [QUEUED_EXPIRED, AGENT_ERROR];
        let lists = [RETRYABLE, SESSION_SPOILING, ISSUE_RESETTING, &said, &hub].concat();
        for reason in lists.into_iter().chain(KINDS.iter().map(|kind| kind.reason)) {
            assert_eq!(counted(reason), reason);
        }
        for reason in ["other", "Timeout", " ", "agent_error.", "agent_error.mood", "timeout "] {
            assert_eq!(counted(reason), "other", "{reason:?}");
        }
    }
}
