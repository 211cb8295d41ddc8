//! Maps from one model's residual stream to another's, one per pair of layers.
//!
//! On disk: `NAME.toml`, which people read, and the safetensors files that it names and hashes.
//!
//! ```toml
//! format = "steermap-map/2"
//!
//! [source]
//! model = "SmolLM2-135M-Instruct"
//! fingerprint = "sm1:…"
//! hidden_size = 576
//! num_layers = 30
//! dtype = "f32"
//! quantization = "q4_1"           # may be absent
//!
//! [target]
//! # The same keys.
//!
//! [[weights]]                     # one per file of tensors; they count from 0
//! file = "small-to-large-0123456789abcdef.safetensors"
//! sha256 = "0123456789abcdef…"    # of the whole file
//!
//! [[pair]]                        # one per pair of layers; they count from 0
//! source_layers = [14]            # 0-based; if more than one, the inputs are concatenated in this order
//! target_layer = 11
//! kind = "affine"                 # h_T ~ A h_S + p
//! dtype = "bf16"                  # of its matrices: "f32", "bf16" or "f16"
//! weights = 0                     # which of [[weights]] has its tensors
//! sha256 = "…"                    # of its tensors' bytes, one after another in the order of these keys
//! weight = "pair.0.weight"        # A: [hidden_T, number of source layers * hidden_S]
//! bias = "pair.0.bias"            # p: F32, [hidden_T]
//!
//! [pair.fit]                      # see FitReport
//! method = "ridge"
//! lambda = 0.001                  # in: mean squared error per row + lambda * ||A||_F^2
//! rows = 180000                   # it was fitted on
//! validation_rows = 20000         # lambda was chosen on
//! test_rows = 20000               # held out, for the numbers below
//! r2 = 0.91                       # all dimensions together
//! r2_median = 0.87                # median over the target's dimensions
//! r2_mean_baseline = -0.0002      # of predicting the mean of the rows fitted on
//! r2_mean_baseline_median = -0.0001
//! r2_identity_baseline = -0.4     # of predicting the source's state; absent if sizes differ or many-to-one
//! r2_identity_baseline_median = -0.6
//! cosine = 0.96                   # mean, of reconstructed and true states
//! source_mean_norms = [41.5]      # mean L2 norm of the stream at each of source_layers
//! target_mean_norm = 310.0        # and at target_layer
//!
//! [[pair]]
//! source_layers = [15]
//! target_layer = 12
//! kind = "low-rank"               # A = left right, applied as two products
//! rank = 64
//! dtype = "bf16"
//! weights = 0
//! sha256 = "…"
//! left = "pair.1.left"            # [hidden_T, rank]
//! right = "pair.1.right"          # [rank, number of source layers * hidden_S]
//! bias = "pair.1.bias"
//!
//! [pair.fit]
//! # The same keys.
//!
//! [[pair.fit.r2_by_rank]]         # may be absent, for either kind: how good the best map of each rank would be
//! rank = 32
//! r2 = 0.84
//!
//! [provenance]                    # as in a vector file
//!
//! [positions]                     # may be absent: how positions were paired
//! documents = 1200
//! paired = 220000
//! unmatched_source = 9000
//! unmatched_target = 12000
//! special = 2400
//! first = 4800
//! outliers = 31
//! rule = "…"
//! ```
//!
//! Unknown keys are errors, and the safetensors files hold the listed tensors and no others.
//!
//! Files of weights can be of any size, so they aren't read when a map is loaded, but for their headers. A pair's
//! tensors are mapped into memory when the pair is used ([`PairMap::load`]), and its `sha256` and numbers are checked
//! the first time. [`MapFile::verify`] checks all there is.
//!
//! Version 1, `steermap-map/1`, is still read. It has one `[weights]` table and pairs without `rank`, `dtype`,
//! `weights`, `sha256`, `left`, `right` and `r2_by_rank`: all are affine and of F32. The file's hash, which is then
//! checked when a pair is used for the first time, stands for theirs.

use std::path::Path;
use std::sync::Arc;

use crate::error::{FileError, Problem};

pub use apply::{ApplyError, MappedLayer, MappedVector, Reach};
pub use fit::{FitReport, RankR2};
pub use header::MapHeader;
pub use layer_pair::{LayerPair, spell_source_layers};
pub use linear::{AffineMap, LinearMap, LowRankMap, MapKind};
pub use matrix::WeightMatrix;
pub use pair_map::PairMap;
pub use positions::{PositionRules, Positions};
pub use writer::{MAX_FILE_BYTES, MapWriter};

use check::PairChecker;
use load::LoadedMap;
use pair_map::WeightsFile;

mod apply;
mod check;
mod fit;
mod header;
mod layer_pair;
mod linear;
mod listing;
mod load;
mod matrix;
mod pair_map;
mod positions;
mod table;
mod writer;

