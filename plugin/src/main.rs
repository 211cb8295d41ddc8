//! `mistralrs-steered`: mistral.rs's server, with steering.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use steermap_plugin::config::Config;
use steermap_plugin::state::StateFolder;
use steermap_plugin::{check, serve};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "mistralrs-steered", version, about = "mistral.rs's server, with steering")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the models of a mistral.rs configuration file, steered by its [steering] table
    Serve(ConfigArgs),
    /// Check a configuration file and the vectors it names, without loading weights
    Check(ConfigArgs),
}

#[derive(clap::Args)]
struct ConfigArgs {
    /// The configuration file (.toml): what `mistralrs from-config` takes, plus [steering]
    #[arg(short, long)]
    config: PathBuf,
    /// Use vectors that were found on other weights than the served ones
    #[arg(long)]
    ignore_fingerprints: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    steermap_plugin::allocator::keep_freed_memory();
    // The same as mistral.rs's own command line; RUST_LOG changes it.
    tracing_subscriber::registry()
        .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with(tracing_subscriber::fmt::layer().with_ansi(colours()))
        .init();
    match run(Args::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the log may have escape codes: on a terminal, unless NO_COLOR is set.
fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Check(args) => {
            let config = Config::load(&args.config)?;
            let saved = config.admin.state.as_deref().map(StateFolder::peek).transpose()?;
            let saved = saved.flatten().unwrap_or_default();
            print!("{}", check::check(&config, args.ignore_fingerprints, &saved)?.report);
            Ok(())
        }
        Command::Serve(args) => serve::serve(Config::load(&args.config)?, args.ignore_fingerprints).await,
    }
}
