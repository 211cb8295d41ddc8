//! A pair's map, in memory or in a file that is read when the map is used.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::linear::{AffineMap, LinearMap, LowRankMap, MapKind, bias_name, tensor_name};
use super::matrix::WeightMatrix;
use crate::digest::hex;
use crate::dtype::FloatDtype;
use crate::error::{FileError, Problem};
use crate::tensor_file::TensorFile;

/// The map of a pair of layers: in memory, or in a file that is read when the map is used.
///
/// Kind, shape, dtype and size are known without reading it. [`load`](Self::load) returns the map itself.
#[derive(Debug, Clone)]
pub struct PairMap(MapLocation);

#[derive(Debug, Clone)]
enum MapLocation {
    Memory(Arc<LinearMap>),
    File(Arc<StoredMap>),
}

/// A map in a file.
#[derive(Debug)]
pub(super) struct StoredMap {
    file: Arc<WeightsFile>,
    kind: MapKind,
    rows: usize,
    columns: usize,
    dtype: FloatDtype,
    /// The byte ranges of its matrices in the file.
    matrices: Vec<Range<usize>>,
    bias: Range<usize>,
    /// The pair's number, for messages.
    pair: usize,
    /// The hash of its tensors' bytes; `None` in version 1 of the format, which only has a hash of the whole file.
    sha256: Option<String>,
    /// Whether the tensors' hash and numbers have been checked and are right.
    checked: AtomicBool,
}

/// A weights file, and its hash in the TOML file.
#[derive(Debug)]
pub(super) struct WeightsFile {
    pub(super) tensors: TensorFile,
    pub(super) sha256: String,
    /// Whether the hash of the whole file has been checked and is right.
    checked: AtomicBool,
}

impl WeightsFile {
    pub(super) fn new(tensors: TensorFile, sha256: String) -> Self {
        let checked = AtomicBool::new(false);
        Self {
            tensors,
            sha256,
            checked,
        }
    }

