//! Checks that hostile requests harm no others: storms of hostile and ordinary requests, on two models in two dtypes.
//! Run by `cargo xtask chaos`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use steermap_examples::exit_code;
use steermap_examples::figures::write_json;
use steermap_examples::traffic::chaos::{ChaosPlan, StormLength, run};
use steermap_examples::traffic::models::{STORIES, ServedModel, WINDOW};
use steermap_examples::traffic::served::ServedDtype;

/// Number of different ordinary requests per run.
const ORDINARY: usize = 120;
/// Number of texts that are continued after each run.
const CONTINUATIONS: usize = 200;

#[derive(Parser)]
struct Args {
    /// Total length of the storms, in minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Number of concurrent requests
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The model; both in turn if absent
    #[arg(long, value_enum)]
    model: Option<Model>,
    /// The dtype; both in turn if absent
    #[arg(long, value_enum)]
    dtype: Option<ServedDtype>,
    /// Where to write the figures, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// The family's stories-3m
    Stories,
    /// A model with a sliding window
    Window,
}

impl Model {
    fn served(self) -> &'static ServedModel {
        match self {
            Self::Stories => &STORIES,
            Self::Window => &WINDOW,
        }
    }
}

fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(chaos(&Args::parse()))
}

fn chaos(args: &Args) -> Result<()> {
    let models = args
        .model
        .map_or(vec![Model::Stories, Model::Window], |model| vec![model]);
    let dtypes = args
        .dtype
        .map_or(vec![ServedDtype::F32, ServedDtype::F16], |dtype| vec![dtype]);
    let turns: Vec<_> = models
        .iter()
        .flat_map(|model| dtypes.iter().map(move |dtype| (model.served(), *dtype)))
        .collect();
    let time = Duration::try_from_secs_f64(60.0 * args.minutes / turns.len() as f64).context("--minutes")?;
    let mut reports = Vec::new();
    for (model, dtype) in turns {
        let plan = ChaosPlan {
            model,
            dtype,
            length: StormLength::Time(time),
            at_once: args.at_once,
            ordinary: ORDINARY,
            continuations: CONTINUATIONS,
            seed: args.seed,
        };
        let folder = tempfile::tempdir()?;
        let report = run(&plan, Path::new("."), folder.path());
        let report = report.with_context(|| format!("{} in {}", model.name, dtype.name()))?;
        print!("{}", report.describe());
        reports.push(report);
    }
    write_json(args.json.as_deref(), &reports)?;
    let wrong: Vec<_> = reports.iter().flat_map(|report| report.verdicts()).collect();
    ensure!(wrong.is_empty(), "hostile requests did harm: {}", wrong.join("; "));
    Ok(())
}
