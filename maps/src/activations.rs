//! Residual streams on disk: a model's states at some layers, by window of text.
//!
//! A folder with an index, `activations.toml`, and any number of safetensors files ("shards"), each written atomically.
//! `mapper capture` writes such folders; any program that runs a model can, in twenty lines (`docs/src/reference/files.md` has them).
//! `mapper fit` pairs and fits from two of them without a model.
//!
//! ```toml
//! format = "steermap-activations/1"
//! complete = true                 # false: more may follow
//!
//! [model]                         # as in a vector file
//! model = "SmolLM2-135M"
//! fingerprint = "sm1:…"           # as `mapper inspect FOLDER-OF-THE-MODEL` prints it
//! hidden_size = 576
//! num_layers = 30
//! dtype = "f32"                   # the stream's while it ran
//! quantization = "q8_0"           # may be absent
//!
//! [capture]
//! layers = [0, 14, 29]            # of which there are states, ascending
//! dtype = "f16"                   # of the states in the shards: f32, f16 or bf16
//! window_bytes = 1024             # may be absent: how long a window is at most
//! part = [0, 1]                   # may be absent: which of how many parts of the corpus this is, from 0
//! command = "…"                   # may be absent
//!
//! [[corpus]]
//! name = "text.jsonl"
//! sha256 = "…"                    # of the file
//!
//! [[shard]]
//! file = "shard-00000.safetensors"
//! windows = 812
//! tokens = 190233
//! sha256 = "…"                    # may be absent: of the file; `mapper inspect` checks it
//! ```
//!
//! The tensors of a shard; whole numbers may be I64, U64, I32 or U32:
//!
//! | tensor | shape | |
//! | --- | --- | --- |
//! | `documents` | U8 `[windows, 32]` | SHA-256 of the text (UTF-8) of the document that the window is of |
//! | `starts` | `[windows]` | the byte of the document that the window begins at |
//! | `offsets` | `[windows + 1]` | the window's first token among those of the shard; the last is their number |
//! | `tokens` | `[tokens]` | token ids |
//! | `ends` | `[tokens]` | the byte of the document up to which the model has read at the token; -1 for a token that stands for no text, -2 for one whose end is not certain |
//! | `layer.L` | `[tokens, hidden_size]` | the stream after block `L`, in `capture.dtype` |
//!
//! Windows of two folders are paired where they begin at the same byte of the same document.

use std::fs;
use std::path::{Path, PathBuf};

use crate::digest;
use crate::error::{FileError, Problem};

pub use index::{ActivationsHeader, ActivationsIndex, FORMAT, INDEX, ShardEntry};
pub use shard::{CapturedWindow, ShardBuilder, WindowEntry};

use index::file_name;
use shard::ShardFile;

mod index;
mod shard;
#[cfg(test)]
mod tests;

/// A folder of activations, opened to be read. Only the layout of its shards is in memory.
#[derive(Debug)]
pub struct Activations {
    folder: PathBuf,
    index: ActivationsIndex,
    shards: Vec<ShardFile>,
    windows: Vec<WindowEntry>,
}

impl Activations {
    /// Opens a folder and checks everything but the states: the index, every shard's tensors, their types, shapes, and
    /// the places of its windows.
    ///
    /// # Errors
    ///
    /// [`FileError`] with the file that is wrong.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        let index = ActivationsIndex::load(folder)?;
        let mut windows = Vec::new();
        let mut shards = Vec::with_capacity(index.shards.len());
        for (place, entry) in index.shards.iter().enumerate() {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let shard = ShardFile::open(&folder.join(&entry.file), &index.header, entry)?;
            let table = shard.windows()?;
            windows.extend(table.into_iter().map(|(document, start, first, tokens)| WindowEntry {
                document,
                start,
                shard: place,
                first,
                tokens,
            }));
            shards.push(shard);
        }
        Ok(Self {
            folder: folder.to_owned(),
            index,
            shards,
            windows,
        })
    }

    /// The folder's path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The index.
    pub fn index(&self) -> &ActivationsIndex {
        &self.index
    }

    /// All windows, in the order of the text.
    pub fn windows(&self) -> &[WindowEntry] {
        &self.windows
    }

    /// Reads a window's tokens, and its states at `layers` in that order.
    ///
    /// # Errors
    ///
    /// A layer that the folder has no states of; ends that don't ascend, states that are not finite; the operating
    /// system's error.
    pub fn read(&self, window: &WindowEntry, layers: &[usize]) -> Result<CapturedWindow, FileError> {
        self.shards[window.shard as usize].read(window, layers, &self.index.header)
    }

    /// Reads every shard as a whole and compares it with its hash, if the index has one. `progress` gets the bytes
    /// read.
    ///
    /// # Errors
    ///
    /// A shard with another hash ([`Problem::Sha256`]), or the operating system's error.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<(), FileError> {
        for entry in &self.index.shards {
            let path = self.folder.join(&entry.file);
            if let Some(expected) = &entry.sha256 {
                let found = digest::sha256_file(&path)?;
                if found != *expected {
                    let expected = expected.clone();
                    return Err(Problem::Sha256 { found, expected }.within(&path));
                }
            }
            progress(fs::metadata(&path).map_or(0, |metadata| metadata.len()));
        }
        Ok(())
    }
}

