//! Parses a selection of layers: `all`, or a list such as `3,5-9`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use residual_hooks::StreamInfo;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ExtractError;
use crate::error::{bail, ensure};

/// Most layers of a list, and most bytes of a text: several times the number of layers of the deepest models.
const MAX_LAYERS: usize = 4096;

/// Layers as the user names them, before the model is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LayerSelection {
    /// All layers that a hook can read.
    #[default]
    All,
    /// These, ascending, each once.
    List(Vec<usize>),
}

impl FromStr for LayerSelection {
    type Err = ExtractError;

    fn from_str(text: &str) -> Result<Self, ExtractError> {
        if text == "all" {
            return Ok(Self::All);
        }
        ensure!(
            text.len() <= MAX_LAYERS,
            "found {} bytes, expected `all` or layers such as `3,5-9`",
            text.len()
        );
        let number = |s: &str| {
            layer_number(s)
                .ok_or_else(|| ExtractError::Input(format!("found {text:?}, expected `all` or layers such as `3,5-9`")))
        };
        // A set, since a short text can name a layer many times.
        let mut layers = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            ensure!(first <= last, "found {part:?}, expected a range that ascends");
            layers.extend(first..=last);
        }
        Ok(Self::List(layers.into_iter().collect()))
    }
}

/// Parses a layer's number, below 10,000: far more than any model has, while a range up to it is still a small list.
pub fn layer_number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&n: &usize| n < 10_000)
}

/// `"all"`, or a list of numbers.
impl Serialize for LayerSelection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::List(layers) => layers.serialize(serializer),
        }
    }
}

/// Reads a text as on a command line, or a list of numbers.
impl<'de> Deserialize<'de> for LayerSelection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LayersVisitor;

        impl<'de> Visitor<'de> for LayersVisitor {
            type Value = LayerSelection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", layers such as \"3,5-9\", or a list of layers")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LayerSelection, E> {
                let invalid = |_| E::invalid_value(de::Unexpected::Str(text), &self);
                text.parse().map_err(invalid)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<LayerSelection, A::Error> {
                let mut layers = Vec::new();
                while let Some(layer) = numbers.next_element()? {
                    if layers.len() == MAX_LAYERS {
                        return Err(de::Error::invalid_length(MAX_LAYERS + 1, &self));
                    }
                    layers.push(layer);
                }
                if layers.is_empty() {
                    return Err(de::Error::invalid_length(0, &self));
                }
                layers.sort_unstable();
                layers.dedup();
                Ok(LayerSelection::List(layers))
            }
        }

        deserializer.deserialize_any(LayersVisitor)
    }
}

impl LayerSelection {
    /// The layers of a model with this stream.
    ///
    /// # Errors
    ///
    /// The model does not have a layer.
    pub fn resolve(&self, stream: &StreamInfo) -> Result<Vec<usize>, ExtractError> {
        match self {
            Self::All => Ok((0..stream.num_layers - usize::from(!stream.last_block)).collect()),
            Self::List(layers) => {
                let seen = stream.num_layers - usize::from(!stream.last_block);
                if let Some(layer) = layers.iter().find(|&&layer| layer >= seen) {
                    let whose = if *layer < stream.num_layers {
                        ", since the stream after this model's last block can't be read"
                    } else {
                        ", the model's layers"
                    };
                    bail!("layers: found {layer}, expected 0 to {}{whose}", seen - 1);
                }
                Ok(layers.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamInfo = StreamInfo {
        num_layers: 6,
        hidden_size: 8,
        last_block: true,
    };

    #[test]
    fn lists_and_ranges() {
        let layers = |text: &str| text.parse::<LayerSelection>().unwrap().resolve(&STREAM).unwrap();
        assert_eq!(layers("all"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(layers("3"), [3]);
        assert_eq!(layers("5,1-3, 2"), [1, 2, 3, 5]);
    }

    #[test]
    fn all_leaves_out_a_last_block_that_can_not_be_seen() {
        let stream = StreamInfo {
            last_block: false,
            ..STREAM
        };
        assert_eq!(LayerSelection::All.resolve(&stream).unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["", "x", "3-", "-1", "5-3", "1,,2", "99999999999999999999", "10000"] {
            assert!(text.parse::<LayerSelection>().is_err(), "{text}");
        }
        let error = LayerSelection::List(vec![2, 6])
            .resolve(&STREAM)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "layers: found 6, expected 0 to 5, the model's layers");
    }
}
