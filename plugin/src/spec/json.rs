//! Reads JSON, with messages that name the field.

use serde::de::DeserializeOwned;

use crate::found_expected::found_expected;

/// Reads `json` as a `T`. `at` is the path of the whole value, for messages of the form `FIELD: found .., expected ..`.
///
/// # Errors
///
/// JSON that is malformed, or is not a `T`.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8], at: &str) -> Result<T, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = match (at, error.path().to_string()) {
            // serde_path_to_error writes `?` for a place within JSON that ends too early.
            (at, path) if path == "." || path == "?" => at.to_string(),
            ("", path) => path,
            (at, path) => format!("{at}.{path}"),
        };
        JsonError::new(if path.is_empty() { "body" } else { &path }, error.inner())
    })?;
    deserializer
        .end()
        .map_err(|error| JsonError::new(if at.is_empty() { "body" } else { at }, &error))?;
    Ok(value)
}

/// Why JSON could not be read.
#[derive(Debug)]
pub(crate) struct JsonError {
    /// The field, what was found and what was expected.
    pub(crate) message: String,
    /// Whether the JSON itself is malformed.
    pub(crate) malformed: bool,
}

impl JsonError {
    fn new(path: &str, error: &serde_json::Error) -> Self {
        let malformed = !error.is_data();
        let text = error.to_string();
        if text.starts_with("number out of range") {
            let message = format!("{path}: found a number out of range, expected a 64-bit number");
            return Self {
                message,
                malformed: false,
            };
        }
        if malformed {
            let message = format!("{path}: found malformed JSON ({text}), expected JSON");
            return Self { message, malformed };
        }
        // serde_json adds line and column; the path is more useful.
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        Self {
            message: format!("{path}: {}", found_expected(text, "an object")),
            malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn errors_name_their_field() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Inner {
            scale: f64,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Outer {
            list: Vec<Inner>,
        }
        let message = |json: &str, at: &str| read::<Outer>(json.as_bytes(), at).unwrap_err().message;
        assert_eq!(
            message(r#"{"list":[{"scale":"4"}]}"#, "steering"),
            "steering.list[0].scale: found string \"4\", expected a number"
        );
        assert_eq!(
            message(r#"{"list":[{"scale":1,"x":2}]}"#, ""),
            "list[0].x: found the unknown key `x`, expected `scale`"
        );
        assert_eq!(
            message(r#"{"list":[{}]}"#, "s"),
            "s.list[0]: found no key `scale`, expected one"
        );
        assert_eq!(message(r#"{}"#, "s"), "s: found no key `list`, expected one");
        assert_eq!(
            message(r#"{"list":[],"list":[]}"#, "s"),
            "s: found the key `list` twice, expected it once"
        );
        assert_eq!(message("3", ""), "body: found integer `3`, expected an object");
        assert_eq!(
            message(r#"{"list":[{"scale":1e999}]}"#, "s"),
            "s.list[0].scale: found a number out of range, expected a 64-bit number"
        );
        let cut = read::<Outer>(b"{\"list\":[", "").unwrap_err();
        assert!(cut.malformed && cut.message.contains("malformed"), "{}", cut.message);
        assert!(read::<Outer>(b"{\"list\":[]} x", "").unwrap_err().malformed);
    }
}
