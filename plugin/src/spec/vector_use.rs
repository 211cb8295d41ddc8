//! One vector of a spec, and how it is used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use steermap_maps::OffsetRule;

use super::absent::is_default;
use super::apply::{Apply, Where};
use super::foreign_schemas::OffsetRuleSchema;
use super::layers::Layers;
use super::schedule::Schedule;
use super::vector_ref::VectorRef;
use super::when::When;

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
    #[schemars(with = "Option<OffsetRuleSchema>")]
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
