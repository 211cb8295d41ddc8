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
use cli::fit::{FitArgs, MergeArgs, NOT_YET, NotYet, StatsArgs};
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
    /// Fit the map from a small model's residual stream to a large one's
    Fit(FitArgs),
    /// Write a model's states over text to a folder, to fit from later
    Capture(CaptureArgs),
    /// Take the statistics that a fit needs, of a shard of the text
    Stats(StatsArgs),
    /// Add up statistics of shards
    Merge(MergeArgs),
    /// Carry a vector through a map, into a vector file for the large model
    Apply(ApplyArgs),
    /// Add up vectors, or take others out of them
    Combine(CombineArgs),
    /// Make a vector file of another program's vector, or a GGUF control vector of a vector file
    Convert(ConvertArgs),
    /// Make a vector file of a feature of a sparse autoencoder
    Sae(SaeArgs),
    /// Measure how well steering goes through a map, and write a report
    Eval(Box<EvalArgs>),
    /// Draw the report of an evaluation again, from its numbers
    Report(ReportArgs),
    /// Check a file of any of these kinds and print what is in it
    Inspect(InspectArgs),
}

/// What is logged unless RUST_LOG says otherwise. What the engine warns of while it looks for a model's files ends in an
/// error that says the same, or was found in the cache.
const LOG: &str = "warn,tiny_skia=error,mistralrs_core::pipeline::auto=error,mistralrs_core::pipeline::hf=error";

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    cli::pipe::end_when_closed();
    steermap_plugin::allocator::keep_freed_memory();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG)))
        .init();
    match run(Args::parse_from(cli::combine::shield_terms(std::env::args_os())).command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<NotYet>() {
                ExitCode::from(NOT_YET)
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
