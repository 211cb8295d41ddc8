//! A model on disk: its files, sizes and fingerprint.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file;
use hf_hub::{Cache, Repo};
use mistralrs_core::{GGUF_MULTI_FILE_DELIMITER, hf_hub_cache_dir};
use steermap_maps::{FileError, fingerprint_folder, fingerprint_gguf};
use tokenizers::Tokenizer;

/// The files of a model, found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// A folder in the Hugging Face format.
    Folder(PathBuf),
    /// GGUF files, and a separate tokenizer.json if there is one.
    Gguf {
        /// The files, in the order in which the engine gets them.
        files: Vec<PathBuf>,
        /// A tokenizer.json that replaces the tokenizer in the files.
        tokenizer: Option<PathBuf>,
    },
}

/// Sizes of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSizes {
    /// Width.
    pub hidden_size: usize,
    /// Number of decoder blocks.
    pub num_layers: usize,
}

impl ModelFiles {
    /// The files of a model in the Hugging Face format; `None` if they are not on this machine.
    pub fn folder(model_id: &str, hf_cache: Option<&Path>) -> Option<Self> {
        let local = Path::new(model_id);
        if local.is_dir() {
            return Some(Self::Folder(local.to_path_buf()));
        }
        let config = cached(model_id, "config.json", hf_cache)?;
        config.parent().map(|folder| Self::Folder(folder.to_path_buf()))
    }

    /// The files of a GGUF model; `names` as mistral.rs takes them: separated by semicolons.
    pub fn gguf(model_id: &str, names: &str, tok_model_id: Option<&str>, hf_cache: Option<&Path>) -> Option<Self> {
        let find = |id: &str, name: &str| {
            let local = Path::new(id).join(name);
            if local.is_file() {
                Some(local)
            } else {
                cached(id, name, hf_cache)
            }
        };
        let files = names
            .split(GGUF_MULTI_FILE_DELIMITER)
            .map(|name| find(model_id, name))
            .collect::<Option<_>>()?;
        let tokenizer = match tok_model_id {
            Some(id) => Some(find(id, "tokenizer.json")?),
            None => None,
        };
        Some(Self::Gguf { files, tokenizer })
    }

    /// The fingerprint of the weights and the tokenizer: see [`steermap_maps::fingerprint`].
    ///
    /// # Errors
    ///
    /// The files can't be read, or have no weights.
    pub fn fingerprint(&self) -> Result<String, FileError> {
        match self {
            Self::Folder(folder) => fingerprint_folder(folder),
            Self::Gguf { files, tokenizer } => {
                let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
                fingerprint_gguf(&files, tokenizer.as_deref())
            }
        }
    }

    /// The tokenizer in `tokenizer.json` beside the weights; `None` if there is none or it can't be read.
    pub fn tokenizer(&self) -> Option<Tokenizer> {
        match self {
            Self::Folder(folder) => Tokenizer::from_file(folder.join("tokenizer.json")).ok(),
            Self::Gguf { tokenizer, .. } => Tokenizer::from_file(tokenizer.as_ref()?).ok(),
        }
    }

    /// The sizes that the files state; `None` if they can't be read or have an unknown form. The loaded model states
    /// them in that case.
    pub fn sizes(&self) -> Option<StreamSizes> {
        match self {
            Self::Folder(folder) => {
                let config = config(folder)?;
                // Multimodal models have their language model's sizes in a separate table.
                let get = |key: &str| {
                    let value = config.get(key).or_else(|| config.get("text_config")?.get(key))?;
                    usize::try_from(value.as_u64()?).ok()
                };
                Some(StreamSizes {
                    hidden_size: get("hidden_size")?,
                    num_layers: get("num_hidden_layers")?,
                })
            }
            Self::Gguf { files, .. } => {
                let content = content(files)?;
                let arch = content.metadata.get("general.architecture")?.to_string().ok()?.clone();
                let get = |key: &str| {
                    let value = content.metadata.get(&format!("{arch}.{key}"))?;
                    value.to_u32().ok().map(|n| n as usize)
                };
                Some(StreamSizes {
                    hidden_size: get("embedding_length")?,
                    num_layers: get("block_count")?,
                })
            }
        }
    }

