//! Safetensors files.

use std::io::Read;

use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo};

use super::error::{ForeignError, shown};
use super::tensors::{Contents, Dtype, View};

/// The most bytes of a header: the limit of the safetensors crate.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes at the start of a file that state the length of the header.
const LENGTH_BYTES: usize = 8;

/// The positions of a file's tensors, checked: they follow one another without gaps, up to the end of the file.
pub(crate) struct SafetensorsHeader {
    metadata: Metadata,
    /// The position of the first tensor.
    pub(crate) data: u64,
}

impl SafetensorsHeader {
    /// Reads only the header at the start of a file of `length` bytes.
    ///
    /// # Errors
    ///
    /// The bytes are not a complete safetensors file.
    // As in `steermap_maps::tensors`: `SafeTensors::deserialize` of safetensors 0.7.0 adds up offsets unchecked.
    pub(crate) fn read(file: &mut impl Read, length: u64) -> Result<Self, ForeignError> {
        let wrong = |found: String| ForeignError::value("header", found, "the header of a complete safetensors file");
        let left = length.saturating_sub(LENGTH_BYTES as u64);
        let mut first = [0; LENGTH_BYTES];
        if length < LENGTH_BYTES as u64 || file.read_exact(&mut first).is_err() {
            return Err(wrong(format!("{length} bytes")));
        }
        let header_length = u64::from_le_bytes(first);
        if header_length > left.min(MAX_HEADER) {
            return Err(wrong(format!("a length of {header_length} bytes, with {left} left")));
        }
        let mut header = Vec::new();
        file.take(header_length)
            .read_to_end(&mut header)
            .map_err(|error| wrong(error.to_string()))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| wrong(error.to_string()))?;
        let (tensors, left) = (metadata.data_len() as u64, left - header_length);
        if tensors != left {
            return Err(wrong(format!("tensors of {tensors} bytes, with {left} left")));
        }
        Ok(Self {
            metadata,
            data: LENGTH_BYTES as u64 + header_length,
        })
    }

    /// The tensors' names, ascending.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// The header's entry for a tensor.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// The texts of the file's metadata.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&String, &String)> {
        self.metadata.metadata().iter().flatten()
    }
}

/// The dtype, if it is a supported floating-point format.
pub(crate) fn dtype(stored: Stored) -> Option<Dtype> {
    match stored {
        Stored::F16 => Some(Dtype::F16),
        Stored::BF16 => Some(Dtype::Bf16),
        Stored::F32 => Some(Dtype::F32),
        Stored::F64 => Some(Dtype::F64),
        _ => None,
    }
}

/// The tensors of a file.
///
/// # Errors
///
/// Bytes that aren't a whole safetensors file.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, ForeignError> {
    let header = SafetensorsHeader::read(&mut &*bytes, bytes.len() as u64)?;
    let data = usize::try_from(header.data)
        .ok()
        .and_then(|start| bytes.get(start..))
        .unwrap_or_default();
    let mut contents = Contents::default();
    for (key, text) in header.texts() {
        contents.others.insert(key.clone(), text.clone());
    }
    for name in header.names() {
        let Some(info) = header.info(&name) else { continue };
        match dtype(info.dtype) {
            Some(dtype) => {
                let view = View::rows(dtype, info.shape.clone());
                let view = view.ok_or_else(|| {
                    ForeignError::value(
                        shown(&name),
                        format!("shape {:?}", info.shape),
                        "one that fits the file",
                    )
                })?;
                let (start, end) = info.data_offsets;
                contents.push(&name, &view, data.get(start..end).unwrap_or_default())?;
            }
            None => {
                contents.others.insert(name, format!("a tensor of {}", info.dtype));
            }
        }
    }
    Ok(contents)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file with this header and these bytes after it.
    pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn tensors_are_read_and_others_named() {
        let header = r#"{"__metadata__":{"layer_type":"mlp"},
            "b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
            "a":{"dtype":"I64","shape":[1],"data_offsets":[4,12]}}"#;
        let data = [&[0x00, 0x3c, 0x00, 0xc0][..], &7u64.to_le_bytes()].concat();
        let contents = read(&file(header, &data)).unwrap();
        assert_eq!(contents.tensors.len(), 1);
        assert_eq!(contents.tensors[0].values, [1.0, -2.0]);
        assert_eq!(contents.others["a"], "a tensor of I64");
        assert_eq!(contents.others["layer_type"], "mlp");
    }

    #[test]
    fn hostile_headers_are_refused() {
        let header = |offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        let good = file(&header("[0,8]"), &[0; 8]);
        assert!(read(&good).is_ok());
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "{end}");
        }
        for offsets in ["[0,4]", "[4,12]", "[8,0]", "[0,18446744073709551615]", "[-1,7]"] {
            assert!(read(&file(&header(offsets), &[0; 8])).is_err(), "{offsets}");
        }
        let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        let error = read(&huge).err().unwrap().to_string();
        assert!(
            error.starts_with("header: found a length of 18446744073709551615 bytes"),
            "{error}"
        );
        let shape = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,8]}}"#;
        assert!(read(&file(shape, &[0; 8])).is_err());
    }
}
