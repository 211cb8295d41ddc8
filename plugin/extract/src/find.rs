//! Makes a vector file from contrastive pairs.

use steermap_maps::{LayerVector, ModelInfo, Numerics, Provenance, TokenPosition, VectorFile, VectorHeader};

use crate::error::ensure;
use crate::neutral;
use crate::states::ReadProgress;
use crate::statistics::{Folds, auroc_interval};
use crate::{DistinctPairs, ExtractError, Method, PairStates, Reader, Sign};

/// What to find, from any pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The concept of the vector.
    pub concept: String,
    /// The layers to find it at.
    pub layers: Vec<usize>,
    /// The method.
    pub method: Method,
    /// The rule for the sign of a principal component.
    pub sign: Sign,
    /// Which states of a text are compared.
    pub position: TokenPosition,
    /// The seed of the method's random choices, if it has any.
    pub seed: u64,
    /// Whether the [spread](steermap_maps::Spread) of the component on neutral text is also measured.
    pub neutral: bool,
}

/// The model that a vector is found on, and its numerics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The model.
    pub model: ModelInfo,
    /// The weights' quantisation, as vector files name it.
    pub quantization: Option<String>,
}

/// A vector, and the pairs that it was found from.
#[derive(Clone, Debug)]
pub struct VectorOfPairs {
    /// The vector; its `pairs` are the distinct ones.
    pub vector: VectorFile,
    /// The distinct pairs and their groups.
    pub pairs: DistinctPairs,
}

/// The result at one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundLayer {
    /// The layer, 0-based.
    pub layer: usize,
    /// The vector's L2 norm.
    pub norm: f64,
    /// The stream's mean L2 norm.
    pub mean_norm: f64,
    /// Area under the ROC curve of held-out pairs, if measured, and its 95% interval.
    pub auroc: Option<(f64, (f64, f64))>,
}

impl FoundLayer {
    /// The vector's norm in units of the stream's mean norm, if that is above 0.
    pub fn ratio(&self) -> Option<f64> {
        (self.mean_norm > 0.0).then(|| self.norm / self.mean_norm)
    }
}

/// The distinct pairs of a list.
///
/// # Errors
///
/// There are fewer than two different pairs.
pub fn distinct(given: &[crate::Pair]) -> Result<DistinctPairs, ExtractError> {
    let pairs = DistinctPairs::new(given);
    let count = given.len();
    ensure!(count >= 2, "found {count} pairs, expected at least two");
    ensure!(
        pairs.pairs.len() >= 2,
        "found {count} pairs that are all the same, expected at least two different ones"
    );
    Ok(pairs)
}

impl Wanted {
    /// Checks what can be checked without a model.
    ///
    /// # Errors
    ///
    /// The concept is empty, or the method does not take a sign.
    pub fn check(&self) -> Result<(), ExtractError> {
        ensure!(
            !self.concept.trim().is_empty(),
            "concept: found nothing, expected a name"
        );
        let lines = Method::ALL.iter().filter(|method| method.finds_a_line());
        let lines: Vec<&str> = lines.map(|method| method.as_str()).collect();
        ensure!(
            self.sign == Sign::default() || self.method.finds_a_line(),
            "sign: found {} with the method {}, expected this key only with one of {}: other methods determine the sign themselves",
            self.sign,
            self.method,
            lines.join(", ")
        );
        Ok(())
    }
}

/// Runs a model over pairs and finds the direction of each layer. `measured` says whether the separation of held-out
/// pairs is also measured.
///
/// # Errors
///
/// The model does not distinguish the texts, the method finds no direction, or the engine fails.
pub async fn find(
    reader: &impl Reader,
    origin: &Origin,
    pairs: &DistinctPairs,
    wanted: &Wanted,
    made: Provenance,
    measured: bool,
    progress: &dyn ReadProgress,
) -> Result<VectorFile, ExtractError> {
    let states = PairStates::read(reader, &pairs.pairs, &wanted.layers, wanted.position, progress).await?;
    let vector = vector_of(origin, &states, pairs, wanted, made, measured, progress)?;
    if !wanted.neutral {
        return Ok(vector);
    }
    let mut layers = vector.layers().to_vec();
    neutral::measure(reader, &mut layers).await?;
    VectorFile::new(vector.header().clone(), layers).map_err(|problem| ExtractError::Input(problem.to_string()))
}

