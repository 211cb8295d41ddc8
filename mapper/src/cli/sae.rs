//! `mapper sae`: writes a feature of a sparse autoencoder as a vector file. No model runs.

use std::path::PathBuf;

use anyhow::Result;
use steermap_mapper::map::provenance;
use steermap_maps::VectorFile;
use steermap_plugin::foreign::sae::{self, Feature};

use super::convert::find_model;
use super::{check_inputs, check_out, command_line};

/// Arguments of `mapper sae`.
#[derive(clap::Args)]
pub struct SaeArgs {
    /// The autoencoder: a folder of SAELens or Gemma Scope, or its weights file (.safetensors, .npz)
    #[arg(long)]
    file: PathBuf,
    /// The feature's index, from 0
    #[arg(long)]
    feature: usize,
    /// The model that the autoencoder was trained on: a folder, or an id whose files are in the cache
    #[arg(long)]
    model: String,
    /// GGUF file(s) in the model, separated by semicolons
    #[arg(long)]
    gguf: Option<String>,
    /// With --gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "gguf")]
    tok_model_id: Option<String>,
    /// The vector file to write (.toml; its tensors go beside it)
    #[arg(long)]
    out: PathBuf,
    /// The layer (from 0) after which the autoencoder reads the stream, if neither cfg.json nor the path states it
    #[arg(long)]
    layer: Option<usize>,
    /// What the vector stands for (default: the feature's index)
    #[arg(long)]
    concept: Option<String>,
}

/// Reads the feature and writes its vector.
pub fn sae(args: SaeArgs) -> Result<()> {
    check_out(&args.out, "toml")?;
    if args.file.is_file() {
        check_inputs(&args.out, [args.file.as_path()])?;
    }
    let (_, info) = find_model(&args.model, args.gguf.as_deref(), args.tok_model_id.as_deref())?;
    let feature = Feature {
        index: args.feature,
        layer: args.layer,
        concept: args.concept,
    };
    let read = sae::load(&args.file, &feature, info)?;
    for note in &read.notes {
        eprintln!("note: {note}");
    }
    let mut header = read.vector.header().clone();
    let name = read
        .weights
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    header.provenance = provenance(command_line(), name, header.provenance.corpus_sha256);
    let vector = VectorFile::new(header, read.vector.layers().to_vec())?;
    vector.save(&args.out)?;
    for layer in vector.layers() {
        println!(
            "{}, layer {}, norm {:.4}",
            vector.header().method,
            layer.layer,
            layer.norm()
        );
    }
    println!("the file does not contain the stream's mean norms: steer with scale, not with relative_scale");
    println!("wrote {}", args.out.display());
    Ok(())
}
