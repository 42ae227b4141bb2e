//! The words that fields may hold, and how others are refused.

use crate::error::{Error, Result};

/// How urgent something is, most urgent first.
pub const PRIORITIES: &[&str] = &["urgent", "high", "medium", "low", "none"];

/// `word` if it is one of `words`; `field` names it in the refusal.
pub fn one_of<'w>(field: &'static str, words: &[&str], word: &'w str) -> Result<&'w str> {
    if words.contains(&word) {
        return Ok(word);
    }
    let valid = words.join(", ");
    Err(Error::invalid("invalid_value", format!("invalid {field} {word:?}; valid values: {valid}")))
}

/// As [`one_of`], where nothing stands for a default.
pub fn one_of_or<'w>(field: &'static str, words: &[&str], word: &'w str, default: &'w str) -> Result<&'w str> {
    if word.is_empty() { Ok(default) } else { one_of(field, words, word) }
}

/// A text without its surrounding blanks, which has to be there; `field` names it in the refusal.
pub fn required<'t>(field: &'static str, text: &'t str) -> Result<&'t str> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::invalid("field_required", format!("{field} is required")));
    }
    Ok(text)
}
