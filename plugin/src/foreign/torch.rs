//! PyTorch's files, as `torch.save` writes them since version 1.6: a zip file with a pickle that describes the value,
//! and one entry with the numbers of each storage.
//!
//! | entry | what it is |
//! | --- | --- |
//! | `NAME/data.pkl` | the pickle, see [`super::pickle`] |
//! | `NAME/data/KEY` | a storage's numbers |
//! | `NAME/byteorder` | `little` or `big`; absent in old files, which are little-endian |

use std::collections::BTreeMap;

use super::archive::{Archive, MAGIC};
use super::error::{ForeignError, shown};
use super::pickle::{self, Leaf, PickleValue, Storage, TensorRef};
use super::tensors::{Contents, View};

/// The tensors of a file. The keys of nested dictionaries are joined by dots.
///
/// # Errors
///
/// The bytes are not such a file, the pickle has something other than tensors, texts and numbers, or a tensor lies
/// outside of its storage.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, ForeignError> {
    if bytes.first() == Some(&0x80) && !bytes.starts_with(MAGIC) {
        let found = "a pickle: the format of PyTorch before version 1.6, or of another program";
        let expected = "the format of torch.save since version 1.6 (if you trust the file, load it and save it again)";
        return Err(ForeignError::value("format", found, expected));
    }
    let mut archive = Archive::open(bytes)?;
    let names = archive.names();
    let mut pickles = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
    let folder = match (pickles.next(), pickles.next()) {
        (Some(folder), None) if folder.is_empty() || folder.ends_with('/') => folder.to_string(),
        _ => {
            return Err(ForeignError::value(
                "entries",
                "no single data.pkl",
                "one, as torch.save writes it",
            ));
        }
    };
    let byteorder = format!("{folder}byteorder");
    if names.contains(&byteorder) && archive.read(&byteorder)? != b"little" {
        return Err(ForeignError::value("byteorder", "another", "little"));
    }
    let items = pickle::read(&archive.read(&format!("{folder}data.pkl"))?)?;
    let mut reader = StorageReader {
        archive,
        folder,
        storages: BTreeMap::new(),
        contents: Contents::default(),
    };
    for item in items {
        match item.value {
            PickleValue::Leaf(Leaf::Tensor(tensor)) => reader.push(&item.name, &tensor)?,
            PickleValue::Leaf(Leaf::Other(text)) => {
                reader.contents.others.insert(item.name, text);
            }
            PickleValue::Stack(tensors) => reader.push_stack(&item.name, &tensors)?,
        }
    }
    Ok(reader.contents)
}

struct StorageReader<'a> {
    archive: Archive<'a>,
    folder: String,
    /// The bytes of the storages that were read.
    storages: BTreeMap<String, Vec<u8>>,
    contents: Contents,
}

impl StorageReader<'_> {
    fn push(&mut self, name: &str, tensor: &TensorRef) -> Result<(), ForeignError> {
        let Some(dtype) = tensor.storage.dtype else {
            let other = "a tensor of another type".to_string();
            self.contents.others.insert(name.to_string(), other);
            return Ok(());
        };
        self.load(&tensor.storage, dtype.width())?;
        let view = View {
            dtype,
            shape: tensor.shape.clone(),
            strides: tensor.strides.clone(),
            offset: tensor.offset,
        };
        let bytes = self.storages.get(&tensor.storage.key).map(Vec::as_slice);
        self.contents.push(name, &view, bytes.unwrap_or_default())
    }

    /// Reads a storage, unless it was read before.
    fn load(&mut self, storage: &Storage, width: usize) -> Result<(), ForeignError> {
        let Storage { key, length, .. } = storage;
        let expected = length.checked_mul(width);
        if !self.storages.contains_key(key) {
            let bytes = self.archive.read(&format!("{}data/{key}", self.folder))?;
            self.storages.insert(key.clone(), bytes);
        }
        let found = self.storages.get(key).map(Vec::len);
        if found != expected {
            let found = format!("{} bytes", found.unwrap_or_default());
            return Err(ForeignError::value(
                format!("storage {}", shown(key)),
                found,
                format!("{length} numbers of {width}"),
            ));
        }
        Ok(())
    }

    /// Adds the tensors of a list: as one tensor if their shapes are equal, with one more dimension that counts them.
    fn push_stack(&mut self, name: &str, tensors: &[TensorRef]) -> Result<(), ForeignError> {
        let before = self.contents.tensors.len();
        for (index, tensor) in tensors.iter().enumerate() {
            self.push(&format!("{name}[{index}]"), tensor)?;
        }
        let alike = self.contents.tensors.get(before..).unwrap_or_default();
        let Some(first) = alike.first() else { return Ok(()) };
        if alike.len() == tensors.len() && alike.iter().all(|tensor| tensor.shape == first.shape) {
            let shape = [&[alike.len()], &first.shape[..]].concat();
            let stacked = self.contents.tensors.split_off(before);
            self.contents.tensors.push(super::tensors::Tensor {
                name: name.to_string(),
                shape,
                values: stacked.into_iter().flat_map(|tensor| tensor.values).collect(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
