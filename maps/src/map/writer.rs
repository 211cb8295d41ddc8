//! Writing a map pair by pair.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::check::PairChecker;
use super::linear::{LinearMap, bias_name, tensor_name};
use super::pair_map::sha256_of;
use super::table::{MapTable, PairTable};
use super::{LayerPair, MapFile, MapHeader};
use crate::digest;
use crate::dtype::FloatDtype;
use crate::error::FileError;
use crate::read;
use crate::store::{self, MAX_MAP_TOML_BYTES, Replacement, Weights};
use crate::tensors::TensorWriter;

/// Bytes beyond which [`MapWriter`] begins another file of weights: 4 GiB. A pair is never divided, so a file of one
/// pair may be larger.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Matrices of a pair at most, and its bias.
const TENSORS_OF_A_PAIR: usize = 3;

/// Writes a map file pair by pair, so that no more than one pair is in memory.
///
/// Weights go to temporary files (`.steermap-*.tmp`) in the folder of the map as they come. Only
/// [`finish`](Self::finish) gives them their names and then writes the TOML file, as
/// [`VectorFile::save`](crate::VectorFile::save) does. A writer that is dropped before that leaves nothing behind; a
/// process that is killed leaves the temporary files, which may be deleted.
///
/// ```
/// # use steermap_maps::{FloatDtype, LayerPair, MapFile, MapHeader, FileError};
/// use steermap_maps::MapWriter;
///
/// # fn write(path: &std::path::Path, header: MapHeader, fitted: Vec<LayerPair>) -> Result<MapFile, FileError> {
/// let mut writer = MapWriter::create(path, header, fitted.len())?.with_dtype(FloatDtype::Bf16);
/// for pair in fitted {
///     writer.push(&pair)?;
/// }
/// writer.finish()
/// # }
/// ```
#[derive(Debug)]
pub struct MapWriter {
    path: PathBuf,
    header: MapHeader,
    /// How many pairs were announced.
    announced: usize,
    /// The dtype of the matrices; `None` keeps that of each pair.
    dtype: Option<FloatDtype>,
    file_bytes: u64,
    checker: PairChecker,
    pairs: Vec<PairTable>,
    /// Bytes of the TOML file so far, without the list of weights files.
    text_bytes: u64,
    /// The file that is being written; `None` after a failed write.
    current: Option<TensorWriter<NamedTempFile>>,
    whole: Vec<(NamedTempFile, Weights)>,
    replacement: Replacement,
}

impl MapWriter {
    /// Begins a map file. `path` is that of the TOML file. `pairs` is how many will come, so that the files of weights
    /// have room to list them; if more come, they go to another file.
    ///
    /// # Errors
    ///
    /// [`FileError::Name`] if the path isn't one for a TOML file, [`FileError::NotAFile`] if it is a folder or the
    /// like, [`FileError::Write`] if the folder isn't writable, [`FileError::Invalid`] for a header that
    /// [`MapFile::new`] refuses.
    pub fn create(path: &Path, header: MapHeader, pairs: usize) -> Result<Self, FileError> {
        header.check().map_err(|problem| problem.within(path))?;
        let replacement = Replacement::new(path)?;
        if path.exists() && !path.is_file() {
            return Err(FileError::NotAFile {
                path: path.to_owned(),
                role: "a TOML file to replace, or nothing",
            });
        }
        let table = MapTable::new(header.clone(), Vec::new(), Vec::new());
        let text = store::to_text(path, &table, MAX_MAP_TOML_BYTES)?;
        let mut writer = Self {
            path: path.to_owned(),
            header,
            announced: pairs,
            dtype: None,
            file_bytes: MAX_FILE_BYTES,
            checker: PairChecker::default(),
            pairs: Vec::new(),
            text_bytes: text.len() as u64,
            current: None,
            whole: Vec::new(),
            replacement,
        };
        writer.begin_file()?;
        Ok(writer)
    }

    /// Writes all matrices in one dtype; without this each pair keeps its dtype. Biases are always `f32`.
    pub fn with_dtype(mut self, dtype: FloatDtype) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Begins another weights file when the next pair would make the current one larger than this, instead of
    /// [`MAX_FILE_BYTES`].
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// Writes a pair's weights. Pairs are numbered from 0 in the order of these calls.
    ///
    /// # Errors
    ///
    /// The pair is left out if [`MapFile::new`] would refuse it, if the dtype can't hold one of its numbers
    /// ([`Problem::BeyondDtype`](crate::Problem::BeyondDtype)), or if [`PairMap::load`](super::PairMap::load) fails.
    /// [`FileError::TooLarge`] if the TOML file would be too large to load. [`FileError::Write`], after which the
    /// writer writes nothing more.
    pub fn push(&mut self, pair: &LayerPair) -> Result<(), FileError> {
        let index = self.pairs.len();
        let map = pair.map.load()?;
        let dtype = self.dtype.unwrap_or_else(|| map.dtype());
        let checked = pair.check_shape(index, &self.header);
        let checked = checked.and_then(|()| map.check_numbers(index, dtype));
        let checked = checked.and_then(|()| {
            // Last, since it remembers the pair.
            self.checker
                .check(&self.header, &pair.source_layers, pair.target_layer, &pair.fit)
        });
        checked.map_err(|problem| problem.within(&self.path))?;

        let sha256 = sha256_of(&map, dtype);
        self.make_room(map.bytes_as(dtype))?;
        let table = PairTable::new(pair, index, self.whole.len(), dtype, sha256);
        let text_bytes = self.text_bytes + table.text_bytes(&self.path)?;
        read::check_length(&self.path, text_bytes, MAX_MAP_TOML_BYTES)?;
        self.text_bytes = text_bytes;
        self.write(index, &map, dtype)?;
        self.pairs.push(table);
        Ok(())
    }