/// Finds the direction of each layer from states that were read before.
///
/// # Errors
///
/// The model does not distinguish the texts, or the method finds no direction.
pub fn vector_of(
    origin: &Origin,
    states: &PairStates,
    pairs: &DistinctPairs,
    wanted: &Wanted,
    made: Provenance,
    measured: bool,
    progress: &dyn ReadProgress,
) -> Result<VectorFile, ExtractError> {
    let header = VectorHeader {
        concept: wanted.concept.clone(),
        method: match wanted.sign {
            Sign::Mean => wanted.method.to_string(),
            Sign::Vote => format!("{}, sign by vote", wanted.method),
        },
        token_position: wanted.position,
        pairs: u32::try_from(pairs.pairs.len()).map_err(|_| ExtractError::Input("too many pairs".to_string()))?,
        model: origin.model.clone(),
        numerics: Numerics {
            dtype: states.dtype().to_string(),
            quantization: origin.quantization.clone(),
        },
        provenance: Provenance {
            seed: wanted.method.uses_seed().then_some(wanted.seed),
            ..made
        },
    };
    let folds = if measured { Folds::new(&pairs.groups) } else { None };
    let vectors = states.vectors(wanted.method, wanted.sign, wanted.seed, folds.as_ref(), progress)?;
    VectorFile::new(header, vectors)
        .map_err(|problem| ExtractError::Input(format!("no vector could be made from these pairs: {problem}")))
}

impl VectorOfPairs {
    /// The result at each layer, ascending.
    pub fn layers(&self) -> Vec<FoundLayer> {
        let independent = self.pairs.independent();
        let layer = |layer: &LayerVector| FoundLayer {
            layer: layer.layer,
            norm: layer.norm(),
            mean_norm: layer.mean_norm,
            auroc: layer.auroc.map(|auroc| (auroc, auroc_interval(auroc, independent))),
        };
        self.vector.layers().iter().map(layer).collect()
    }

    /// As [`proposed`] of the vector.
    pub fn proposed(&self) -> Option<usize> {
        proposed(&self.vector)
    }
}

/// The layer to try first, if the vector's file determines one. The candidates are the layers in the [middle
/// half](middle_half) of the depth that separate held-out pairs as well as the best of them (whose area lies within the
/// best one's interval, with all pairs taken as independent), or the whole middle half if no pairs were held out. Of
/// these, it is the layer whose direction is longest in units of the stream's mean norm.
///
/// Early layers represent tokens more than concepts, and after the last ones steering is nearly an offset of the
/// logits. In between, areas are often 1 at many layers, so that they don't distinguish them. This is a proposal;
/// `mapper eval` measures.
pub fn proposed(vector: &VectorFile) -> Option<usize> {
    let [first, last] = middle_half(vector.model().num_layers);
    let middle = || {
        vector
            .layers()
            .iter()
            .filter(|layer| (first..=last).contains(&layer.layer))
    };
    let best = middle().filter_map(|layer| layer.auroc).max_by(f64::total_cmp);
    let least = best.map_or(0.0, |best| auroc_interval(best, vector.header().pairs as usize).0);
    middle()
        .filter(|layer| layer.auroc.is_none_or(|auroc| auroc >= least))
        .filter(|layer| layer.mean_norm > 0.0)
        .map(|layer| (layer.layer, layer.norm() / layer.mean_norm))
        // Of equal layers, the first.
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        .map(|(layer, _)| layer)
}

/// The first and the last layer of the middle half of a depth.
pub fn middle_half(num_layers: usize) -> [usize; 2] {
    let first = num_layers.div_ceil(4);
    let count = (num_layers / 2).max(1);
    let first = first.min(num_layers - count);
    [first, first + count - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_halves_by_hand() {
        assert_eq!(middle_half(8), [2, 5]);
        assert_eq!(middle_half(18), [5, 13]);
        assert_eq!(middle_half(30), [8, 22]);
        assert_eq!(middle_half(4), [1, 2]);
        assert_eq!(
            (middle_half(1), middle_half(2), middle_half(3)),
            ([0, 0], [1, 1], [1, 1])
        );
    }
}
