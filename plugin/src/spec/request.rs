//! What a request asks for, and how it combines with the model's default.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::readout::MAX_READOUTS;
use super::validate::{at_most, finite};
use super::{Conflict, Layers, MAX_VECTORS, NormRule, Readout, States, SteeringSpec, VectorRef, VectorUse, is_default};
use crate::SteeringError;
use crate::library::check_name;

/// The `steering` field of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RequestSteering {
    /// What becomes of the model's default spec. Absent: `replace`.
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
    /// With `extend`: how vectors of the default are used by this request, each by its name. Only where the operator lets
    /// requests replace the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_VECTORS))]
    pub change: Option<Vec<Change>>,
    /// What the answer is to say of the stream, token by token. Alone, it leaves the default as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_READOUTS))]
    pub readout: Option<Vec<Readout>>,
    /// States that the answer is to bring. Alone, it leaves the default as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<States>,
}

steermap_extract::from_table!(RequestSteering, "a steering spec: a table");

/// Another use of a vector of the default: all that it is used for there, if it is used several times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Change {
    /// The vector's name, as the default has it.
    pub vector: String,
    /// In place of the default's scale of either kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// In place of the default's scale of either kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_scale: Option<f64>,
    /// In place of the default's scale of either kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std_scale: Option<f64>,
    /// In place of the default's layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// Whether it isn't used at all. No other key but `vector` may be there. Absent: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop: bool,
}

steermap_extract::from_table!(
    Change,
    "a table of vector, and scale, relative_scale, std_scale, layers or drop"
);

/// What becomes of the model's default spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The request's spec takes its place.
    #[default]
    Replace,
    /// The request's vectors act after the default's.
    Extend,
    /// The request is not steered. No other key but `readout` and `states` may be there.
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

    /// Whether it asks for nothing but readouts and states: the default stays.
    pub fn only_reads(&self) -> bool {
        let reads = self.readout.is_some() || self.states.is_some();
        let steers = self.vectors.is_some() || self.conflict.is_some() || self.norm.is_some() || self.change.is_some();
        reads && !steers && self.mode != Mode::Off
    }

    /// Which vectors of the [resolved](Self::resolve) spec are the default's as it has them: bit `i` is set for vector `i`.
    pub fn kept_of(&self, default: &SteeringSpec) -> u32 {
        if self.mode != Mode::Extend {
            return 0;
        }
        let dropped = |used: &&VectorUse| self.changes().any(|change| change.drop && change.is_of(used));
        let changed = |used: &VectorUse| self.changes().any(|change| change.is_of(used));
        let left = default
            .vectors
            .iter()
            .filter(|used| !dropped(used))
            .take(u32::BITS as usize);
        let bits = left.enumerate().map(|(index, used)| u32::from(!changed(used)) << index);
        bits.fold(0, |all, bit| all | bit)
    }

    /// All vectors that it speaks of, each with its path, which begins with `at`: those that act, those of tests, those that are read.
    pub fn vector_refs(&self, at: &str) -> Vec<(String, &VectorRef)> {
        let mut all = Vec::new();
        for (index, used) in self.vectors.iter().flatten().enumerate() {
            let at = format!("{at}vectors[{index}]");
            all.push((format!("{at}.vector"), &used.vector));
            let tests = used.when.iter().flat_map(|when| when.tests_at(&format!("{at}.when")));
            all.extend(tests.map(|(at, test)| (format!("{at}.vector"), &test.vector)));
        }
        for (index, readout) in self.readout.iter().flatten().enumerate() {
            all.push((format!("{at}readout[{index}].vector"), &readout.vector));
        }
        all
    }

    /// The same, in the same order, to be changed.
    pub fn vector_refs_mut(&mut self) -> Vec<&mut VectorRef> {
        let mut all = Vec::new();
        for used in self.vectors.iter_mut().flatten() {
            all.push(&mut used.vector);
            if let Some(when) = &mut used.when {
                when.vectors_mut(&mut all);
            }
        }
        all.extend(self.readout.iter_mut().flatten().map(|readout| &mut readout.vector));
        all
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.change.iter().flatten()
    }

    /// Checks that each change is of a vector that `default` has, and fits it. `at` is as in [`validate`](Self::validate).
    ///
    /// # Errors
    ///
    /// A name that none of its vectors has, or a scale for a vector that can't have it.
    pub fn check_changes(&self, default: Option<&SteeringSpec>, at: &str) -> Result<(), SteeringError> {
        for (index, change) in self.changes().enumerate() {
            let at = format!("{at}change[{index}]");
            let vectors = default.iter().flat_map(|default| default.vectors.iter());
            let mut found = false;
            for used in vectors.filter(|used| change.is_of(used)) {
                let mut changed = used.clone();
                change.apply_to(&mut changed);
                changed.validate(&at)?;
                found = true;
            }
            if !found {
                // Which there are is the operator's to tell.
                let expected = match default {
                    None => "none: the model has no default",
                    Some(_) => "the name of a vector of the model's default",
                };
                let found = format!("{:?}", change.vector);
                return Err(SteeringError::value(format!("{at}.vector"), found, expected));
            }
        }
        Ok(())
    }

    /// The spec that the request is steered with, where `default` is that of its model.
    pub fn resolve(&self, default: Option<&SteeringSpec>) -> SteeringSpec {
        let base = match (self.mode, default) {
            (Mode::Off, _) => return SteeringSpec::default(),
            (Mode::Extend, Some(default)) => default.clone(),
            (Mode::Extend, None) | (Mode::Replace, _) => SteeringSpec::default(),
        };
        let mut vectors = base.vectors;
        for change in self.changes() {
            vectors.retain(|used| !(change.drop && change.is_of(used)));
            vectors.iter_mut().for_each(|used| change.apply_to(used));
        }
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
        self.validate_reading(at)?;
        if self.only_reads() {
            return Ok(());
        }
        if self.mode == Mode::Off {
            let keys = [
                ("vectors", self.vectors.is_some()),
                ("conflict", self.conflict.is_some()),
                ("norm", self.norm.is_some()),
                ("change", self.change.is_some()),
            ];
            return match keys.into_iter().find(|(_, there)| *there) {
                Some((key, _)) => Err(SteeringError::value(
                    format!("{at}{key}"),
                    "this key beside mode = \"off\"",
                    "no key there but readout and states",
                )),
                None => Ok(()),
            };
        }
        if let Some(changes) = &self.change {
            if self.mode != Mode::Extend {
                let found = "changes of a default that the request takes the place of";
                return Err(SteeringError::value(
                    format!("{at}change"),
                    found,
                    "mode = \"extend\" beside it",
                ));
            }
            if changes.is_empty() {
                return Err(SteeringError::value(
                    format!("{at}change"),
                    "[]",
                    "one change at least, or no such key",
                ));
            }
            at_most(&format!("{at}change"), changes.len(), MAX_VECTORS, "changes")?;
            for (index, change) in changes.iter().enumerate() {
                change.validate(&format!("{at}change[{index}]"))?;
                if changes[..index].iter().any(|other| other.vector == change.vector) {
                    let found = format!("{:?} twice", change.vector);
                    return Err(SteeringError::value(
                        format!("{at}change[{index}].vector"),
                        found,
                        "every vector once",
                    ));
                }
            }
        }
        let changes =
            self.mode == Mode::Extend && (self.conflict.is_some() || self.norm.is_some() || self.change.is_some());
        if self.vectors.is_none() && !changes {
            return Err(SteeringError::value(
                format!("{at}vectors"),
                "no such key",
                "vectors, or mode = \"off\" for none",
            ));
        }
        self.resolve(None).validate(at)
    }

    fn validate_reading(&self, at: &str) -> Result<(), SteeringError> {
        if let Some(readout) = &self.readout {
            let field = format!("{at}readout");
            if readout.is_empty() {
                return Err(SteeringError::value(
                    field,
                    "[]",
                    "one readout at least, or no such key",
                ));
            }
            at_most(&field, readout.len(), MAX_READOUTS, "readouts")?;
            for (index, readout) in readout.iter().enumerate() {
                readout.validate(&format!("{field}[{index}]"))?;
            }
        }
        match &self.states {
            Some(states) => states.validate(&format!("{at}states")),
            None => Ok(()),
        }
    }
}

