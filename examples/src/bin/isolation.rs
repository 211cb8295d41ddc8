//! Checks that no request's steering affects another's answer: a thousand requests, alone and in storms. Run by `cargo
//! xtask isolation`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use steermap_examples::exit_code;
use steermap_examples::figures::write_json;
use steermap_examples::traffic::isolation::{IsolationPlan, run};

#[derive(Parser)]
struct Args {
    /// Number of requests
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// Number of concurrent requests
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the figures, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(isolation(&Args::parse()))
}

fn isolation(args: &Args) -> Result<()> {
    let plan = IsolationPlan {
        requests: args.requests,
        at_once: args.at_once,
        seed: args.seed,
    };
    let folder = tempfile::tempdir()?;
    let report = run(&plan, Path::new("."), folder.path())?;
    print!("{}", report.describe());
    write_json(args.json.as_deref(), &report)?;
    ensure!(
        report.is_right(),
        "an answer differs from the one that its request gets alone"
    );
    Ok(())
}
