//! Steering vectors in one model's residual stream, one direction per layer: found on that model (native), or carried
//! over from another through a map (mapped).
//!
//! On disk: `NAME.toml`, which people read, and the safetensors file that it names and hashes.
//!
//! ```toml
//! format = "steermap-vector/1"
//! concept = "happy"
//! method = "mean-difference"
//! token_position = "last"         # or "mean", "answer"
//! pairs = 64
//!
//! [model]
//! model = "SmolLM2-135M-Instruct"
//! fingerprint = "sm1:…"
//! hidden_size = 576
//! num_layers = 30
//! dtype = "f32"
//! quantization = "q4_1"           # may be absent
//!
//! [mapped]                        # absent in a vector that was found on the model itself
//! map = "small-to-large"
//! map_sha256 = "…"                # of the map's TOML file
//! source_model = "…"              # the model that the vector was found on
//! source_fingerprint = "sm1:…"
//! offset = "linear"               # or "affine"
//!
//! [weights]
//! file = "happy-0123456789abcdef.safetensors"
//! sha256 = "0123456789abcdef…"
//!
//! [[layer]]                       # one per layer
//! layer = 11                      # 0-based: the residual stream after decoder block 11
//! tensor = "layer.11"             # F32, [hidden_size]
//! norm = 3.25                     # L2 norm of that tensor
//! mean_norm = 41.5                # mean L2 norm of the stream there
//! auroc = 0.97                    # may be absent
//! neutral_mean = 1.5              # may be absent, both
//! neutral_std = 4.25
//! source_layers = [14]            # there if [mapped] is: the source model's layers that it was made from
//!
//! [provenance]
//! tool = "mapper 0.1.0"
//! date = "2026-01-31T12:00:00Z"
//! command = "mapper vector …"
//! seed = 1                        # may be absent
//! corpus = "happy-pairs"
//! corpus_sha256 = "…"
//! ```
//!
//! Unknown keys are errors, and the safetensors file holds the listed tensors and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{FileError, Problem};
use crate::model::{ModelInfo, ModelTable, Numerics};
use crate::provenance::Provenance;
use crate::read;
use crate::store::{self, MAX_TOML_BYTES, MAX_WEIGHTS_BYTES, Weights};
use crate::tensors::{self, TensorToWrite, Tensors};

pub use mapped::Mapped;
use mapped::MappedTable;

mod mapped;

/// How far the stated norm may be from the tensor's, relative to the latter. That is far more than rounding needs (both
/// are sums in `f64`, but a hand-written file may round to a few digits) and less than a wrong number would differ.
const NORM_TOLERANCE: f64 = 1e-3;

/// Which token's residual stream the directions were found on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TokenPosition {
    /// The last token of each text.
    Last,
    /// The mean over all of a text's tokens but the first, whose state has another norm in most models; for a text of
    /// one token, that token.
    Mean,
    /// The first token in which the two texts of a pair differ: the answer, where they share the question.
    Answer,
}

impl TokenPosition {
    /// As files spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Mean => "mean",
            Self::Answer => "answer",
        }
    }
}

/// All of a vector file but its directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorHeader {
    /// What the directions stand for, such as `"happy"`.
    pub concept: String,
    /// How they were found, such as `"mean-difference"`, or `"mean-difference, mapped (linear)"`.
    pub method: String,
    /// Which token they were found on (of a mapped vector: when it was found, on its source).
    pub token_position: TokenPosition,
    /// How many pairs of texts they were found from.
    pub pairs: u32,
    /// The model whose stream they live in.
    pub model: ModelInfo,
    /// The numerics that model ran at.
    pub numerics: Numerics,
    /// How the file came to be.
    pub provenance: Provenance,
}

