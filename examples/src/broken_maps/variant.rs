//! The variants of a map: intact, and broken in five ways.

use std::path::{Path, PathBuf};

use anyhow::Result;
use steermap_maps::{MapFile, VectorFile};
use steermap_report::result::Outcome;

use super::{concepts, weights};

/// Seed of permutations and random weights.
const SEED: u64 = 1;

/// A variant of the fitted map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The map as fitted.
    Intact,
    /// The rows of each matrix permuted.
    PermutedRows,
    /// Fitted on shuffled pairings.
    ShuffledPairing,
    /// Random numbers in each matrix.
    RandomWeights,
    /// Each pair of layers with the weights of another pair.
    OtherLayer,
    /// Each concept exchanged for the next.
    OtherConcept,
}

impl Variant {
    /// All variants except the intact one.
    pub const BROKEN: [Self; 5] = [
        Self::PermutedRows,
        Self::ShuffledPairing,
        Self::RandomWeights,
        Self::OtherLayer,
        Self::OtherConcept,
    ];

    /// Name of the variant's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::PermutedRows => "permuted-rows",
            Self::ShuffledPairing => "shuffled-pairing",
            Self::RandomWeights => "random-weights",
            Self::OtherLayer => "other-layer",
            Self::OtherConcept => "other-concept",
        }
    }

    /// Name of the variant in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::PermutedRows => "rows shuffled",
            Self::ShuffledPairing => "pairing shuffled",
            Self::RandomWeights => "random weights",
            Self::OtherLayer => "wrong layer",
            Self::OtherConcept => "another concept's vector",
        }
    }

    /// How the variant is made.
    pub fn description(self) -> &'static str {
        match self {
            Self::Intact => "the map as `mapper fit` writes it",
            Self::PermutedRows => "the rows of each matrix are permuted; the biases are unchanged",
            Self::ShuffledPairing => {
                "the map that `mapper fit --shuffle-control` fits on shuffled pairings; it states its own R²"
            }
            Self::RandomWeights => {
                "each matrix is replaced by Gaussian numbers of the same Frobenius norm; the biases are unchanged"
            }
            Self::OtherLayer => {
                "each pair of layers has the weights and bias of the pair half the file further on, which are of another layer of \
                 the source"
            }
            Self::OtherConcept => {
                "each matrix is multiplied by one that takes each task's vector on the source to the next task's and is the \
                 identity on the orthogonal complement of all of them: the mapped vector of a task is the next task's, through \
                 the intact map"
            }
        }
    }

    /// The outcome that its evaluation must report.
    pub fn expected(self) -> Outcome {
        match self {
            Self::Intact => Outcome::Carried,
            _ => Outcome::NotCarried,
        }
    }

    /// The variant's file in the folder of the maps. `mapper fit --shuffle-control` writes the files of
    /// [`Intact`](Self::Intact) and [`ShuffledPairing`](Self::ShuffledPairing).
    pub fn path(self, folder: &Path) -> PathBuf {
        match self {
            Self::ShuffledPairing => folder.join("intact.shuffled.toml"),
            _ => folder.join(self.name()).with_extension("toml"),
        }
    }

    /// Makes the map from the fitted one and, to exchange concepts, from their vectors on the source. `None` for the
    /// two variants that are fitted. The file states the same text and the same quality as the fitted map's, so an
    /// evaluation has to detect that it is broken.
    ///
    /// # Errors
    ///
    /// If weights cannot be read, there are too few pairs of layers, or the vectors lack a layer or do not differ.
    pub fn of(self, fitted: &MapFile, vectors: &[VectorFile]) -> Result<Option<MapFile>> {
        let map = match self {
            Self::Intact | Self::ShuffledPairing => return Ok(None),
            Self::PermutedRows => weights::with_permuted_rows(fitted, SEED)?,
            Self::RandomWeights => weights::with_random_weights(fitted, SEED)?,
            Self::OtherLayer => weights::with_other_layers(fitted)?,
            Self::OtherConcept => concepts::exchanged(fitted, vectors)?,
        };
        let mut header = map.header().clone();
        header.provenance.command += &format!("; then `cargo xtask broken`: {}", self.description());
        if matches!(self, Self::PermutedRows | Self::RandomWeights) {
            header.provenance.seed = Some(SEED);
        }
        Ok(Some(MapFile::new(header, map.pairs().to_vec())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_broken_map_states_how_it_was_made_and_the_text_of_its_fit() {
        let fitted = testing::map();
        let dir = tempfile::tempdir().unwrap();
        for variant in [Variant::PermutedRows, Variant::RandomWeights] {
            let path = variant.path(dir.path());
            variant.of(&fitted, &[]).unwrap().unwrap().save(&path).unwrap();
            let map = MapFile::load(&path).unwrap();
            let (made, of) = (&map.header().provenance, &fitted.header().provenance);
            assert_eq!(made.corpus_sha256, of.corpus_sha256);
            assert!(made.command.ends_with(variant.description()), "{}", made.command);
            assert_eq!(map.pairs()[0].fit, fitted.pairs()[0].fit);
        }
        assert!(Variant::Intact.of(&fitted, &[]).unwrap().is_none());
    }
}
