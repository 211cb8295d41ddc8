//! One safetensors file of states.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorView};

use super::index::{ActivationsHeader, ShardEntry};
use crate::dtype::FloatDtype;
use crate::error::{FileError, Problem};
use crate::{atomic, digest, read};

/// Maximum number of bytes of a shard's safetensors header: enough for thousands of layers.
const MAX_HEADER_BYTES: u64 = 16 << 20;
const ROLE: &str = "a shard that the index of activations names";

/// In `ends`: a token that stands for no text.
const NO_TEXT: i64 = -1;
/// In `ends`: a token that has text, but no certain end.
const NO_END: i64 = -2;

/// The tokens of a window, and its states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CapturedWindow {
    /// SHA-256 of the document.
    pub document: [u8; 32],
    /// The byte of the document that the window begins at.
    pub start: u64,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// By token: the byte of the document up to which it has read; `None` for a token that stands for no text, or has
    /// no certain end.
    pub ends: Vec<Option<u64>>,
    /// By token: whether it stands for no text.
    pub special: Vec<bool>,
    /// By layer: `[tokens, hidden_size]`, row by row.
    pub states: Vec<Vec<f32>>,
}

/// A shard that is being filled. The states are held in their stored form.
#[derive(Debug)]
pub struct ShardBuilder {
    header: ActivationsHeader,
    documents: Vec<u8>,
    starts: Vec<u64>,
    offsets: Vec<u64>,
    tokens: Vec<u32>,
    ends: Vec<i64>,
    /// By layer.
    states: Vec<Vec<u8>>,
}

impl ShardBuilder {
    /// An empty shard of a folder with this header.
    pub fn new(header: ActivationsHeader) -> Self {
        Self {
            states: vec![Vec::new(); header.layers.len()],
            header,
            documents: Vec::new(),
            starts: Vec::new(),
            offsets: vec![0],
            tokens: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a window. Its lists have an entry for each token, its states one for each of the header's layers.
    ///
    /// # Errors
    ///
    /// A state that is not finite, or not in the dtype of the shard: `layer 3, document 0123…, token 7: found inf,
    /// expected …`. Lists of other lengths. Then nothing was added.
    pub fn push(&mut self, window: &CapturedWindow) -> Result<(), Problem> {
        let (tokens, width) = (window.tokens.len(), self.header.model.hidden_size);
        let fits = window.ends.len() == tokens
            && window.special.len() == tokens
            && window.states.len() == self.states.len()
            && window.states.iter().all(|states| states.len() == tokens * width);
        if !fits {
            let expected = format!("{tokens} ends and {} layers of {tokens} states", self.states.len());
            return Err(Problem::implied("window", "lists of other lengths", expected));
        }
        let dtype = self.header.dtype;
        for (states, layer) in window.states.iter().zip(&self.header.layers) {
            if let Some(index) = states.iter().position(|&state| !dtype.round(state).is_finite()) {
                let document = digest::hex(&window.document[..4]);
                let expected = if states[index].is_finite() {
                    format!("a number that {} can hold: capture in bf16 or f32", dtype.name())
                } else {
                    format!("finite states; the stream's dtype was {}", self.header.numerics.dtype)
                };
                let field = format!(
                    "{}, layer {layer}, document {document}…, token {}, dimension {}",
                    self.header.model.model,
                    index / width,
                    index % width
                );
                return Err(Problem::implied(field, states[index], expected));
            }
        }
        self.documents.extend_from_slice(&window.document);
        self.starts.push(window.start);
        self.tokens.extend_from_slice(&window.tokens);
        self.offsets.push(self.tokens.len() as u64);
        let no_end = |special: bool| if special { NO_TEXT } else { NO_END };
        let ends = window.ends.iter().zip(&window.special);
        self.ends
            .extend(ends.map(|(end, &special)| end.map_or(no_end(special), |end| end as i64)));
        for (to, states) in self.states.iter_mut().zip(&window.states) {
            dtype.encode(states, to);
        }
        Ok(())
    }

    /// Windows in it.
    pub fn windows(&self) -> usize {
        self.starts.len()
    }

    /// Tokens in it.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Bytes of its states.
    pub fn bytes(&self) -> usize {
        self.states.iter().map(Vec::len).sum()
    }

    /// Writes the file atomically.
    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        fn le<T: Copy, const N: usize>(numbers: &[T], convert: fn(T) -> [u8; N]) -> Vec<u8> {
            numbers.iter().flat_map(|&number| convert(number)).collect()
        }
        let (windows, tokens) = (self.windows(), self.tokens());
        let starts = le(&self.starts, u64::to_le_bytes);
        let offsets = le(&self.offsets, u64::to_le_bytes);
        let ids = le(&self.tokens, u32::to_le_bytes);
        let ends = le(&self.ends, i64::to_le_bytes);
        let dtype = self.header.dtype.safetensors();
        let width = self.header.model.hidden_size;
        let small: [(&str, Dtype, Vec<usize>, &[u8]); 5] = [
            ("documents", Dtype::U8, vec![windows, 32], &self.documents),
            ("starts", Dtype::U64, vec![windows], &starts),
            ("offsets", Dtype::U64, vec![windows + 1], &offsets),
            ("tokens", Dtype::U32, vec![tokens], &ids),
            ("ends", Dtype::I64, vec![tokens], &ends),
        ];
        let small = small
            .into_iter()
            .map(|(name, dtype, shape, bytes)| (name.to_owned(), dtype, shape, bytes));
        let layers = self.header.layers.iter().zip(&self.states);
        let layers = layers.map(|(layer, bytes)| (layer_name(*layer), dtype, vec![tokens, width], bytes.as_slice()));
        let views = small.chain(layers).map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(dtype, shape, bytes);
            view.map(|view| (name, view)).map_err(broken)
        });
        let views: Result<Vec<_>, Problem> = views.collect();
        let views = views.map_err(|problem| problem.within(path))?;
        let written = atomic::write_at(path, |temporary| {
            safetensors::serialize_to_file(views, None, temporary).map_err(|error| match error {
                safetensors::SafeTensorError::IoError(error) => error,
                other => std::io::Error::other(other),
            })
        });
        written.map_err(|error| FileError::write(path, error))
    }
}

