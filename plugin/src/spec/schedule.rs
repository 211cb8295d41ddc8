//! The strength of a vector over the course of a generation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::absent::is_default;
use super::apply::TokenRef;
use super::limits::{MAX_ENTRIES, MAX_POSITION};
use super::number::finite;
use crate::SteeringError;

/// Factors of a vector's effect, by the number `t` of generated tokens: the first generated token is chosen under the
/// factor of `t = 0`, the next one under that of 1. The prompt's tokens have the first factor.
///
/// Either a ramp (`from`, `to`, `tokens`) or a list (`factors`). Factors are -1 to 1, for operations other than `add` 0
/// to 1, so a vector never acts more strongly than its scale. Where a factor is 0, the vector doesn't act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Schedule {
    /// The shape of a ramp; absent: `linear`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The ramp's first factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub from: Option<f64>,
    /// The ramp's last factor, which then stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub to: Option<f64>,
    /// The length of the ramp in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// The factors, one per token; the last one stays, unless they `repeat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub factors: Option<Vec<f64>>,
    /// Whether `factors` start again after the last. Absent: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repeat: bool,
    /// The schedule starts when this token is generated for the first time: the token after it is chosen under the
    /// factor of `t = 0`. Absent: the schedule starts with the first generated token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TokenRef>,
    /// With `trigger`: the factor until then, including the prompt; absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub before: Option<f64>,
}

steermap_extract::from_table!(Schedule, "a schedule: a table");

/// The shape of a ramp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Straight: `from + (to - from) t / tokens`.
    #[default]
    Linear,
    /// Slow at both ends: `from + (to - from) (1 - cos(pi t / tokens)) / 2`.
    Cosine,
}

impl Schedule {
    /// A ramp from `from` to `to` within `tokens` generated tokens.
    pub fn ramp(shape: Shape, from: f64, to: f64, tokens: i64) -> Self {
        Self {
            shape: Some(shape),
            from: Some(from),
            to: Some(to),
            tokens: Some(tokens),
            ..Self::default()
        }
    }

    /// These factors, one per token.
    pub fn listed(factors: impl Into<Vec<f64>>) -> Self {
        Self {
            factors: Some(factors.into()),
            ..Self::default()
        }
    }

    /// The same, starting with the first `token` that is generated, with factor 0 before.
    pub fn after(mut self, token: TokenRef) -> Self {
        self.trigger = Some(token);
        self
    }

    /// Checks what can be checked without a tokenizer. `at` is the path of the schedule, for messages, and `least` the
    /// least factor.
    ///
    /// # Errors
    ///
    /// It is neither a ramp nor a list, has keys of both, or has an invalid number.
    pub(super) fn validate(&self, at: &str, least: f64) -> Result<(), SteeringError> {
        let field = |name: &str| format!("{at}.{name}");
        let factor = |at: &str, value: f64| {
            finite(at, value)?;
            if (least..=1.0).contains(&value) {
                return Ok(());
            }
            let expected = format!("a factor of {least} to 1; for more, raise the scale");
            Err(SteeringError::value(at, value.to_string(), expected))
        };
        let ramp = [
            ("shape", self.shape.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("tokens", self.tokens.is_some()),
        ];
        match &self.factors {
            Some(factors) => {
                if let Some((name, _)) = ramp.into_iter().find(|(_, there)| *there) {
                    return Err(SteeringError::value(
                        field(name),
                        "this key beside factors",
                        "either a ramp or factors",
                    ));
                }
                if factors.is_empty() {
                    return Err(SteeringError::value(field("factors"), "[]", "at least one factor"));
                }
                if factors.len() > MAX_ENTRIES {
                    let found = format!("{} factors", factors.len());
                    return Err(SteeringError::value(
                        field("factors"),
                        found,
                        format!("at most {MAX_ENTRIES}"),
                    ));
                }
                for (index, value) in factors.iter().enumerate() {
                    factor(&field(&format!("factors[{index}]")), *value)?;
                }
            }
            None => {
                if self.repeat {
                    return Err(SteeringError::value(
                        field("repeat"),
                        "true without factors",
                        "factors, or no such key",
                    ));
                }
                if let Some((name, _)) = ramp[1..].iter().find(|(_, there)| !there) {
                    return Err(SteeringError::value(
                        field(name),
                        "no such key",
                        "from, to and tokens, or factors",
                    ));
                }
                for (name, value) in [("from", self.from), ("to", self.to)] {
                    factor(&field(name), value.unwrap_or_default())?;
                }
                let tokens = self.tokens.unwrap_or_default();
                if !(1..=MAX_POSITION).contains(&tokens) {
                    return Err(SteeringError::value(
                        field("tokens"),
                        tokens.to_string(),
                        format!("1 to {MAX_POSITION}"),
                    ));
                }
            }
        }
        match (&self.trigger, self.before) {
            (Some(trigger), before) => {
                trigger.validate(&field("trigger"))?;
                before.map_or(Ok(()), |before| factor(&field("before"), before))
            }
            (None, Some(_)) => Err(SteeringError::value(
                field("before"),
                "this key without trigger",
                "a trigger beside it, or no such key",
            )),
            (None, None) => Ok(()),
        }
    }
}
