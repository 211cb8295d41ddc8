//! A safetensors file of any size: its header in memory, its tensors mapped when they are used.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::error::{FileError, Problem};
use crate::read;
use crate::tensors::{LENGTH_BYTES, TensorLayout, header_length};

/// Bytes that are mapped at a time to hash a file: what of it counts as this process's memory.
const HASHED_AT_A_TIME: u64 = 16 << 20;

/// An open safetensors file whose layout has been checked. None of its tensors has been read.
///
/// The file stays open, so its tensors can be read even after it was replaced or deleted. This crate writes files
/// atomically, under a name made from their content (see [`atomic`](crate::atomic) and `store`), and never changes an
/// existing one. Other programs may. If a file is written to in place, a mapped tensor may show the new bytes: changes
/// before its hash is checked are found, later ones are not. A file that was cut short is found when the next tensor is
/// mapped; if it is cut short while a tensor is in use, the process ends (SIGBUS).
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    /// In bytes, when it was opened.
    length: u64,
    /// Where the first tensor begins.
    data: u64,
    layout: TensorLayout,
}

impl TensorFile {
    /// Opens a file and reads its header. `role` says what the file is for, in error messages.
    pub(crate) fn open(path: &Path, role: &'static str) -> Result<Self, FileError> {
        let (mut file, length) = read::open(path, role)?;
        let mut first = Vec::new();
        let failed = |error| FileError::read(path, error);
        let within = |problem: Problem| problem.within(path);
        read_up_to(&mut file, LENGTH_BYTES, &mut first).map_err(failed)?;
        let header_length = header_length(&first, length).map_err(within)?;
        let mut header = Vec::new();
        read_up_to(&mut file, header_length, &mut header).map_err(failed)?;
        let data = (LENGTH_BYTES + header_length) as u64;
        let layout = TensorLayout::parse(&header, length - data).map_err(within)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            data,
            layout,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn layout(&self) -> &TensorLayout {
        &self.layout
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Maps a tensor's bytes, as found by [`TensorLayout::range`], into memory. They are read on first access.
    pub(crate) fn tensor(&self, range: &Range<usize>) -> Result<Mmap, FileError> {
        self.map(self.data + range.start as u64, range.len())
    }

    /// The SHA-256 of the whole file, as 64 lower-case hex digits. Reads the file in pieces.
    pub(crate) fn sha256(&self) -> Result<String, FileError> {
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < self.length {
            let piece = HASHED_AT_A_TIME.min(self.length - at);
            hash.update(&self.map(at, piece as usize)?);
            at += piece;
        }
        Ok(hex(&hash.finalize()))
    }

    fn map(&self, offset: u64, length: usize) -> Result<Mmap, FileError> {
        let failed = |error| FileError::read(&self.path, error);
        let now = self.file.metadata().map_err(failed)?.len();
        if now < self.length {
            let was = self.length;
            let message = format!("{now} bytes, but {was} when it was opened");
            return Err(Problem::Safetensors { message }.within(&self.path));
        }
        // SAFETY: the bytes must not change while they are mapped. This crate never writes to a file under its final
        // name, and the file was at least this long a moment ago. Whether other programs write to it can't be checked;
        // the type's documentation says what happens then.
        unsafe { MmapOptions::new().offset(offset).len(length).map(&self.file) }.map_err(failed)
    }
}

/// Reads `length` bytes, or to the end of the file.
fn read_up_to(file: &mut File, length: usize, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    file.take(length as u64).read_to_end(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::Dtype;

    use super::*;
    use crate::digest::sha256;
    use crate::tensors::{TensorToWrite, encode};

    const VALUES: [f32; 4] = [1.0, -2.0, 3.5, 0.0];

    fn bytes() -> Vec<u8> {
        let tensor = |at: usize| TensorToWrite::f32(vec![2], &VALUES[at..at + 2]);
        let tensors = [("a".to_owned(), tensor(0)), ("b".to_owned(), tensor(2))];
        encode(tensors).unwrap()
    }

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        fs::write(&path, bytes()).unwrap();
        (folder, path)
    }

    /// The numbers of a mapped tensor.
    fn values(file: &TensorFile, name: &str) -> Result<Vec<f32>, FileError> {
        let range = file.layout().range(name, Dtype::F32, &[2]).unwrap();
        let bytes = file.tensor(&range)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }

    #[test]
    fn tensors_are_mapped_where_they_are() {
        let (_folder, path) = saved();
        let file = TensorFile::open(&path, "it").unwrap();
        assert_eq!(values(&file, "a").unwrap(), VALUES[..2]);
        assert_eq!(values(&file, "b").unwrap(), VALUES[2..]);
        assert_eq!(file.length(), bytes().len() as u64);
        assert_eq!(file.sha256().unwrap(), sha256(&bytes()));
    }

    /// The mapping outlives the file's name, and the file that takes its place is not seen.
    #[test]
    fn a_file_that_was_replaced_or_removed_stays_readable() {
        let (folder, path) = saved();
        let file = TensorFile::open(&path, "it").unwrap();
        let range = file.layout().range("a", Dtype::F32, &[2]).unwrap();
        let mapped = file.tensor(&range).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, vec![0xff; bytes().len()]).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(values(&file, "b").unwrap(), VALUES[2..]);
        fs::remove_file(&path).unwrap();
        assert_eq!(values(&file, "a").unwrap(), VALUES[..2]);
        drop(file);
        assert_eq!(mapped[..4], 1f32.to_le_bytes());
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let (_folder, path) = saved();
        let file = TensorFile::open(&path, "it").unwrap();
        let (was, now) = (bytes().len(), bytes().len() - 1);
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(now as u64)
            .unwrap();
        for error in [values(&file, "a").unwrap_err(), file.sha256().unwrap_err()] {
            let expected = format!("not a whole safetensors file: {now} bytes, but {was} when it was opened");
            assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let (_folder, path) = saved();
        let whole = bytes();
        let open = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            TensorFile::open(&path, "it")
        };
        for length in 0..whole.len() {
            let error = open(&whole[..length]).unwrap_err();
            let broken = matches!(
                &error,
                FileError::Invalid {
                    problem: Problem::Safetensors { .. },
                    ..
                }
            );
            assert!(broken, "{length}: {error}");
        }
        assert!(open(&[&whole[..], &[0]].concat()).is_err());
        assert!(open(&whole).is_ok());
        // A header of more bytes than there are is never read.
        for length in [u64::MAX, 1 << 40, whole.len() as u64] {
            let error = open(&[&length.to_le_bytes(), &whole[8..]].concat()).unwrap_err();
            assert!(error.to_string().contains("a header of"), "{error}");
        }
    }
}