/// Maps from one model's residual stream to another's. Always valid: see [`MapFile::new`] for what that means.
///
/// The numbers of a map in a file are an exception: they are checked when a pair is used for the first time, by
/// [`PairMap::load`].
#[derive(Debug, Clone)]
pub struct MapFile {
    header: MapHeader,
    pairs: Vec<LayerPair>,
    /// The files that it was loaded from; none if it was put together in memory.
    files: Vec<Arc<WeightsFile>>,
}

impl MapFile {
    /// The value of the key `format`.
    pub const FORMAT: &'static str = table::FORMAT;

    /// The value of `format` in version 1, which is read but no longer written.
    pub const FORMAT_1: &'static str = table::FORMAT_1;

    /// Puts a map file together. The pairs keep their order.
    ///
    /// # Errors
    ///
    /// The first of these that doesn't hold:
    ///
    /// * all texts say something, hashes are spelled as hashes, counts fit TOML ([`Problem::Value`]);
    /// * `hidden_size` and `num_layers` of both models are 1 to 2147483647 ([`Problem::Value`]);
    /// * there is a pair ([`Problem::NoPairs`]), every pair has a source layer ([`Problem::Value`]) and none twice
    ///   ([`Problem::RepeatedLayer`]), every layer is one of its model's ([`Problem::PairLayerOutOfRange`]), and no two
    ///   pairs have the same source layers, in the same order, and target layer ([`Problem::DuplicatePair`]);
    /// * every fit's numbers are such numbers as [`FitReport`] says ([`Problem::Value`]), with a mean norm for each
    ///   source layer ([`Problem::Count`]);
    /// * every weight is `[hidden_T, number of source layers * hidden_S]` and every bias `[hidden_T]`; of a low-rank
    ///   map, `left` is `[hidden_T, rank]` and `right` `[rank, number of source layers * hidden_S]`
    ///   ([`Problem::Shape`], [`Problem::Rank`], [`Problem::MixedDtypes`]); all are of finite numbers
    ///   ([`Problem::NotFinite`]).
    pub fn new(header: MapHeader, pairs: Vec<LayerPair>) -> Result<Self, Problem> {
        let files = Vec::new();
        let file = Self { header, pairs, files };
        file.check()?;
        Ok(file)
    }

    /// Reads a map file, but for its weights: the TOML file, and of the files of weights their headers. `path` is that
    /// of the TOML file.
    ///
    /// # Errors
    ///
    /// Whatever keeps a file from being read, and [`FileError::Invalid`] with the path of the file that is wrong for:
    /// malformed TOML or another kind of file ([`Problem::Toml`], [`Problem::UnknownKey`], [`Problem::Format`]); a kind
    /// of map that this version doesn't know ([`Problem::Kind`]), keys of another kind ([`Problem::Value`]); tensors
    /// elsewhere ([`Problem::WeightsName`], [`Problem::WeightsIndex`]); a broken or cut safetensors file
    /// ([`Problem::Safetensors`]) or one whose tensors aren't those listed ([`Problem::MissingTensor`],
    /// [`Problem::ExtraTensor`], [`Problem::PairTensorName`], [`Problem::Dtype`]); and all that [`MapFile::new`]
    /// refuses but for numbers that aren't finite: those and wrong hashes are found by [`PairMap::load`] and
    /// [`MapFile::verify`].
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let LoadedMap { header, pairs, files } = load::load(path)?;
        Ok(Self { header, pairs, files })
    }

    /// Checks all that [`load`](Self::load) leaves: the hash of every file of weights, and of every pair the hash and
    /// the numbers. Reads all weights twice, in pieces: no more than a pair's are in memory.
    ///
    /// # Errors
    ///
    /// As [`PairMap::load`], and [`Problem::Sha256`].
    pub fn verify(&self) -> Result<(), FileError> {
        self.files.iter().try_for_each(|file| file.verify())?;
        self.pairs.iter().try_for_each(|pair| pair.map.load().map(drop))
    }

    /// All but the pairs.
    pub fn header(&self) -> &MapHeader {
        &self.header
    }

    /// The pairs, one at least, in the file's order.
    pub fn pairs(&self) -> &[LayerPair] {
        &self.pairs
    }

    /// The names, bytes and hashes of its files of weights; none if it was put together in memory.
    pub(crate) fn weights_files(&self) -> impl Iterator<Item = (String, u64, &str)> {
        self.files.iter().map(|file| {
            let name = file.tensors.path().file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            (name, file.tensors.length(), file.sha256.as_str())
        })
    }

    fn check(&self) -> Result<(), Problem> {
        self.header.check()?;
        let mut checker = PairChecker::default();
        for pair in &self.pairs {
            checker.check(&self.header, &pair.source_layers, pair.target_layer, &pair.fit)?;
        }
        checker.end()?;
        for (index, pair) in self.pairs.iter().enumerate() {
            pair.check_shape(index, &self.header)?;
            pair.map.check_numbers(index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
