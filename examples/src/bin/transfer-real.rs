//! What a vector retains through a map between two real models: `transfer-real --help`.
//!
//! Finds the vector on both models from the same pairs, chooses the layer pair on the first half of the items, and measures
//! on the second half, as `transfer` does for the embedded models.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mistralrs::ModelDType;
use steermap_examples::exit_code;
use steermap_examples::transfer::Transfer;
use steermap_mapper::behaviour::read_items;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::vector::VectorJob;
use steermap_maps::{MapFile, TokenPosition, VectorFile};

#[derive(Parser)]
#[command(about = "Measure what a vector retains through a map between two models")]
struct Args {
    /// The map file
    #[arg(long)]
    map: PathBuf,
    /// The model that the map comes from
    #[arg(long)]
    source: String,
    /// The model that it goes to
    #[arg(long)]
    target: String,
    /// Contrastive pairs, as for `mapper vector`
    #[arg(long)]
    pairs: PathBuf,
    /// Two-choice items: {"prompt", "positive", "negative"} per line
    #[arg(long)]
    items: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    let map = MapFile::load(&args.map)?;
    let items = read_items(&args.items)?;
    let source = |model: &str| ModelSource {
        dtype: ModelDType::F32,
        cpu: true,
        ..ModelSource::new(model)
    };
    for position in [TokenPosition::Last, TokenPosition::Mean] {
        let found = vector(&Session::load(source(&args.source)).await?, &args, position).await?;
        let session = Session::load(source(&args.target)).await?;
        let native = vector(&session, &args, position).await?;
        let transfer = Transfer::measure(&session, &map, &items, &found, &native).await?;
        println!("{:<4} position  {transfer}", position.as_str());
    }
    Ok(())
}

async fn vector(session: &Session, args: &Args, position: TokenPosition) -> Result<VectorFile> {
    let job = VectorJob {
        source: session.source().clone(),
        pairs: args.pairs.clone(),
        concept: "transfer".to_string(),
        layers: LayerSelection::All,
        position,
        command: "transfer-real".to_string(),
        progress: true,
    };
    job.run_on(session).await
}
