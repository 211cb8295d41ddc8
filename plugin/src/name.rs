//! Names of vectors and maps.

use crate::SteeringError;

/// Longest name of a vector or map, in bytes.
const MAX_NAME: usize = 64;

/// Checks that `name` is a valid name of a vector or map; `field` is its path, for messages.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), SteeringError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) || name.starts_with('.') {
        return Err(SteeringError::value(
            field,
            format!("the name {}", quoted(name)),
            format!("1 to {MAX_NAME} letters, digits, `.`, `_` and `-`, not starting with a dot"),
        ));
    }
    Ok(())
}

/// `text` in quotation marks, cut to the length of the longest name.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["happy", "happy-2.v_1", "7"] {
            assert!(check_name("vectors", name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "..", ".hidden", "a b", "ä", &"x".repeat(65)] {
            assert!(check_name("maps", name).is_err(), "{name}");
        }
    }
}
