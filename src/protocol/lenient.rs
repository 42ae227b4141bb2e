//! Decoding as lenient as the reference's: null or absence is a field's zero value, unknown members
//! are ignored, the last of a repeated member wins, what follows the first value is ignored, broken
//! UTF-8 and lone surrogates become U+FFFD. U+0000, which PostgreSQL cannot store, becomes U+FFFD as
//! well. A wrong type stays an error.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

const REPLACEMENT: &str = "\u{FFFD}";

/// Reads one JSON value as `T`. An empty body is an error; `null` is `{}`.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    // The common case costs one pass; everything odd goes the long way.
    let object = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if object
        && !mentions_nul(body)
        && let Ok(value) = serde_json::from_slice(body)
    {
        return Ok(value);
    }
    let text = repair_surrogates(&String::from_utf8_lossy(body));
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let mut value = match values.next() {
        Some(value) => value?,
        None => return Err(serde::de::Error::custom("empty body")),
    };
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    if !value.is_object() {
        // A derived struct would take a list for its fields in order.
        return Err(serde::de::Error::custom("not an object"));
    }
    replace_nul(&mut value);
    T::deserialize(value)
}

/// For `#[serde(default, deserialize_with = "lenient::zero")]`.
pub fn zero<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// As [`zero`], for lists, whose null elements are zero values too.
pub fn list<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let items: Option<Vec<Option<T>>> = Option::deserialize(from)?;
    Ok(items.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect())
}

/// As [`list`], where a list that is not there at all is something else than one that is empty or null.
pub fn given_list<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    list(from).map(Some)
}

/// A field of a change: absent, null, or a value. For `#[serde(default)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// It is not in the body.
    #[default]
    Absent,
    /// It is null.
    Null,
    /// It has a value.
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Null, Self::Value))
    }
}

impl<T> Patch<T> {
    /// What a field that null clears becomes: absent keeps `old`.
    pub fn over(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Absent => old,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    /// Whether there is anything to change.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

fn mentions_nul(body: &[u8]) -> bool {
    body.windows(6).any(|six| six == br"\u0000")
}

fn replace_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', REPLACEMENT),
        Value::Array(items) => items.iter_mut().for_each(replace_nul),
        Value::Object(members) => {
            if members.keys().any(|key| key.contains('\0')) {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(key, value)| (key.replace('\0', REPLACEMENT), value))
                    .collect();
            }
            members.values_mut().for_each(replace_nul);
        }
        _ => {}
    }
}

/// Replaces `\uD800`–`\uDFFF` escapes that are not one half of a pair.
fn repair_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match unit(rest) {
            Some(0xD800..=0xDBFF) if matches!(unit(&rest[6..]), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
            // A backslash and the character it escapes.
            None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

/// The UTF-16 unit of a `\uXXXX` escape at the start.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Body {
        #[serde(default, deserialize_with = "zero")]
        text: String,
        #[serde(default, deserialize_with = "list")]
        items: Vec<String>,
    }

    fn body(json: &str) -> Body {
        decode(json.as_bytes()).expect(json)
    }

    #[test]
    fn absent_null_and_unknown_members_are_fine() {
        for json in ["{}", "null", " null ", r#"{"text":null,"items":null,"more":{}}"#, "{}garbage"] {
            assert_eq!(body(json), Body::default(), "{json}");
        }
        assert_eq!(body(r#"{"items":["a",null]}"#).items, ["a", ""]);
        assert_eq!(body(r#"{"text":"a","text":"b"}"#).text, "b");
    }

    #[test]
    fn a_change_tells_absent_from_null() {
        #[derive(Default, Deserialize)]
        struct Change {
            #[serde(default)]
            text: Patch<String>,
        }
        let over = |json: &str| decode::<Change>(json.as_bytes()).expect(json).text.over(Some("old".into()));
        assert_eq!(over("{}").as_deref(), Some("old"));
        assert_eq!(over("null").as_deref(), Some("old"));
        assert_eq!(over(r#"{"text":null}"#), None);
        assert_eq!(over(r#"{"text":"new"}"#).as_deref(), Some("new"));
    }

    #[test]
    fn what_cannot_be_stored_is_replaced() {
        assert_eq!(body(r#"{"text":"a\u0000b"}"#).text, "a\u{FFFD}b");
        assert_eq!(body(r#"{"text":"\\u0000"}"#).text, "\\u0000", "an escaped backslash is no escape");
        assert_eq!(body(r#"{"text":"\ud83d\ude00 \ud83d x \ude00"}"#).text, "😀 \u{FFFD} x \u{FFFD}");
        assert_eq!(decode::<Body>(b"{\"text\":\"\xFF\"}").expect("lossy").text, "\u{FFFD}");
    }

    #[test]
    fn wrong_types_and_broken_json_are_errors() {
        for json in ["", " ", "{", "[]", r#"{"text":1}"#, r#"{"items":"a"}"#, r#""text""#] {
            assert!(decode::<Body>(json.as_bytes()).is_err(), "{json} was accepted");
        }
    }
}
