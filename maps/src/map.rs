//! Maps from one model's residual stream to another's, one per pair of layers.
//!
//! On disk: `NAME.toml`, which people read, and the safetensors file that it names and hashes.
//!
//! ```toml
//! format = "steermap-map/1"
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
//! [weights]
//! file = "small-to-large-0123456789abcdef.safetensors"
//! sha256 = "0123456789abcdef…"
//!
//! [[pair]]                        # one per pair of layers; they count from 0
//! source_layers = [14]            # 0-based; if more than one, the inputs are concatenated in this order
//! target_layer = 11
//! kind = "affine"                 # h_T ~ A h_S + p, the only kind so far
//! weight = "pair.0.weight"        # A: F32, [hidden_T, number of source layers * hidden_S]
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
//! Unknown keys are errors, and the safetensors file holds the listed tensors and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nalgebra::{DMatrix, DVector};

use crate::error::{FileError, Problem};
use crate::model::{ModelInfo, Numerics};
use crate::provenance::Provenance;
use crate::store;
use crate::tensors::{self, Tensor, Tensors};

pub use affine::AffineMap;
pub use apply::{ApplyError, MappedLayer, MappedVector, Reach};
pub use fit::FitReport;
pub use positions::Positions;

use affine::{bias_name, weight_name};
use table::{MapTable, PairTable};

mod affine;
mod apply;
mod fit;
mod positions;
mod table;

/// All of a map file but its pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapHeader {
    /// The model that vectors come from.
    pub source: ModelInfo,
    /// The numerics it ran at.
    pub source_numerics: Numerics,
    /// The model that vectors go to.
    pub target: ModelInfo,
    /// The numerics it ran at.
    pub target_numerics: Numerics,
    /// How the two models' positions were paired, if the fitter says.
    pub positions: Option<Positions>,
    /// How the file came to be.
    pub provenance: Provenance,
}

/// A map into one target layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerPair {
    /// The source's layers, 0-based, one at least and none twice. Their states are concatenated in this order.
    pub source_layers: Vec<usize>,
    /// The target's layer, 0-based.
    pub target_layer: usize,
    /// The map, with `[hidden_T, source_layers.len() * hidden_S]` weights.
    pub map: AffineMap,
    /// How it was fitted and how good it is.
    pub fit: FitReport,
}

impl LayerPair {
    /// The layers as people write them: `14->11`, or `13+14->11` for several source layers.
    pub fn layers(&self) -> String {
        spell_layers(&self.source_layers, self.target_layer)
    }
}

/// Maps from one model's residual stream to another's. Always valid: see [`MapFile::new`] for what that means.
#[derive(Debug, Clone, PartialEq)]
pub struct MapFile {
    header: MapHeader,
    pairs: Vec<LayerPair>,
}

impl MapFile {
    /// What the key `format` says.
    pub const FORMAT: &'static str = "steermap-map/1";

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
    /// * every weight is `[hidden_T, number of source layers * hidden_S]` and every bias `[hidden_T]`
    ///   ([`Problem::Shape`]), of finite numbers ([`Problem::NotFinite`]).
    pub fn new(header: MapHeader, pairs: Vec<LayerPair>) -> Result<Self, Problem> {
        let file = Self { header, pairs };
        file.check()?;
        Ok(file)
    }

    /// Reads a map file and checks all of it. `path` is that of the TOML file.
    ///
    /// # Errors
    ///
    /// Whatever keeps either file from being read, and [`FileError::Invalid`] with the path of the file that is wrong
    /// for: malformed TOML or another kind of file ([`Problem::Toml`], [`Problem::UnknownKey`], [`Problem::Format`]);
    /// a kind of map that this version doesn't know ([`Problem::Kind`]); tensors elsewhere or other than stated
    /// ([`Problem::WeightsName`], [`Problem::Sha256`]); a broken safetensors file ([`Problem::Safetensors`]) or one
    /// whose tensors aren't those listed ([`Problem::MissingTensor`], [`Problem::ExtraTensor`],
    /// [`Problem::PairTensorName`], [`Problem::Dtype`]); and all that [`MapFile::new`] refuses.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let table: MapTable = store::read_toml_after(path, Self::FORMAT, table::check_kinds)?;
        let (header, listed, weights) = table.split();
        check_toml(&header, &listed).map_err(|problem| problem.within(path))?;

