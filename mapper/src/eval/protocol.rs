//! The protocol, fixed before anything is measured: the layers, the draws of the controls, the bounds of a verdict.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use residual_hooks::StreamInfo;
use steermap_extract::find::middle_half;
use steermap_maps::MapFile;
use steermap_report::result::Protocol;

use crate::layers::LayerSelection;
use crate::statistics::least_draws;

/// If more than this share of a layer's effect goes straight to the logits, steering there is little more than an
/// offset of the logits.
const MOST_DIRECT: f64 = 0.5;
/// A task is carried if the whole interval of its retention lies between these: more than twice the native effect is
/// another effect.
const RETENTION_BOUNDS: [f64; 2] = [0.5, 2.0];
/// The level of the adjusted p-values.
const LEVEL: f64 = 0.05;
/// Minimum number of draws of the decisive control, so that its spread is visible even with few tasks.
const LEAST_DRAWS: usize = 99;

/// The target layers to steer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SteeredLayers {
    /// The middle half of the target's depth, as far as the map reaches it. Layers whose effect is mostly direct are
    /// measured, but left out of the headlines.
    Band,
    /// The given layers, or all that the map reaches; all are in the headlines.
    Given(LayerSelection),
}

impl FromStr for SteeredLayers {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "band" {
            return Ok(Self::Band);
        }
        let given = text.parse();
        Ok(Self::Given(given.with_context(|| {
            format!("found {text:?}, expected `band`, `all`, or layers such as `3,5-9`")
        })?))
    }
}

impl fmt::Display for SteeredLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Band => f.write_str("band"),
            Self::Given(LayerSelection::All) => f.write_str("all"),
            Self::Given(LayerSelection::List(layers)) => {
                let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
                f.write_str(&layers.join(","))
            }
        }
    }
}

/// Numbers of draws; see the fields of [`Protocol`] of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// Of the decisive control; `None` for as many as the claim needs.
    pub control: Option<usize>,
    /// Items of a control.
    pub items: usize,
    /// Vectors from half samples.
    pub halves: usize,
}

/// The protocol of an evaluation of `tasks` tasks.
///
/// # Errors
///
/// Layers that the map doesn't reach, or none of the band.
pub fn protocol(
    layers: &SteeredLayers,
    map: &MapFile,
    stream: &StreamInfo,
    tasks: usize,
    draws: Draws,
) -> Result<Protocol> {
    let mut reached: Vec<usize> = map.pairs().iter().map(|pair| pair.target_layer).collect();
    reached.sort_unstable();
    reached.dedup();
    let spelled = || reached.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let (band, band_is) = match layers {
        SteeredLayers::Band => {
            let [first, last] = middle_half(stream.num_layers);
            let band: Vec<usize> = reached.iter().copied().filter(|l| (first..=last).contains(l)).collect();
            ensure!(
                !band.is_empty(),
                "layers: found a map that reaches {}, expected one of {first} to {last}, the middle half of the target's \
                 {} layers: --layers all steers all layers that the map reaches",
                spelled(),
                stream.num_layers
            );
            (band, "middle half")
        }
        SteeredLayers::Given(LayerSelection::All) => (reached.clone(), "all that the map reaches"),
        SteeredLayers::Given(list) => {
            let layers = list.resolve(stream)?;
            if let Some(layer) = layers.iter().find(|layer| !reached.contains(layer)) {
                bail!(
                    "layers: found {layer}, expected layers that the map reaches: {}",
                    spelled()
                );
            }
            (layers, "given")
        }
    };
    let needed = least_draws(tasks, LEVEL).max(LEAST_DRAWS);
    Ok(Protocol {
        layer: band[band.len() / 2],
        band,
        band_is: band_is.to_string(),
        most_direct: matches!(layers, SteeredLayers::Band).then_some(MOST_DIRECT),
        control_draws: draws.control.unwrap_or(needed),
        control_items: draws.items,
        retention_bounds: RETENTION_BOUNDS,
        level: LEVEL,
        tasks,
        half_samples: draws.halves,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_spelled_as_they_are_read() {
        for text in ["band", "all", "3,5,6"] {
            assert_eq!(text.parse::<SteeredLayers>().unwrap().to_string(), text);
        }
        let error = format!("{:#}", "middle".parse::<SteeredLayers>().unwrap_err());
        assert!(error.contains("`band`") && error.contains("middle"), "{error}");
    }
}
