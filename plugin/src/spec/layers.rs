//! At which layers a vector acts.

use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::MAX_LAYERS;
use crate::SteeringError;

/// Layers, as a spec writes them: `[14, 15]`, `"10-20"`, `"3,5-9"`, `"0.4-0.6"`, `"best"`.
#[derive(Clone, Debug, PartialEq)]
pub enum Layers {
    /// These, 0-based.
    List(Vec<usize>),
    /// The parts of a text.
    Parts(Vec<LayerPart>),
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerPart {
    /// This layer: `14`.
    One(usize),
    /// The layers in this range that the vector or its map has: `10-20`, both ends included.
    Range(usize, usize),
    /// The layer that contains this share of the depth: `0.5`.
    At(f64),
    /// The layers between these shares of the depth that the vector or its map has: `0.4-0.6`.
    Between(f64, f64),
    /// The layer that the vector's file proposes, or the layer that the map carries it to: `best`.
    Best,
}

/// The layers to choose from.
pub(crate) struct Available<'a> {
    /// The layers that have directions, ascending.
    pub(crate) layers: &'a [usize],
    /// The model's depth.
    pub(crate) num_layers: usize,
    /// The layer that the vector's file proposes, if any.
    pub(crate) best: Option<usize>,
}

impl Layers {
    /// Checks what can be checked without a vector. `at` is the path of the field, for messages.
    ///
    /// # Errors
    ///
    /// There is no layer, too many, or one twice.
    pub(crate) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let Self::List(layers) = self else { return Ok(()) };
        if layers.is_empty() {
            return Err(SteeringError::value(at, "[]", "at least one layer, or no such key"));
        }
        if layers.len() > MAX_LAYERS {
            let found = format!("{} layers", layers.len());
            return Err(SteeringError::value(at, found, format!("at most {MAX_LAYERS}")));
        }
        let mut seen = BTreeSet::new();
        match layers.iter().find(|layer| !seen.insert(**layer)) {
            Some(layer) => Err(SteeringError::value(at, format!("{layer} twice"), "every layer once")),
            None => Ok(()),
        }
    }

    /// The layers that these stand for: a list in its own order, all others ascending. Listed layers need not be
    /// available.
    ///
    /// # Errors
    ///
    /// A range has no available layer, or the file proposes none.
    pub(crate) fn among(&self, available: &Available<'_>, at: &str) -> Result<Vec<usize>, SteeringError> {
        let parts = match self {
            Self::List(layers) => return Ok(layers.clone()),
            Self::Parts(parts) => parts,
        };
        let mut chosen = BTreeSet::new();
        for part in parts {
            let within = |first: usize, last: usize| {
                let there = available.layers.iter().filter(|layer| (first..=last).contains(*layer));
                there.copied().collect::<Vec<_>>()
            };
            let depth = available.num_layers as f64;
            // The layer that contains this share of the depth.
            let at_share = |share: f64| ((share * depth) as usize).min(available.num_layers.saturating_sub(1));
            let layers = match *part {
                LayerPart::One(layer) => vec![layer],
                LayerPart::At(share) => vec![at_share(share)],
                LayerPart::Range(first, last) => within(first, last),
                LayerPart::Between(first, last) => within(at_share(first), at_share(last)),
                LayerPart::Best => available.best.into_iter().collect(),
            };
            if layers.is_empty() {
                let known: Vec<String> = available.layers.iter().map(usize::to_string).collect();
                let expected = match part {
                    LayerPart::Best => {
                        "layers, since the vector's file proposes none that the model or the map has".to_string()
                    }
                    _ => format!("at least one of the available layers: {}", known.join(", ")),
                };
                return Err(SteeringError::value(
                    at,
                    format!("{part:?}", part = part.to_string()),
                    expected,
                ));
            }
            chosen.extend(layers);
        }
        Ok(chosen.into_iter().collect())
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LAYERS {
            return None;
        }
        let parts: Option<Vec<_>> = text.split(',').map(|part| LayerPart::parse(part.trim())).collect();
        parts.map(Self::Parts)
    }
}

