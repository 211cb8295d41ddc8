//! The uncertainty of the vectors: vectors from half of the pairs, and from pairs with random sides.
//!
//! Both are found from the states that the task's own vectors are found from, so no model runs for them. Both models
//! use the same halves and the same sides.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::{SafeTensors, TensorView};
use steermap_maps::atomic;

use crate::vector::{DistinctPairs, Method, PairStates, Sign};

/// Fewest groups of pairs that half samples are drawn from.
const LEAST_GROUPS: usize = 4;
/// Number of vectors from pairs with random sides.
pub const SHUFFLED: usize = 10;

/// Directions by draw, the given layers concatenated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrawnVectors {
    /// From half of the pairs; empty for fewer than four groups of pairs.
    pub halves: Vec<Vec<f32>>,
    /// From pairs with random sides.
    pub shuffled: Vec<Vec<f32>>,
}

impl DrawnVectors {
    /// Draws `halves` half samples of the groups of pairs and [`SHUFFLED`] assignments of sides, and finds a vector
    /// from each at `layers`. A draw from which the method finds no direction is empty.
    ///
    /// # Errors
    ///
    /// A layer that the states don't have.
    pub fn find(
        states: &PairStates,
        pairs: &DistinctPairs,
        layers: &[usize],
        method: Method,
        halves: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let groups = pairs.independent();
        let mut order: Vec<usize> = (0..groups).collect();
        let mut drawn = Self::default();
        let wanted = if groups >= LEAST_GROUPS { halves } else { 0 };
        for _ in 0..wanted {
            order.shuffle(&mut rng);
            let half = &order[..groups / 2];
            let taken: Vec<usize> = (0..pairs.pairs.len())
                .filter(|&pair| half.contains(&pairs.groups[pair]))
                .collect();
            let sides = vec![false; taken.len()];
            drawn
                .halves
                .push(direction(states, layers, &taken, &sides, method, seed)?);
        }
        let all: Vec<usize> = (0..pairs.pairs.len()).collect();
        for _ in 0..SHUFFLED {
            let sides: Vec<bool> = all.iter().map(|_| rng.random()).collect();
            drawn
                .shuffled
                .push(direction(states, layers, &all, &sides, method, seed)?);
        }
        Ok(drawn)
    }

    /// The file of a vector's draws, beside the vector's.
    pub fn path(vector: &Path) -> PathBuf {
        vector.with_extension("draws.safetensors")
    }

    /// Writes them atomically.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = |draw: &Vec<f32>| -> Vec<u8> { draw.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let named = |name: &'static str, draws: &[Vec<f32>]| -> Vec<(String, Vec<u8>)> {
            let draws = draws.iter().enumerate();
            draws.map(|(i, draw)| (format!("{name}.{i:03}"), bytes(draw))).collect()
        };
        let all = [named("half", &self.halves), named("shuffled", &self.shuffled)].concat();
        let views = all.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?;
            Ok((name.clone(), view))
        });
        let views: Vec<_> = views.collect::<Result<_>>()?;
        let file = safetensors::serialize(views, None)?;
        atomic::write_bytes(path, &file).with_context(|| path.display().to_string())
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// A file that can't be read or is not a file of draws.
    pub fn load(path: &Path) -> Result<Self> {
        let at = || path.display().to_string();
        let file = std::fs::read(path).with_context(at)?;
        let tensors = SafeTensors::deserialize(&file).with_context(at)?;
        let mut named: Vec<(String, TensorView<'_>)> = tensors.tensors();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let mut drawn = Self::default();
        for (name, view) in named {
            ensure!(
                view.dtype() == Dtype::F32,
                "{}: {name}: found {:?}, expected F32",
                at(),
                view.dtype()
            );
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            match name.split('.').next() {
                Some("half") => drawn.halves.push(values.collect()),
                Some("shuffled") => drawn.shuffled.push(values.collect()),
                _ => bail!("{}: found a tensor {name}, expected half.N or shuffled.N", at()),
            }
        }
        Ok(drawn)
    }
}

/// The direction at each of `layers`, concatenated, from some of the pairs. Where `turned` is true, the pair's sides
/// are swapped. Empty if the method finds no direction.
fn direction(
    states: &PairStates,
    layers: &[usize],
    pairs: &[usize],
    turned: &[bool],
    method: Method,
    seed: u64,
) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for layer in layers {
        let found = states.layers().iter().find(|states| states.layer == *layer);
        let found = found.with_context(|| format!("layer {layer}: found no states of this layer"))?;
        let side = |positive: bool| -> Vec<&[f32]> {
            let chosen = pairs.iter().zip(turned).map(|(&pair, &turned)| {
                if positive != turned {
                    found.positive[pair].as_slice()
                } else {
                    found.negative[pair].as_slice()
                }
            });
            chosen.collect()
        };
        match method.direction(&side(true), &side(false), Sign::Mean, seed) {
            Ok(direction) => all.extend(direction),
            Err(_) => return Ok(Vec::new()),
        }
    }
    Ok(all)
}
