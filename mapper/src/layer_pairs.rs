//! Selections of layer pairs: `relative-depth`, `all`, or a list such as `14:11,12+14:11`.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use residual_hooks::StreamInfo;
use steermap_fit::stats::PairSpec;

use crate::layers::layer_number;

/// A selection of layer pairs, before the models are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairSelection {
    /// For every target layer the source layer of the same depth, relative to the number of blocks.
    RelativeDepth,
    /// Every source layer with every target layer.
    All,
    /// These: source layers (concatenated if several), target layer.
    List(Vec<(Vec<usize>, usize)>),
}

impl FromStr for PairSelection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("found {text:?}, expected `relative-depth`, `all`, or pairs such as `14:11,12+14:11`");
        match text {
            "relative-depth" => return Ok(Self::RelativeDepth),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let mut pairs = Vec::new();
        for part in text.split(',') {
            let (sources, target) = part.split_once(':').with_context(wrong)?;
            let sources: Vec<usize> = sources
                .split('+')
                .map(layer_number)
                .collect::<Option<_>>()
                .with_context(wrong)?;
            let target = layer_number(target).with_context(wrong)?;
            for (i, source) in sources.iter().enumerate() {
                ensure!(
                    !sources[..i].contains(source),
                    "found source layer {source} twice in {part:?}"
                );
            }
            let pair = (sources, target);
            ensure!(!pairs.contains(&pair), "found {part:?} twice");
            pairs.push(pair);
        }
        Ok(Self::List(pairs))
    }
}

impl PairSelection {
    /// The layer pairs of two models with these streams, in the order of the list or of the target layers.
    ///
    /// # Errors
    ///
    /// A layer that a model does not have or whose stream can't be read.
    pub fn resolve(&self, source: &StreamInfo, target: &StreamInfo) -> Result<Vec<PairSpec>> {
        let visible = |stream: &StreamInfo| stream.num_layers - usize::from(!stream.last_block);
        let pair = |source_layers: Vec<usize>, target_layer: usize| PairSpec {
            source_layers,
            target_layer,
        };
        let pairs: Vec<PairSpec> = match self {
            Self::RelativeDepth => (0..visible(target))
                .map(|layer| pair(vec![same_depth(layer, source, target).min(visible(source) - 1)], layer))
                .collect(),
            Self::All => (0..visible(target))
                .flat_map(|t| (0..visible(source)).map(move |s| pair(vec![s], t)))
                .collect(),
            Self::List(list) => list
                .iter()
                .map(|(sources, target)| pair(sources.clone(), *target))
                .collect(),
        };
        for PairSpec {
            source_layers,
            target_layer,
        } in &pairs
        {
            for &layer in source_layers {
                check(layer, source, "source")?;
            }
            check(*target_layer, target, "target")?;
        }
        ensure!(
            !pairs.is_empty(),
            "pairs: found no layers whose stream can be read, expected some"
        );
        Ok(pairs)
    }
}

fn check(layer: usize, stream: &StreamInfo, side: &str) -> Result<()> {
    if layer >= stream.num_layers {
        bail!(
            "pairs: found {side} layer {layer}, expected 0 to {}, the {side} model's layers",
            stream.num_layers - 1
        );
    }
    Ok(())
}

/// The source layer after the same share of the blocks: the depth of layer `l` of `n` is `(l + 1) / n`.
fn same_depth(target_layer: usize, source: &StreamInfo, target: &StreamInfo) -> usize {
    let share = (target_layer + 1) as f64 / target.num_layers as f64;
    let layer = (share * source.num_layers as f64).round() as usize;
    layer.clamp(1, source.num_layers) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(num_layers: usize) -> StreamInfo {
        StreamInfo {
            num_layers,
            hidden_size: 8,
            last_block: true,
        }
    }

    fn resolve(text: &str, source: usize, target: usize) -> Vec<(Vec<usize>, usize)> {
        let pairs: PairSelection = text.parse().unwrap();
        let pairs = pairs.resolve(&stream(source), &stream(target)).unwrap();
        pairs.into_iter().map(|p| (p.source_layers, p.target_layer)).collect()
    }

    #[test]
    fn relative_depth_ends_with_the_last_blocks() {
        let pairs = resolve("relative-depth", 4, 8);
        let sources: Vec<usize> = pairs.iter().map(|(s, _)| s[0]).collect();
        assert_eq!(sources, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(
            resolve("relative-depth", 3, 3),
            [(vec![0], 0), (vec![1], 1), (vec![2], 2)]
        );
        assert_eq!(
            resolve("relative-depth", 6, 3),
            [(vec![1], 0), (vec![3], 1), (vec![5], 2)]
        );
    }

    #[test]
    fn all_and_lists() {
        assert_eq!(
            resolve("all", 2, 2),
            [(vec![0], 0), (vec![1], 0), (vec![0], 1), (vec![1], 1)]
        );
        assert_eq!(resolve("3:1, 1+3:2", 4, 4), [(vec![3], 1), (vec![1, 3], 2)]);
    }

    #[test]
    fn what_can_not_be_seen_is_left_out() {
        let hidden = StreamInfo {
            last_block: false,
            ..stream(3)
        };
        let pairs = PairSelection::All.resolve(&hidden, &hidden).unwrap();
        assert_eq!(pairs.len(), 4);
        let pairs = PairSelection::RelativeDepth.resolve(&hidden, &stream(3)).unwrap();
        assert_eq!(pairs.last().unwrap().source_layers, [1]);
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["", "x", "3", "3:", ":1", "1:2:3", "1+1:2", "1:2,1:2", "-1:2", "1:99999"] {
            assert!(text.parse::<PairSelection>().is_err(), "{text}");
        }
        let pairs: PairSelection = "1:7".parse().unwrap();
        let error = pairs.resolve(&stream(4), &stream(6)).unwrap_err().to_string();
        assert_eq!(
            error,
            "pairs: found target layer 7, expected 0 to 5, the target model's layers"
        );
    }
}
