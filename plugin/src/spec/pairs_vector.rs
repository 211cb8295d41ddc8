//! A vector that is found from pairs of texts when it is asked for.

use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use steermap_extract::find::{Found, Wanted, distinct};
use steermap_extract::{LayerSelection, Method, Pair, Sign};
use steermap_maps::TokenPosition;

use super::{is_default, schema};
use crate::SteeringError;

/// Most pairs of one vector: more than any published method takes.
pub const MAX_PAIRS: usize = 4096;

/// Pairs of texts, and how a vector is found from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PairsVector {
    /// The model that it is found on: a source of the server's configuration, or a served model.
    pub model: String,
    /// The pairs, two different ones at least.
    #[schemars(length(min = 2, max = MAX_PAIRS))]
    pub pairs: Vec<Pair>,
    /// How a direction is found from the texts' states. Absent: `mean-difference`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Method,
    /// Which way along a principal component is positive. Absent: `mean`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sign: Sign,
    /// Which states of a text are compared. Absent: `last`.
    #[serde(default = "last", skip_serializing_if = "is_last")]
    #[schemars(with = "schema::TokenPositionSchema")]
    pub position: TokenPosition,
    /// Of what is random in the method `lat`. Absent: 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(max = i64::MAX))]
    pub seed: u64,
    /// Whether it is measured on neutral text where the stream lies along the vector, for `std_scale`. Absent: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub neutral: bool,
    /// The layers to find it at, of the model that it is found on; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<LayersSchema>")]
    pub layers: Option<LayerSelection>,
}

steermap_extract::from_table!(PairsVector, "a table of model and pairs");

fn last() -> TokenPosition {
    TokenPosition::Last
}

fn is_last(position: &TokenPosition) -> bool {
    *position == TokenPosition::Last
}

impl PairsVector {
    /// Found on `model` from `pairs`: their mean difference at the last token, at all layers.
    pub fn new(model: impl Into<String>, pairs: Vec<Pair>) -> Self {
        Self {
            model: model.into(),
            pairs,
            method: Method::default(),
            sign: Sign::default(),
            position: last(),
            seed: 0,
            neutral: false,
            layers: None,
        }
    }

    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let pairs = self.pairs.iter();
        pairs.map(|pair| pair.positive.bytes() + pair.negative.bytes()).sum()
    }

    /// Checks what can be checked without a model. `at` is where it stands, ending with a dot or empty, for messages.
    ///
    /// # Errors
    ///
    /// Pairs that are none or too many, a sign that the method has no use for, a seed that files can't have.
    pub fn validate(&self, at: &str) -> Result<(), SteeringError> {
        if self.pairs.len() > MAX_PAIRS {
            let found = format!("{} pairs", self.pairs.len());
            return Err(SteeringError::value(
                format!("{at}pairs"),
                found,
                format!("{MAX_PAIRS} at most"),
            ));
        }
        for (index, pair) in self.pairs.iter().enumerate() {
            pair.check()
                .map_err(|reason| SteeringError::find(format!("{at}pairs[{index}]"), reason))?;
        }
        distinct(&self.pairs).map_err(|reason| SteeringError::find(format!("{at}pairs"), reason))?;
        if i64::try_from(self.seed).is_err() {
            return Err(SteeringError::value(
                format!("{at}seed"),
                self.seed.to_string(),
                format!("0 to {}", i64::MAX),
            ));
        }
        let wanted = Wanted {
            concept: "pairs".to_string(),
            layers: Vec::new(),
            method: self.method,
            sign: self.sign,
            position: self.position,
            seed: self.seed,
            neutral: self.neutral,
        };
        // The sign alone can be wrong.
        wanted
            .check()
            .map_err(|reason| SteeringError::find_at(at, "sign", reason))
    }
}

/// A vector that was found from the pairs that a request brought.
#[derive(Clone)]
pub struct FoundVector {
    /// SHA-256 of what was asked for.
    pub key: String,
    /// The vector.
    pub found: Arc<Found>,
}

impl PartialEq for FoundVector {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl fmt::Debug for FoundVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FoundVector").field(&self.key).finish()
    }
}

/// What tells it from others; it is not read back.
impl Serialize for FoundVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("found", &self.key)])
    }
}

/// [`LayerSelection`], for the schema alone.
pub(super) struct LayersSchema;

impl JsonSchema for LayersSchema {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LayerSelection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Layers, 0-based: \"all\", ranges such as \"3,5-9\", or a list of numbers.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "items": generator.subschema_for::<usize>(), "minItems": 1 },
            ],
        })
    }
}
