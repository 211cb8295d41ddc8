//! Loading a map: its TOML file, and the headers of its files of weights.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::check::PairChecker;
use super::header::MapHeader;
use super::layer_pair::LayerPair;
use super::linear::{bias_name, check_rank, tensor_name};
use super::listing::{ListedPair, MapListing};
use super::pair_map::{PairMap, StoredMap, WeightsFile};

use crate::error::{FileError, Problem};
use crate::store::{self, MAX_MAP_TOML_BYTES, WEIGHTS_ROLE, Weights};
use crate::tensor_file::TensorFile;

/// A map that was loaded.
pub(super) struct LoadedMap {
    pub(super) header: MapHeader,
    pub(super) pairs: Vec<LayerPair>,
    /// The files of its weights.
    pub(super) files: Vec<Arc<WeightsFile>>,
}

/// Loads the map at `path`.
pub(super) fn load(path: &Path) -> Result<LoadedMap, FileError> {
    let bytes = store::read_bytes(path, MAX_MAP_TOML_BYTES)?;
    let listing = store::text(&bytes).and_then(MapListing::parse);
    let checked = listing.and_then(|listing| check(&listing).map(|()| listing));
    let MapListing { header, weights, pairs } = checked.map_err(|problem| problem.within(path))?;

    let open = |weights: &Weights| open(path, weights);
    let files = weights.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    check_names(&files, &pairs)?;
    let pairs = pairs.into_iter().enumerate();
    let pairs = pairs.map(|(index, pair)| {
        let file = &files[pair.file];
        let found = find(file, index, pair, &header);
        found.map_err(|problem| problem.within(file.tensors.path()))
    });
    let pairs = pairs.collect::<Result<_, _>>()?;
    Ok(LoadedMap { header, pairs, files })
}

/// Checks all that the TOML file says, the tensors aside.
fn check(listing: &MapListing) -> Result<(), Problem> {
    let header = &listing.header;
    header.check()?;
    let mut checker = PairChecker::default();
    for (index, pair) in listing.pairs.iter().enumerate() {
        checker.check(header, &pair.source_layers, pair.target_layer, &pair.fit)?;
        if let Some(rank) = pair.kind.rank() {
            let (rows, columns) = header.shape(pair.source_layers.len());
            check_rank(index, rank, rows, columns)?;
        }
    }
    checker.end()
}

fn open(toml: &Path, weights: &Weights) -> Result<Arc<WeightsFile>, FileError> {
    let tensors = TensorFile::open(&weights.path(toml)?, WEIGHTS_ROLE)?;
    Ok(Arc::new(WeightsFile::new(tensors, weights.sha256().to_owned())))
}

/// Checks that each file has the tensors of the pairs that are in it, and no others.
fn check_names(files: &[Arc<WeightsFile>], pairs: &[ListedPair]) -> Result<(), FileError> {
    let mut names = vec![BTreeSet::new(); files.len()];
    for (index, pair) in pairs.iter().enumerate() {
        let matrices = pair.kind.matrices(0, 0).into_iter();
        let matrices = matrices.map(|(key, _)| tensor_name(index, key));
        names[pair.file].extend(matrices.chain([bias_name(index)]));
    }
    for (file, names) in files.iter().zip(&names) {
        let checked = file.tensors.layout().check_names(names);
        checked.map_err(|problem| problem.within(file.tensors.path()))?;
    }
    Ok(())
}

fn find(file: &Arc<WeightsFile>, index: usize, pair: ListedPair, header: &MapHeader) -> Result<LayerPair, Problem> {
    let ListedPair {
        source_layers,
        target_layer,
        kind,
        dtype,
        file: _,
        sha256,
        fit,
    } = pair;
    let shape = header.shape(source_layers.len());
    let stored = StoredMap::find(file, index, kind, shape, dtype, sha256)?;
    Ok(LayerPair {
        source_layers,
        target_layer,
        map: PairMap::stored(stored),
        fit,
    })
}
