//! A vector that is found from pairs of texts when a request needs it.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use steermap_extract::find::{VectorOfPairs, Wanted, distinct};
use steermap_extract::{LayerSelection, Method, Pair, Sign};
use steermap_maps::TokenPosition;

use super::absent::is_default;
use super::foreign_schemas::{LayerSelectionSchema, TokenPositionSchema};
use crate::SteeringError;

/// Most pairs of one vector: more than any published method takes.
pub const MAX_PAIRS: usize = 4096;

/// Pairs of texts, and how a vector is found from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PairsVector {
    /// The model to find the vector on: a source of the server's configuration, or a served model.
    pub model: String,
    /// The pairs, at least two different ones.
    #[schemars(length(min = 2, max = MAX_PAIRS))]
    pub pairs: Vec<Pair>,
    /// How a direction is found from the texts' states. Absent: `mean-difference`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Method,
    /// How the sign of a principal component is chosen. Absent: `mean`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sign: Sign,
    /// Which states of a text are compared. Absent: `last`.
    #[serde(default = "last", skip_serializing_if = "is_last")]
    #[schemars(with = "TokenPositionSchema")]
    pub position: TokenPosition,
    /// The seed of the random choices in the method `lat`. Absent: 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(max = i64::MAX))]
    pub seed: u64,
    /// Whether the component along the vector is also measured on neutral text, for `std_scale`. Absent: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub neutral: bool,
    /// The layers of that model to find the vector at; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<LayerSelectionSchema>")]
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
    /// A vector found on `model` from `pairs`: their mean difference at the last token, at all layers.
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

    /// Bytes of all texts.
    pub fn bytes(&self) -> usize {
        let pairs = self.pairs.iter();
        pairs.map(|pair| pair.positive.bytes() + pair.negative.bytes()).sum()
    }

    /// Checks what can be checked without a model. `at` is the path of the table, ending with a dot or empty, for
    /// messages.
    ///
    /// # Errors
    ///
    /// There are no pairs or too many, the method does not take a sign, or the seed does not fit a file.
    pub fn validate(&self, at: &str) -> Result<(), SteeringError> {
        if self.pairs.len() > MAX_PAIRS {
            let found = format!("{} pairs", self.pairs.len());
            return Err(SteeringError::value(
                format!("{at}pairs"),
                found,
                format!("at most {MAX_PAIRS}"),
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
        // Only the sign can be wrong.
        wanted
            .check()
            .map_err(|reason| SteeringError::find_at(at, "sign", reason))
    }
}

/// A vector that was found from the pairs of a request.
#[derive(Clone)]
pub struct FoundVector {
    /// SHA-256 of the request for it.
    pub key: String,
    /// The vector.
    pub found: Arc<VectorOfPairs>,
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

/// Writes the key that identifies the vector; it is never read back.
impl Serialize for FoundVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("found", &self.key)])
    }
}