/// One layer's direction.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerVector {
    /// The layer, 0-based: the residual stream after decoder block `layer`.
    pub layer: usize,
    /// The direction as it was found, not normalised: `[hidden_size]`, finite, norm above 0.
    pub direction: Vec<f32>,
    /// Mean L2 norm of the residual stream at this layer, so that scales can be given relative to it: over the texts
    /// that the vector was found on, or over those that its map was fitted on. Finite, 0 or more.
    pub mean_norm: f64,
    /// Area under the ROC curve on held-out pairs, 0 to 1, where 0.5 is chance.
    pub auroc: Option<f64>,
    /// The stream's component along the direction on neutral text, so that scales can be given in standard deviations.
    pub neutral: Option<Spread>,
}

/// Mean and standard deviation of the stream's component along a unit direction, over the tokens of some text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Finite.
    pub mean: f64,
    /// Finite, 0 or more.
    pub std: f64,
}

impl LayerVector {
    /// L2 norm of the direction, summed up in `f64`.
    pub fn norm(&self) -> f64 {
        norm(&self.direction)
    }

    /// The direction at norm 1: `[hidden_size]`.
    pub fn unit(&self) -> Vec<f32> {
        let norm = self.norm();
        self.direction
            .iter()
            .map(|value| (f64::from(*value) / norm) as f32)
            .collect()
    }
}

/// Steering vectors in one model's residual stream. Always valid: see [`VectorFile::new`] for the conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorFile {
    header: VectorHeader,
    /// In ascending order.
    layers: Vec<LayerVector>,
    /// [`LayerVector::norm`] of each, so that a list of many vectors needn't read all their numbers.
    norms: Vec<f64>,
    /// `None` in a native vector.
    mapped: Option<Mapped>,
}

/// One of the two files that a vector file consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorPart {
    /// The TOML file.
    Toml,
    /// The safetensors file that it names.
    Safetensors,
}

impl VectorPart {
    /// `toml` or `safetensors`: the ending of the file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Safetensors => "safetensors",
        }
    }
}

/// The contents of the two files of a vector file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorParts {
    /// The TOML file's.
    pub toml: String,
    /// The name of the safetensors file, which the TOML states.
    pub tensors_name: String,
    /// The safetensors file's.
    pub tensors: Vec<u8>,
}

impl VectorFile {
    /// The value of the key `format`.
    pub const FORMAT: &'static str = "steermap-vector/1";

    /// Makes the file of a native vector. The layers can be in any order.
    ///
    /// # Errors
    ///
    /// The first of these that doesn't hold:
    ///
    /// * no text is blank, hashes are spelled as hashes, `seed` fits TOML ([`Problem::Value`]);
    /// * `hidden_size` and `num_layers` are 1 to 2147483647 ([`Problem::Value`]);
    /// * there is a layer ([`Problem::NoLayers`]), and every layer is below `num_layers` ([`Problem::LayerOutOfRange`])
    ///   and listed once ([`Problem::DuplicateLayer`]);
    /// * every `mean_norm` is finite and 0 or more, every `auroc` is 0 to 1 ([`Problem::Value`]);
    /// * every direction is of `hidden_size` ([`Problem::Shape`]) finite numbers ([`Problem::NotFinite`]), and not all
    ///   of them are 0 ([`Problem::ZeroVector`]).
    pub fn new(header: VectorHeader, layers: Vec<LayerVector>) -> Result<Self, Problem> {
        Self::checked(header, layers, None)
    }

    /// Makes the file of a mapped vector: `header.model` is the target, and `mapped` says where the directions came
    /// from. [`MapFile::apply`](crate::MapFile::apply) and
    /// [`MappedVector::into_vector_file`](crate::MappedVector::into_vector_file) do this for a whole vector.
    ///
    /// # Errors
    ///
    /// As [`VectorFile::new`]; and no text of `mapped` may be blank, its hash must be spelled as a hash, and
    /// `source_layers` must have every layer and no other ([`Problem::Value`]), without repeating a layer
    /// ([`Problem::RepeatedLayer`]).
    pub fn new_mapped(header: VectorHeader, layers: Vec<LayerVector>, mapped: Mapped) -> Result<Self, Problem> {
        Self::checked(header, layers, Some(mapped))
    }

