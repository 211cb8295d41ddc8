//! Puts serde's messages in the form `found .., expected ..`, without names of Rust types.

/// Rewrites a message of serde. `table` is what the format calls a map: "an object", "a table".
pub(crate) fn found_expected(text: &str, table: &str) -> String {
    for phrase in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some(rest) = text.strip_prefix(phrase) {
            return described(&format!("found {rest}"), table);
        }
    }
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return format!("found the unknown key {rest}");
    }
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        return format!("found {rest}");
    }
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("found no key {field}, expected one");
    }
    if let Some(field) = text.strip_prefix("duplicate field ") {
        return format!("found the key {field} twice, expected it once");
    }
    text.to_string()
}

/// Replaces serde's names for what is there, and names of Rust types for what should be there.
fn described(message: &str, table: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_string();
    };
    let found = match found {
        "found map" => format!("found {table}"),
        "found sequence" => "found a list".to_string(),
        found => found.to_string(),
    };
    let expected = match expected {
        "f32" | "f64" => "a number".to_string(),
        "u8" => "a whole number from 0 to 255".to_string(),
        "u16" => "a whole number from 0 to 65535".to_string(),
        "u32" | "u64" | "usize" => "a whole number, 0 or more".to_string(),
        "i32" | "i64" => "a whole number".to_string(),
        "a boolean" => "true or false".to_string(),
        "path string" => "a path".to_string(),
        "a sequence" => "a list".to_string(),
        "a map" => table.to_string(),
        expected if expected.starts_with("struct ") => table.to_string(),
        expected => expected.to_string(),
    };
    format!("{found}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_no_rust_types() {
        for (text, expected) in [
            (
                "invalid type: map, expected path string",
                "found a table, expected a path",
            ),
            (
                "invalid type: string \"a\", expected u16",
                "found string \"a\", expected a whole number from 0 to 65535",
            ),
            (
                "invalid type: sequence, expected struct Inner",
                "found a list, expected a table",
            ),
            (
                "invalid value: integer `-1`, expected usize",
                "found integer `-1`, expected a whole number, 0 or more",
            ),
            (
                "unknown field `x`, expected `y`",
                "found the unknown key `x`, expected `y`",
            ),
            ("something else", "something else"),
        ] {
            assert_eq!(found_expected(text, "a table"), expected);
        }
    }
}
