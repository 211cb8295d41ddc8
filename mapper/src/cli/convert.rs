//! `mapper convert`: converts other programs' vectors to vector files, and vector files to control vectors for
//! llama.cpp and repeng. No model runs.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use steermap_extract::model_files::{ModelFiles, display_name};
use steermap_mapper::map::provenance;
use steermap_maps::digest::sha256;
use steermap_maps::{MAX_WEIGHTS_BYTES, ModelInfo, VectorFile, atomic, read};
use steermap_plugin::foreign::{self, ENDINGS, Format, ReadOptions};
use steermap_plugin::gguf::{self, WriteOptions};

use super::{check_inputs, check_out, command_line};

/// Arguments of `mapper convert`.
#[derive(clap::Args)]
pub struct ConvertArgs {
    /// The file to read: a vector file (.toml), a control vector as llama.cpp and repeng write it (.gguf), or tensors
    /// (.safetensors, .npy, .npz, or .pt, .pth and .bin of PyTorch, whose pickles are not run)
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write: a .gguf from a .toml, or a .toml from any other input (its tensors go beside it)
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The model that the vector is for: a folder, or an id whose files are in the cache. Required to write a .toml;
    /// for a .gguf it gives the architecture
    #[arg(long)]
    model: Option<String>,
    /// GGUF file(s) in the model, separated by semicolons
    #[arg(long, requires = "model")]
    gguf: Option<String>,
    /// With --gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "gguf")]
    tok_model_id: Option<String>,
    /// To .toml: what the vector stands for (default: the file's name)
    #[arg(long)]
    concept: Option<String>,
    /// To .toml: the layer (from 0) of the only vector, if the file does not state it; with several vectors, the layer
    /// to take
    #[arg(long, conflicts_with = "shift")]
    layer: Option<usize>,
    /// To .toml: the pattern of the tensors' names, with {} for the layer, such as "happy.{}.mean"; or the name of one
    /// tensor
    #[arg(long, value_name = "PATTERN")]
    key: Option<String>,
    /// To .toml: add this to all layer numbers: -1 for a file that counts from 1
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift: Option<i64>,
    /// To .gguf: the model's architecture as llama.cpp names it, such as llama or gemma3 (default: that of --model)
    #[arg(long)]
    hint: Option<String>,
    /// To .gguf: multiply the directions by this
    #[arg(long, allow_negative_numbers = true)]
    scale: Option<f64>,
    /// To .gguf: scale the directions to norm 1 first, so that --scale is alpha
    #[arg(long)]
    normalize: bool,
}

/// Converts a file.
pub fn convert(args: ConvertArgs) -> Result<()> {
    let extension = |path: &PathBuf| text(path.extension());
    match (
        Format::of(&args.input),
        &*extension(&args.input),
        &*extension(&args.output),
    ) {
        (Some(format), _, "toml") => to_toml(args, format),
        (None, "toml", "gguf") => to_gguf(args),
        _ => bail!(
            "files: found {} to {}, expected .toml to .gguf, or {ENDINGS} to .toml",
            args.input.display(),
            args.output.display()
        ),
    }
}

fn to_toml(args: ConvertArgs, format: Format) -> Result<()> {
    let only_to_gguf = [
        ("hint", args.hint.is_some()),
        ("scale", args.scale.is_some()),
        ("normalize", args.normalize),
    ];
    refuse(&only_to_gguf, "a .gguf is written")?;
    check_out(&args.output, "toml")?;
    check_inputs(&args.output, [args.input.as_path()])?;
    let model = args
        .model
        .as_deref()
        .context("model: found nothing, expected --model: the input does not state which model it is for")?;
    let (files, info) = find_model(model, args.gguf.as_deref(), args.tok_model_id.as_deref())?;
    let (stem, name) = (args.input.file_stem(), args.input.file_name());
    let concept = args.concept.unwrap_or_else(|| text(stem));
    let options = ReadOptions {
        layer: args.layer,
        key: args.key,
        shift: args.shift.unwrap_or(0),
    };
    let bytes = read::whole(&args.input, "the vector to convert", MAX_WEIGHTS_BYTES)?;
    let read = foreign::read(format, &bytes, &text(name), &concept, info, &options);
    let read = read.with_context(|| args.input.display().to_string())?;
    for note in read.notes(files.architecture().as_deref()) {
        eprintln!("note: {note}");
    }
    let mut header = read.vector.header().clone();
    header.provenance = provenance(command_line(), text(name), sha256(&bytes));
    let vector = VectorFile::new(header, read.vector.layers().to_vec())?;
    vector.save(&args.output)?;
    let layers = vector.layers().iter().map(|layer| layer.layer);
    println!("{}, {} layers: {}", vector.header().method, layers.len(), list(layers));
    println!("the file does not contain the stream's mean norms: steer with scale, not with relative_scale");
    println!("wrote {}", args.output.display());
    Ok(())
}