    /// Puts the map file in place, and loads it.
    ///
    /// # Errors
    ///
    /// [`Problem::NoPairs`](crate::Problem::NoPairs), [`FileError::TooLarge`] if the TOML file would be too large to
    /// load, [`FileError::Write`] if the operating system refuses. Nothing has changed then.
    pub fn finish(mut self) -> Result<MapFile, FileError> {
        self.checker.end().map_err(|problem| problem.within(&self.path))?;
        self.end_file()?;
        let weights = self.whole.iter().map(|(_, weights)| weights.clone()).collect();
        let table = MapTable::new(self.header, weights, self.pairs);
        let text = store::to_text(&self.path, &table, MAX_MAP_TOML_BYTES)?;
        for (tensors, weights) in self.whole {
            self.replacement.place(tensors, &weights)?;
        }
        self.replacement.commit(&text)?;
        MapFile::load(&self.path)
    }

    /// Begins another file if a pair of this many bytes doesn't fit into the current one.
    fn make_room(&mut self, bytes: u64) -> Result<(), FileError> {
        let Some(current) = &self.current else {
            return Err(self.failed_before());
        };
        let fits = current.len() + bytes <= self.file_bytes || current.is_empty();
        if fits && current.has_room(TENSORS_OF_A_PAIR) {
            return Ok(());
        }
        if !current.is_empty() {
            self.end_file()?;
        }
        self.begin_file()
    }

    fn begin_file(&mut self) -> Result<(), FileError> {
        let pairs = self.announced.saturating_sub(self.pairs.len()).max(1);
        let file = self.replacement.temporary()?;
        let writer = TensorWriter::new(file, pairs.saturating_mul(TENSORS_OF_A_PAIR));
        self.current = Some(writer.map_err(|error| FileError::write(&self.path, error))?);
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), FileError> {
        let Some(current) = self.current.take() else {
            return Err(self.failed_before());
        };
        let finish = || {
            let mut file = current.finish()?;
            file.seek(SeekFrom::Start(0))?;
            let sha256 = digest::hash_rest(file.as_file_mut())?;
            Ok((file, digest::hex(&sha256)))
        };
        let (file, sha256) = finish().map_err(|error| FileError::write(&self.path, error))?;
        let weights = self.replacement.weights(sha256);
        self.whole.push((file, weights));
        Ok(())
    }

    fn write(&mut self, pair: usize, map: &LinearMap, dtype: FloatDtype) -> Result<(), FileError> {
        let Some(mut current) = self.current.take() else {
            return Err(self.failed_before());
        };
        let written = write_tensors(&mut current, pair, map, dtype);
        written.map_err(|error| FileError::write(&self.path, error))?;
        self.current = Some(current);
        Ok(())
    }

    fn failed_before(&self) -> FileError {
        FileError::write(&self.path, std::io::Error::other("an earlier write failed"))
    }
}

impl MapFile {
    /// Writes the map file so that, whenever anyone looks, `path` loads as all of what it was or all of what it is to
    /// be: as [`VectorFile::save`](crate::VectorFile::save), with the same rules for names, writers and readers.
    /// Weights keep their dtypes. For pairs that aren't all at hand, or another dtype, see [`MapWriter`].
    ///
    /// # Errors
    ///
    /// As [`MapWriter`]. Nothing has changed then.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let mut writer = MapWriter::create(path, self.header.clone(), self.pairs.len())?;
        self.pairs.iter().try_for_each(|pair| writer.push(pair))?;
        writer.finish().map(drop)
    }
}

/// Writes a map's tensors, in the order in which they are hashed.
fn write_tensors(
    file: &mut TensorWriter<NamedTempFile>,
    pair: usize,
    map: &LinearMap,
    dtype: FloatDtype,
) -> std::io::Result<()> {
    let keys = map.kind().matrices(map.rows(), map.columns());
    for ((key, shape), matrix) in keys.into_iter().zip(map.matrices()) {
        file.begin(tensor_name(pair, key), dtype.safetensors(), shape.to_vec());
        matrix.pieces(dtype, |bytes| file.write(bytes))?;
    }
    file.begin(bias_name(pair), safetensors::Dtype::F32, vec![map.bias().len()]);
    let bias: Vec<u8> = map.bias().iter().flat_map(|value| value.to_le_bytes()).collect();
    file.write(&bias)
}

#[cfg(test)]
mod tests;