    fn checked(header: VectorHeader, mut layers: Vec<LayerVector>, mapped: Option<Mapped>) -> Result<Self, Problem> {
        layers.sort_by_key(|layer| layer.layer);
        let norms = layers.iter().map(LayerVector::norm).collect();
        let file = Self {
            header,
            layers,
            norms,
            mapped,
        };
        file.check()?;
        Ok(file)
    }

    /// Reads a vector file and checks all of it. `path` is that of the TOML file.
    ///
    /// # Errors
    ///
    /// Whatever keeps either file from being read, and [`FileError::Invalid`] with the path of the file that is wrong
    /// for: malformed TOML or another kind of file ([`Problem::Toml`], [`Problem::UnknownKey`], [`Problem::Format`]);
    /// tensors elsewhere or other than stated ([`Problem::WeightsName`], [`Problem::Sha256`]); a broken safetensors
    /// file ([`Problem::Safetensors`]) or one whose tensors aren't those listed ([`Problem::MissingTensor`],
    /// [`Problem::ExtraTensor`], [`Problem::TensorName`], [`Problem::Dtype`]); a stated norm that isn't the tensor's,
    /// to one part in a thousand ([`Problem::Norm`]); and all that [`VectorFile::new`] and [`VectorFile::new_mapped`]
    /// refuse.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let table: VectorTable = store::read_toml(path, Self::FORMAT)?;
        let table = table.checked().map_err(|problem| problem.within(path))?;
        let (weights_path, tensors) = table.weights.read(path)?;
        Self::join(table, &tensors).map_err(|(part, problem)| match part {
            VectorPart::Toml => problem.within(path),
            VectorPart::Safetensors => problem.within(&weights_path),
        })
    }

    /// As [`load`](Self::load) for the contents of the two files: accepts the same ones. The name that the TOML gives
    /// its tensors is checked, but means nothing else here.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), with the part that is wrong; [`Problem::TooLarge`] if it is larger than a file may be.
    pub fn from_parts(toml: &[u8], tensors: &[u8]) -> Result<Self, (VectorPart, Problem)> {
        let in_toml = |problem| (VectorPart::Toml, problem);
        let in_tensors = |problem| (VectorPart::Safetensors, problem);
        read::check_bytes(toml, MAX_TOML_BYTES).map_err(in_toml)?;
        let table: VectorTable = store::parse_toml(toml, Self::FORMAT).map_err(in_toml)?;
        let table = table.checked().map_err(in_toml)?;
        table.weights.check().map_err(in_toml)?;
        read::check_bytes(tensors, MAX_WEIGHTS_BYTES).map_err(in_tensors)?;
        table.weights.check_hash(tensors).map_err(in_tensors)?;
        Self::join(table, tensors)
    }

    /// Joins a TOML file with the tensors of its hash.
    fn join(table: CheckedTable, tensors: &[u8]) -> Result<Self, (VectorPart, Problem)> {
        let CheckedTable {
            header, listed, mapped, ..
        } = table;
        let directions = read_directions(tensors, &listed, header.model.hidden_size);
        let directions = directions.map_err(|problem| (VectorPart::Safetensors, problem))?;
        let in_toml = |problem| (VectorPart::Toml, problem);
        let mut layers = Vec::with_capacity(listed.len());
        for (listed, direction) in listed.into_iter().zip(directions) {
            let LayerTable {
                layer,
                norm: stated,
                mean_norm,
                auroc,
                ..
            } = listed;
            let neutral = listed.neutral();
            let actual = norm(&direction);
            // Written so that a NaN fails.
            let close = (stated - actual).abs() <= NORM_TOLERANCE * actual;
            if !close {
                return Err(in_toml(Problem::Norm { layer, stated, actual }));
            }
            layers.push(LayerVector {
                layer,
                direction,
                mean_norm,
                auroc,
                neutral,
            });
        }
        Self::checked(header, layers, mapped).map_err(in_toml)
    }

    /// Writes the vector file atomically: at any moment, also after an error or a crash, `path` loads as the whole old
    /// file or as the whole new one.
    ///
    /// `path` is that of the TOML file and ends in `.toml`. The tensors go beside it, to `NAME-<first 16 digits of
    /// their sha256>.safetensors`, so new tensors never overwrite old ones. They are written and synced first; renaming
    /// the new TOML file over the old one is the single step that replaces the vector. With a fixed name for the
    /// tensors there would be two renames, and a crash between them would leave an old TOML file beside new tensors,
    /// which doesn't load.
    ///
    /// The tensors that the file named before are deleted last, if their name is of this form and no other TOML file in
    /// the folder mentions them. A crash can leave unused tensors or a `.steermap-*.tmp` behind; both are harmless and
    /// may be deleted. Writers of the same `path` must not run at the same time. A reader needs no lock; if the tensors
    /// are missing ([`FileError::Missing`]), the file was replaced during the load, and loading again succeeds.
    ///
    /// # Errors
    ///
    /// [`FileError::Name`] if the path isn't one for a TOML file, [`FileError::TooLarge`] if the file would be too
    /// large to load, [`FileError::Write`] if the operating system refuses. Nothing has changed then.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let tensors = self.tensors().map_err(|problem| problem.within(path))?;
        store::save(path, &tensors, |weights| VectorTable::new(self, weights))
    }

    /// The contents of the two files that [`save`](Self::save) writes for the path `stem`.toml.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); and [`FileError::Name`] if `stem` names a folder too.
    pub fn to_parts(&self, stem: &str) -> Result<VectorParts, FileError> {
        let path = store::bare_path(stem)?;
        let tensors = self.tensors().map_err(|problem| problem.within(&path))?;
        let (weights, toml) = store::encode(&path, &tensors, |weights| VectorTable::new(self, weights))?;
        Ok(VectorParts {
            toml,
            tensors_name: weights.file().to_owned(),
            tensors,
        })
    }

    /// The content of the safetensors file.
    fn tensors(&self) -> Result<Vec<u8>, Problem> {
        self.check()?;
        let tensors = self.layers.iter().map(|layer| {
            (
                tensor_name(layer.layer),
                TensorToWrite::f32(vec![layer.direction.len()], &layer.direction),
            )
        });
        tensors::encode(tensors)
    }

    /// All but the directions.
    pub fn header(&self) -> &VectorHeader {
        &self.header
    }

    /// The model whose residual stream the directions live in.
    pub fn model(&self) -> &ModelInfo {
        &self.header.model
    }

    /// Where the directions came from, if not from the model itself.
    pub fn mapped(&self) -> Option<&Mapped> {
        self.mapped.as_ref()
    }

    /// The layers, at least one, in ascending order.
    pub fn layers(&self) -> &[LayerVector] {
        &self.layers
    }

    /// The L2 norm of each layer's direction, in the order of [`layers`](Self::layers).
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }

    /// One layer (0-based), if the file has it.
    pub fn layer(&self, layer: usize) -> Option<&LayerVector> {
        let index = self.layers.binary_search_by_key(&layer, |layer| layer.layer).ok()?;
        Some(&self.layers[index])
    }

    /// One layer's direction as it was found, not normalised: `[hidden_size]`. `None` if the file doesn't have that
    /// layer.
    pub fn direction(&self, layer: usize) -> Option<&[f32]> {
        self.layer(layer).map(|layer| layer.direction.as_slice())
    }

    fn check(&self) -> Result<(), Problem> {
        self.header.check()?;
        let listing = self
            .layers
            .iter()
            .map(|layer| (layer.layer, layer.mean_norm, layer.auroc, layer.neutral));
        check_listing(&self.header.model, listing)?;
        for layer in &self.layers {
            check_direction(
                &tensor_name(layer.layer),
                &layer.direction,
                self.header.model.hidden_size,
            )?;
        }
        match &self.mapped {
            Some(mapped) => mapped.check(self.layers.iter().map(|layer| layer.layer)),
            None => Ok(()),
        }
    }
}

