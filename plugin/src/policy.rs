//! What an operator allows requests to do.
//!
//! ```toml
//! [steering]
//! per_request = "extend"             # or "off", "replace"
//! inline = true                      # absent: false
//!
//! [steering.reading]                 # these are the defaults
//! readouts = true                    # whether requests may ask for readouts
//! states = false                     # whether requests may ask for states themselves
//! bytes = 16777216                   # most bytes of readouts and states of one request
//!
//! [[steering.bounds]]
//! model = "a/one"                    # may be absent if there is only one
//! max_relative_scale = 0.5
//! excess = "clamp"                   # or "reject"
//! ```

use serde::{Deserialize, Serialize};

use crate::spec::{Mode, VectorRef};
use crate::{RequestSteering, SteeringError, SteeringSpec};

/// What the `steering` field of a request may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PerRequest {
    /// Nothing: a request with the field is refused, and the model's default is binding.
    Off,
    /// Add vectors after those of the default, which stay, with the default's rules for norms and conflicts.
    Extend,
    /// Everything: replace the default, extend it, or switch it off.
    #[default]
    Replace,
}

impl PerRequest {
    /// Checks that a request to a model with this `default` may have the field `asked`.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Forbidden`]
    pub fn check(self, asked: &RequestSteering, default: Option<&SteeringSpec>) -> Result<(), SteeringError> {
        let forbidden = |field: &str, found: String, expected: String| {
            Err(SteeringError::Forbidden {
                field: field.to_string(),
                found,
                expected,
            })
        };
        match self {
            Self::Replace => return Ok(()),
            Self::Off => {
                let expected = "no such field: the server's per_request is \"off\"".to_string();
                return forbidden("steering", "the field".to_string(), expected);
            }
            Self::Extend if asked.only_reads() => return Ok(()),
            Self::Extend => {}
        }
        if asked.mode != Mode::Extend {
            let found = match asked.mode {
                Mode::Off => "\"off\"",
                Mode::Replace | Mode::Extend => "\"replace\", which is also the default of the key",
            };
            let expected = "\"extend\", the server's per_request".to_string();
            return forbidden("steering.mode", found.to_string(), expected);
        }
        if asked.change.is_some() {
            let expected = "no such key: the server's per_request is \"extend\", and the default's vectors stay";
            return forbidden("steering.change", "changes".to_string(), expected.to_string());
        }
        let Some(default) = default else { return Ok(()) };
        let differs = |field: &str, found: serde_json::Value, expected: serde_json::Value| {
            let expected = format!("{expected}, that of the default, since the server's per_request is \"extend\"");
            forbidden(field, found.to_string(), expected)
        };
        if let Some(conflict) = asked.conflict.filter(|conflict| *conflict != default.conflict) {
            return differs("steering.conflict", word(conflict), word(default.conflict));
        }
        if let Some(norm) = asked.norm.filter(|norm| *norm != default.norm) {
            return differs("steering.norm", word(norm), word(default.norm));
        }
        Ok(())
    }
}

/// Refuses inline vectors in a request.
///
/// # Errors
///
/// [`SteeringError::Forbidden`]
pub fn refuse_inline(asked: &RequestSteering) -> Result<(), SteeringError> {
    match asked
        .vector_refs("steering.")
        .into_iter()
        .find(|(_, vector)| matches!(vector, VectorRef::Inline(_)))
    {
        None => Ok(()),
        Some((field, _)) => Err(SteeringError::Forbidden {
            field,
            found: "an inline vector".to_string(),
            expected: "a vector's name: the server's inline is false".to_string(),
        }),
    }
}

/// What requests may read from the stream: `[steering.reading]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadPolicy {
    /// Whether they may ask for readouts.
    pub readouts: bool,
    /// Whether they may ask for states, and for readouts of inline vectors: as many of those as the stream is wide
    /// determine a state.
    pub states: bool,
    /// Most bytes that the readouts and states of one request may take until they are sent.
    pub bytes: usize,
}

impl Default for ReadPolicy {
    fn default() -> Self {
        Self {
            readouts: true,
            states: false,
            bytes: 16 << 20,
        }
    }
}

impl ReadPolicy {
    /// Refuses what is not allowed.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Forbidden`]
    pub fn check(self, asked: &RequestSteering) -> Result<(), SteeringError> {
        let refused = |field: String, found: &str, expected: &str| {
            Err(SteeringError::Forbidden {
                field,
                found: found.to_string(),
                expected: expected.to_string(),
            })
        };
        if !self.readouts && asked.readout.is_some() {
            let expected = "no such key: the server's reading.readouts is false";
            return refused("steering.readout".to_string(), "readouts", expected);
        }
        if self.states {
            return Ok(());
        }
        if asked.states.is_some() {
            let expected = "no such key: the server's reading.states is false";
            return refused("steering.states".to_string(), "states", expected);
        }
        let mut readouts = asked.readout.iter().flatten();
        match readouts.position(|readout| matches!(readout.vector, VectorRef::Inline(_))) {
            None => Ok(()),
            Some(index) => refused(
                format!("steering.readout[{index}].vector"),
                "an inline vector",
                "a vector's name: the server's reading.states is false",
            ),
        }
    }
}