fn to_gguf(args: ConvertArgs) -> Result<()> {
    let only_to_toml = [
        ("concept", args.concept.is_some()),
        ("layer", args.layer.is_some()),
        ("key", args.key.is_some()),
        ("shift", args.shift.is_some()),
    ];
    refuse(&only_to_toml, "a .toml is written")?;
    check_out(&args.output, "gguf")?;
    check_inputs(&args.output, [args.input.as_path()])?;
    let vector = VectorFile::load(&args.input)?;
    let files = args
        .model
        .as_deref()
        .map(|model| find(model, args.gguf.as_deref(), args.tok_model_id.as_deref()));
    let files = files.transpose()?;
    if let Some(files) = &files {
        // A model's weights are a .gguf too.
        if let ModelFiles::Gguf { files, .. } = files {
            check_inputs(&args.output, files.iter().map(PathBuf::as_path))?;
        }
        let (found, expected) = (files.fingerprint()?, &vector.model().fingerprint);
        ensure!(
            found == *expected,
            "model: found the fingerprint {found}, expected {expected}, that of {}, which {} is for (with --hint in \
             place of --model the fingerprint is not checked)",
            vector.model().model,
            args.input.display()
        );
    }
    let hint = args.hint.or_else(|| files.as_ref()?.architecture());
    let hint = hint.context(
        "hint: found nothing, expected the model's architecture: give --hint (llama, gemma3, ...), or --model with a \
         folder whose config.json says model_type",
    )?;
    let options = WriteOptions {
        scale: args.scale.unwrap_or(1.0),
        normalize: args.normalize,
        ..WriteOptions::new(hint)
    };
    let written = gguf::write(&vector, &options).with_context(|| args.input.display().to_string())?;
    atomic::write_bytes(&args.output, &written.bytes)
        .with_context(|| format!("{}: can't be written", args.output.display()))?;
    println!(
        "{} layers, for {}: {}",
        written.layers.len(),
        options.hint,
        list(written.layers)
    );
    if !written.left_out.is_empty() {
        println!(
            "left out: layer {}, which llama.cpp can't steer",
            list(written.left_out)
        );
    }
    println!("wrote {}", args.output.display());
    Ok(())
}

/// Refuses options that have no effect here.
fn refuse(options: &[(&str, bool)], needed: &str) -> Result<()> {
    match options.iter().find(|(_, given)| *given) {
        Some((name, _)) => bail!("{name}: found --{name}, expected it only when {needed}"),
        None => Ok(()),
    }
}

/// A model's files, and what a vector file states about the model.
pub(super) fn find_model(
    model: &str,
    gguf: Option<&str>,
    tok_model_id: Option<&str>,
) -> Result<(ModelFiles, ModelInfo)> {
    let files = find(model, gguf, tok_model_id)?;
    let sizes = files
        .sizes()
        .with_context(|| format!("model: {model:?} does not state its hidden size and number of layers"))?;
    let info = ModelInfo {
        model: display_name(model),
        fingerprint: files.fingerprint()?,
        hidden_size: sizes.hidden_size,
        num_layers: sizes.num_layers,
    };
    Ok((files, info))
}

fn find(model: &str, gguf: Option<&str>, tok_model_id: Option<&str>) -> Result<ModelFiles> {
    let files = match gguf {
        Some(names) => ModelFiles::gguf(model, names, tok_model_id, None),
        None => ModelFiles::folder(model, None),
    };
    files.with_context(|| {
        format!("model: found {model:?}, expected a model's folder, or an id whose files are in the cache")
    })
}

fn text(name: Option<&OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}

fn list(layers: impl IntoIterator<Item = usize>) -> String {
    let layers: Vec<String> = layers.into_iter().map(|layer| layer.to_string()).collect();
    layers.join(", ")
}
