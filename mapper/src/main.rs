//! `mapper`: the offline half of steermap.

mod cli;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use cli::capture::CaptureArgs;
use cli::combine::CombineArgs;
use cli::convert::ConvertArgs;
use cli::eval::{EvalArgs, ReportArgs};
use cli::files::{ApplyArgs, InspectArgs};
use cli::fit::{FitArgs, MergeArgs, StatsArgs, StatsPending, TEMPORARY_FAILURE};
use cli::sae::SaeArgs;
use cli::vector::VectorArgs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    version,
    about = "Finds steering vectors with mistral.rs, and maps that carry them from a small model to a large one"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find a steering vector from contrastive pairs
    Vector(VectorArgs),
    /// Fit a map from a small model's residual stream to a large one's
    Fit(FitArgs),
    /// Write a model's states on a text to a folder, for later fits
    Capture(CaptureArgs),
    /// Collect the statistics that a fit needs from one shard of the text
    Stats(StatsArgs),
    /// Merge the statistics of several shards
    Merge(MergeArgs),
    /// Apply a map to a vector and write a vector file for the large model
    Apply(ApplyArgs),
    /// Add vectors, or make a vector orthogonal to others
    Combine(CombineArgs),
    /// Convert another program's vector to a vector file, or a vector file to a GGUF control vector
    Convert(ConvertArgs),
    /// Write a feature of a sparse autoencoder as a vector file
    Sae(SaeArgs),
    /// Measure how well steering transfers through a map, and write a report
    Eval(Box<EvalArgs>),
    /// Write the report of an evaluation again, from its report.json
    Report(ReportArgs),
    /// Check a file of any of these kinds and print its contents
    Inspect(InspectArgs),
}

/// The log filter where RUST_LOG is unset. It leaves out what the engine warns of while it looks for a model's files:
/// either the files are in the cache, or an error that says the same follows.
const DEFAULT_LOG_FILTER: &str =
    "warn,tiny_skia=error,mistralrs_core::pipeline::auto=error,mistralrs_core::pipeline::hf=error";

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    cli::pipe::end_when_closed();
    steermap_plugin::allocator::keep_freed_memory();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER)))
        .init();
    match run(Args::parse_from(cli::combine::shield_terms(std::env::args_os())).command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<StatsPending>() {
                ExitCode::from(TEMPORARY_FAILURE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Vector(args) => cli::vector::vector(args).await?,
        Command::Fit(args) => return cli::fit::fit(args).await,
        Command::Capture(args) => return cli::capture::capture(args).await,
        Command::Stats(args) => return cli::fit::stats(args).await,
        Command::Merge(args) => cli::fit::merge(args)?,
        Command::Apply(args) => cli::files::apply(args)?,
        Command::Combine(args) => cli::combine::combine(args)?,
        Command::Convert(args) => cli::convert::convert(args)?,
        Command::Sae(args) => cli::sae::sae(args)?,
        Command::Eval(args) => return cli::eval::eval(*args).await,
        Command::Report(args) => cli::eval::report(args)?,
        Command::Inspect(args) => cli::files::inspect(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
