//! A pair's map, in memory or in a file that it's read from when it's used.

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

/// The map of a pair of layers: in memory, or in a file, from which it's read when it's used.
///
/// What it is (kind, shape, dtype, bytes) is known without reading it. [`load`](Self::load) gives the map itself.
#[derive(Debug, Clone)]
pub struct PairMap(Place);

#[derive(Debug, Clone)]
enum Place {
    Memory(Arc<LinearMap>),
    File(Arc<Stored>),
}

/// A map in a file.
#[derive(Debug)]
pub(super) struct Stored {
    file: Arc<WeightsFile>,
    kind: MapKind,
    rows: usize,
    columns: usize,
    dtype: FloatDtype,
    /// Where its matrices are in the file.
    matrices: Vec<Range<usize>>,
    bias: Range<usize>,
    /// Which pair it is, for messages.
    pair: usize,
    /// The hash of its tensors' bytes; `None` in version 1 of the format, where the file's hash says it for all pairs.
    sha256: Option<String>,
    /// Whether the tensors have been hashed, and their numbers looked at, with good result.
    checked: AtomicBool,
}

/// A file of weights, and the hash that the TOML file states of it.
#[derive(Debug)]
pub(super) struct WeightsFile {
    pub(super) tensors: TensorFile,
    pub(super) sha256: String,
    /// Whether the whole file has been hashed with good result.
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

    /// Checks the whole file's hash, whether that was done before or not.
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

impl Stored {
    /// Finds pair number `pair` in a file; nothing but the header is read.
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
        // Two threads may both do it; neither is told before it's done.
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
    pub(super) fn stored(stored: Stored) -> Self {
        Self(Place::File(Arc::new(stored)))
    }

    /// The map itself. One in a file is mapped into memory, and its pages stay there while what is returned lives; the
    /// first time, its hash and its numbers are checked, which reads all of it.
    ///
    /// The file of a [`MapFile`](super::MapFile) stays open, so that the map can be read even if another file has taken
    /// its place since. steermap never changes a file of weights that is there; one that others write to in place, or
    /// cut short, while its map is in use gives wrong numbers or ends the process.
    ///
    /// # Errors
    ///
    /// Of a map in a file: [`FileError::Read`], and [`FileError::Invalid`] for tensors other than stated
    /// ([`Problem::PairSha256`], in version 1 [`Problem::Sha256`]), numbers that are none ([`Problem::NotFinite`]), or a
    /// file that was cut short after it was opened ([`Problem::Safetensors`]).
    pub fn load(&self) -> Result<Arc<LinearMap>, FileError> {
        match &self.0 {
            Place::Memory(map) => Ok(Arc::clone(map)),
            Place::File(stored) => stored.load().map(Arc::new),
        }
    }

    /// How `A` is stored.
    pub fn kind(&self) -> MapKind {
        match &self.0 {
            Place::Memory(map) => map.kind(),
            Place::File(stored) => stored.kind,
        }
    }

    /// Values that it gives: rows of `A`.
    pub fn rows(&self) -> usize {
        match &self.0 {
            Place::Memory(map) => map.rows(),
            Place::File(stored) => stored.rows,
        }
    }

    /// Values that it takes: columns of `A`.
    pub fn columns(&self) -> usize {
        match &self.0 {
            Place::Memory(map) => map.columns(),
            Place::File(stored) => stored.columns,
        }
    }

    /// The dtype of its matrices (the bias is `f32` in all maps).
    pub fn dtype(&self) -> FloatDtype {
        match &self.0 {
            Place::Memory(map) => map.dtype(),
            Place::File(stored) => stored.dtype,
        }
    }

    /// Bytes of all its numbers, bias included.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Place::Memory(map) => map.bytes(),
            Place::File(stored) => {
                let tensors = stored.matrices.iter().chain([&stored.bias]);
                tensors.map(|range| range.len() as u64).sum()
            }
        }
    }

    /// Checks all that is known without reading it: that its `A` is `[rows, columns]`, as pair number `pair`.
    pub(super) fn check_shape(&self, pair: usize, rows: usize, columns: usize) -> Result<(), Problem> {
        match &self.0 {
            Place::Memory(map) => map.check_shape(pair, rows, columns),
            Place::File(stored) if (stored.rows, stored.columns) == (rows, columns) => Ok(()),
            Place::File(stored) => Err(Problem::Shape {
                tensor: tensor_name(pair, "weight"),
                found: vec![stored.rows, stored.columns],
                expected: vec![rows, columns],
            }),
        }
    }

    /// Checks the numbers of a map in memory; those of one in a file are checked when it's used.
    pub(super) fn check_numbers(&self, pair: usize) -> Result<(), Problem> {
        match &self.0 {
            Place::Memory(map) => map.check_numbers(pair, map.dtype()),
            Place::File(_) => Ok(()),
        }
    }
}

/// The SHA-256 of a map's numbers as a file with matrices of this dtype has them: its matrices, then its bias.
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
        Self(Place::Memory(Arc::new(map)))
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
