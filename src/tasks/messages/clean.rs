//! A message as it may be kept: without secrets, and no longer than anybody reads.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::{lifecycle::cut, redact};
use crate::protocol::transcript::MessageReport;

/// Bytes of each text.
const LONGEST_TEXT: usize = 1 << 20;
/// Bytes of a type or of a tool's name.
const LONGEST_WORD: usize = 255;
/// What a message without a type is.
const PLAIN: &str = "text";
/// Numbers up to here are exact in every client.
pub(super) const GREATEST_SEQ: i64 = (1 << 53) - 1;

/// A message without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean {
    /// The daemon's number.
    pub(super) seq: i64,
    pub(super) kind: String,
    pub(super) tool: Option<String>,
    pub(super) content: Option<String>,
    /// JSON.
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    /// Of everything but the number.
    pub(super) digest: i64,
}

impl From<MessageReport> for Clean {
    fn from(report: MessageReport) -> Self {
        let word = |text: &str| cut(text.trim(), LONGEST_WORD).to_owned();
        let text = |text: &str| Some(cut(&redact::text(text), LONGEST_TEXT).to_owned()).filter(|text| !text.is_empty());
        let mut clean = Self {
            // What is out of bounds is not worth losing a message for.
            seq: report.seq.clamp(0, GREATEST_SEQ),
            kind: Some(word(&report.r#type)).filter(|kind| !kind.is_empty()).unwrap_or_else(|| PLAIN.to_owned()),
            tool: Some(word(&report.tool)).filter(|tool| !tool.is_empty()),
            content: text(&report.content),
            input: input(report.input),
            output: text(&report.output),
            digest: 0,
        };
        clean.digest = clean.digest();
        clean
    }
}

impl Clean {
    fn digest(&self) -> i64 {
        let mut hash = Sha256::new();
        let parts =
            [Some(&self.kind), self.tool.as_ref(), self.content.as_ref(), self.input.as_ref(), self.output.as_ref()];
        for part in parts {
            let part = part.map(String::as_bytes).unwrap_or_default();
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        first_eight(&hash.finalize())
    }
}

/// A digest of a whole batch, numbers included.
pub(super) fn batch_digest(batch: &[Clean]) -> i64 {
    let mut hash = Sha256::new();
    for message in batch {
        hash.update(message.seq.to_be_bytes());
        hash.update(message.digest.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> i64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(eight)
}

fn input(mut input: Value) -> Option<String> {
    if input.is_null() {
        return None;
    }
    redact::value(&mut input);
    let json = input.to_string();
    Some(if json.len() <= LONGEST_TEXT { json } else { r#"{"truncated":true}"#.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clean(json: Value) -> Clean {
        serde_json::from_value::<MessageReport>(json).map(Clean::from).expect("a message")
    }

    #[test]
    fn a_message_loses_its_secrets_and_what_is_beyond_measure() {
        let message = clean(json!({
            "seq": -1, "type": " tool_use ", "tool": "Bash", "content": format!("Bearer {}", "a".repeat(30)),
            "input": { "env": { "x": ["PASSWORD=hunter2hunter2"] }, "n": 1 }, "output": "ä".repeat(LONGEST_TEXT),
        }));
        assert_eq!((message.seq, message.kind.as_str(), message.tool.as_deref()), (0, "tool_use", Some("Bash")));
        assert_eq!(message.content.as_deref(), Some("Bearer [REDACTED]"));
        assert!(!message.input.as_deref().expect("input").contains("hunter2"));
        assert_eq!(message.output.map(|output| output.len()), Some(LONGEST_TEXT));
        let large = clean(json!({ "input": { "x": "y".repeat(LONGEST_TEXT) } }));
        assert_eq!((large.kind.as_str(), large.input.as_deref()), ("text", Some(r#"{"truncated":true}"#)));
    }

    #[test]
    fn a_digest_tells_words_apart_and_not_numbers() {
        let of =
            |seq: i64, content: &str, output: &str| clean(json!({ "seq": seq, "content": content, "output": output }));
        assert_eq!(of(1, "a", "b").digest, of(2, "a", "b").digest);
        assert_ne!(of(1, "a", "b").digest, of(1, "ab", "").digest);
        assert_ne!(batch_digest(&[of(1, "a", "")]), batch_digest(&[of(2, "a", "")]));
    }
}