impl VectorHeader {
    fn check(&self) -> Result<(), Problem> {
        Problem::unless_said("concept", &self.concept)?;
        Problem::unless_said("method", &self.method)?;
        self.model.check("model")?;
        self.numerics.check("model")?;
        self.provenance.check()
    }
}

/// The tensor that holds a layer's direction.
fn tensor_name(layer: usize) -> String {
    format!("layer.{layer}")
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Checks the layers' entries (number, mean norm, AUROC), without the tensors.
fn check_listing(
    model: &ModelInfo,
    layers: impl IntoIterator<Item = (usize, f64, Option<f64>, Option<Spread>)>,
) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (layer, mean_norm, auroc, neutral) in layers {
        if layer >= model.num_layers {
            return Err(Problem::LayerOutOfRange {
                layer,
                num_layers: model.num_layers,
            });
        }
        if !seen.insert(layer) {
            return Err(Problem::DuplicateLayer { layer });
        }
        Problem::unless_norm(format!("mean_norm of layer {layer}"), mean_norm)?;
        if let Some(auroc) = auroc
            && !(0.0..=1.0).contains(&auroc)
        {
            return Err(Problem::value(format!("auroc of layer {layer}"), auroc, "0 to 1"));
        }
        if let Some(Spread { mean, std }) = neutral {
            Problem::unless_norm(format!("neutral_std of layer {layer}"), std)?;
            if !mean.is_finite() {
                return Err(Problem::value(
                    format!("neutral_mean of layer {layer}"),
                    mean,
                    "a finite number",
                ));
            }
        }
    }
    if seen.is_empty() {
        Err(Problem::NoLayers)
    } else {
        Ok(())
    }
}