impl LayerPart {
    fn parse(text: &str) -> Option<Self> {
        if text == "best" {
            return Some(Self::Best);
        }
        if text.contains('.') {
            let share = |text: &str| text.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share));
            return match text.split_once('-') {
                Some((first, last)) => {
                    let (first, last): (f64, f64) = (share(first)?, share(last)?);
                    (first <= last).then_some(Self::Between(first, last))
                }
                None => share(text).map(Self::At),
            };
        }
        let layer = |text: &str| text.trim().parse().ok().filter(|layer| *layer < MAX_LAYERS);
        match text.split_once('-') {
            Some((first, last)) => {
                let (first, last): (usize, usize) = (layer(first)?, layer(last)?);
                (first <= last).then_some(Self::Range(first, last))
            }
            None => layer(text).map(Self::One),
        }
    }
}

impl fmt::Display for LayerPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(layer) => write!(f, "{layer}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::At(share) => f.write_str(&pointed(*share)),
            Self::Between(first, last) => write!(f, "{}-{}", pointed(*first), pointed(*last)),
            Self::Best => f.write_str("best"),
        }
    }
}

/// Writes a share as the parser reads it: with a decimal point and without an exponent.
fn pointed(share: f64) -> String {
    let text = share.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

impl FromIterator<usize> for Layers {
    fn from_iter<I: IntoIterator<Item = usize>>(layers: I) -> Self {
        Self::List(layers.into_iter().collect())
    }
}

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::List(layers) => layers.serialize(serializer),
            Self::Parts(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                serializer.serialize_str(&parts.join(","))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LayersVisitor;

        impl<'de> Visitor<'de> for LayersVisitor {
            type Value = Layers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of layers, ranges such as \"3,5-9\", shares of the depth such as \"0.4-0.6\", or \"best\"",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Layers, E> {
                Layers::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Layers, A::Error> {
                let mut layers = Vec::new();
                while let Some(layer) = numbers.next_element()? {
                    layers.push(layer);
                }
                Ok(Layers::List(layers))
            }
        }

        deserializer.deserialize_any(LayersVisitor)
    }
}

impl JsonSchema for Layers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Layers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Layers, 0-based: a list; or a text of parts separated by commas, each a layer, a range with both ends \
                            (\"10-20\"), a share of the depth or a range of shares, written with a point (\"0.5\", \"0.4-0.6\"), or \
                            \"best\", what the vector's file proposes. Of ranges, those that the vector or its map has.",
            "anyOf": [
                {
                    "type": "array",
                    "items": generator.subschema_for::<usize>(),
                    "minItems": 1,
                    "maxItems": MAX_LAYERS,
                },
                { "type": "string", "minLength": 1 },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(text: &str) -> Result<Vec<usize>, String> {
        let layers = Layers::parse(text).ok_or("unread")?;
        let available = Available {
            layers: &[2, 3, 5, 8],
            num_layers: 10,
            best: Some(5),
        };
        layers.among(&available, "layers").map_err(|error| error.to_string())
    }

    #[test]
    fn parts_choose_from_what_there_is() {
        for (text, expected) in [
            ("5", vec![5]),
            ("7", vec![7]),
            ("2-4", vec![2, 3]),
            ("8,2-3", vec![2, 3, 8]),
            ("0.5", vec![5]),
            ("1.0", vec![9]),
            ("0.0-0.35", vec![2, 3]),
            ("0.3-0.3", vec![3]),
            ("best", vec![5]),
            ("best, 2", vec![2, 5]),
            ("0-9", vec![2, 3, 5, 8]),
        ] {
            assert_eq!(among(text), Ok(expected), "{text}");
        }
        assert_eq!(
            among("6-7").unwrap_err(),
            "layers: found \"6-7\", expected at least one of the available layers: 2, 3, 5, 8"
        );
        assert_eq!(
            among("0.0-0.1").unwrap_err(),
            "layers: found \"0.0-0.1\", expected at least one of the available layers: 2, 3, 5, 8"
        );
    }

    #[test]
    fn what_is_no_layer_is_not_read() {
        for text in [
            "", "x", "3-", "-1", "5-3", "1,,2", "9999", "1.5", "0.6-0.4", "0.5-", "nan.", "best-3", "0.1-1.1",
        ] {
            assert_eq!(Layers::parse(text), None, "{text}");
        }
        for text in ["3,5-9", "best", "0.25-0.75", "0.5", "1.0", "0.00001-0.5", "0.0-1.0"] {
            let layers = Layers::parse(text).unwrap();
            let json = serde_json::to_value(&layers).unwrap();
            assert_eq!(json, text);
            assert_eq!(serde_json::from_value::<Layers>(json).unwrap(), layers);
        }
    }
}
