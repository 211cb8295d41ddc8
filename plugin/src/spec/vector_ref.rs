//! A reference to a vector: the name of one in the library, its numbers, or pairs to find it from.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::first_key::WithFirst;
use super::pairs_vector::{FoundVector, PairsVector};
use crate::SteeringError;
use crate::name::check_name;

/// Most numbers of an inline vector: eight times the width of the widest models.
pub const MAX_INLINE_NUMBERS: usize = 1 << 17;

/// The keys of a vector that is found from pairs.
const PAIRS_KEYS: [&str; 8] = [
    "model", "pairs", "method", "sign", "position", "seed", "neutral", "layers",
];

/// A vector.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum VectorRef {
    /// Name of the vector in the library.
    Name(String),
    /// The vector itself.
    Inline(InlineVector),
    /// Pairs to find it from. Only in requests.
    Pairs(Box<PairsVector>),
    /// The vector found from a request's pairs; never written in a spec.
    #[schemars(skip)]
    Found(FoundVector),
}

/// A vector given by its numbers: one layer of the served model or, with a map, of the map's source model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct InlineVector {
    /// The layer of the vector, 0-based.
    pub layer: usize,
    /// Its numbers: little-endian 32-bit floats, in base64 with padding.
    #[schemars(length(max = MAX_INLINE_NUMBERS * 16 / 3))]
    pub f32: String,
}

steermap_extract::from_table!(InlineVector, "a vector: a table of layer and f32");

impl<'de> Deserialize<'de> for VectorRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = VectorRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector's name, a table of layer and f32, or one of model and pairs")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<VectorRef, E> {
                Ok(VectorRef::Name(name.to_string()))
            }

            fn visit_string<E: serde::de::Error>(self, name: String) -> Result<VectorRef, E> {
                Ok(VectorRef::Name(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VectorRef, A::Error> {
                // The first key decides which of the two forms it is.
                let Some(first) = map.next_key::<String>()? else {
                    return Err(A::Error::missing_field("layer"));
                };
                let of_pairs = PAIRS_KEYS.contains(&first.as_str());
                let rest = WithFirst::new(Some(first), map);
                if of_pairs {
                    let pairs = PairsVector::deserialize(MapAccessDeserializer::new(rest))?;
                    Ok(VectorRef::Pairs(Box::new(pairs)))
                } else {
                    InlineVector::deserialize(MapAccessDeserializer::new(rest)).map(VectorRef::Inline)
                }
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

impl VectorRef {
    /// The name, if the vector is in the library.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Inline(_) | Self::Pairs(_) | Self::Found(_) => None,
        }
    }

    /// The vector's name in messages and metrics.
    pub fn label(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Inline(_) => "(inline)",
            Self::Pairs(_) | Self::Found(_) => "(pairs)",
        }
    }

    /// Checks what can be checked without a library. `at` is the path of the vector, for messages.
    ///
    /// # Errors
    ///
    /// A name that no vector can have, or too many numbers.
    pub(crate) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        match self {
            Self::Name(name) => check_name(at, name),
            Self::Inline(inline) if inline.f32.len() / 16 * 3 > MAX_INLINE_NUMBERS => Err(SteeringError::value(
                format!("{at}.f32"),
                format!("{} characters", inline.f32.len()),
                format!("the base64 of at most {MAX_INLINE_NUMBERS} numbers"),
            )),
            Self::Inline(_) | Self::Found(_) => Ok(()),
            Self::Pairs(pairs) => pairs.validate(&format!("{at}.")),
        }
    }
}

impl InlineVector {
    /// The vector `values` at `layer`.
    pub fn new(layer: usize, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self {
            layer,
            f32: STANDARD.encode(bytes),
        }
    }

    /// Its numbers. `at` is the path of the vector, for messages.
    ///
    /// # Errors
    ///
    /// The text is not base64, or not a whole number of floats.
    pub(crate) fn values(&self, at: &str) -> Result<Vec<f32>, SteeringError> {
        let wrong = |found: String| {
            let expected = "little-endian 32-bit floats in base64, with padding";
            SteeringError::value(format!("{at}.f32"), found, expected)
        };
        let bytes = STANDARD.decode(&self.f32).map_err(|error| wrong(error.to_string()))?;
        let (values, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(wrong(format!("{} bytes", bytes.len())));
        }
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }
}

/// As [`label`](VectorRef::label).
impl fmt::Display for VectorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl From<&str> for VectorRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_string())
    }
}

impl From<String> for VectorRef {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&String> for VectorRef {
    fn from(name: &String) -> Self {
        Self::Name(name.clone())
    }
}

impl From<PairsVector> for VectorRef {
    fn from(vector: PairsVector) -> Self {
        Self::Pairs(Box::new(vector))
    }
}

impl From<InlineVector> for VectorRef {
    fn from(vector: InlineVector) -> Self {
        Self::Inline(vector)
    }
}
