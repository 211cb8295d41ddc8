//! The table `[steering.limits]`.

use serde::Deserialize;

use crate::SteeringError;

/// The default for the most bytes of a request's body: mistral.rs's own limit.
pub const MAX_BODY_BYTES: usize = 50 << 20;

/// The default for the most answers to one prompt (`n`, `best_of`). Each is a sequence with a cache as long as the
/// prompt.
pub const MAX_CHOICES: u64 = 16;

/// Limits of one request, from the table `[steering.limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body.
    pub body_bytes: usize,
    /// Bytes of text in the prompt; `None`: 16 for each token of the model's context, at least 64 KiB.
    pub prompt_bytes: Option<usize>,
    /// Answers to one prompt.
    pub choices: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: MAX_BODY_BYTES,
            prompt_bytes: None,
            choices: MAX_CHOICES,
        }
    }
}

/// `[steering.limits]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    body_bytes: Option<usize>,
    prompt_bytes: Option<usize>,
    choices: Option<u64>,
}

impl LimitsTable {
    /// The limits, with defaults for what is absent.
    ///
    /// # Errors
    ///
    /// A limit of 0, or a body larger than mistral.rs reads.
    pub fn resolve(self) -> Result<Limits, SteeringError> {
        let defaults = Limits::default();
        let limits = Limits {
            body_bytes: self.body_bytes.unwrap_or(defaults.body_bytes),
            prompt_bytes: self.prompt_bytes,
            choices: self.choices.unwrap_or(defaults.choices),
        };
        let wrong = |key: &str, found: String, expected: String| {
            Err(SteeringError::value(format!("steering.limits.{key}"), found, expected))
        };
        if !(1..=MAX_BODY_BYTES).contains(&limits.body_bytes) {
            let expected = format!("1 to {MAX_BODY_BYTES}, mistral.rs's own limit");
            return wrong("body_bytes", limits.body_bytes.to_string(), expected);
        }
        if limits.prompt_bytes == Some(0) {
            return wrong("prompt_bytes", "0".into(), "at least 1".into());
        }
        if limits.choices == 0 {
            return wrong("choices", "0".into(), "at least 1".into());
        }
        Ok(limits)
    }

    #[cfg(test)]
    fn read(text: &str) -> Result<Limits, SteeringError> {
        toml::from_str::<Self>(text).unwrap().resolve()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_checked() {
        assert_eq!(LimitsTable::read("").unwrap(), Limits::default());
        let read = LimitsTable::read("body_bytes = 1000\nprompt_bytes = 100\nchoices = 2").unwrap();
        let expected = Limits {
            body_bytes: 1000,
            prompt_bytes: Some(100),
            choices: 2,
        };
        assert_eq!(read, expected);
        for (text, message) in [
            ("choices = 0", "steering.limits.choices: found 0, expected at least 1"),
            (
                "prompt_bytes = 0",
                "steering.limits.prompt_bytes: found 0, expected at least 1",
            ),
            (
                "body_bytes = 99000000",
                "steering.limits.body_bytes: found 99000000, expected 1 to 52428800, mistral.rs's own limit",
            ),
        ] {
            assert_eq!(LimitsTable::read(text).unwrap_err().to_string(), message);
        }
    }
}
