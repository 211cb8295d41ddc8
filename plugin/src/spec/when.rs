//! On what condition a vector is used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

/// The vector is used only if the prompt's state has a component along a condition vector's unit direction that is
/// above or below a threshold. Decided once per sequence, after its prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct When {
    /// Name of the condition vector in the library.
    pub vector: String,
    /// Name of the map that carries it to the served model, by its linear part; absent: it is native.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// The layer whose state is looked at, 0-based.
    pub layer: usize,
    /// Which state of the prompt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token: TokenState,
    /// Used if the component is greater than this. Either this or `below`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Used if the component is less than this. Either this or `above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

steermap_extract::from_table!(When, "a condition: a table");

/// Which state of the prompt a condition looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// That of its last token.
    #[default]
    Last,
    /// The mean over all its tokens.
    Mean,
}

impl When {
    /// If the last prompt token's state at `layer` has a component along `vector` greater than `threshold`.
    pub fn above(vector: impl Into<String>, layer: usize, threshold: f64) -> Self {
        Self {
            vector: vector.into(),
            map: None,
            layer,
            token: TokenState::Last,
            above: Some(threshold),
            below: None,
        }
    }

    /// If the last prompt token's state at `layer` has a component along `vector` less than `threshold`.
    pub fn below(vector: impl Into<String>, layer: usize, threshold: f64) -> Self {
        Self {
            above: None,
            below: Some(threshold),
            ..Self::above(vector, layer, threshold)
        }
    }

    /// The same of the mean over the prompt's tokens.
    pub fn mean(mut self) -> Self {
        self.token = TokenState::Mean;
        self
    }

    /// The same with the condition vector carried over by the map `map`.
    pub fn through(mut self, map: impl Into<String>) -> Self {
        self.map = Some(map.into());
        self
    }
}
