//! Checks the operation that a file states. llama.cpp and repeng add directions and write no operation, so there is no
//! established key. A file that states addition is read; any other operation is refused, since a direction that is
//! meant to be projected out has the opposite effect if it is added.

use super::value::{METHOD, MetadataValue};
use crate::foreign::error::ForeignError as GgufError;

/// Keys, after `controlvector.`, that may state the operation.
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

/// Words for operations other than addition, in keys that may have other values too.
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

/// Checks one metadata key.
///
/// # Errors
///
/// The value is, or may be, another operation than addition.
pub(super) fn check(key: &str, value: &MetadataValue<'_>) -> Result<(), GgufError> {
    let refused = |found: String| {
        let expected = "addition: the directions are for another operation, and adding them would be wrong";
        Err(GgufError::value(key, found, expected))
    };
    let says_other = |text: &str| {
        let text = text.to_ascii_lowercase();
        OTHER_WORDS.iter().any(|word| text.contains(word))
    };
    let name = key.strip_prefix("controlvector.");
    match value {
        MetadataValue::Text(text) if (key == METHOD || key == "general.type") && says_other(text) => {
            refused(value.to_string())
        }
        _ if !name.is_some_and(|name| KEYS.contains(&name)) => Ok(()),
        MetadataValue::Text(text) => match &*text.to_ascii_lowercase() {
            "add" | "addition" | "additive" | "direct" | "steering" => Ok(()),
            _ => refused(value.to_string()),
        },
        MetadataValue::Bool(false) | MetadataValue::Integer(0) => Ok(()),
        MetadataValue::Bool(true) => refused("true".to_string()),
        _ => refused(value.to_string()),
    }
}
