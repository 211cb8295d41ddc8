//! `mapper capture`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::HumanBytes;
use steermap_mapper::activations::{CaptureJob, SHARD_BYTES};
use steermap_mapper::collect::header::Shard;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::progress::grouped;
use steermap_mapper::windows::WINDOW_BYTES;
use steermap_maps::FloatDtype;

use super::models::ModelArgs;
use super::text::TextArgs;
use super::{STOPPED, check_out_folder, command_line, stop_flag};

/// Arguments of `mapper capture`.
#[derive(clap::Args)]
pub struct CaptureArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to run: JSON lines or a JSON array with a "text" key, Parquet, or plain text with blank lines between
    /// documents, each also as .gz or .zst; `-` is standard input
    #[arg(long, num_args = 1.., required = true)]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    text: TextArgs,
    /// Layers to keep: `all`, or a list such as `3,5-9`
    #[arg(long, default_value = "all")]
    layers: LayerSelection,
    /// The folder to write an index and shards to. If it holds a run that was stopped, that run is continued
    #[arg(long)]
    out: PathBuf,
    /// The type that states are stored in: f32, bf16 or f16
    #[arg(long, default_value_t = FloatDtype::F16)]
    states: FloatDtype,
    /// Longest text to run at once, in bytes; longer documents are cut at white space. Activations of two models can be
    /// paired only if this is the same
    #[arg(long, value_name = "BYTES", default_value_t = WINDOW_BYTES)]
    window: usize,
    /// Read only every COUNT-th document, starting with number INDEX (from 0)
    #[arg(long, value_name = "INDEX/COUNT", default_value = "0/1")]
    shard: Shard,
    /// Stop after the window of text in which this many tokens are reached
    #[arg(long)]
    tokens: Option<u64>,
    /// Size of one shard, in MiB of states
    #[arg(long, value_name = "MIB", default_value_t = SHARD_BYTES >> 20)]
    shard_mib: usize,
}

/// Captures states and prints a summary.
pub async fn capture(args: CaptureArgs) -> Result<ExitCode> {
    check_out_folder(&args.out)?;
    let job = CaptureJob {
        model: args.model.into(),
        corpus: args.corpus,
        text: args.text.options(),
        layers: args.layers,
        out: args.out,
        dtype: args.states,
        window_bytes: args.window,
        shard: args.shard,
        limit: args.tokens,
        shard_bytes: args.shard_mib << 20,
        command: command_line(),
        progress: true,
    };
    let stop = stop_flag()?;
    let captured = job.run(&stop).await?;
    println!(
        "{} windows, {} tokens, {} of states in {}",
        grouped(captured.windows),
        grouped(captured.tokens),
        HumanBytes(captured.bytes),
        job.out.display()
    );
    if captured.complete {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("stopped; run the same command to continue");
    Ok(ExitCode::from(STOPPED))
}
