//! What a request asks for, and how it combines with the model's default.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Conflict, MAX_VECTORS, NormRule, SteeringSpec, VectorUse, is_default};
use crate::SteeringError;

/// The `steering` field of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RequestSteering {
    /// What becomes of the model's default spec.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// The vectors, in the order in which they act; with `extend`, after those of the default. With `replace` they must
    /// be there, if only as an empty list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_VECTORS))]
    pub vectors: Option<Vec<VectorUse>>,
    /// What happens where several vectors act at one layer and position; absent: `sequential` or, with `extend`, what
    /// the default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// What happens to the stream's norm; absent: `free` or, with `extend`, what the default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormRule>,
}

steermap_extract::from_table!(RequestSteering, "a steering spec: a table");

/// What becomes of the model's default spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The request's spec takes its place.
    #[default]
    Replace,
    /// The request's vectors act after the default's.
    Extend,
    /// The request is not steered. No other key may be there.
    Off,
}

impl RequestSteering {
    /// Not steered, whatever the default.
    pub fn off() -> Self {
        Self {
            mode: Mode::Off,
            ..Self::default()
        }
    }

    /// Steered with these vectors after those of the default.
    pub fn extend(vectors: impl Into<Vec<VectorUse>>) -> Self {
        Self {
            mode: Mode::Extend,
            vectors: Some(vectors.into()),
            ..Self::default()
        }
    }

    /// The spec that the request is steered with, where `default` is that of its model.
    pub fn resolve(&self, default: Option<&SteeringSpec>) -> SteeringSpec {
        let base = match (self.mode, default) {
            (Mode::Off, _) => return SteeringSpec::default(),
            (Mode::Extend, Some(default)) => default.clone(),
            (Mode::Extend, None) | (Mode::Replace, _) => SteeringSpec::default(),
        };
        let mut vectors = base.vectors;
        vectors.extend_from_slice(self.vectors.as_deref().unwrap_or_default());
        SteeringSpec {
            vectors,
            conflict: self.conflict.unwrap_or(base.conflict),
            norm: self.norm.unwrap_or(base.norm),
        }
    }

    /// Checks what can be checked without vectors, a model or the default. `at` is the path of this field, ending with
    /// a dot, for messages. Unlike those of the [resolved](Self::resolve) spec, its numbers are the request's own.
    ///
    /// # Errors
    ///
    /// As [`SteeringSpec::validate`]; another key beside `mode = "off"`; or nothing that steers or changes the default.
    pub fn validate(&self, at: &str) -> Result<(), SteeringError> {
        if self.mode == Mode::Off {
            let keys = [
                ("vectors", self.vectors.is_some()),
                ("conflict", self.conflict.is_some()),
                ("norm", self.norm.is_some()),
            ];
            return match keys.into_iter().find(|(_, there)| *there) {
                Some((key, _)) => Err(SteeringError::value(
                    format!("{at}{key}"),
                    "this key beside mode = \"off\"",
                    "no other key there",
                )),
                None => Ok(()),
            };
        }
        let changes = self.mode == Mode::Extend && (self.conflict.is_some() || self.norm.is_some());
        if self.vectors.is_none() && !changes {
            return Err(SteeringError::value(
                format!("{at}vectors"),
                "no such key",
                "vectors, or mode = \"off\" for none",
            ));
        }
        self.resolve(None).validate(at)
    }
}

impl From<VectorUse> for RequestSteering {
    /// In place of the default.
    fn from(vector: VectorUse) -> Self {
        SteeringSpec::from(vector).into()
    }
}

impl From<SteeringSpec> for RequestSteering {
    /// Takes the place of the default.
    fn from(spec: SteeringSpec) -> Self {
        Self {
            mode: Mode::Replace,
            vectors: Some(spec.vectors),
            conflict: Some(spec.conflict),
            norm: Some(spec.norm),
        }
    }
}

/// Reads a [`RequestSteering`] or a [`SteeringSpec`] from JSON, with errors that name the field. `at` is the path of
/// the value, ending with a dot, for messages.
///
/// # Errors
///
/// An unknown or missing key, or a value of the wrong type. [`validate`](SteeringSpec::validate) finds the rest.
pub fn from_json<T: DeserializeOwned>(value: &serde_json::Value, at: &str) -> Result<T, SteeringError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        // serde_path_to_error calls the top `.`.
        let field = match error.path().to_string() {
            top if top == "." => at.trim_end_matches('.').to_string(),
            path => format!("{at}{path}"),
        };
        let message = error.inner().to_string();
        // Serde's sentences have the parts of ours: "invalid type: string "4", expected f64".
        let (found, expected) = message
            .split_once(", expected ")
            .unwrap_or((&message, "all keys there"));
        let found = ["invalid type: ", "invalid value: "]
            .iter()
            .find_map(|prefix| found.strip_prefix(prefix))
            .unwrap_or(found);
        SteeringError::value(field, found, expected)
    })
}
