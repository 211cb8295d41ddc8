//! Minutes of mixed traffic with reloads, uploads and deletions: what failed, and what the memory did. Run by
//! `cargo xtask load`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use steermap_examples::exit_code;
use steermap_examples::traffic::load::{Plan, run};

#[derive(Parser)]
struct Args {
    /// How long, in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Number of requests under way at once
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Seed of all that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep computed prefixes; then only requests from a fixed set are asked
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
    let plan = Plan {
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
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    ensure!(report.is_right(), "something failed that had not to");
    Ok(())
}
