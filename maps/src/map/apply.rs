//! Carrying a steering vector through a map.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{LayerPair, MapFile};
use crate::error::{FileError, Problem};
use crate::model::{ModelInfo, Numerics};
use crate::offset::OffsetRule;
use crate::provenance::Provenance;
use crate::vector::{LayerVector, Mapped, VectorFile, VectorHeader};

/// A vector could not be carried through a map.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The vector's model has other sizes than the map's source.
    #[error(
        "the vector lives in {vector_model} with {key} {found}, but the map's source {map_model} has {key} {expected}"
    )]
    Size {
        /// `hidden_size` or `num_layers`.
        key: &'static str,
        /// The vector's model.
        vector_model: String,
        /// Its size.
        found: usize,
        /// The map's source.
        map_model: String,
        /// Its size.
        expected: usize,
    },
    /// The vector's model has the sizes of the map's source, but is another model.
    #[error(
        "the vector lives in {vector_model} with fingerprint {found}, but the map's source {map_model} has {expected}"
    )]
    Fingerprint {
        /// The vector's model.
        vector_model: String,
        /// Its fingerprint.
        found: String,
        /// The map's source.
        map_model: String,
        /// Its fingerprint.
        expected: String,
    },
    /// No pair of the map has all its source layers in the vector.
    #[error(
        "the vector has the source layers {vector_layers}, and the map has the pairs {pairs}: no pair has all \
         its source layers in the vector"
    )]
    NotCovered {
        /// The vector's layers, such as `3, 4`.
        vector_layers: String,
        /// The map's pairs, such as `14->11, 15->12`.
        pairs: String,
    },
    /// A pair's weights could not be read, or are not those that the map's TOML file states.
    #[error("{pair}: {reason}")]
    Weights {
        /// The pair, such as `14->11`.
        pair: String,
        /// Why, and in which file.
        reason: Box<FileError>,
    },
    /// A mapped direction has norm 0, so it can't be normalised.
    #[error("{pair}: the mapped direction is zero: the map discards this vector")]
    Zero {
        /// The pair, such as `14->11`.
        pair: String,
    },
    /// A mapped direction has a value that 32-bit floating point can't hold.
    #[error("{pair}: the mapped direction is not finite ({found} at index {index})")]
    NotFinite {
        /// The pair, such as `14->11`.
        pair: String,
        /// Where in the direction.
        index: usize,
        /// The value.
        found: f32,
    },
}

/// One direction in the target's residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct MappedLayer {
    /// The target's layer, 0-based.
    pub target_layer: usize,
    /// The source's layers that it came from, in the map's order.
    pub source_layers: Vec<usize>,
    /// The direction, not normalised: `[hidden_T]`, finite, norm above 0.
    pub direction: Vec<f32>,
    /// Mean L2 norm of the target's stream at this layer, as the map's file states it.
    pub mean_norm: f64,
    /// Held-out R² of the map that it went through.
    pub r2: f64,
}

/// A steering vector in the target's residual stream, carried over by [`MapFile::apply`].
#[derive(Debug, Clone, PartialEq)]
pub struct MappedVector {
    /// One at least, in ascending order of the target's layers.
    pub layers: Vec<MappedLayer>,
    /// How the directions went through the map.
    offset: OffsetRule,
    /// Of the vector that was carried over.
    source: VectorHeader,
    target: ModelInfo,
    target_numerics: Numerics,
}

impl MapFile {
    /// Carries a vector of the map's source over to its target.
    ///
    /// A target layer gets a direction if a pair reaches it whose source layers are all in the vector: with `v` the
    /// vector's directions there (as they were found, not normalised), concatenated in the pair's order, `A v`, or
    /// `A v + p` for [`OffsetRule::Affine`]. Of several such pairs the one with the highest held-out R² is used, the
    /// first of equal ones.
    ///
    /// With `check_fingerprint` false, a vector of another model of the same sizes is accepted.
    ///
    /// # Errors
    ///
    /// See [`ApplyError`]; its variants are checked in their order.
    pub fn apply(
        &self,
        vector: &VectorFile,
        offset: OffsetRule,
        check_fingerprint: bool,
    ) -> Result<MappedVector, ApplyError> {
        let reach = self.reach(vector, check_fingerprint)?;
        let layers = reach.layers().map(|layer| reach.direction(layer, offset));
        Ok(MappedVector {
            layers: layers.flatten().collect::<Result<_, _>>()?,
            offset,
            source: vector.header().clone(),
            target: self.header.target.clone(),
            target_numerics: self.header.target_numerics.clone(),
        })
    }

    /// The layers at which [`apply`](Self::apply) gives a direction, to be carried over one at a time. Nothing is
    /// multiplied yet.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), up to [`ApplyError::NotCovered`].
    pub fn reach<'a>(&'a self, vector: &'a VectorFile, check_fingerprint: bool) -> Result<Reach<'a>, ApplyError> {
        let source = &self.header.source;
        check_sizes(vector.model(), source)?;
        if check_fingerprint && vector.model().fingerprint != source.fingerprint {
            return Err(ApplyError::Fingerprint {
                vector_model: vector.model().model.clone(),
                found: vector.model().fingerprint.clone(),
                map_model: source.model.clone(),
                expected: source.fingerprint.clone(),
            });
        }
        let pairs = self.best_pairs(vector);
        if pairs.is_empty() {
            let layers: Vec<_> = vector.layers().iter().map(|layer| layer.layer.to_string()).collect();
            let pairs: Vec<_> = self.pairs.iter().map(LayerPair::layers).collect();
            return Err(ApplyError::NotCovered {
                vector_layers: layers.join(", "),
                pairs: pairs.join(", "),
            });
        }
        Ok(Reach { vector, pairs })
    }

