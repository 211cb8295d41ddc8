//! The index of a folder: which model, layers and text, and which shards.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dtype::FloatDtype;
use crate::error::{FileError, Problem};
use crate::model::{ModelInfo, ModelTable, Numerics};
use crate::{atomic, digest, read};

/// The index' name in its folder.
pub const INDEX: &str = "activations.toml";
/// The value of the index' key `format`.
pub const FORMAT: &str = "steermap-activations/1";
/// Maximum number of bytes of an index: enough for 300,000 shards.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The model, layers, dtype and text of a folder's states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationsHeader {
    /// The model.
    pub model: ModelInfo,
    /// The numerics that it ran at.
    pub numerics: Numerics,
    /// The layers that there are states of, ascending.
    pub layers: Vec<usize>,
    /// The type of the states.
    pub dtype: FloatDtype,
    /// Maximum number of bytes of text in a window, if stated.
    pub window_bytes: Option<usize>,
    /// Which of how many parts of the corpus, from 0.
    pub part: (usize, usize),
    /// Names and SHA-256 of the corpus' files.
    pub corpus: Vec<(String, String)>,
    /// The command that wrote it, if stated.
    pub command: Option<String>,
}

/// One shard as the index lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its name in the folder.
    pub file: String,
    /// Windows in it.
    pub windows: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// SHA-256 of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// An index: the TOML file alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationsIndex {
    /// The model, layers, dtype and text of the states.
    pub header: ActivationsHeader,
    /// Whether all text has been captured.
    pub complete: bool,
    /// The shards, in the order of the text.
    pub shards: Vec<ShardEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexTable {
    format: String,
    complete: bool,
    model: ModelTable,
    capture: CaptureTable,
    #[serde(default, rename = "corpus")]
    corpora: Vec<CorpusTable>,
    #[serde(default, rename = "shard")]
    shards: Vec<ShardEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureTable {
    layers: Vec<usize>,
    dtype: FloatDtype,
    window_bytes: Option<usize>,
    part: Option<(usize, usize)>,
    command: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CorpusTable {
    name: String,
    sha256: String,
}

#[derive(Deserialize)]
struct FormatTable {
    format: Option<toml::Value>,
}

impl ActivationsIndex {
    /// Reads the index of a folder.
    ///
    /// # Errors
    ///
    /// An index that can't be read, is of another kind, or has invalid values.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(INDEX);
        let bytes = read::whole(&path, "the index of a folder of activations", MAX_INDEX_BYTES)?;
        Self::parse(&bytes).map_err(|problem| problem.within(&path))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|error| Problem::NotText {
            valid_up_to: error.valid_up_to(),
        })?;
        let broken = |error: toml::de::Error| Problem::Toml {
            message: error.to_string().trim_end().to_owned(),
        };
        let format: FormatTable = toml::from_str(text).map_err(broken)?;
        let found = format.format.map_or("nothing".to_owned(), |value| value.to_string());
        if found != format!("\"{FORMAT}\"") {
            return Err(Problem::implied("format", found, format!("\"{FORMAT}\"")));
        }
        let table: IndexTable = toml::from_str(text).map_err(broken)?;
        let (model, numerics) = table.model.split();
        let index = Self {
            header: ActivationsHeader {
                model,
                numerics,
                layers: table.capture.layers,
                dtype: table.capture.dtype,
                window_bytes: table.capture.window_bytes,
                part: table.capture.part.unwrap_or((0, 1)),
                corpus: table.corpora.into_iter().map(|file| (file.name, file.sha256)).collect(),
                command: table.capture.command,
            },
            complete: table.complete,
            shards: table.shards,
        };
        index.check()?;
        Ok(index)
    }

    /// Writes the index atomically.
    ///
    /// # Errors
    ///
    /// Invalid values, or the operating system's error.
    pub fn save(&self, folder: &Path) -> Result<(), FileError> {
        let path = folder.join(INDEX);
        let text = self.check().and_then(|()| {
            toml::to_string(&self.table()).map_err(|error| Problem::Toml {
                message: error.to_string(),
            })
        });
        let text = text.map_err(|problem| problem.within(&path))?;
        atomic::write_bytes(&path, text.as_bytes()).map_err(|error| FileError::write(&path, error))
    }

    fn table(&self) -> IndexTable {
        let header = self.header.clone();
        IndexTable {
            format: FORMAT.to_owned(),
            complete: self.complete,
            model: ModelTable::new(header.model, header.numerics),
            capture: CaptureTable {
                layers: header.layers,
                dtype: header.dtype,
                window_bytes: header.window_bytes,
                part: Some(header.part),
                command: header.command,
            },
            corpora: header
                .corpus
                .into_iter()
                .map(|(name, sha256)| CorpusTable { name, sha256 })
                .collect(),
            shards: self.shards.clone(),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let header = &self.header;
        header.model.check("model")?;
        header.numerics.check("model")?;
        Problem::unless_distinct("capture.layers", &header.layers)?;
        if !header.layers.is_sorted() {
            let found = format!("{:?}", header.layers);
            return Err(Problem::value("capture.layers", found, "ascending layers"));
        }
        let (layer, layers) = (header.layers[header.layers.len() - 1], header.model.num_layers);
        if layer >= layers {
            let expected = format!("less than {layers}, the model's num_layers (layers count from 0)");
            return Err(Problem::implied("capture.layers", layer, expected));
        }
        if header.part.0 >= header.part.1 {
            let found = format!("[{}, {}]", header.part.0, header.part.1);
            return Err(Problem::value(
                "capture.part",
                found,
                "[INDEX, COUNT] with INDEX below COUNT",
            ));
        }
        for (index, shard) in self.shards.iter().enumerate() {
            if !is_file_name(&shard.file) {
                return Err(Problem::value(
                    format!("shard.{index}.file"),
                    format!("{:?}", shard.file),
                    "the bare name of a .safetensors file in the same folder",
                ));
            }
            if let Some(sha256) = &shard.sha256 {
                digest::check(&format!("shard.{index}.sha256"), sha256)?;
            }
        }
        Ok(())
    }
}

/// The name of a shard, by its place.
pub(super) fn file_name(place: usize) -> String {
    format!("shard-{place:05}.safetensors")
}

/// Whether a name can only mean a safetensors file in the same folder.
fn is_file_name(name: &str) -> bool {
    let odd = |letter: char| matches!(letter, '/' | '\\' | ':') || letter.is_control();
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(odd)
}
