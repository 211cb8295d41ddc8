//! Checks a model before the engine loads it, and explains the engine's errors.

use std::path::Path;

use candle_core::{DType, Tensor};
use mistralrs::ModelDType;
use mistralrs::core::GGUF_MULTI_FILE_DELIMITER;

use crate::ExtractError;
use crate::error::{bail, ensure};
use crate::source::ModelSource;
use crate::words::{hub_answer, without_backtrace};

/// Where a model or its separate tokenizer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    /// In a folder.
    Here,
    /// In the Hugging Face cache.
    Cached,
    /// On the hub, if it exists.
    Hub,
}

/// The locations of a model's parts.
pub(super) struct ModelLocations {
    /// By field: its value, and the location.
    locations: Vec<(&'static str, String, Location)>,
}

impl ModelSource {
    /// Checks what can be checked without loading it.
    ///
    /// # Errors
    ///
    /// The path does not exist, the folder has no model, or the dtype is not supported.
    pub fn check(&self) -> Result<(), ExtractError> {
        check(self).map(|_| ())
    }
}

/// Checks what can be checked without loading the model: that its folder exists and has a model, and that the dtype is
/// supported.
///
/// # Errors
///
/// The first error. The hub is not queried.
pub(super) fn check(source: &ModelSource) -> Result<ModelLocations, ExtractError> {
    let model = location("model", &source.model, source.files().is_some())?;
    let mut locations = vec![("model", source.model.clone(), model)];
    if let Some(name) = &source.tok_model_id {
        // Whether it is in the cache is known only together with the model's files.
        let tokenizer = location("tok-model-id", name, source.files().is_some())?;
        locations.push(("tok-model-id", name.clone(), tokenizer));
    }
    if model == Location::Here {
        check_folder(source)?;
    }
    check_dtype(source)?;
    Ok(ModelLocations { locations })
}

impl ModelLocations {
    /// The error for a model that the engine could not load.
    pub(super) fn not_loaded(&self, source: &ModelSource, error: &str) -> ExtractError {
        let error = without_backtrace(error);
        let away = self
            .locations
            .iter()
            .filter(|(_, _, location)| *location != Location::Here);
        let named = away.into_iter().find(|(_, name, _)| error.contains(name.as_str()));
        ExtractError::Input(match (named, hub_answer(&error)) {
            (Some((field, name, location)), Some(answer)) => {
                let cache = match location {
                    Location::Cached => "not all files of that name in the cache",
                    _ => "no model of that name in the cache",
                };
                format!("{field}: found {name:?}: no such folder here, {cache}, and {answer}")
            }
            _ => format!("model {:?} could not be loaded: {error}", source.model),
        })
    }
}

fn location(field: &str, name: &str, cached: bool) -> Result<Location, ExtractError> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Location::Here);
    }
    ensure!(
        !path.is_file(),
        "{field}: found {name:?}, which is a file, expected a folder (for a file of GGUF: its folder, and its name as --gguf)"
    );
    let owner = name.split_once('/').filter(|(_, model)| !model.contains('/'));
    let Some((owner, _)) = owner.filter(|_| !name.starts_with(['.', '/'])) else {
        bail!("{field}: found {name:?}, which is not a folder; expected one, or an id of the form owner/name");
    };
    if cached {
        return Ok(Location::Cached);
    }
    // If a folder of that name exists, it is meant. The hub would have no such name, or another model under it.
    ensure!(
        !Path::new(owner).is_dir(),
        "{field}: found {name:?}: no such folder in {owner}, and no model of that name in the cache (the hub is not asked for \
         it, as {owner} is a folder here)"
    );
    Ok(Location::Hub)
}

/// Checks that a model's folder has the required files.
fn check_folder(source: &ModelSource) -> Result<(), ExtractError> {
    let (folder, has) = (&source.model, |name: &str| {
        Path::new(&source.model).join(name).is_file()
    });
    match &source.gguf {
        Some(names) => {
            let missing = names.split(GGUF_MULTI_FILE_DELIMITER).find(|name| !has(name));
            if let Some(missing) = missing {
                bail!("gguf: found no file {missing:?} in the folder {folder:?}, expected one");
            }
        }
        None => ensure!(
            // Mistral's own format.
            has("config.json") || has("params.json"),
            "model: found the folder {folder:?} without a config.json, expected a model in the Hugging Face format (or the \
             name of its GGUF file as --gguf)"
        ),
    }
    Ok(())
}