    /// For each target layer that the vector can reach, the best pair.
    fn best_pairs(&self, vector: &VectorFile) -> BTreeMap<usize, &LayerPair> {
        let mut best: BTreeMap<usize, &LayerPair> = BTreeMap::new();
        for pair in &self.pairs {
            if pair
                .source_layers
                .iter()
                .any(|layer| vector.direction(*layer).is_none())
            {
                continue;
            }
            let better = best
                .get(&pair.target_layer)
                .is_none_or(|other| pair.fit.r2 > other.fit.r2);
            if better {
                best.insert(pair.target_layer, pair);
            }
        }
        best
    }
}

/// The target layers that a vector reaches through a map ([`MapFile::reach`]).
pub struct Reach<'a> {
    vector: &'a VectorFile,
    /// By target layer, one at least.
    pairs: BTreeMap<usize, &'a LayerPair>,
}

impl Reach<'_> {
    /// The target's layers, ascending.
    pub fn layers(&self) -> impl Iterator<Item = usize> {
        self.pairs.keys().copied()
    }

    /// The target's layer that the source's layer `source_layer` is carried to; of several the one with the highest R².
    pub fn target_of(&self, source_layer: usize) -> Option<usize> {
        let pairs = self
            .pairs
            .values()
            .filter(|pair| pair.source_layers.contains(&source_layer));
        let best = pairs.max_by(|a, b| a.fit.r2.total_cmp(&b.fit.r2))?;
        Some(best.target_layer)
    }

    /// The direction at one of the [`layers`](Self::layers); `None` at another. Costs one product with the pair's
    /// matrix, or two with its factors. The first use of a pair in a file also checks all of its weights; those of
    /// other pairs aren't read.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Weights`], [`ApplyError::NotFinite`], [`ApplyError::Zero`]
    pub fn direction(&self, target_layer: usize, offset: OffsetRule) -> Option<Result<MappedLayer, ApplyError>> {
        let pair = self.pairs.get(&target_layer)?;
        let directions = pair.source_layers.iter().map(|layer| self.vector.direction(*layer));
        let input = directions.collect::<Option<Vec<_>>>()?.concat();
        Some(map_layer(pair, &input, offset))
    }
}

fn check_sizes(vector: &ModelInfo, source: &ModelInfo) -> Result<(), ApplyError> {
    for (key, found, expected) in [
        ("hidden_size", vector.hidden_size, source.hidden_size),
        ("num_layers", vector.num_layers, source.num_layers),
    ] {
        if found != expected {
            return Err(ApplyError::Size {
                key,
                vector_model: vector.model.clone(),
                found,
                map_model: source.model.clone(),
                expected,
            });
        }
    }
    Ok(())
}

fn map_layer(pair: &LayerPair, input: &[f32], offset: OffsetRule) -> Result<MappedLayer, ApplyError> {
    let map = pair.map.load().map_err(|reason| ApplyError::Weights {
        pair: pair.layers(),
        reason: Box::new(reason),
    })?;
    let direction = map.carry(input, offset);
    if let Some(index) = direction.iter().position(|value| !value.is_finite()) {
        return Err(ApplyError::NotFinite {
            pair: pair.layers(),
            index,
            found: direction[index],
        });
    }
    if direction.iter().all(|value| *value == 0.0) {
        return Err(ApplyError::Zero { pair: pair.layers() });
    }
    Ok(MappedLayer {
        target_layer: pair.target_layer,
        source_layers: pair.source_layers.clone(),
        direction,
        mean_norm: pair.fit.target_mean_norm,
        r2: pair.fit.r2,
    })
}

impl MappedVector {
    /// How the directions went through the map.
    pub fn offset(&self) -> OffsetRule {
        self.offset
    }

    /// The model whose residual stream the directions live in: the map's target.
    pub fn target(&self) -> &ModelInfo {
        &self.target
    }

    /// A vector file in the target's space, which can be used wherever a native vector can.
    ///
    /// Concept, token position and number of pairs stay what they were; the method says that it was mapped, and how.
    /// `map` is the map's name and `map_sha256` the SHA-256 of its TOML file; `provenance` says how this file came to
    /// be, not the vector that was carried over.
    ///
    /// # Errors
    ///
    /// As [`VectorFile::new_mapped`], for what the caller passes or has changed.
    pub fn into_vector_file(self, map: &str, map_sha256: &str, provenance: Provenance) -> Result<VectorFile, Problem> {
        let source_layers = self
            .layers
            .iter()
            .map(|layer| (layer.target_layer, layer.source_layers.clone()));
        let mapped = Mapped {
            map: map.to_owned(),
            map_sha256: map_sha256.to_owned(),
            source_model: self.source.model.model,
            source_fingerprint: self.source.model.fingerprint,
            offset: self.offset,
            source_layers: source_layers.collect(),
        };
        let header = VectorHeader {
            concept: self.source.concept,
            method: format!("{}, mapped ({})", self.source.method, self.offset),
            token_position: self.source.token_position,
            pairs: self.source.pairs,
            model: self.target,
            numerics: self.target_numerics,
            provenance,
        };
        let layers = self.layers.into_iter().map(|layer| LayerVector {
            layer: layer.target_layer,
            direction: layer.direction,
            mean_norm: layer.mean_norm,
            auroc: None,
            neutral: None,
        });
        VectorFile::new_mapped(header, layers.collect(), mapped)
    }
}

#[cfg(test)]
mod tests;
