//! What a request may cost, known before it reaches the engine.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::object::Object;
use super::refusal::Refusal;
use crate::config::Limits;

/// The most answers to all prompts of one request, unless `choices` allows more to one prompt.
pub const MAX_ANSWERS: u64 = 64;

/// The most alternatives at each token (`top_logprobs`, `logprobs` of `/v1/completions`): OpenAI's limit. Each is
/// decoded and kept until the answer is complete.
pub const MAX_LOGPROBS: u64 = 20;

/// The default for the bytes of text per token of a model's context: three to four times those of usual text.
const BYTES_PER_TOKEN: usize = 16;

/// A prompt of this size is always let through. If it is too long for the context, it is refused within milliseconds,
/// once it is tokenised.
const LEAST_PROMPT_BYTES: usize = 64 << 10;

/// The most bytes, written as JSON, of a list of strings that is searched at every token or tokenised one by one: stop
/// strings, and DRY's sequence breakers.
pub const MAX_STRINGS_BYTES: usize = 8 << 10;

/// Keys whose values are not read as text: images, audio, video, files.
const MEDIA: [&str; 6] = [
    "image_url",
    "input_image",
    "audio_url",
    "input_audio",
    "video_url",
    "file",
];

impl Limits {
    /// Checks a body against the limits. `context` is the length of the model's context in tokens, if known.
    ///
    /// # Errors
    ///
    /// More answers or alternatives than are allowed (422), or more text (413). mistral.rs refuses values of other
    /// types.
    pub(super) fn check(&self, body: &Object<'_>, context: Option<usize>) -> Result<(), Refusal> {
        for (key, most) in [
            ("n", self.choices),
            ("best_of", self.choices),
            ("top_logprobs", MAX_LOGPROBS),
            ("logprobs", MAX_LOGPROBS),
        ] {
            let asked = body.get(key).and_then(|value| serde_json::from_str::<f64>(value).ok());
            if let Some(asked) = asked.filter(|asked| *asked > most as f64) {
                return Err(Refusal::value(key, asked.to_string(), format!("at most {most}")));
            }
        }
        let prompts = body.get("prompt").map_or(1, prompts);
        let choices = body
            .get("n")
            .and_then(|n| serde_json::from_str::<u64>(n).ok())
            .unwrap_or(1);
        let most = MAX_ANSWERS.max(self.choices);
        if prompts.saturating_mul(choices) > most {
            let found = format!("{prompts} prompts with {choices} answers each");
            return Err(Refusal::value("prompt", found, format!("at most {most} answers")));
        }
        for key in ["stop", "dry_sequence_breakers"] {
            let written = body.get(key).unwrap_or_default();
            if written.len() > MAX_STRINGS_BYTES {
                return Err(Refusal::too_large(key, MAX_STRINGS_BYTES));
            }
        }
        let allowed = match (self.prompt_bytes, context) {
            (Some(bytes), _) => bytes,
            (None, Some(context)) => context.saturating_mul(BYTES_PER_TOKEN).max(LEAST_PROMPT_BYTES),
            (None, None) => return Ok(()),
        };
        for key in ["prompt", "messages", "input", "instructions", "suffix", "tools"] {
            let Some(written) = body.get(key) else { continue };
            // Escapes only make the written form longer.
            if written.len() <= allowed {
                continue;
            }
            let Ok(value) = serde_json::from_str::<Value>(written) else {
                continue;
            };
            if text_bytes(&value) > allowed {
                let mut refusal = Refusal::too_large(key, allowed);
                refusal.message += " of text";
                return Err(refusal);
            }
        }
        Ok(())
    }
}

/// How many prompts the value of `prompt` has. A list of numbers (token ids) is one prompt.
fn prompts(written: &str) -> u64 {
    if serde_json::from_str::<Vec<f64>>(written).is_ok_and(|tokens| !tokens.is_empty()) {
        return 1;
    }
    serde_json::from_str::<Vec<IgnoredAny>>(written).map_or(1, |prompts| prompts.len() as u64)
}

