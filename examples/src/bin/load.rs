//! Minutes of mixed traffic with reloads, uploads and deletions; reports failures and the server's memory. Run by
//! `cargo xtask load`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use steermap_examples::exit_code;
use steermap_examples::figures::write_json;
use steermap_examples::traffic::load::{LoadPlan, run};

#[derive(Parser)]
struct Args {
    /// Duration in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Number of concurrent requests
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Enable the prefix cache; then only requests from a fixed set are sent
    #[arg(long)]
    prefix_cache: bool,
    /// Where to write the figures, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(load(&Args::parse()))
}

fn load(args: &Args) -> Result<()> {
    let plan = LoadPlan {
        time: Duration::from_secs_f64(60.0 * args.minutes),
        at_once: args.at_once,
        seed: args.seed,
        prefix_cache: args.prefix_cache,
    };
    let bar = ProgressBar::new(plan.time.as_secs());
    let folder = tempfile::tempdir()?;
    let report = run(&plan, Path::new("."), folder.path(), || bar.inc(1))?;
    bar.finish_and_clear();
    print!("{}", report.describe());
    write_json(args.json.as_deref(), &report)?;
    ensure!(
        report.is_right(),
        "a request, reload, upload or deletion failed unexpectedly"
    );
    Ok(())
}