    /// Checks the whole file's hash, even if that was done before.
    pub(super) fn verify(&self) -> Result<(), FileError> {
        let found = self.tensors.sha256()?;
        if found != self.sha256 {
            let expected = self.sha256.clone();
            return Err(Problem::Sha256 { found, expected }.within(self.tensors.path()));
        }
        self.checked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl StoredMap {
    /// Finds pair number `pair` in a file; only the header is read.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`], [`Problem::Dtype`], [`Problem::Shape`].
    pub(super) fn find(
        file: &Arc<WeightsFile>,
        pair: usize,
        kind: MapKind,
        (rows, columns): (usize, usize),
        dtype: FloatDtype,
        sha256: Option<String>,
    ) -> Result<Self, Problem> {
        let layout = file.tensors.layout();
        let matrices = kind.matrices(rows, columns).into_iter();
        let matrices = matrices.map(|(key, shape)| layout.range(&tensor_name(pair, key), dtype.safetensors(), &shape));
        Ok(Self {
            kind,
            rows,
            columns,
            dtype,
            matrices: matrices.collect::<Result<_, _>>()?,
            bias: layout.range(&bias_name(pair), safetensors::Dtype::F32, &[rows])?,
            file: Arc::clone(file),
            pair,
            sha256,
            checked: AtomicBool::new(false),
        })
    }

    fn load(&self) -> Result<LinearMap, FileError> {
        let shapes = self.kind.matrices(self.rows, self.columns);
        let matrices = shapes.iter().zip(&self.matrices).map(|((_, [rows, columns]), range)| {
            let bytes = self.file.tensors.tensor(range)?;
            Ok(WeightMatrix::mapped(*rows, *columns, self.dtype, bytes))
        });
        let matrices = matrices.collect::<Result<_, FileError>>()?;
        let bias = self.file.tensors.tensor(&self.bias)?;
        let bias = bias
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let map = LinearMap::of(matrices, bias);
        // Two threads may both check; each returns only after its own check.
        if !self.checked.load(Ordering::Relaxed) {
            self.check(&map)?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(map)
    }

    fn check(&self, map: &LinearMap) -> Result<(), FileError> {
        match &self.sha256 {
            Some(expected) => {
                let found = sha256_of(map, self.dtype);
                if found != *expected {
                    return Err(self.within(Problem::PairSha256 {
                        pair: self.pair,
                        found,
                        expected: expected.clone(),
                    }));
                }
            }
            None if self.file.checked.load(Ordering::Relaxed) => {}
            None => self.file.verify()?,
        }
        let numbers = map.check_numbers(self.pair, self.dtype);
        numbers.map_err(|problem| self.within(problem))
    }

    fn within(&self, problem: Problem) -> FileError {
        problem.within(self.file.tensors.path())
    }
}

impl PairMap {
    pub(super) fn stored(stored: StoredMap) -> Self {
        Self(MapLocation::File(Arc::new(stored)))
    }

    /// The map itself. A map in a file is mapped into memory while the returned value lives. The first call checks its
    /// hash and its numbers, which reads all of it.
    ///
    /// The file of a [`MapFile`](super::MapFile) stays open, so the map can be read even if another file has replaced
    /// it since. steermap never changes an existing weights file. If another program writes to it in place or cuts it
    /// short while the map is in use, the numbers are wrong or the process ends.
    ///
    /// # Errors
    ///
    /// For a map in a file: [`FileError::Read`], and [`FileError::Invalid`] for tensors with another hash
    /// ([`Problem::PairSha256`], in version 1 [`Problem::Sha256`]), numbers that are not finite
    /// ([`Problem::NotFinite`]), or a file that was cut short after it was opened ([`Problem::Safetensors`]).
    pub fn load(&self) -> Result<Arc<LinearMap>, FileError> {
        match &self.0 {
            MapLocation::Memory(map) => Ok(Arc::clone(map)),
            MapLocation::File(stored) => stored.load().map(Arc::new),
        }
    }

    /// How `A` is stored.
    pub fn kind(&self) -> MapKind {
        match &self.0 {
            MapLocation::Memory(map) => map.kind(),
            MapLocation::File(stored) => stored.kind,
        }
    }

    /// Number of outputs: rows of `A`.
    pub fn rows(&self) -> usize {
        match &self.0 {
            MapLocation::Memory(map) => map.rows(),
            MapLocation::File(stored) => stored.rows,
        }
    }

    /// Number of inputs: columns of `A`.
    pub fn columns(&self) -> usize {
        match &self.0 {
            MapLocation::Memory(map) => map.columns(),
            MapLocation::File(stored) => stored.columns,
        }
    }

    /// The dtype of its matrices (the bias is `f32` in all maps).
    pub fn dtype(&self) -> FloatDtype {
        match &self.0 {
            MapLocation::Memory(map) => map.dtype(),
            MapLocation::File(stored) => stored.dtype,
        }
    }

    /// Bytes of all its numbers, bias included.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            MapLocation::Memory(map) => map.bytes(),
            MapLocation::File(stored) => {
                let tensors = stored.matrices.iter().chain([&stored.bias]);
                tensors.map(|range| range.len() as u64).sum()
            }
        }
    }

    /// Checks without reading the map that its `A` is `[rows, columns]`, as pair number `pair`.
    pub(super) fn check_shape(&self, pair: usize, rows: usize, columns: usize) -> Result<(), Problem> {
        match &self.0 {
            MapLocation::Memory(map) => map.check_shape(pair, rows, columns),
            MapLocation::File(stored) if (stored.rows, stored.columns) == (rows, columns) => Ok(()),
            MapLocation::File(stored) => Err(Problem::Shape {
                tensor: tensor_name(pair, "weight"),
                found: vec![stored.rows, stored.columns],
                expected: vec![rows, columns],
            }),
        }
    }

    /// Checks the numbers of a map in memory; those of a map in a file are checked when it is used.
    pub(super) fn check_numbers(&self, pair: usize) -> Result<(), Problem> {
        match &self.0 {
            MapLocation::Memory(map) => map.check_numbers(pair, map.dtype()),
            MapLocation::File(_) => Ok(()),
        }
    }
}

/// The SHA-256 of a map's numbers as they are stored with matrices of this dtype: the matrices, then the bias.
pub(super) fn sha256_of(map: &LinearMap, dtype: FloatDtype) -> String {
    let mut hash = Sha256::new();
    for matrix in map.matrices() {
        let hashed = matrix.pieces(dtype, |bytes| {
            hash.update(bytes);
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = hashed;
    }
    map.bias().iter().for_each(|value| hash.update(value.to_le_bytes()));
    hex(&hash.finalize())
}

impl From<LinearMap> for PairMap {
    fn from(map: LinearMap) -> Self {
        Self(MapLocation::Memory(Arc::new(map)))
    }
}

impl From<AffineMap> for PairMap {
    fn from(map: AffineMap) -> Self {
        LinearMap::from(map).into()
    }
}

impl From<LowRankMap> for PairMap {
    fn from(map: LowRankMap) -> Self {
        LinearMap::from(map).into()
    }
}