        let (weights_path, bytes) = weights.read(path)?;
        let maps = read_maps(&bytes, &header, &listed);
        let maps = maps.map_err(|problem| problem.within(&weights_path))?;
        let pairs = listed.into_iter().zip(maps).map(|(listed, map)| LayerPair {
            source_layers: listed.source_layers,
            target_layer: listed.target_layer,
            map,
            fit: listed.fit,
        });
        Self::new(header, pairs.collect()).map_err(|problem| problem.within(path))
    }

    /// Writes the map file so that, whenever anyone looks, `path` loads as all of what it was or all of what it is to
    /// be: as [`VectorFile::save`](crate::VectorFile::save), with the same rules for names, writers and readers.
    ///
    /// # Errors
    ///
    /// [`FileError::Name`] if the path isn't one for a TOML file, [`FileError::TooLarge`] if the file would be too
    /// large to load, [`FileError::Write`] if the operating system refuses. Nothing has changed then.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        self.check().map_err(|problem| problem.within(path))?;
        // nalgebra keeps a matrix column by column, so the transpose's values are the weight's row by row.
        let weights: Vec<_> = self.pairs.iter().map(|pair| pair.map.weight.transpose()).collect();
        let tensors = self
            .pairs
            .iter()
            .zip(&weights)
            .enumerate()
            .flat_map(|(index, (pair, weight))| {
                let map = &pair.map;
                let shape = vec![map.weight.nrows(), map.weight.ncols()];
                [
                    (weight_name(index), Tensor::f32(shape, weight.as_slice())),
                    (bias_name(index), Tensor::f32(vec![map.bias.len()], map.bias.as_slice())),
                ]
            });
        let bytes = tensors::encode(tensors, &BTreeMap::new()).map_err(|problem| problem.within(path))?;
        store::save(path, &bytes, |weights| MapTable::new(self, weights))
    }

    /// All but the pairs.
    pub fn header(&self) -> &MapHeader {
        &self.header
    }

    /// The pairs, one at least, in the file's order.
    pub fn pairs(&self) -> &[LayerPair] {
        &self.pairs
    }

    fn check(&self) -> Result<(), Problem> {
        self.header.check()?;
        let listing = self
            .pairs
            .iter()
            .map(|pair| (&pair.source_layers[..], pair.target_layer, &pair.fit));
        check_listing(&self.header, listing)?;
        for (index, pair) in self.pairs.iter().enumerate() {
            let (rows, columns) = self.header.shape(pair.source_layers.len());
            pair.map.check(index, rows, columns)?;
        }
        Ok(())
    }
}

impl MapHeader {
    fn check(&self) -> Result<(), Problem> {
        self.source.check("source")?;
        self.source_numerics.check("source")?;
        self.target.check("target")?;
        self.target_numerics.check("target")?;
        self.provenance.check()?;
        match &self.positions {
            Some(positions) => positions.check(),
            None => Ok(()),
        }
    }

    /// Rows and columns of the weight of a pair with this many source layers.
    fn shape(&self, source_layers: usize) -> (usize, usize) {
        // Sizes and layers are 31 bits each, so this fits 64.
        (self.target.hidden_size, source_layers * self.source.hidden_size)
    }
}

fn spell_layers(source_layers: &[usize], target_layer: usize) -> String {
    format!("{}->{target_layer}", spell_source_layers(source_layers))
}

/// A pair's source layers as people write them: `14`, or `13+14` for several.
pub fn spell_source_layers(layers: &[usize]) -> String {
    let layers: Vec<_> = layers.iter().map(usize::to_string).collect();
    layers.join("+")
}

/// Checks what is said of the pairs (layers and fit), the tensors aside.
fn check_listing<'a>(
    header: &MapHeader,
    pairs: impl IntoIterator<Item = (&'a [usize], usize, &'a FitReport)>,
) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (index, (source_layers, target_layer, fit)) in pairs.into_iter().enumerate() {
        let source_field = format!("pair.{index}.source_layers");
        Problem::unless_distinct(&source_field, source_layers)?;
        for layer in source_layers {
            check_layer(&source_field, *layer, &header.source)?;
        }
        check_layer(&format!("pair.{index}.target_layer"), target_layer, &header.target)?;
        if !seen.insert((source_layers, target_layer)) {
            let layers = spell_layers(source_layers, target_layer);
            return Err(Problem::DuplicatePair { layers });
        }
        let comparable = source_layers.len() == 1 && header.source.hidden_size == header.target.hidden_size;
        fit.check(&format!("pair.{index}.fit"), source_layers.len(), comparable)?;
    }
    if seen.is_empty() { Err(Problem::NoPairs) } else { Ok(()) }
}

fn check_layer(field: &str, layer: usize, model: &ModelInfo) -> Result<(), Problem> {
    if layer < model.num_layers {
        return Ok(());
    }
    Err(Problem::PairLayerOutOfRange {
        field: field.to_owned(),
        layer,
        num_layers: model.num_layers,
    })
}

/// Checks all that the TOML file says, the tensors aside.
fn check_toml(header: &MapHeader, listed: &[PairTable]) -> Result<(), Problem> {
    header.check()?;
    let listing = listed
        .iter()
        .map(|pair| (&pair.source_layers[..], pair.target_layer, &pair.fit));
    check_listing(header, listing)?;
    let mut indexed = listed.iter().enumerate();
    indexed.try_for_each(|(index, pair)| pair.check_names(index))
}

/// The maps of the listed pairs, in the order listed.
fn read_maps(bytes: &[u8], header: &MapHeader, listed: &[PairTable]) -> Result<Vec<AffineMap>, Problem> {
    let tensors = Tensors::parse(bytes)?;
    let names = listed.iter().flat_map(|pair| [pair.weight.clone(), pair.bias.clone()]);
    tensors.check_names(&names.collect())?;
    let indexed = listed.iter().enumerate();
    let maps = indexed.map(|(index, pair)| {
        let (rows, columns) = header.shape(pair.source_layers.len());
        let map = AffineMap {
            weight: DMatrix::from_row_slice(rows, columns, &tensors.values(&pair.weight, &[rows, columns])?),
            bias: DVector::from_vec(tensors.values(&pair.bias, &[rows])?),
        };
        map.check(index, rows, columns)?;
        Ok(map)
    });
    maps.collect()
}

#[cfg(test)]
mod tests;
