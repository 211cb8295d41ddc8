//! What a request reads from the stream.

use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::absent::is_default;
use super::limits::{MAX_ENTRIES, MAX_LAYERS, MAX_POSITION};
use super::vector_ref::VectorRef;
use crate::SteeringError;
use crate::name::check_name;

/// Most readouts of one request.
pub const MAX_READOUTS: usize = 32;

/// One number for each token that compares its state with a vector. The state is taken before the layer's own steering
/// and after that of earlier layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Readout {
    /// The vector: its name in the library or, if the operator allows it, its numbers or pairs to find it from.
    pub vector: VectorRef,
    /// Name of the map that carries the vector to the served model, by its linear part; absent: the vector is native.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// The layer whose states are read, 0-based.
    pub layer: usize,
    /// Which number. Absent: `projection`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub of: ReadoutMeasure,
    /// Which tokens to read. Prompt tokens in the prefix cache are computed again, since the cache holds keys and
    /// values, not states; with `generation` this is not necessary. Absent: `both`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: ReadPhase,
}

steermap_extract::from_table!(Readout, "a readout: a table");

/// The number that a readout takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Of", rename_all = "lowercase")]
pub enum ReadoutMeasure {
    /// The component along the vector's unit direction: `h . v / ||v||`, in units of the stream.
    #[default]
    Projection,
    /// The cosine of the angle between state and vector: `h . v / (||h|| ||v||)`.
    Cosine,
}

/// The tokens that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadPhase {
    /// Prompt tokens and generated tokens.
    #[default]
    Both,
    /// Only prompt tokens.
    Prompt,
    /// Only generated tokens.
    Generation,
}

/// The states themselves, before the layer's own steering. Only if the operator allows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct States {
    /// The layers after which states are taken, 0-based.
    #[schemars(length(min = 1, max = MAX_LAYERS))]
    pub layers: Vec<usize>,
    /// The tokens whose states are taken.
    pub positions: StatePositions,
    /// The number format of the states. Absent: `f32`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dtype: StateDtype,
}

steermap_extract::from_table!(States, "a table of layers and positions");

/// The tokens whose states are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatePositions {
    /// The tokens of a phase: `"all"` (both), `"prompt"`, `"generation"`.
    Phase(ReadPhase),
    /// The tokens at these positions of the prompt; negative ones count from its end.
    Listed(Vec<i64>),
}

/// The number format of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateDtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats (IEEE half): values beyond 65504 become infinite.
    F16,
}

impl Readout {
    /// The component along `vector` of the states at `layer`.
    pub fn projection(vector: impl Into<VectorRef>, layer: usize) -> Self {
        Self {
            vector: vector.into(),
            map: None,
            layer,
            of: ReadoutMeasure::Projection,
            phase: ReadPhase::Both,
        }
    }

    pub(super) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        self.vector.validate(&format!("{at}.vector"))?;
        self.map
            .as_ref()
            .map_or(Ok(()), |map| check_name(&format!("{at}.map"), map))
    }
}

impl States {
    pub(super) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let layers = format!("{at}.layers");
        if self.layers.is_empty() {
            return Err(SteeringError::value(layers, "[]", "at least one layer"));
        }
        if self.layers.len() > MAX_LAYERS {
            let found = format!("{} layers", self.layers.len());
            return Err(SteeringError::value(layers, found, format!("at most {MAX_LAYERS}")));
        }
        let mut seen = BTreeSet::new();
        if let Some(layer) = self.layers.iter().find(|layer| !seen.insert(**layer)) {
            return Err(SteeringError::value(
                layers,
                format!("{layer} twice"),
                "every layer once",
            ));
        }
        let StatePositions::Listed(positions) = &self.positions else {
            return Ok(());
        };
        let at = format!("{at}.positions");
        if positions.is_empty() {
            return Err(SteeringError::value(at, "[]", "at least one position"));
        }
        if positions.len() > MAX_ENTRIES {
            let found = format!("{} positions", positions.len());
            return Err(SteeringError::value(at, found, format!("at most {MAX_ENTRIES}")));
        }
        let beyond = positions
            .iter()
            .position(|position| !(-MAX_POSITION..=MAX_POSITION).contains(position));
        match beyond {
            Some(index) => Err(SteeringError::value(
                format!("{at}[{index}]"),
                positions[index].to_string(),
                format!("-{MAX_POSITION} to {MAX_POSITION}"),
            )),
            None => Ok(()),
        }
    }
}

impl Serialize for StatePositions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Phase(ReadPhase::Both) => serializer.serialize_str("all"),
            Self::Phase(ReadPhase::Prompt) => serializer.serialize_str("prompt"),
            Self::Phase(ReadPhase::Generation) => serializer.serialize_str("generation"),
            Self::Listed(positions) => positions.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StatePositions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PositionsVisitor;

        impl<'de> Visitor<'de> for PositionsVisitor {
            type Value = StatePositions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"prompt\", \"generation\" or a list of the prompt's positions")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatePositions, E> {
                match text {
                    "all" => Ok(StatePositions::Phase(ReadPhase::Both)),
                    "prompt" => Ok(StatePositions::Phase(ReadPhase::Prompt)),
                    "generation" => Ok(StatePositions::Phase(ReadPhase::Generation)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<StatePositions, A::Error> {
                let mut positions = Vec::new();
                while let Some(position) = list.next_element()? {
                    positions.push(position);
                }
                Ok(StatePositions::Listed(positions))
            }
        }

        deserializer.deserialize_any(PositionsVisitor)
    }
}

impl JsonSchema for StatePositions {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatePositions".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The tokens whose states are wanted: all, those of the prompt, those that are generated, or those at \
                            these positions of the prompt, of which negative ones count from its end.",
            "anyOf": [
                { "type": "string", "enum": ["all", "prompt", "generation"] },
                { "type": "array", "items": generator.subschema_for::<i64>(), "minItems": 1, "maxItems": MAX_ENTRIES },
            ],
        })
    }
}