fn layer_name(layer: usize) -> String {
    format!("layer.{layer}")
}

fn broken(error: safetensors::SafeTensorError) -> Problem {
    Problem::Safetensors {
        message: error.to_string(),
    }
}

/// A window of text in a folder, and the place of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowEntry {
    /// SHA-256 of the document.
    pub document: [u8; 32],
    /// The byte of the document that it begins at.
    pub start: u64,
    /// Its shard, in the index' order.
    pub(super) shard: u32,
    /// Its first token in the shard.
    pub(super) first: u64,
    /// Its tokens.
    pub tokens: u64,
}

/// A shard that is being read.
#[derive(Debug)]
pub(super) struct ShardFile {
    path: PathBuf,
    metadata: Metadata,
    /// Where the tensors begin in the file.
    data: u64,
    windows: u64,
    tokens: u64,
}

/// Types of whole numbers that other programs write.
const WHOLE: [Dtype; 4] = [Dtype::I64, Dtype::U64, Dtype::I32, Dtype::U32];

impl ShardFile {
    /// Reads the file's header, and checks that all tensors are there as they must be.
    pub fn open(path: &Path, header: &ActivationsHeader, entry: &ShardEntry) -> Result<Self, FileError> {
        let (mut file, length) = read::open(path, ROLE)?;
        let mut size = [0; 8];
        let invalid = |problem: Problem| problem.within(path);
        let short = |message: String| Problem::Safetensors { message };
        if length < 8 {
            return Err(invalid(short(format!("{length} bytes, expected at least 8"))));
        }
        let failed = |error| FileError::read(path, error);
        file.read_exact(&mut size).map_err(failed)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER_BYTES.min(length - 8) {
            return Err(invalid(short(format!(
                "a header of {size} bytes in a file of {length}"
            ))));
        }
        let mut head = vec![0; size as usize];
        file.read_exact(&mut head).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&head).map_err(|error| invalid(short(error.to_string())))?;
        let (found, expected) = (length - 8 - size, metadata.data_len() as u64);
        if found != expected {
            return Err(invalid(short(format!(
                "{found} bytes of tensors, but the header states {expected}"
            ))));
        }
        let shard = Self {
            path: path.to_owned(),
            metadata,
            data: 8 + size,
            windows: entry.windows,
            tokens: entry.tokens,
        };
        shard.check(header).map_err(invalid)?;
        Ok(shard)
    }

    fn check(&self, header: &ActivationsHeader) -> Result<(), Problem> {
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let (windows, tokens) = (count(self.windows), count(self.tokens));
        let states = header.dtype.safetensors();
        let mut expected: BTreeMap<String, (&[Dtype], Vec<usize>)> = BTreeMap::from([
            ("documents".to_owned(), (&[Dtype::U8][..], vec![windows, 32])),
            ("starts".to_owned(), (&WHOLE[..], vec![windows])),
            ("offsets".to_owned(), (&WHOLE[..], vec![windows.saturating_add(1)])),
            ("tokens".to_owned(), (&WHOLE[..], vec![tokens])),
            ("ends".to_owned(), (&WHOLE[..], vec![tokens])),
        ]);
        let states = [states];
        for &layer in &header.layers {
            expected.insert(layer_name(layer), (&states[..], vec![tokens, header.model.hidden_size]));
        }
        for (tensor, (dtypes, shape)) in &expected {
            let Some(info) = self.metadata.info(tensor) else {
                let tensor = tensor.clone();
                return Err(Problem::MissingTensor { tensor });
            };
            if !dtypes.contains(&info.dtype) {
                let names: Vec<String> = dtypes.iter().map(ToString::to_string).collect();
                let field = format!("tensor {tensor:?}, dtype");
                return Err(Problem::implied(field, info.dtype, names.join(" or ")));
            }
            if info.shape != *shape {
                return Err(Problem::Shape {
                    tensor: tensor.clone(),
                    found: info.shape.clone(),
                    expected: shape.clone(),
                });
            }
        }
        match self
            .metadata
            .offset_keys()
            .into_iter()
            .find(|name| !expected.contains_key(name))
        {
            Some(tensor) => Err(Problem::ExtraTensor { tensor }),
            None => Ok(()),
        }
    }

    /// Documents, starts, first tokens and numbers of tokens of all windows.
    #[allow(clippy::type_complexity)]
    pub fn windows(&self) -> Result<Vec<([u8; 32], u64, u64, u64)>, FileError> {
        let windows = usize::try_from(self.windows).unwrap_or(usize::MAX);
        let documents = self.bytes("documents", 0, windows * 32)?;
        let starts = self.numbers("starts", 0, windows)?;
        let offsets = self.numbers("offsets", 0, windows + 1)?;
        let ascends = offsets.is_sorted()
            && offsets.first() == Some(&0)
            && offsets
                .last()
                .is_some_and(|&last| i64::try_from(self.tokens) == Ok(last));
        if !ascends {
            let expected = "numbers that ascend from 0 to the number of tokens";
            return Err(Problem::value("tensor \"offsets\"", "others", expected).within(&self.path));
        }
        if let Some(start) = starts.iter().find(|start| **start < 0) {
            return Err(Problem::value("tensor \"starts\"", start, "0 or more").within(&self.path));
        }
        let documents = documents.as_chunks::<32>().0.iter();
        let windows = documents.zip(&starts).zip(offsets.windows(2));
        let window = |((document, start), offsets): ((&[u8; 32], &i64), &[i64])| {
            let (first, end) = (offsets[0] as u64, offsets[1] as u64);
            (*document, *start as u64, first, end - first)
        };
        Ok(windows.map(window).collect())
    }

    /// Reads a window.
    pub fn read(
        &self,
        window: &WindowEntry,
        layers: &[usize],
        header: &ActivationsHeader,
    ) -> Result<CapturedWindow, FileError> {
        let (first, count) = (window.first as usize, window.tokens as usize);
        let invalid = |problem: Problem| problem.within(&self.path);
        let tokens = self.numbers("tokens", first, count)?;
        let tokens: Option<Vec<u32>> = tokens.iter().map(|&token| u32::try_from(token).ok()).collect();
        let tokens = tokens.ok_or_else(|| {
            invalid(Problem::value(
                "tensor \"tokens\"",
                "a number that is not a token id",
                "0 to 2^32 - 1",
            ))
        })?;
        let ends = self.numbers("ends", first, count)?;
        let special = ends.iter().map(|&end| end == NO_TEXT).collect();
        let ends: Vec<Option<u64>> = ends.iter().map(|&end| u64::try_from(end).ok()).collect();
        if ends.iter().flatten().any(|end| *end < window.start) {
            let expected = "bytes of the document that are not before the window's start";
            return Err(invalid(Problem::value("tensor \"ends\"", "others", expected)));
        }
        let width = header.model.hidden_size;
        let mut states = Vec::with_capacity(layers.len());
        for layer in layers {
            let name = layer_name(*layer);
            let size = width * header.dtype.bytes();
            let bytes = self.bytes(&name, first * size, count * size)?;
            let values = decode(&bytes, header.dtype);
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(invalid(Problem::NotFinite {
                    tensor: name,
                    index: first * width + index,
                    found: f64::from(values[index]),
                }));
            }
            states.push(values);
        }
        Ok(CapturedWindow {
            document: window.document,
            start: window.start,
            tokens,
            ends,
            special,
            states,
        })
    }

    /// Whole numbers of a tensor.
    fn numbers(&self, tensor: &str, first: usize, count: usize) -> Result<Vec<i64>, FileError> {
        let dtype = self.metadata.info(tensor).map_or(Dtype::I64, |info| info.dtype);
        let size = dtype.bitsize() / 8;
        let bytes = self.bytes(tensor, first * size, count * size)?;
        fn convert<const N: usize>(bytes: &[u8], to: fn([u8; N]) -> i64) -> Vec<i64> {
            bytes.as_chunks::<N>().0.iter().map(|bytes| to(*bytes)).collect()
        }
        Ok(match dtype {
            Dtype::U32 => convert(&bytes, |bytes| i64::from(u32::from_le_bytes(bytes))),
            Dtype::I32 => convert(&bytes, |bytes| i64::from(i32::from_le_bytes(bytes))),
            // Numbers above i64::MAX become negative and are refused where they are used.
            Dtype::U64 => convert(&bytes, |bytes| u64::from_le_bytes(bytes) as i64),
            _ => convert(&bytes, i64::from_le_bytes),
        })
    }

    /// Bytes of a tensor, from one on.
    fn bytes(&self, tensor: &str, from: usize, count: usize) -> Result<Vec<u8>, FileError> {
        let info = self.metadata.info(tensor).ok_or_else(|| {
            let tensor = tensor.to_owned();
            Problem::MissingTensor { tensor }.within(&self.path)
        })?;
        let start = self.data + (info.data_offsets.0 + from) as u64;
        // Opened for each read, since there may be more shards than a process may have open files.
        let mut bytes = vec![0; count];
        let (mut file, _) = read::open(&self.path, ROLE)?;
        let filled = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut bytes));
        filled.map_err(|error| FileError::read(&self.path, error))?;
        Ok(bytes)
    }
}

fn decode(bytes: &[u8], dtype: FloatDtype) -> Vec<f32> {
    let mut states = vec![0.0; bytes.len() / dtype.bytes()];
    dtype.decode(bytes, &mut states);
    states
}
