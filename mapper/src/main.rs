//! `mapper`: the offline half of steermap.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use mistralrs_core::ModelDType;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::session::ModelSource;
use steermap_mapper::vector::{VectorJob, table};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(version, about = "Finds steering vectors with mistral.rs and writes them to files")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find a steering vector from contrastive pairs
    Vector(VectorArgs),
}

#[derive(clap::Args)]
struct VectorArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Contrastive pairs: lines of {"positive": TEXT, "negative": TEXT}, TEXT a string or chat messages
    #[arg(long)]
    pairs: PathBuf,
    /// What the vector stands for
    #[arg(long)]
    concept: String,
    /// The vector file to write (.toml; its tensors go beside it)
    #[arg(long)]
    out: PathBuf,
    /// Layers to find it at: `all`, or a list such as `3,5-9`
    #[arg(long, default_value = "all")]
    layers: LayerSelection,
}

#[derive(clap::Args)]
struct ModelArgs {
    /// The model: a folder, or an id on the model hub
    #[arg(long)]
    model: String,
    /// GGUF file(s) in it, separated by semicolons
    #[arg(long)]
    gguf: Option<String>,
    /// With --gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "gguf")]
    tok_model_id: Option<String>,
    /// Dtype to run in: auto, f32, bf16 or f16
    #[arg(long, default_value = "auto")]
    dtype: ModelDType,
    /// Quantise while loading, as mistral.rs does: q8_0, q4k, 4, ...
    #[arg(long)]
    isq: Option<String>,
    /// Run on the CPU even where there is a GPU
    #[arg(long)]
    cpu: bool,
    /// Most texts that run at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
}

impl From<ModelArgs> for ModelSource {
    fn from(args: ModelArgs) -> Self {
        let ModelArgs {
            model,
            gguf,
            tok_model_id,
            dtype,
            isq,
            cpu,
            batch,
        } = args;
        Self {
            model,
            gguf,
            tok_model_id,
            dtype,
            isq,
            cpu,
            batch,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .init();
    match run(Args::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Vector(args) => vector(args).await,
    }
}

async fn vector(args: VectorArgs) -> Result<()> {
    let VectorArgs {
        model,
        pairs,
        concept,
        out,
        layers,
    } = args;
    // Found out now, not after the model has run.
    ensure!(
        out.extension().is_some_and(|extension| extension == "toml"),
        "out: found {}, expected a name that ends with .toml",
        out.display()
    );
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(|folder| folder.is_dir()),
        "out: the folder of {} does not exist",
        out.display()
    );
    let job = VectorJob {
        source: model.into(),
        pairs,
        concept,
        layers,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        progress: true,
    };
    let vector = job.run().await?;
    vector.save(&out)?;
    print!("{}", table(&vector));
    println!("wrote {}", out.display());
    Ok(())
}
