//! The `steering` field of an answer's usage block.

use super::object::Object;

/// `json` with `"steering": steering` in its usage block.
///
/// This is the `usage` object of a completion, of a chunk, or of the `response` in an event of `/v1/responses`. `None`
/// if `json` is none of these. Everything else in it stays byte for byte.
pub(super) fn with_steering(json: &[u8], steering: &str) -> Option<String> {
    let object = Object::parse(json)?;
    if let Some(usage) = object.get("usage").and_then(|usage| Object::parse(usage.as_bytes())) {
        return Some(object.with("usage", &usage.with("steering", steering)));
    }
    let response = Object::parse(object.get("response")?.as_bytes())?;
    let usage = Object::parse(response.get("usage")?.as_bytes())?;
    let response = response.with("usage", &usage.with("steering", steering));
    Some(object.with("response", &response))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extended(json: &str) -> Option<String> {
        with_steering(json.as_bytes(), r#"{"fingerprint":"f"}"#)
    }

    #[test]
    fn the_usage_block_gets_the_field_and_the_rest_stays() {
        assert_eq!(
            extended(r#"{"logprob":-0.10000000149011612,"usage":{"n":1}}"#).unwrap(),
            r#"{"logprob":-0.10000000149011612,"usage":{"n":1,"steering":{"fingerprint":"f"}}}"#
        );
        assert_eq!(
            extended(r#"{"type":"response.completed","response":{"id":"r","usage":{"n":1}}}"#).unwrap(),
            r#"{"type":"response.completed","response":{"id":"r","usage":{"n":1,"steering":{"fingerprint":"f"}}}}"#
        );
    }

    #[test]
    fn nothing_else_is_touched() {
        for json in [
            r#"{"choices":[{"text":"a","finish_reason":null}]}"#,
            r#"{"choices":[{"text":"a","finish_reason":"stop"}],"usage":null}"#,
            r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[]}"#,
            r#"{"usage":null}"#,
            r#"{"response":{"usage":null}}"#,
            r#"{"response":{}}"#,
            r#"[{"usage":{}}]"#,
            "[DONE]",
            "",
        ] {
            assert_eq!(extended(json), None, "{json}");
        }
    }
}
