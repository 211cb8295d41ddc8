//! The `steering` field of a request, and how it combines with the model's default.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::absent::is_default;
use super::layers::Layers;
use super::limits::MAX_VECTORS;
use super::number::finite;
use super::readout::{MAX_READOUTS, Readout, States};
use super::steering_spec::{Conflict, NormRule, SteeringSpec};
use super::validate::at_most;
use super::vector_ref::VectorRef;
use super::vector_use::VectorUse;
use crate::SteeringError;
use crate::name::check_name;

/// The `steering` field of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RequestSteering {
    /// What happens to the model's default spec. Absent: `replace`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// The vectors, in the order in which they act; with `extend`, after those of the default. Required with `replace`,
    /// where the list may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_VECTORS))]
    pub vectors: Option<Vec<VectorUse>>,
    /// What happens where several vectors act at one layer and position; absent: `sequential` or, with `extend`, the
    /// default's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// What happens to the stream's norm; absent: `free` or, with `extend`, the default's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormRule>,
    /// With `extend`: changes to how this request uses vectors of the default, each given by its name. Only if the
    /// operator lets requests replace the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_VECTORS))]
    pub change: Option<Vec<Change>>,
    /// Numbers per token that the answer reports from the stream. Without other keys, the default applies unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_READOUTS))]
    pub readout: Option<Vec<Readout>>,
    /// States that the answer reports. Without other keys, the default applies unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<States>,
}

steermap_extract::from_table!(RequestSteering, "a steering spec: a table");

/// A change to how a vector of the default is used. If the default uses it several times, the change applies to all of
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Change {
    /// The vector's name in the default.
    pub vector: String,
    /// Replaces the default's `scale`, `relative_scale` or `std_scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Replaces the default's `scale`, `relative_scale` or `std_scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_scale: Option<f64>,
    /// Replaces the default's `scale`, `relative_scale` or `std_scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std_scale: Option<f64>,
    /// Replaces the default's layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// Whether the vector is left out. Excludes all other keys except `vector`. Absent: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop: bool,
}

steermap_extract::from_table!(
    Change,
    "a table of vector, and scale, relative_scale, std_scale, layers or drop"
);

/// What happens to the model's default spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The request's spec replaces it.
    #[default]
    Replace,
    /// The request's vectors act after the default's.
    Extend,
    /// The request is not steered. Excludes all other keys except `readout` and `states`.
    Off,
}

impl RequestSteering {
    /// Not steered, whatever the default is.
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

    /// Whether it has only readouts and states, so that the default applies unchanged.
    pub fn only_reads(&self) -> bool {
        let reads = self.readout.is_some() || self.states.is_some();
        let steers = self.vectors.is_some() || self.conflict.is_some() || self.norm.is_some() || self.change.is_some();
        reads && !steers && self.mode != Mode::Off
    }

    /// Which vectors of the [resolved](Self::resolve) spec are unchanged from the default: bit `i` is set for vector
    /// `i`.
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

    /// All vectors that it refers to, each with its path, which begins with `at`: those of uses, of tests and of
    /// readouts.
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

    /// The same, mutable, in the same order.
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

    /// Checks that each change names a vector of `default`, and fits it. `at` is as in [`validate`](Self::validate).
    ///
    /// # Errors
    ///
    /// No vector has the name, or the vector can't have the scale.
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
                // The names of the default's vectors are not revealed.
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

    /// The spec that the request is steered with. `default` is that of its model.
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
    /// a dot, for messages. Paths count the request's own vectors, not those of the [resolved](Self::resolve) spec.
    ///
    /// # Errors
    ///
    /// As [`SteeringSpec::validate`]; or there is another key beside `mode = "off"`, or no key that steers or changes
    /// the default.
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
                    "no other key than readout and states",
                )),
                None => Ok(()),
            };
        }
        if let Some(changes) = &self.change {
            if self.mode != Mode::Extend {
                let found = "changes to a default that the request replaces";
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
                    "at least one change, or no such key",
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
                    "at least one readout, or no such key",
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
                let found = "this key beside drop = true";
                return Err(SteeringError::value(
                    field(name),
                    found,
                    "no other key than vector and drop",
                ));
            }
            (false, None) => {
                let expected = "scale, relative_scale, std_scale, layers or drop";
                return Err(SteeringError::value(at, "no other key than vector", expected));
            }
            _ => {}
        }
        self.layers
            .as_ref()
            .map_or(Ok(()), |layers| layers.validate(&field("layers")))
    }
}

impl From<VectorUse> for RequestSteering {
    /// Replaces the default.
    fn from(vector: VectorUse) -> Self {
        SteeringSpec::from(vector).into()
    }
}

impl From<SteeringSpec> for RequestSteering {
    /// Replaces the default.
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
