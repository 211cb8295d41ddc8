//! A whole spec.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::absent::is_default;
use super::limits::MAX_VECTORS;
use super::vector_use::VectorUse;
use super::when::When;

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
