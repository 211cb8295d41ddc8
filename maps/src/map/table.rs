//! A map's TOML file, key by key: version 2, which is written, and in `v1` the version before it.

mod kinds;
mod v1;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fit::FitReport;
use super::header::MapHeader;
use super::layer_pair::LayerPair;
use super::linear::{MapKind, bias_name, check_tensor_name, tensor_name};
use super::listing::{ListedPair, MapListing};
use super::positions::Positions;
use crate::digest;
use crate::dtype::FloatDtype;
use crate::error::{FileError, Problem};
use crate::model::ModelTable;
use crate::provenance::Provenance;
use crate::store::{self, MAX_MAP_TOML_BYTES, Weights};
use kinds::{AFFINE, LOW_RANK, VersionKinds};

pub(super) use v1::FORMAT_1;

/// The value of the key `format`.
pub(super) const FORMAT: &str = "steermap-map/2";

const NOTHING_OF_AFFINE: &str = "nothing, as kind is \"affine\"";

/// The keys of all matrices that a pair of any kind may have.
const MATRICES: [&str; 3] = ["weight", "left", "right"];

impl MapListing {
    /// Reads a TOML file's text. Kinds, tensors and hashes are checked; the rest isn't yet.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let found = store::parse_format(text)?;
        match found.as_ref().and_then(toml::Value::as_str) {
            Some(FORMAT) => parse_pairs::<MapTable>(text, KINDS)?.list(),
            Some(FORMAT_1) => parse_pairs::<v1::MapTable>(text, v1::KINDS)?.list(),
            _ => Err(store::wrong_format(found, FORMAT)),
        }
    }
}

const KINDS: VersionKinds = VersionKinds {
    known: &[AFFINE, LOW_RANK],
    expected: "\"affine\" or \"low-rank\", the kinds that this version of steermap knows",
};

/// Reads a text whose pairs must be of these kinds. If it can't be read and a pair is of another kind, the error is
/// that kind, since maps of a later kind have other keys.
fn parse_pairs<T: serde::de::DeserializeOwned>(text: &str, kinds: VersionKinds) -> Result<T, Problem> {
    #[derive(Deserialize)]
    struct Pairs {
        #[serde(default)]
        pair: Vec<Pair>,
    }
    #[derive(Deserialize)]
    struct Pair {
        kind: Option<toml::Value>,
    }

    store::parse(text).map_err(|problem| {
        let Ok(Pairs { pair: pairs }) = toml::from_str(text) else {
            return problem;
        };
        let found = pairs.into_iter().map(|pair| pair.kind).enumerate();
        let mut unknown = found.filter_map(|(index, kind)| {
            let kind = kind?;
            let known = kind.as_str().is_some_and(|kind| kinds.known.contains(&kind));
            (!known).then(|| kinds.unknown(index, kind.to_string()))
        });
        unknown.next().unwrap_or(problem)
    })
}

/// The TOML file, key by key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MapTable {
    format: String,
    source: ModelTable,
    target: ModelTable,
    /// If there are none, the first pair that names one is an error.
    #[serde(default)]
    weights: Vec<Weights>,
    /// None at all is a [`Problem::NoPairs`], with a better message than a missing key's.
    #[serde(default)]
    pair: Vec<PairTable>,
    provenance: Provenance,
    positions: Option<Positions>,
}

/// One `[[pair]]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairTable {
    source_layers: Vec<usize>,
    target_layer: usize,
    kind: String,
    rank: Option<usize>,
    dtype: FloatDtype,
    weights: usize,
    sha256: String,
    weight: Option<String>,
    left: Option<String>,
    right: Option<String>,
    bias: String,
    fit: FitReport,
}

impl MapTable {
    pub(super) fn new(header: MapHeader, weights: Vec<Weights>, pair: Vec<PairTable>) -> Self {
        let MapHeader {
            source,
            source_numerics,
            target,
            target_numerics,
            positions,
            provenance,
        } = header;
        Self {
            format: FORMAT.to_owned(),
            source: ModelTable::new(source, source_numerics),
            target: ModelTable::new(target, target_numerics),
            weights,
            pair,
            provenance,
            positions,
        }
    }