/// Checks the whole TOML file, without the tensors.
fn check_toml(header: &VectorHeader, listed: &[LayerTable]) -> Result<(), Problem> {
    header.check()?;
    check_listing(
        &header.model,
        listed
            .iter()
            .map(|layer| (layer.layer, layer.mean_norm, layer.auroc, layer.neutral())),
    )?;
    let half = |layer: &&LayerTable| layer.neutral_mean.is_some() != layer.neutral_std.is_some();
    if let Some(layer) = listed.iter().find(half) {
        let field = format!("neutral_mean and neutral_std of layer {}", layer.layer);
        return Err(Problem::value(field, "one of them", "both or neither"));
    }
    match listed.iter().find(|layer| layer.tensor != tensor_name(layer.layer)) {
        Some(layer) => Err(Problem::TensorName {
            layer: layer.layer,
            found: layer.tensor.clone(),
        }),
        None => Ok(()),
    }
}

/// Joins `[mapped]` with the source layers of the `[[layer]]` tables. There must be both or neither.
fn join_mapped(mapped: Option<MappedTable>, listed: &[LayerTable]) -> Result<Option<Mapped>, Problem> {
    let source_layers = listed
        .iter()
        .filter_map(|layer| Some((layer.layer, layer.source_layers.clone()?)));
    let source_layers: BTreeMap<_, _> = source_layers.collect();
    match (mapped, source_layers.first_key_value()) {
        (Some(mapped), _) => {
            let mapped = mapped.with(source_layers);
            mapped.check(listed.iter().map(|layer| layer.layer))?;
            Ok(Some(mapped))
        }
        (None, Some((layer, source_layers))) => Err(Problem::value(
            format!("source_layers of layer {layer}"),
            format!("{source_layers:?}"),
            "none, as there is no [mapped] table",
        )),
        (None, None) => Ok(None),
    }
}