/// Writes a folder, shard by shard, or continues an existing one.
#[derive(Debug)]
pub struct ActivationsWriter {
    folder: PathBuf,
    index: ActivationsIndex,
}

impl ActivationsWriter {
    /// Begins a folder, which is created if it doesn't exist, or continues that of an earlier run.
    ///
    /// # Errors
    ///
    /// A folder that holds the activations of another job, or the operating system's error.
    pub fn open(folder: &Path, header: ActivationsHeader) -> Result<Self, FileError> {
        fs::create_dir_all(folder).map_err(|error| FileError::write(folder, error))?;
        let path = folder.join(INDEX);
        if !path.exists() {
            let index = ActivationsIndex {
                header,
                complete: false,
                shards: Vec::new(),
            };
            index.save(folder)?;
            let folder = folder.to_owned();
            return Ok(Self { folder, index });
        }
        let mut index = ActivationsIndex::load(folder)?;
        let found = &mut index.header;
        // The same weights may have another name, the command may be spelt otherwise, and the text that was not read
        // yet may have been corrected; whoever goes on compares what was read.
        found.command = header.command.clone();
        found.model.model = header.model.model.clone();
        found.corpus = header.corpus.clone();
        let differs = |field: &str, found: String, expected: String| {
            let expected = format!("{expected}: the folder holds another job's activations: give another --out");
            Err(Problem::implied(field, found, expected).within(&path))
        };
        let quantization = |header: &ActivationsHeader| header.numerics.quantization.clone().unwrap_or_default();
        type Field = (&'static str, fn(&ActivationsHeader) -> String);
        let fields: [Field; 5] = [
            ("model.fingerprint", |header| header.model.fingerprint.clone()),
            ("capture.layers", |header| format!("{:?}", header.layers)),
            ("capture.dtype", |header| header.dtype.name().to_owned()),
            ("capture.window_bytes", |header| {
                header.window_bytes.map_or("none".to_owned(), |bytes| bytes.to_string())
            }),
            ("capture.part", |header| format!("{}/{}", header.part.0, header.part.1)),
        ];
        for (field, of) in fields {
            if of(found) != of(&header) {
                return differs(field, of(found), of(&header));
            }
        }
        if quantization(found) != quantization(&header) {
            return differs("model.quantization", quantization(found), quantization(&header));
        }
        // A shard may be there that the index doesn't list yet: it is written first. It will be written again, the
        // same.
        let folder = folder.to_owned();
        Ok(Self { folder, index })
    }

    /// The index as it is now.
    pub fn index(&self) -> &ActivationsIndex {
        &self.index
    }

    /// Windows in whole shards.
    pub fn windows(&self) -> u64 {
        self.index.shards.iter().map(|shard| shard.windows).sum()
    }

    /// Sets the stream's dtype, which is known once the model has run.
    ///
    /// # Errors
    ///
    /// Another than before.
    pub fn set_stream_dtype(&mut self, dtype: &str) -> Result<(), FileError> {
        let found = &mut self.index.header.numerics.dtype;
        if !self.index.shards.is_empty() && found != dtype {
            let problem = Problem::implied("model.dtype", dtype, format!("{found} as before"));
            return Err(problem.within(&self.folder.join(INDEX)));
        }
        dtype.clone_into(found);
        Ok(())
    }

    /// Writes a shard, then the index that lists it. A crash between the two leaves a shard that is written anew.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn push(&mut self, shard: ShardBuilder) -> Result<(), FileError> {
        let file = file_name(self.index.shards.len());
        let path = self.folder.join(&file);
        let (windows, tokens) = (shard.windows() as u64, shard.tokens() as u64);
        shard.write(&path)?;
        self.index.shards.push(ShardEntry {
            sha256: Some(digest::sha256_file(&path)?),
            file,
            windows,
            tokens,
        });
        self.index.save(&self.folder)
    }

    /// Says that all is there.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn finish(&mut self) -> Result<(), FileError> {
        self.index.complete = true;
        self.index.save(&self.folder)
    }

    /// Says that more will follow.
    pub fn reopen(&mut self) {
        self.index.complete = false;
    }
}