/// A value as requests write it.
fn word(value: impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The operator's bound of the offsets of one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// The largest sum of the lengths of all offsets at one layer, in units of the stream's mean norm there. Positive
    /// and finite.
    pub max_relative_scale: f64,
    /// What happens to a request that exceeds it.
    pub excess: Excess,
}

/// What happens to a request that exceeds a [`Bound`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Excess {
    /// It is refused.
    #[default]
    Reject,
    /// The request's own vectors are scaled down, layer by layer, until the sum fits.
    Clamp,
}

/// An entry of `[[steering.bounds]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundEntry {
    pub(crate) model: Option<String>,
    max_relative_scale: f64,
    #[serde(default)]
    excess: Excess,
}

impl BoundEntry {
    /// The bound; `at` is the path of the table, ending with a dot, for messages.
    ///
    /// # Errors
    ///
    /// The number is not positive and finite.
    pub(crate) fn resolve(&self, at: &str) -> Result<Bound, SteeringError> {
        if self.max_relative_scale.is_finite() && self.max_relative_scale > 0.0 {
            return Ok(Bound {
                max_relative_scale: self.max_relative_scale,
                excess: self.excess,
            });
        }
        Err(SteeringError::value(
            format!("{at}max_relative_scale"),
            self.max_relative_scale.to_string(),
            "a number above 0; per_request = \"off\" allows no steering by requests",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VectorUse;
    use crate::spec::{Conflict, NormRule};

    #[test]
    fn what_a_request_may_do_is_the_operators_to_say() {
        let own = || RequestSteering::from(VectorUse::new("a", 1.0));
        let more = || RequestSteering::extend([VectorUse::new("a", 1.0)]);
        let default = SteeringSpec::from(VectorUse::new("b", 1.0)).norm(NormRule::Preserve);
        let check = |rule: PerRequest, asked: &RequestSteering| {
            rule.check(asked, Some(&default)).map_err(|error| error.to_string())
        };
        for asked in [own(), more(), RequestSteering::off()] {
            assert_eq!(check(PerRequest::Replace, &asked), Ok(()));
            let refused = check(PerRequest::Off, &asked).unwrap_err();
            assert!(
                refused.starts_with("steering: found the field, expected no such field"),
                "{refused}"
            );
        }
        assert_eq!(check(PerRequest::Extend, &more()), Ok(()));
        for asked in [own(), RequestSteering::off()] {
            let refused = check(PerRequest::Extend, &asked).unwrap_err();
            assert!(refused.starts_with("steering.mode: found"), "{refused}");
            assert!(refused.contains("expected \"extend\""), "{refused}");
        }
    }

    #[test]
    fn the_rules_of_a_default_stay_where_requests_extend_it() {
        let default = SteeringSpec::from(VectorUse::new("b", 1.0)).norm(NormRule::Preserve);
        let with = |conflict, norm| RequestSteering {
            conflict,
            norm,
            ..RequestSteering::extend([VectorUse::new("a", 1.0)])
        };
        let check = |asked: &RequestSteering, default: Option<&SteeringSpec>| PerRequest::Extend.check(asked, default);
        assert!(
            check(
                &with(Some(Conflict::Sequential), Some(NormRule::Preserve)),
                Some(&default)
            )
            .is_ok()
        );
        assert!(check(&with(Some(Conflict::First), Some(NormRule::Free)), None).is_ok());
        let norm = check(&with(None, Some(NormRule::Free)), Some(&default))
            .unwrap_err()
            .to_string();
        assert!(
            norm.starts_with("steering.norm: found \"free\", expected \"preserve\""),
            "{norm}"
        );
        let conflict = check(&with(Some(Conflict::First), None), Some(&default))
            .unwrap_err()
            .to_string();
        assert!(
            conflict.starts_with("steering.conflict: found \"first\", expected \"sequential\""),
            "{conflict}"
        );
    }

    #[test]
    fn a_bound_is_a_positive_number() {
        let read = |text: &str| {
            toml::from_str::<BoundEntry>(text)
                .unwrap()
                .resolve("steering.bounds[0].")
        };
        let expected = Bound {
            max_relative_scale: 0.5,
            excess: Excess::Reject,
        };
        assert_eq!(read("max_relative_scale = 0.5").unwrap(), expected);
        assert_eq!(
            read("max_relative_scale = 2\nexcess = \"clamp\"").unwrap().excess,
            Excess::Clamp
        );
        for wrong in ["0", "-1", "nan", "inf"] {
            let error = read(&format!("max_relative_scale = {wrong}")).unwrap_err().to_string();
            assert!(
                error.starts_with("steering.bounds[0].max_relative_scale: found"),
                "{error}"
            );
        }
    }
}
