//! Which layers: `all`, or a list such as `3,5-9`.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use residual_hooks::StreamInfo;

/// Layers as a person names them, before the model is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerSelection {
    /// All that the model lets a hook see.
    All,
    /// These, ascending, each once.
    List(Vec<usize>),
}

impl FromStr for LayerSelection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        let number = |s: &str| {
            layer_number(s).with_context(|| format!("found {text:?}, expected `all` or layers such as `3,5-9`"))
        };
        let mut layers = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            ensure!(first <= last, "found {part:?}, expected a range that ascends");
            layers.extend(first..=last);
        }
        layers.sort_unstable();
        layers.dedup();
        Ok(Self::List(layers))
    }
}

/// A layer's number. Below 10,000: far above any model, and a range up to it is still a small list.
pub(crate) fn layer_number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&n: &usize| n < 10_000)
}

impl LayerSelection {
    /// The layers of a model with this stream.
    ///
    /// # Errors
    ///
    /// A layer that the model does not have.
    pub fn resolve(&self, stream: &StreamInfo) -> Result<Vec<usize>> {
        match self {
            Self::All => Ok((0..stream.num_layers - usize::from(!stream.last_block)).collect()),
            Self::List(layers) => {
                if let Some(layer) = layers.iter().find(|&&layer| layer >= stream.num_layers) {
                    bail!(
                        "layers: found {layer}, expected 0 to {}, the model's layers",
                        stream.num_layers - 1
                    );
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
