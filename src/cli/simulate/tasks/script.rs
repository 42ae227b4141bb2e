//! What a simulated agent says and how its task ends. Some of it is what a hub has to bear: secrets,
//! NUL, text that looks like HTML, numbers that begin anew, outputs beyond measure.

use rand::random_range;
use serde_json::json;

use super::Habits;
use crate::protocol::transcript::MessageReport;

/// Stands in every secret that is said, and nowhere in what the hub shows.
pub const SECRET: &str = "simulated-secret";
/// One task of so many fails.
const FAILS: u32 = 20;
/// One of so many has an output larger than anybody reads.
const LARGE: u32 = 60;
const LARGE_BYTES: usize = 1_200_000;
/// One of so many is run once more, and its messages are numbered from 1 again.
const ANEW: u32 = 20;

/// Errors and what daemons call them; the hub reads those without a name.
const FAILURES: [(&str, &str); 8] = [
    ("exit status 1", ""),
    ("the agent did not finish in time", "timeout"),
    ("429 Too Many Requests: rate limit reached", "agent_error.provider_capacity_or_rate_limit"),
    ("You have hit your usage limit", ""),
    ("no output for 30 minutes", "idle_watchdog"),
    ("Reached max turns", "iteration_limit"),
    ("codex made no progress", "codex_semantic_inactivity"),
    ("connect ECONNREFUSED 10.0.0.7:443", ""),
];

/// How a task ends, if nobody calls it off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this output.
    Done(String),
    /// With an error, and a reason in one word or none.
    Failed(String, &'static str),
}

/// What happens in one task.
#[derive(Debug)]
pub struct Script {
    /// In order.
    pub messages: Vec<MessageReport>,
    /// The end.
    pub ending: Ending,
}

impl Script {
    /// Another one.
    pub fn write(habits: &Habits) -> Self {
        let count = habits.messages;
        let anew = if one_of(ANEW) { count / 2 } else { 0 };
        let messages = (0..count).map(|index| message(index, count, anew)).collect();
        Self { messages, ending: ending() }
    }
}

fn one_of(many: u32) -> bool {
    random_range(0..many) == 0
}

fn ending() -> Ending {
    if one_of(FAILS) {
        let (error, reason) = FAILURES[random_range(0..FAILURES.len())];
        return Ending::Failed(format!("{error}\n{}", aside()), reason);
    }
    let mut output = format!("Done as wished: the change is in, the tests pass.\n{}", aside());
    if one_of(LARGE) {
        output.push_str(&"All of the log, line by line.\n".repeat(LARGE_BYTES / 30));
    }
    Ending::Done(output)
}

/// Something that a hub has to bear, now and then.
fn aside() -> String {
    match random_range(0..12) {
        0 => format!("DEPLOY_TOKEN={SECRET}-{}", random_range(0..1000)),
        1 => "a\0b".to_owned(),
        2 => "<script>document.title = 'broken'</script>".to_owned(),
        _ => String::new(),
    }
}

/// Each says where it stands, so no two of a task are alike.
fn message(index: usize, count: usize, anew: usize) -> MessageReport {
    let number = if anew > 0 && index >= anew { index - anew } else { index } as i64 + 1;
    let step = format!("{} of {count}", index + 1);
    let said = |kind: &str| MessageReport { seq: number, r#type: kind.to_owned(), ..MessageReport::default() };
    match index % 5 {
        0 => MessageReport { content: format!("Step {step}: looking at what fails. {}", aside()), ..said("text") },
        1 => MessageReport { content: format!("Step {step}: the test and the code disagree."), ..said("thinking") },
        2 => MessageReport {
            tool: "Bash".to_owned(),
            input: json!({ "command": format!("cargo test -- step_{index}"), "env": { "API_KEY": SECRET } }),
            ..said("tool_use")
        },
        3 => MessageReport {
            tool: "Bash".to_owned(),
            output: format!("step {step}\ntest result: ok. 12 passed\n{}", aside()),
            ..said("tool_result")
        },
        _ => MessageReport { content: format!("Step {step}: that was it. {}", aside()), ..said("text") },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_two_messages_of_a_task_are_alike_whatever_their_numbers() {
        let habits = Habits { work: Duration::ZERO, messages: 20, batch: 5, cancel: 0.0 };
        assert_eq!(Script::write(&habits).messages.len(), 20);
        let all: Vec<MessageReport> = (0..20).map(|index| message(index, 20, 10)).collect();
        let mut words: Vec<String> =
            all.iter().map(|said| format!("{}{}{}", said.content, said.input, said.output)).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 20);
        assert_eq!((all[9].seq, all[10].seq, all[19].seq), (10, 1, 10));
    }
}