    fn list(self) -> Result<MapListing, Problem> {
        let files = self.weights.len();
        let pairs = self.pair.into_iter().enumerate();
        let pairs = pairs
            .map(|(index, pair)| pair.list(index, files))
            .collect::<Result<_, _>>()?;
        Ok(MapListing {
            header: MapHeader::of_tables(self.source, self.target, self.provenance, self.positions),
            weights: self.weights,
            pairs,
        })
    }
}

impl PairTable {
    /// Lists pair number `index`, whose tensors are in file number `file`, with this dtype and hash.
    pub(super) fn new(pair: &LayerPair, index: usize, file: usize, dtype: FloatDtype, sha256: String) -> Self {
        let kind = pair.map.kind();
        let [weight, left, right] = matrix_names(kind, index);
        Self {
            source_layers: pair.source_layers.clone(),
            target_layer: pair.target_layer,
            kind: kind.as_str().to_owned(),
            rank: kind.rank(),
            dtype,
            weights: file,
            sha256,
            weight,
            left,
            right,
            bias: bias_name(index),
            fit: pair.fit.clone(),
        }
    }

    /// Its size in the TOML file at `path`, in bytes.
    pub(super) fn text_bytes(&self, path: &Path) -> Result<u64, FileError> {
        #[derive(Serialize)]
        struct Alone<'a> {
            pair: [&'a PairTable; 1],
        }

        let text = store::to_text(path, &Alone { pair: [self] }, MAX_MAP_TOML_BYTES)?;
        Ok(text.len() as u64)
    }

    fn list(self, index: usize, files: usize) -> Result<ListedPair, Problem> {
        let kind = self.kind(index)?;
        let names = matrix_names(kind, index);
        let found = [&self.weight, &self.left, &self.right];
        for (key, (found, expected)) in MATRICES.into_iter().zip(found.into_iter().zip(names)) {
            check_key((index, kind), key, found.as_deref(), expected.as_deref())?;
        }
        check_tensor_name(&bias_name(index), &self.bias)?;
        digest::check(&format!("pair.{index}.sha256"), &self.sha256)?;
        if self.weights >= files {
            return Err(Problem::WeightsIndex {
                pair: index,
                found: self.weights,
                files,
            });
        }
        Ok(ListedPair {
            source_layers: self.source_layers,
            target_layer: self.target_layer,
            kind,
            dtype: self.dtype,
            file: self.weights,
            sha256: Some(self.sha256),
            fit: self.fit,
        })
    }

    fn kind(&self, pair: usize) -> Result<MapKind, Problem> {
        let wrong = |found, expected| Err(Problem::value(format!("pair.{pair}.rank"), found, expected));
        match (self.kind.as_str(), self.rank) {
            (AFFINE, None) => Ok(MapKind::Affine),
            (LOW_RANK, Some(rank)) => Ok(MapKind::LowRank { rank }),
            (AFFINE, Some(rank)) => wrong(rank.to_string(), NOTHING_OF_AFFINE),
            (LOW_RANK, None) => wrong("nothing".to_owned(), "a whole number, as kind is \"low-rank\""),
            _ => Err(KINDS.unknown(pair, format!("{:?}", self.kind))),
        }
    }
}

/// The names of a pair's `weight`, `left` and `right`; `None` where its kind has no such tensor.
fn matrix_names(kind: MapKind, pair: usize) -> [Option<String>; 3] {
    let matrices = kind.matrices(0, 0);
    MATRICES.map(|key| {
        let has = matrices.iter().any(|(matrix, _)| *matrix == key);
        has.then(|| tensor_name(pair, key))
    })
}

/// Checks that a pair names its own tensor under a key, or nothing if its kind has no such tensor.
fn check_key(
    (pair, kind): (usize, MapKind),
    key: &str,
    found: Option<&str>,
    expected: Option<&str>,
) -> Result<(), Problem> {
    match (found, expected) {
        (Some(found), Some(expected)) => check_tensor_name(expected, found),
        (None, None) => Ok(()),
        (found, expected) => {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| format!("{found:?}"));
            let expected = match (expected, kind) {
                (None, MapKind::Affine) => NOTHING_OF_AFFINE,
                (None, MapKind::LowRank { .. }) => "nothing, as kind is \"low-rank\"",
                (Some(_), MapKind::Affine) => "a tensor's name, as kind is \"affine\"",
                (Some(_), MapKind::LowRank { .. }) => "a tensor's name, as kind is \"low-rank\"",
            };
            Err(Problem::value(format!("pair.{pair}.{key}"), found, expected))
        }
    }
}
