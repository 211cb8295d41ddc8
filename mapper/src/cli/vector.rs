//! `mapper vector`.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::vector::{Method, Sign, VectorJob, found_table};
use steermap_maps::TokenPosition;

use super::models::ModelArgs;
use super::{check_inputs, check_out, command_line};

/// Arguments of `mapper vector`.
#[derive(clap::Args)]
pub struct VectorArgs {
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
    /// Layers to find a direction at: `all`, or a list such as `3,5-9`
    #[arg(long, default_value = "all")]
    layers: LayerSelection,
    /// The method that finds the vector from the states
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// How the sign of a principal component is chosen (pca-difference, pca-centred, lat)
    #[arg(long, value_enum, default_value_t)]
    sign: Sign,
    /// Which states of a text are compared
    #[arg(long, value_enum, default_value_t = Position::Last)]
    position: Position,
    /// Seed of the random pairing in `lat`
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Don't measure the stream's mean and deviation along the vector on neutral text, which scales in standard
    /// deviations need
    #[arg(long)]
    no_neutral: bool,
}

/// [`TokenPosition`] as an argument.
#[derive(Clone, Copy, ValueEnum)]
enum Position {
    /// The last token's
    Last,
    /// The mean of all but the first token's
    Mean,
    /// The first token's in which the two texts of a pair differ
    Answer,
}

/// Finds a vector and writes it.
pub async fn vector(args: VectorArgs) -> Result<()> {
    check_out(&args.out, "toml")?;
    check_inputs(&args.out, [args.pairs.as_path()])?;
    let job = VectorJob {
        source: args.model.into(),
        pairs: args.pairs,
        concept: args.concept,
        layers: args.layers,
        method: args.method,
        sign: args.sign,
        position: match args.position {
            Position::Last => TokenPosition::Last,
            Position::Mean => TokenPosition::Mean,
            Position::Answer => TokenPosition::Answer,
        },
        seed: args.seed,
        neutral: !args.no_neutral,
        command: command_line(),
        progress: true,
    };
    let found = job.run().await?;
    found.vector.save(&args.out)?;
    print!("{}", found_table(&found));
    println!("wrote {}", args.out.display());
    Ok(())
}
