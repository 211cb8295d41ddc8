//! The steering spec: one schema for the configuration file (TOML) and requests (JSON).
//!
//! ```toml
//! conflict = "sequential"             # or "first", "error"
//! norm = "free"                       # or "preserve"
//!
//! [[vectors]]
//! vector = "happy"
//! map = "small-to-large"              # absent: the vector is native to the served model
//! op = "add"                          # or "ablate", "set", "clamp" (between min and max)
//! scale = 4.0                         # or relative_scale, in units of the stream's mean norm, or std_scale
//! layers = [11]
//! apply = { prompt = { positions = [-1] }, generation = "all" }
//!
//! [[vectors]]
//! vector = "polite"
//! relative_scale = 0.1
//! when = { vector = "rude", layer = 9, above = 2.5 }     # or { all = [..] }, { any = [..] }
//! schedule = { from = 1.0, to = 0.0, tokens = 40 }        # fades out
//! ```
//!
//! | module | role |
//! | --- | --- |
//! | [`apply`] | which tokens a vector acts on: [`Apply`], [`Where`] |
//! | [`layers`] | which layers it acts at: [`Layers`] |
//! | [`vector_ref`] | which vector is used: [`VectorRef`] |
//! | [`pairs_vector`] | a vector that is found from pairs: [`PairsVector`] |
//! | [`when`] | the condition on which it acts: [`When`] |
//! | [`schedule`] | its strength over the course of a generation: [`Schedule`] |
//! | [`readout`] | what a request reads from the stream: [`Readout`], [`States`] |
//! | [`request`] | the `steering` field of a request, and how it combines with the default: [`RequestSteering`] |
//! | [`schema()`](mod@schema) | the JSON Schema of all of it |
//! | `json` | reads JSON, with messages that name the field |

pub mod apply;
mod first_key;
mod foreign_schemas;
pub(crate) mod json;
pub mod layers;
mod number;
pub mod pairs_vector;
pub mod readout;
pub mod request;
pub mod schedule;
pub mod schema;
mod validate;
pub mod vector_ref;
pub mod when;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use steermap_maps::OffsetRule;

pub use apply::{Apply, Role, Selection, TokenRef, Where, Window};
pub use layers::Layers;
pub use pairs_vector::{FoundVector, PairsVector};
pub use readout::{ReadPhase, Readout, ReadoutMeasure, StateDtype, StatePositions, States};
pub use request::{Change, Mode, RequestSteering};
pub use schedule::{Schedule, Shape};
pub use schema::schema;
pub use vector_ref::{InlineVector, VectorRef};
pub use when::{DecisionFrequency, Test, TokenState, When};

/// Most vectors in one spec: more than any published method combines, few enough that a spec compiles quickly.
pub const MAX_VECTORS: usize = 32;

/// Most entries in one list of a selector. Every prompt is checked against each entry.
pub const MAX_ENTRIES: usize = 1024;

/// Most entries in a list of layers: several times the number of layers of the deepest models.
pub const MAX_LAYERS: usize = 4096;

/// Largest absolute value of a position or a window's bound: beyond any model's context.
pub const MAX_POSITION: i64 = i32::MAX as i64;

/// Longest text of a token, in bytes. The longest tokens of known tokenizers, runs of spaces, have a few hundred.
pub const MAX_TOKEN_TEXT: usize = 1024;

/// Vectors that act on the residual stream, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SteeringSpec {
    /// The vectors, in the order in which they act at each layer.
    #[serde(default)]
    #[schemars(length(max = MAX_VECTORS))]
    pub vectors: Vec<VectorUse>,
    /// What happens where several vectors act at one layer and position. Absent: `sequential`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conflict: Conflict,
    /// What happens to the stream's norm. Absent: `free`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: NormRule,
}

steermap_extract::from_table!(SteeringSpec, "a steering spec: a table");

/// What happens where several vectors act at one layer and position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// All are applied, one after the other, in the order of the list.
    #[default]
    Sequential,
    /// Only the first of the list that acts there is applied.
    First,
    /// A spec in which two vectors can act at one layer and position is refused.
    Error,
}

/// What happens to the stream's norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NormRule {
    /// It changes with the steering.
    #[default]
    Free,
    /// After all vectors of a layer, a steered state is scaled back to the L2 norm that it had before.
    Preserve,
}

/// What a vector does to a state `h`, where `v^` is `v / ||v||`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// `h += scale * v^`, or `scale * v` where `normalize` is false.
    #[default]
    Add,
    /// `h -= scale * (h . v^) v^`: a scale of 1, the default, removes all of the component along `v`.
    Ablate,
    /// `h += (scale - h . v^) v^`: the component along `v` becomes `scale`.
    Set,
    /// `h += (c - h . v^) v^`, where `c` is the component `h . v^` limited to `min` and `max`.
    Clamp,
}

