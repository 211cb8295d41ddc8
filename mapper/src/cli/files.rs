//! `mapper apply` and `mapper inspect`, which read files and run no model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::HumanBytes;
use steermap_extract::model_files::ModelFiles;
use steermap_mapper::map::provenance;
use steermap_mapper::progress::{Progress, Unit, grouped};
use steermap_maps::activations::{Activations, INDEX};
use steermap_maps::digest::sha256_file;
use steermap_maps::map::spell_source_layers;
use steermap_maps::{AnyFile, MapFile, OffsetRule, VectorFile};

use super::{check_inputs, check_out, command_line};

/// Arguments of `mapper apply`.
#[derive(clap::Args)]
pub struct ApplyArgs {
    /// The map file
    #[arg(long)]
    map: PathBuf,
    /// The vector file, found on the map's source model
    #[arg(long)]
    vector: PathBuf,
    /// The vector file to write, for the map's target model (.toml; its tensors go beside it)
    #[arg(long)]
    out: PathBuf,
    /// How the map carries the vector: `linear` (A v) or, as the paper does, `affine` (A v + p)
    #[arg(long, default_value_t = OffsetRule::Linear)]
    offset: OffsetRule,
    /// Accept a vector that was found on other weights than the map's source
    #[arg(long)]
    ignore_fingerprints: bool,
}

/// Applies a map to a vector and writes the result.
pub fn apply(args: ApplyArgs) -> Result<()> {
    check_out(&args.out, "toml")?;
    check_inputs(&args.out, [args.map.as_path(), &args.vector])?;
    let map = MapFile::load(&args.map)?;
    let vector = VectorFile::load(&args.vector)?;
    let mapped = map
        .apply(&vector, args.offset, !args.ignore_fingerprints)
        .with_context(|| format!("{} through {}", args.vector.display(), args.map.display()))?;
    for layer in &mapped.layers {
        println!(
            "layer {} from {} ({}, R² {:.3})",
            layer.target_layer,
            spell_source_layers(&layer.source_layers),
            args.offset,
            layer.r2
        );
    }
    let name = args.map.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let made_from = args
        .vector
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let provenance = provenance(command_line(), made_from, sha256_file(&args.vector)?);
    let file = mapped.into_vector_file(&name, &sha256_file(&args.map)?, provenance)?;
    file.save(&args.out)?;
    println!("wrote {}", args.out.display());
    Ok(())
}

/// Arguments of `mapper inspect`.
#[derive(clap::Args)]
pub struct InspectArgs {
    /// A map or vector file (.toml), a statistics file (.stats), a folder of activations, or a model's folder
    file: PathBuf,
}

/// Checks a file or folder and prints its contents.
pub fn inspect(args: InspectArgs) -> Result<()> {
    if args.file.is_dir() {
        return inspect_folder(&args.file);
    }
    if args.file.extension().is_some_and(|extension| extension == "stats") {
        print!("{}", steermap_mapper::collect::Collected::load(&args.file)?.describe());
    } else {
        let file = AnyFile::load(&args.file)?;
        file.verify()?;
        print!("{}", file.describe());
    }
    Ok(())
}

/// Checks every byte of activations and describes them, or describes a model.
fn inspect_folder(folder: &Path) -> Result<()> {
    if folder.join(INDEX).exists() {
        let activations = Activations::open(folder)?;
        print!("{}", describe_activations(&activations));
        let total: u64 = activations.index().shards.len() as u64;
        let progress = Progress::new(true, "checking", Unit::Of("shards"), total);
        let mut done = 0;
        activations.verify(|_| {
            done += 1;
            progress.set(done);
            progress.step("");
        })?;
        progress.finish();
        return Ok(());
    }
    if !folder.join("config.json").exists() {
        bail!(
            "{}: found neither {INDEX} nor config.json, expected a folder of activations or of a model",
            folder.display()
        );
    }
    let files = ModelFiles::Folder(folder.to_path_buf());
    let sizes = files.sizes().with_context(|| {
        format!(
            "{}: config.json does not state the hidden size and the number of layers",
            folder.display()
        )
    })?;
    println!(
        "model = {:?}",
        steermap_extract::model_files::display_name(&folder.to_string_lossy())
    );
    println!("fingerprint = {:?}", files.fingerprint()?);
    println!("hidden_size = {}", sizes.hidden_size);
    println!("num_layers = {}", sizes.num_layers);
    Ok(())
}

fn describe_activations(activations: &Activations) -> String {
    let index = activations.index();
    let header = &index.header;
    let tokens: u64 = index.shards.iter().map(|shard| shard.tokens).sum();
    let row = (header.layers.len() * header.model.hidden_size * header.dtype.bytes()) as u64;
    let corpus: Vec<&str> = header.corpus.iter().map(|(name, _)| name.as_str()).collect();
    let layers: Vec<String> = header.layers.iter().map(ToString::to_string).collect();
    let quantization = header.numerics.quantization.as_deref().unwrap_or("none");
    format!(
        "activations of {} ({}), {} layers of {}\nran in {}, quantisation {quantization}; states in {}\nlayers: {}\n\
         {} windows, {} tokens, {} of states in {} shards{}\npart {}/{} of {}\n",
        header.model.model,
        header.model.fingerprint,
        header.model.num_layers,
        header.model.hidden_size,
        header.numerics.dtype,
        header.dtype.name(),
        layers.join(", "),
        grouped(activations.windows().len() as u64),
        grouped(tokens),
        HumanBytes(tokens * row),
        index.shards.len(),
        if index.complete { "" } else { ", incomplete" },
        header.part.0,
        header.part.1,
        if corpus.is_empty() {
            "an unnamed corpus".to_string()
        } else {
            corpus.join(" + ")
        },
    )
}
