//! Reads TOML, with messages that name the field.

use serde::de::DeserializeOwned;

use crate::found_expected::found_expected;

/// Reads `text` as a `T`.
///
/// # Errors
///
/// A message: where the text is not TOML, with line and column; of a wrong value, `FIELD: found .., expected ..` and the line.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let document = toml::Deserializer::parse(text).map_err(|error| error.to_string().trim_end().to_string())?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.inner();
        let line = reason.span().map(|span| {
            let line = 1 + text.as_bytes()[..span.start.min(text.len())]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            format!(" (line {line})")
        });
        let message = found_expected(reason.message(), "a table");
        let field = if path == "." {
            String::new()
        } else {
            format!("{path}: ")
        };
        format!("{field}{message}{}", line.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Outer {
        #[serde(default)]
        maps: BTreeMap<String, PathBuf>,
        #[serde(default)]
        list: Vec<u16>,
    }

    #[test]
    fn messages_name_field_and_line() {
        let message = |text: &str| read::<Outer>(text).unwrap_err();
        assert_eq!(
            message("\n[maps.up]\npath = \"x\"\n"),
            "maps.up: found a table, expected a path (line 2)"
        );
        assert_eq!(
            message("list = [1, 70000]"),
            "list[1]: found integer `70000`, expected a whole number from 0 to 65535 (line 1)"
        );
        assert_eq!(
            message("lists = []"),
            "lists: found the unknown key `lists`, expected `maps` or `list` (line 1)"
        );
        assert!(message("list = ]").starts_with("TOML parse error at line 1, column 8"));
    }
}