impl Change {
    fn is_of(&self, used: &VectorUse) -> bool {
        used.vector.name() == Some(&self.vector)
    }

    fn apply_to(&self, used: &mut VectorUse) {
        if !self.is_of(used) {
            return;
        }
        if self.scale.is_some() || self.relative_scale.is_some() || self.std_scale.is_some() {
            (used.scale, used.relative_scale, used.std_scale) = (self.scale, self.relative_scale, self.std_scale);
        }
        if let Some(layers) = &self.layers {
            used.layers = Some(layers.clone());
        }
    }

    fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let field = |name: &str| format!("{at}.{name}");
        check_name(&field("vector"), &self.vector)?;
        let scales = [
            ("scale", self.scale),
            ("relative_scale", self.relative_scale),
            ("std_scale", self.std_scale),
        ];
        for (name, number) in scales {
            number.map_or(Ok(()), |number| finite(&field(name), number))?;
        }
        if let Some((name, _)) = scales.into_iter().filter(|(_, number)| number.is_some()).nth(1) {
            let expected = "either scale, relative_scale or std_scale";
            return Err(SteeringError::value(field(name), "both", expected));
        }
        let keys = [
            ("std_scale", self.std_scale.is_some()),
            ("scale", self.scale.is_some()),
            ("relative_scale", self.relative_scale.is_some()),
            ("layers", self.layers.is_some()),
        ];
        match (self.drop, keys.into_iter().find(|(_, there)| *there)) {
            (true, Some((name, _))) => {
                let found = "this key of a vector that is dropped";
                return Err(SteeringError::value(
                    field(name),
                    found,
                    "no key there but vector and drop",
                ));
            }
            (false, None) => {
                let expected = "scale, relative_scale, std_scale, layers or drop";
                return Err(SteeringError::value(at, "no key but vector", expected));
            }
            _ => {}
        }
        self.layers
            .as_ref()
            .map_or(Ok(()), |layers| layers.validate(&field("layers")))
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
            ..Self::default()
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