fn check_direction(tensor: &str, direction: &[f32], hidden_size: usize) -> Result<(), Problem> {
    if direction.len() != hidden_size {
        return Err(Problem::Shape {
            tensor: tensor.to_owned(),
            found: vec![direction.len()],
            expected: vec![hidden_size],
        });
    }
    tensors::check_finite(tensor, direction)?;
    if direction.iter().all(|value| *value == 0.0) {
        return Err(Problem::ZeroVector {
            tensor: tensor.to_owned(),
        });
    }
    Ok(())
}

/// The directions of the listed layers, in the order listed.
fn read_directions(bytes: &[u8], listed: &[LayerTable], hidden_size: usize) -> Result<Vec<Vec<f32>>, Problem> {
    let tensors = Tensors::parse(bytes)?;
    tensors.check_names(&listed.iter().map(|layer| layer.tensor.clone()).collect())?;
    listed
        .iter()
        .map(|layer| {
            let direction = tensors.values(&layer.tensor, &[hidden_size])?;
            check_direction(&layer.tensor, &direction, hidden_size)?;
            Ok(direction)
        })
        .collect()
}

/// The TOML file, key by key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorTable {
    format: String,
    concept: String,
    method: String,
    token_position: TokenPosition,
    pairs: u32,
    model: ModelTable,
    mapped: Option<MappedTable>,
    weights: Weights,
    /// If there are none, [`Problem::NoLayers`] says so better than an error of a missing key.
    #[serde(default)]
    layer: Vec<LayerTable>,
    provenance: Provenance,
}

/// One `[[layer]]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerTable {
    layer: usize,
    tensor: String,
    norm: f64,
    mean_norm: f64,
    auroc: Option<f64>,
    neutral_mean: Option<f64>,
    neutral_std: Option<f64>,
    source_layers: Option<Vec<usize>>,
}

/// A TOML file that was [checked](VectorTable::checked).
struct CheckedTable {
    header: VectorHeader,
    listed: Vec<LayerTable>,
    weights: Weights,
    mapped: Option<Mapped>,
}

impl LayerTable {
    fn neutral(&self) -> Option<Spread> {
        Some(Spread {
            mean: self.neutral_mean?,
            std: self.neutral_std?,
        })
    }
}

impl VectorTable {
    fn new(file: &VectorFile, weights: Weights) -> Self {
        let VectorHeader {
            concept,
            method,
            token_position,
            pairs,
            model,
            numerics,
            provenance,
        } = file.header.clone();
        let layer = file.layers.iter().map(|layer| LayerTable {
            layer: layer.layer,
            tensor: tensor_name(layer.layer),
            norm: layer.norm(),
            mean_norm: layer.mean_norm,
            auroc: layer.auroc,
            neutral_mean: layer.neutral.map(|neutral| neutral.mean),
            neutral_std: layer.neutral.map(|neutral| neutral.std),
            source_layers: file
                .mapped()
                .and_then(|mapped| mapped.source_layers.get(&layer.layer).cloned()),
        });
        Self {
            format: VectorFile::FORMAT.to_owned(),
            concept,
            method,
            token_position,
            pairs,
            model: ModelTable::new(model, numerics),
            mapped: file.mapped().map(Mapped::table),
            weights,
            layer: layer.collect(),
            provenance,
        }
    }

    /// Checks all that can be checked without the tensors, except the name and hash of their file.
    fn checked(self) -> Result<CheckedTable, Problem> {
        let Self {
            format: _,
            concept,
            method,
            token_position,
            pairs,
            model,
            mapped,
            weights,
            layer,
            provenance,
        } = self;
        let (model, numerics) = model.split();
        let header = VectorHeader {
            concept,
            method,
            token_position,
            pairs,
            model,
            numerics,
            provenance,
        };
        check_toml(&header, &layer)?;
        let mapped = join_mapped(mapped, &layer)?;
        Ok(CheckedTable {
            header,
            listed: layer,
            weights,
            mapped,
        })
    }
}

#[cfg(test)]
mod tests;
