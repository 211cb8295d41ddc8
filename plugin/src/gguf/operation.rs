//! What is to be done with the directions. llama.cpp and repeng add them, and say nothing; so nothing is known that a
//! file would say. One that says something is read if it says addition, and refused otherwise: a direction that was
//! found to be projected out does the opposite of what it should where it is added.

use super::GgufError;
use super::read::{METHOD, Value};

/// Keys, after `controlvector.`, that would say what is done.
const KEYS: [&str; 10] = [
    "mode",
    "operation",
    "op",
    "type",
    "kind",
    "algorithm",
    "intervention",
    "action",
    "projection",
    "ablation",
];

/// Words of what is not addition, for keys that may say something else.
const OTHER_WORDS: [&str; 10] = [
    "project",
    "ablat",
    "abliterat",
    "orthogonal",
    "eras",
    "replac",
    "multipl",
    "clamp",
    "householder",
    "rotat",
];

/// Checks what one metadata key says.
///
/// # Errors
///
/// A value that is, or may be, another operation than addition.
pub(super) fn check(key: &str, value: &Value<'_>) -> Result<(), GgufError> {
    let refused = |found: String| {
        let expected = "addition: the directions are for something else, and would do harm if they were added";
        Err(GgufError::value(key, found, expected))
    };
    let says_other = |text: &str| {
        let text = text.to_ascii_lowercase();
        OTHER_WORDS.iter().any(|word| text.contains(word))
    };
    let name = key.strip_prefix("controlvector.");
    match value {
        Value::Text(text) if (key == METHOD || key == "general.type") && says_other(text) => refused(value.to_string()),
        _ if !name.is_some_and(|name| KEYS.contains(&name)) => Ok(()),
        Value::Text(text) => match &*text.to_ascii_lowercase() {
            "add" | "addition" | "additive" | "direct" | "steering" => Ok(()),
            _ => refused(value.to_string()),
        },
        Value::Bool(false) | Value::Integer(0) => Ok(()),
        Value::Bool(true) => refused("true".to_string()),
        _ => refused(value.to_string()),
    }
}
