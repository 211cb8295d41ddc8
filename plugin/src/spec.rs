//! What is asked for: one schema for the configuration file and, later, for requests.

use serde::{Deserialize, Serialize};
use steermap_maps::OffsetRule;

use crate::SteeringError;

/// Vectors to add to the residual stream, at every position of every token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteeringSpec {
    /// The vectors; where several steer one layer, their offsets add up.
    #[serde(default)]
    pub vectors: Vec<VectorUse>,
}

/// One vector and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorUse {
    /// Name of the vector in the library.
    pub vector: String,
    /// Name of the map that carries the vector from the model it was found on; absent: the vector is native to the
    /// served model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// How the map carries it: by its linear part (absent or `linear`), or as the paper does, bias included (`affine`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<OffsetRule>,
    /// alpha: the length of the offset where `normalize` is set, else the factor of the vector as it is in its file.
    /// Negative values steer the other way.
    pub scale: f64,
    /// Whether the vector is first divided by its norm, layer by layer: `alpha * v / ||v||`.
    #[serde(default = "default_normalize")]
    pub normalize: bool,
    /// The layers to steer, 0-based; absent, all that the vector's file has or, with a map, that the map reaches from
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
}

fn default_normalize() -> bool {
    true
}

impl VectorUse {
    /// The vector `vector`, normalised, times `scale`, at all layers of its file.
    pub fn new(vector: impl Into<String>, scale: f64) -> Self {
        Self {
            vector: vector.into(),
            map: None,
            offset: None,
            scale,
            normalize: true,
            layers: None,
        }
    }

    /// The same at these layers only.
    pub fn at_layers(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.layers = Some(layers.into_iter().collect());
        self
    }

    /// The same carried over by the map `map`, linearly.
    pub fn through(mut self, map: impl Into<String>) -> Self {
        self.map = Some(map.into());
        self
    }

    /// The same carried over as `rule` says. Only for a vector that goes [`through`](Self::through) a map.
    pub fn offset(mut self, rule: OffsetRule) -> Self {
        self.offset = Some(rule);
        self
    }

    /// The same with the vector as it is in its file.
    pub fn unnormalized(mut self) -> Self {
        self.normalize = false;
        self
    }
}

impl From<VectorUse> for SteeringSpec {
    fn from(vector: VectorUse) -> Self {
        Self { vectors: vec![vector] }
    }
}

impl SteeringSpec {
    /// Checks what can be checked without vectors or a model. `at` is the path of the spec, for messages.
    ///
    /// # Errors
    ///
    /// A scale that is not a finite number, an empty or repeated layer list, an offset rule without a map.
    pub fn validate(&self, at: &str) -> Result<(), SteeringError> {
        for (index, vector) in self.vectors.iter().enumerate() {
            let field = |name: &str| format!("{at}vectors[{index}].{name}");
            // f32, since that is what the offset is made of.
            if !(vector.scale as f32).is_finite() {
                return Err(SteeringError::value(
                    field("scale"),
                    vector.scale.to_string(),
                    "a finite 32-bit number",
                ));
            }
            if let (Some(rule), None) = (vector.offset, &vector.map) {
                return Err(SteeringError::value(
                    field("offset"),
                    format!("{rule:?} without a map", rule = rule.to_string()),
                    "a map beside it, or no such key",
                ));
            }
            let Some(layers) = &vector.layers else { continue };
            if layers.is_empty() {
                return Err(SteeringError::value(
                    field("layers"),
                    "[]",
                    "one layer at least, or no such key",
                ));
            }
            if let Some(layer) = layers
                .iter()
                .enumerate()
                .find_map(|(i, l)| layers[..i].contains(l).then_some(l))
            {
                return Err(SteeringError::value(
                    field("layers"),
                    format!("{layer} twice"),
                    "every layer once",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_normalised_and_everywhere() {
        let spec: SteeringSpec = toml::from_str("[[vectors]]\nvector = \"happy\"\nscale = 4").unwrap();
        assert_eq!(spec, VectorUse::new("happy", 4.0).into());
        assert!(spec.validate("").is_ok());
    }

    #[test]
    fn json_and_toml_are_one_schema() {
        let used = VectorUse::new("happy", -1.5).unnormalized().at_layers([3, 1]);
        let spec: SteeringSpec = used.through("small-to-large").offset(OffsetRule::Affine).into();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<SteeringSpec>(&json).unwrap(), spec);
        assert_eq!(
            toml::from_str::<SteeringSpec>(&toml::to_string(&spec).unwrap()).unwrap(),
            spec
        );
    }

    #[test]
    fn unknown_and_missing_keys_are_errors() {
        for text in [
            "[[vectors]]\nvector = \"happy\"\nscale = 4\nlayer = 3",
            "[[vectors]]\nvector = \"happy\"",
            "[[vectors]]\nscale = 4",
            "[[vectors]]\nvector = \"happy\"\nscale = \"4\"",
            "[[vectors]]\nvector = \"happy\"\nscale = 4\nlayers = [-1]",
            "[[vectors]]\nvector = \"happy\"\nscale = 4\nmap = \"m\"\noffset = \"sideways\"",
            "vector = 1",
        ] {
            assert!(toml::from_str::<SteeringSpec>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_that_can_not_be_right_name_their_field() {
        let bad = |vector: VectorUse| SteeringSpec::from(vector).validate("s.").unwrap_err().to_string();
        assert_eq!(
            bad(VectorUse::new("v", f64::NAN)),
            "s.vectors[0].scale: found NaN, expected a finite 32-bit number"
        );
        assert!(bad(VectorUse::new("v", f64::INFINITY)).contains("scale"));
        assert!(bad(VectorUse::new("v", 1e300)).contains("scale"));
        assert!(bad(VectorUse::new("v", 1.0).at_layers([])).contains("vectors[0].layers"));
        assert!(bad(VectorUse::new("v", 1.0).at_layers([2, 3, 2])).contains("2 twice"));
        assert_eq!(
            bad(VectorUse::new("v", 1.0).offset(OffsetRule::Affine)),
            "s.vectors[0].offset: found \"affine\" without a map, expected a map beside it, or no such key"
        );
    }
}