/// Bytes of all text in a value, keys included, as a template or a tokenizer receives it. A number counts as one token.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Number(_) => BYTES_PER_TOKEN,
        Value::Array(values) => values.iter().map(text_bytes).sum(),
        Value::Object(members) => {
            let text = members.iter().filter(|(key, _)| !MEDIA.contains(&key.as_str()));
            text.map(|(key, value)| key.len() + text_bytes(value)).sum()
        }
        Value::Null | Value::Bool(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    fn check(limits: Limits, body: &Value, context: Option<usize>) -> Result<(), (StatusCode, String)> {
        let body = body.to_string();
        let object = Object::parse(body.as_bytes()).unwrap();
        limits
            .check(&object, context)
            .map_err(|refusal| (refusal.status, refusal.message))
    }

    #[test]
    fn choices_are_counted() {
        let limits = Limits::default();
        assert!(check(limits, &json!({"n": 16, "best_of": null}), None).is_ok());
        assert!(check(limits, &json!({"n": "many"}), None).is_ok());
        for (body, message) in [
            (json!({"n": 17}), "n: found 17, expected at most 16"),
            (json!({"n": 1e9}), "n: found 1000000000, expected at most 16"),
            (
                json!({"n": 1, "best_of": 400}),
                "best_of: found 400, expected at most 16",
            ),
            (
                json!({"logprobs": true, "top_logprobs": 21}),
                "top_logprobs: found 21, expected at most 20",
            ),
        ] {
            let refused = check(limits, &body, None).unwrap_err();
            assert_eq!(refused, (StatusCode::UNPROCESSABLE_ENTITY, message.to_string()));
        }
    }

    #[test]
    fn prompts_are_counted() {
        let limits = Limits::default();
        for body in [
            json!({"prompt": "one", "n": 16}),
            json!({"prompt": vec!["one"; 64]}),
            json!({"prompt": vec![vec![1, 2]; 16], "n": 4}),
            json!({"prompt": vec![7; 1000], "n": 16}),
            json!({"prompt": []}),
        ] {
            assert!(check(limits, &body, Some(1 << 20)).is_ok(), "{body}");
        }
        for (body, found) in [
            (json!({"prompt": vec!["one"; 65]}), "65 prompts with 1 answers each"),
            (
                json!({"prompt": vec![vec![1]; 17], "n": 4}),
                "17 prompts with 4 answers each",
            ),
        ] {
            let (status, message) = check(limits, &body, None).unwrap_err();
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(message, format!("prompt: found {found}, expected at most 64 answers"));
        }
    }

    #[test]
    fn lists_of_strings_are_bounded() {
        let limits = Limits::default();
        let list = |n: usize| json!(vec!["\n"; n]);
        for key in ["stop", "dry_sequence_breakers"] {
            assert!(check(limits, &json!({key: list(1000)}), None).is_ok());
            let (status, message) = check(limits, &json!({key: list(2000)}), None).unwrap_err();
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
            assert!(
                message.starts_with(&format!("{key}: found more than 8192 bytes")),
                "{message}"
            );
        }
    }

    #[test]
    fn text_is_measured_where_the_model_reads_it() {
        let limits = Limits {
            prompt_bytes: Some(100),
            ..Limits::default()
        };
        let (short, long) = ("x".repeat(100), "x".repeat(101));
        let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        let image = json!([{"type": "image_url", "image_url": {"url": long}}, {"type": "text", "text": "what is it?"}]);
        for body in [
            json!({"prompt": short}),
            json!({"prompt": "\n".repeat(100)}),
            user(json!("x".repeat(60))),
            user(image),
            json!({"other": long}),
        ] {
            assert!(check(limits, &body, None).is_ok(), "{body}");
        }
        for (body, key) in [
            (json!({"prompt": long}), "prompt"),
            (json!({"prompt": [short, "x"]}), "prompt"),
            (json!({"prompt": (0..50).collect::<Vec<_>>()}), "prompt"),
            (json!({"input": long}), "input"),
            (user(json!([{"type": "text", "text": long}])), "messages"),
        ] {
            let (status, message) = check(limits, &body, None).unwrap_err();
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
            assert!(
                message.starts_with(&format!("{key}: found more than 100 bytes")),
                "{message}"
            );
        }
    }

    #[test]
    fn without_a_limit_the_context_says() {
        let text = |bytes: usize| json!({"prompt": "x".repeat(bytes)});
        let limits = Limits::default();
        assert!(check(limits, &text(64 << 10), Some(512)).is_ok());
        assert!(check(limits, &text((64 << 10) + 1), Some(512)).is_err());
        assert!(check(limits, &text(160_000), Some(10_000)).is_ok());
        assert!(check(limits, &text(160_001), Some(10_000)).is_err());
        assert!(check(limits, &text(160_001), None).is_ok());
    }
}