/// Checks that weights of this dtype can be multiplied. Quantised weights are multiplied in another dtype.
fn check_dtype(source: &ModelSource) -> Result<(), ExtractError> {
    let dtype = match source.dtype {
        ModelDType::Auto => return Ok(()),
        ModelDType::F32 => DType::F32,
        ModelDType::F16 => DType::F16,
        ModelDType::BF16 => DType::BF16,
    };
    if source.isq.is_some() || source.gguf.is_some() {
        return Ok(());
    }
    let device = source.device.device()?;
    // Tries it, since the result depends on candle's features.
    let product = || {
        let one = Tensor::zeros((1, 1), dtype, &device)?;
        one.matmul(&one)
    };
    ensure!(
        !device.is_cpu() || product().is_ok(),
        "dtype: found {}, in which weights can't be multiplied on a CPU, expected auto, f32 or f16 (or --isq q8_0, which \
         multiplies in its own)",
        source.dtype
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;

    fn error(source: &ModelSource) -> String {
        match check(source) {
            Ok(_) => panic!("an error was expected"),
            Err(error) => error.to_string(),
        }
    }

    fn folder_with(files: &[&str]) -> (tempfile::TempDir, ModelSource) {
        let folder = tempfile::tempdir().unwrap();
        files
            .iter()
            .for_each(|name| std::fs::write(folder.path().join(name), "{}").unwrap());
        let source = ModelSource {
            device: DeviceChoice::Cpu,
            ..ModelSource::new(folder.path().to_str().unwrap())
        };
        (folder, source)
    }

    #[test]
    fn names_that_can_be_no_model() {
        for name in ["./models/x", "/no/such/folder", "models", "a/b/c", "", "../x"] {
            let error = error(&ModelSource::new(name));
            assert!(
                error.starts_with("model: found ") && error.contains("which is not a folder"),
                "{name}: {error}"
            );
        }
        let (folder, _) = folder_with(&["tiny.gguf"]);
        let file = folder.path().join("tiny.gguf");
        let file = error(&ModelSource::new(file.to_str().unwrap()));
        assert!(file.contains("which is a file") && file.contains("--gguf"), "{file}");
        // Tests run in the crate's folder.
        assert!(Path::new("src").is_dir());
        let mistyped = error(&ModelSource::new("src/no-such-model"));
        assert!(
            mistyped
                .starts_with("model: found \"src/no-such-model\": no such folder in src, and no model of that name"),
            "{mistyped}"
        );
        check(&ModelSource::new("no-such-owner/no-such-model")).unwrap();
    }

    #[test]
    fn folders_without_a_model() {
        let (_folder, source) = folder_with(&["tokenizer.json"]);
        assert!(error(&source).contains("without a config.json"));
        let (_folder, source) = folder_with(&["config.json", "one.gguf"]);
        check(&source).unwrap();
        let gguf = |names: &str| ModelSource {
            gguf: Some(names.to_string()),
            ..source.clone()
        };
        check(&gguf("one.gguf")).unwrap();
        let missing = error(&gguf("one.gguf;two.gguf"));
        assert!(missing.starts_with("gguf: found no file \"two.gguf\""), "{missing}");
        let tokenizer = error(&ModelSource {
            tok_model_id: Some("./nowhere".to_string()),
            ..gguf("one.gguf")
        });
        assert!(
            tokenizer.starts_with("tok-model-id: found \"./nowhere\""),
            "{tokenizer}"
        );
    }

    #[test]
    fn dtypes_that_a_cpu_can_not_multiply() {
        let (_folder, source) = folder_with(&["config.json", "one.gguf"]);
        let with = |dtype: ModelDType| ModelSource {
            dtype,
            ..source.clone()
        };
        for dtype in [ModelDType::Auto, ModelDType::F32, ModelDType::F16] {
            check(&with(dtype)).unwrap();
        }
        let bf16 = error(&with(ModelDType::BF16));
        assert!(
            bf16.starts_with("dtype: found bf16, ") && bf16.lines().count() == 1,
            "{bf16}"
        );
        check(&ModelSource {
            isq: Some("q8_0".to_string()),
            ..with(ModelDType::BF16)
        })
        .unwrap();
        check(&ModelSource {
            gguf: Some("one.gguf".to_string()),
            ..with(ModelDType::BF16)
        })
        .unwrap();
    }

    #[test]
    fn what_the_engine_says_of_the_hub_is_made_short() {
        let source = ModelSource::new("some/model");
        let checked = |location| ModelLocations {
            locations: vec![("model", source.model.clone(), location)],
        };
        let dns = "Failed to access `some/model` on Hugging Face: Failed to access `config.json` for `some/model`: request error: \
                    https://huggingface.co/some/model/resolve/main/config.json: Dns Failed: resolve dns name 'huggingface.co:443': \
                    failed to lookup address information: Name or service not known";
        assert_eq!(
            checked(Location::Hub).not_loaded(&source, dns).to_string(),
            "model: found \"some/model\": no such folder here, no model of that name in the cache, and the hub could not be \
             reached (Name or service not known)"
        );
        let cached = checked(Location::Cached).not_loaded(&source, dns).to_string();
        assert!(cached.contains("not all files of that name in the cache"), "{cached}");
        let here = checked(Location::Here).not_loaded(&source, "no weights").to_string();
        assert_eq!(here, "model \"some/model\" could not be loaded: no weights");
    }
}
