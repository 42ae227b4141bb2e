//! What an agent's configuration hides and what it may hold: the token of its gateway, its levels of
//! thinking, its models.

use serde_json::Value;

use crate::error::{Error, Result};

/// What a gateway's token reads as.
const MASK: &str = "***";

/// A runtime configuration as people see it.
pub fn masked(mut config: Value) -> Value {
    if let Some(token) = gateway_token(&mut config) {
        *token = MASK.into();
    }
    config
}

/// A configuration that came back from a client: its mask stands for the stored token, and for
/// nothing where none is stored.
pub fn unmasked(mut wished: Value, stored: &Value) -> Value {
    if gateway_token(&mut wished).is_none_or(|token| *token != MASK) {
        return wished;
    }
    let kept = gateway_token(&mut stored.clone()).map(|token| token.take());
    if let Some(gateway) = wished.get_mut("gateway").and_then(Value::as_object_mut) {
        match kept {
            Some(kept) => gateway.insert("token".into(), kept),
            None => gateway.remove("token"),
        };
    }
    wished
}

/// The token, if there is one that says something.
fn gateway_token(config: &mut Value) -> Option<&mut Value> {
    config.get_mut("gateway")?.get_mut("token").filter(|token| token.as_str() != Some("") && !token.is_null())
}

/// Refuses a level of thinking that a provider does not know.
pub fn check_thinking_level(provider: &str, level: &str) -> Result<()> {
    let known: &[&str] = match provider {
        _ if level.is_empty() => return Ok(()),
        "claude" => &["low", "medium", "high", "xhigh", "max"],
        "codex" => &["none", "minimal", "low", "medium", "high", "xhigh"],
        "codebuddy" => &["low", "medium", "high", "xhigh"],
        "opencode" if is_variant(level) => return Ok(()),
        _ => &[],
    };
    if known.contains(&level) {
        return Ok(());
    }
    Err(Error::invalid("invalid_thinking_level", format!("invalid thinking_level {level:?} for provider {provider:?}")))
}

fn is_variant(level: &str) -> bool {
    level.len() <= 64
        && level.starts_with(|first: char| first.is_ascii_alphanumeric())
        && level.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether a model is known to be of another maker than the provider's: it would not run there.
pub fn is_foreign_model(provider: &str, model: &str) -> bool {
    let model = model.to_lowercase();
    let maker = if ["claude", "sonnet", "opus", "haiku"].iter().any(|name| model.starts_with(name)) {
        "claude"
    } else if ["gpt", "codex", "o1", "o3", "o4"].iter().any(|name| model.starts_with(name)) {
        "codex"
    } else if model.starts_with("gemini") {
        "gemini"
    } else {
        return false;
    };
    ["claude", "codex", "gemini"].contains(&provider) && provider != maker
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gateway_s_token_is_masked_and_nothing_else() {
        let config = json!({ "gateway": { "host": "h", "token": "secret" }, "x": 1 });
        assert_eq!(masked(config), json!({ "gateway": { "host": "h", "token": "***" }, "x": 1 }));
        for plain in [json!({}), json!({ "gateway": { "host": "h" } }), json!({ "gateway": "h" }), json!([1])] {
            assert_eq!(masked(plain.clone()), plain);
        }
    }

    #[test]
    fn the_mask_keeps_the_stored_token_a_value_replaces_it_and_without_one_the_mask_is_dropped() {
        let stored = json!({ "gateway": { "host": "h", "token": "secret" } });
        let back = json!({ "gateway": { "host": "new", "token": "***" } });
        assert_eq!(unmasked(back.clone(), &stored), json!({ "gateway": { "host": "new", "token": "secret" } }));
        let other = json!({ "gateway": { "token": "other" } });
        assert_eq!(unmasked(other.clone(), &stored), other);
        assert_eq!(unmasked(back, &json!({})), json!({ "gateway": { "host": "new" } }));
    }

    #[test]
    fn levels_of_thinking_and_models_belong_to_providers() {
        for (provider, level) in [("claude", "max"), ("codex", "none"), ("opencode", "my-variant_1.x"), ("pi", "")] {
            assert!(check_thinking_level(provider, level).is_ok(), "{provider} {level}");
        }
        for (provider, level) in [("claude", "none"), ("codex", "max"), ("opencode", "-x"), ("pi", "low")] {
            assert!(check_thinking_level(provider, level).is_err(), "{provider} {level}");
        }
        assert!(is_foreign_model("claude", "gpt-5"));
        assert!(is_foreign_model("codex", "claude-opus-4"));
        for (provider, model) in [("claude", "opus"), ("claude", "own-model"), ("opencode", "gpt-5"), ("gemini", "")] {
            assert!(!is_foreign_model(provider, model), "{provider} {model}");
        }
    }
}