    /// The architecture that the files state, as llama.cpp and repeng name it, such as `llama` or `gemma3`; `None` if
    /// they can't be read or don't state it.
    pub fn architecture(&self) -> Option<String> {
        match self {
            Self::Folder(folder) => {
                let config = config(folder)?;
                let name = config.get("model_type")?.as_str()?;
                // The text model of a multimodal family has its own type (`gemma3_text`), but the same blocks.
                Some(name.strip_suffix("_text").unwrap_or(name).to_string())
            }
            Self::Gguf { files, .. } => {
                let content = content(files)?;
                content.metadata.get("general.architecture")?.to_string().ok().cloned()
            }
        }
    }
}

fn config(folder: &Path) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn content(files: &[PathBuf]) -> Option<gguf_file::Content> {
    gguf_file::Content::read(&mut File::open(files.first()?).ok()?).ok()
}

/// The name of a model in files: an id unchanged, or the last part of a path.
pub fn display_name(model_id: &str) -> String {
    let path = Path::new(model_id);
    match path.canonicalize() {
        Ok(full) => full
            .file_name()
            .map_or(model_id.to_string(), |name| name.to_string_lossy().into_owned()),
        Err(_) => model_id.to_string(),
    }
}

fn cached(model_id: &str, file: &str, hf_cache: Option<&Path>) -> Option<PathBuf> {
    let cache = hf_cache.map(Path::to_path_buf).or_else(hf_hub_cache_dir)?;
    Cache::new(cache).repo(Repo::model(model_id.to_string())).get(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_also_from_a_text_config() {
        let dir = tempfile::tempdir().unwrap();
        let files = ModelFiles::folder(dir.path().to_str().unwrap(), None).unwrap();
        assert_eq!(files.sizes(), None);
        let expected = Some(StreamSizes {
            hidden_size: 8,
            num_layers: 3,
        });
        for text in [
            r#"{"hidden_size": 8, "num_hidden_layers": 3}"#,
            r#"{"text_config": {"hidden_size": 8, "num_hidden_layers": 3}}"#,
        ] {
            std::fs::write(dir.path().join("config.json"), text).unwrap();
            assert_eq!(files.sizes(), expected);
        }
        std::fs::write(dir.path().join("config.json"), r#"{"hidden_size": -8}"#).unwrap();
        assert_eq!(files.sizes(), None);
    }

    #[test]
    fn architectures_are_named_without_the_text_suffix() {
        let dir = tempfile::tempdir().unwrap();
        let files = ModelFiles::Folder(dir.path().to_path_buf());
        assert_eq!(files.architecture(), None);
        for (text, expected) in [
            (r#"{"model_type": "llama"}"#, Some("llama")),
            (r#"{"model_type": "gemma3_text"}"#, Some("gemma3")),
            (r#"{"model_type": 7}"#, None),
            ("{", None),
        ] {
            std::fs::write(dir.path().join("config.json"), text).unwrap();
            assert_eq!(files.architecture().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_cached_model_is_found_and_a_missing_one_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let repo = cache.path().join("models--a--b");
        let snapshot = repo.join("snapshots/123");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), "123").unwrap();
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        assert_eq!(
            ModelFiles::folder("a/b", Some(cache.path())),
            Some(ModelFiles::Folder(snapshot))
        );
        assert_eq!(ModelFiles::folder("a/c", Some(cache.path())), None);
    }

    #[test]
    fn paths_are_named_by_their_last_part() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("tiny");
        std::fs::create_dir(&model).unwrap();
        assert_eq!(display_name(model.to_str().unwrap()), "tiny");
        assert_eq!(display_name("some/model"), "some/model");
    }
}
