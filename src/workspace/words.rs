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

/// Characters of a name, and of a title: names are in indexes, titles in every list.
const NAME: usize = 255;
const TITLE: usize = 500;
/// Bytes of a text that people and agents write: as much as lists and events carry.
const TEXT: usize = 64 << 10;

/// As [`required`], no longer than a name.
pub fn name<'t>(field: &'static str, text: &'t str) -> Result<&'t str> {
    at_most(field, required(field, text)?, NAME)
}

/// As [`required`], no longer than a title.
pub fn title<'t>(field: &'static str, text: &'t str) -> Result<&'t str> {
    at_most(field, required(field, text)?, TITLE)
}

/// A text that is made up here as a title: without surrounding blanks, cut where titles end.
pub fn cut_title(text: &str) -> &str {
    let text = text.trim();
    text.char_indices().nth(TITLE).map_or(text, |(end, _)| text[..end].trim_end())
}

/// A longer text, within its limit.
pub fn text<'t>(field: &'static str, text: &'t str) -> Result<&'t str> {
    if text.len() <= TEXT {
        return Ok(text);
    }
    Err(Error::invalid("text_too_long", format!("{field} must be {} KiB or less", TEXT >> 10)))
}

/// As [`text()`], of a text that may be absent.
pub fn optional_text(field: &'static str, wished: Option<&str>) -> Result<()> {
    wished.map(|wished| text(field, wished)).transpose().map(drop)
}

fn at_most<'t>(field: &'static str, text: &'t str, most: usize) -> Result<&'t str> {
    if text.chars().count() <= most {
        return Ok(text);
    }
    Err(Error::invalid("text_too_long", format!("{field} must be {most} characters or fewer")))
}

/// A text without its surrounding blanks, which has to be there; `field` names it in the refusal.
pub fn required<'t>(field: &'static str, text: &'t str) -> Result<&'t str> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::invalid("field_required", format!("{field} is required")));
    }
    Ok(text)
}
