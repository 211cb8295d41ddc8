//! What an answer says of its steering: a field in its usage block.

use super::object::Object;

/// `json` with `"steering": steering` in its usage block.
///
/// That is the `usage` object of a completion, of a chunk, or of the `response` in an event of `/v1/responses`. The
/// last chunk of `/v1/completions` has no usage block in mistral.rs, so the field goes into the chunk itself. `None` if
/// `json` is none of these; all else in it stays byte for byte.
pub(super) fn with_steering(json: &[u8], steering: &str) -> Option<String> {
    let object = Object::parse(json)?;
    if let Some(usage) = object.get("usage").and_then(|usage| Object::parse(usage.as_bytes())) {
        return Some(object.with("usage", &usage.with("steering", steering)));
    }
    if let Some(response) = object
        .get("response")
        .and_then(|response| Object::parse(response.as_bytes()))
    {
        let usage = Object::parse(response.get("usage")?.as_bytes())?;
        let response = response.with("usage", &usage.with("steering", steering));
        return Some(object.with("response", &response));
    }
    is_last_chunk(&object).then(|| object.with("steering", steering))
}

/// Whether all choices of a chunk say why they ended.
fn is_last_chunk(chunk: &Object<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Choice {
        finish_reason: Option<String>,
    }
    let choices = chunk
        .get("choices")
        .and_then(|choices| serde_json::from_str::<Vec<Choice>>(choices).ok());
    choices.is_some_and(|choices| !choices.is_empty() && choices.iter().all(|choice| choice.finish_reason.is_some()))
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
    fn a_last_chunk_without_usage_gets_it_itself() {
        assert_eq!(
            extended(r#"{"choices":[{"text":"a","finish_reason":"stop"}]}"#).unwrap(),
            r#"{"choices":[{"text":"a","finish_reason":"stop"}],"steering":{"fingerprint":"f"}}"#
        );
        for json in [
            r#"{"choices":[{"text":"a","finish_reason":null}]}"#,
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