/// One vector and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct VectorUse {
    /// The vector: its name in the library or, if the operator allows it, its numbers.
    pub vector: VectorRef,
    /// Name of the map that carries the vector from the model it was found on; absent: the vector is native to the
    /// served model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// How the map carries the vector: by its linear part (absent or `linear`), or including the bias, as in the paper
    /// (`affine`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<foreign_schemas::OffsetRuleSchema>")]
    pub offset: Option<OffsetRule>,
    /// What the vector does. Absent: `add`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub op: Op,
    /// alpha. For `add`: the length of the offset if `normalize` is true, else the factor of the vector as it is in its
    /// file; negative values steer in the opposite direction. For `ablate`: the share of the component that is removed
    /// (absent: 1). For `set`: the new component. Not for `clamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Instead of `scale`: the scale in units of the stream's mean norm at each layer. Not for `ablate` and `clamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_scale: Option<f64>,
    /// Instead of `scale`: the scale in standard deviations of the stream's component along the vector on neutral text
    /// at each layer; for `set`, counted from the component's mean there. Only if the vector's file states them, and
    /// without a map. Not for `ablate` and `clamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std_scale: Option<f64>,
    /// For `clamp`: the least component. At least one of `min` and `max` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// For `clamp`: the largest component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Whether the vector is first divided by its norm, layer by layer. May be false only for `add` with `scale`.
    /// Absent: true.
    #[serde(default = "default_normalize", skip_serializing_if = "is_true")]
    pub normalize: bool,
    /// The layers to steer; absent: all layers of the vector's file or, with a map, all layers that the map carries
    /// them to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// The tokens to steer; absent: all tokens or, with a `when` that is decided from the prompt, all generated tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Apply>,
    /// The condition on which the vector acts; absent: always. If any part of it is decided once, from the prompt, the
    /// vector acts only on generated tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// The vector's strength over the course of the generation; absent: constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

steermap_extract::from_table!(VectorUse, "a vector: a table");

fn default_normalize() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl VectorUse {
    /// Adds `scale` times the normalised vector at all layers of its file to all tokens.
    pub fn new(vector: impl Into<VectorRef>, scale: f64) -> Self {
        Self {
            scale: Some(scale),
            ..Self::unscaled(vector.into(), Op::Add)
        }
    }

    /// Adds `scale` times the mean norm of each layer's stream times the normalised vector to all tokens.
    pub fn relative(vector: impl Into<VectorRef>, scale: f64) -> Self {
        Self {
            relative_scale: Some(scale),
            ..Self::unscaled(vector.into(), Op::Add)
        }
    }

    /// Adds `scale` standard deviations of the component on neutral text times the normalised vector to all tokens.
    pub fn deviations(vector: impl Into<VectorRef>, scale: f64) -> Self {
        Self {
            std_scale: Some(scale),
            ..Self::unscaled(vector.into(), Op::Add)
        }
    }

    /// Removes the whole component along `vector` at all layers of its file from all tokens.
    pub fn ablate(vector: impl Into<VectorRef>) -> Self {
        Self::unscaled(vector.into(), Op::Ablate)
    }

    /// Keeps the component along `vector` between `min` and `max`, either of which may be absent, at all layers of its
    /// file for all tokens.
    pub fn clamp(vector: impl Into<VectorRef>, min: Option<f64>, max: Option<f64>) -> Self {
        Self {
            min,
            max,
            ..Self::unscaled(vector.into(), Op::Clamp)
        }
    }

    fn unscaled(vector: VectorRef, op: Op) -> Self {
        Self {
            vector,
            map: None,
            offset: None,
            op,
            scale: None,
            relative_scale: None,
            std_scale: None,
            min: None,
            max: None,
            normalize: true,
            layers: None,
            apply: None,
            when: None,
            schedule: None,
        }
    }

    /// The same, only at these layers.
    pub fn at_layers(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.layers = Some(layers.into_iter().collect());
        self
    }

    /// The same, carried over by the linear part of the map `map`.
    pub fn through(mut self, map: impl Into<String>) -> Self {
        self.map = Some(map.into());
        self
    }

    /// The same, carried over by `rule`. Only for a vector that goes [`through`](Self::through) a map.
    pub fn offset(mut self, rule: OffsetRule) -> Self {
        self.offset = Some(rule);
        self
    }

    /// The same, with the vector as it is in its file.
    pub fn unnormalized(mut self) -> Self {
        self.normalize = false;
        self
    }

    /// The same, with the operation `op`.
    pub fn op(mut self, op: Op) -> Self {
        self.op = op;
        self
    }

    /// The same, only on the tokens of `apply`.
    pub fn apply(mut self, apply: Apply) -> Self {
        self.apply = Some(apply);
        self
    }

    /// The same, only on the condition `when`.
    pub fn when(mut self, when: impl Into<When>) -> Self {
        self.when = Some(when.into());
        self
    }

    /// The same, with the strength of `schedule`.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// The tokens of the prompt that it acts on, with defaults filled in.
    pub fn in_prompt(&self) -> &Where {
        match (&self.apply, &self.when) {
            (Some(apply), _) => apply.prompt.as_ref().unwrap_or(&Where::None),
            (None, Some(when)) if when.waits_for_the_prompt() => &Where::None,
            (None, _) => &Where::All,
        }
    }

    /// The generated tokens that it acts on, with defaults filled in.
    pub fn in_generation(&self) -> &Where {
        match &self.apply {
            Some(apply) => apply.generation.as_ref().unwrap_or(&Where::None),
            None => &Where::All,
        }
    }
}

impl From<VectorUse> for SteeringSpec {
    fn from(vector: VectorUse) -> Self {
        Self::from(vec![vector])
    }
}

impl From<Vec<VectorUse>> for SteeringSpec {
    fn from(vectors: Vec<VectorUse>) -> Self {
        Self {
            vectors,
            ..Self::default()
        }
    }
}

impl SteeringSpec {
    /// The names of all vectors of the library that it needs, including those of conditions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.vectors.iter().flat_map(|used| {
            let tests = used.when.iter().flat_map(When::tests);
            used.vector
                .name()
                .into_iter()
                .chain(tests.filter_map(|test| test.vector.name()))
        })
    }

    /// The same, with `conflict`.
    pub fn conflict(mut self, conflict: Conflict) -> Self {
        self.conflict = conflict;
        self
    }

    /// The same, with `norm`.
    pub fn norm(mut self, norm: NormRule) -> Self {
        self.norm = norm;
        self
    }
}

#[cfg(test)]
mod tests;
