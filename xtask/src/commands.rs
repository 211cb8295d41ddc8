//! The commands that run something of the main workspace.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::clients;
use crate::docs;
use crate::engine;
use crate::peers;
use crate::project::{Project, run};
use crate::tables;

/// What can be measured.
#[derive(Clone, Copy, ValueEnum)]
pub enum Bench {
    /// What the seam costs: the unpatched engine against the patched one, without a hook and with hooks
    Seam,
    /// What taking statistics and fitting a map cost: against faer's own product, and scikit-learn's Ridge
    Fit,
    /// Memory, time and file sizes of fits of real sizes, against the plan
    Scale,
    /// What `mapper fit` costs beside the forward passes of both models
    Collect,
    /// What steering costs while it serves: the published engine against requests that are steered in several ways
    Serve,
    /// The patch's products on a CPU, against candle's
    Kernels,
    /// The same work on transformers and on llama.cpp's server, which are fetched and built first
    Peers,
    /// What compiling specs for a large model costs the requests beside it
    Compile,
    /// 64 requests at once on a server, steered in up to 64 ways, beside the same unsteered
    Limits,
    /// Requests that bring the pairs of their vector along: time to the first token, and what a stream beside them loses
    Live,
    /// All that docs/src/benchmarks.md has a table of, one after the other, and writes the tables there
    All,
}

/// Runs the demo: with the embedded models, or with real ones, which are fetched.
pub fn demo(project: &Project, real: bool, args: &[String]) -> Result<()> {
    let demo = if real { "demo-real" } else { "demo" };
    build_binaries(project, &["mistralrs-steered", "mapper", "fetch-model", demo])?;
    if real {
        fetch_models(project, &["smollm2-135m", "gemma3-270m"])?;
    }
    project.run_bin(demo, args)
}

/// Evaluates the maps between the embedded models, and writes the table.
pub fn transfer(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("transfer", args)
}

/// Trains a sparse autoencoder on the small embedded model, measures its mapped features on the large one, and writes the page.
pub fn sae(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("sae", args)
}

/// Evaluates a map between the embedded models beside broken ones, checks the verdicts, and writes the table.
pub fn broken(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("broken-maps", args)
}

/// Asks a server many things at once, and compares each answer with that to the same request alone.
pub fn isolation(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("isolation", args)
}

/// Sends servers hostile requests beside ordinary ones, and compares the ordinary answers with those alone.
pub fn chaos(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("chaos", args)
}

/// Keeps a server busy with mixed traffic, reloads and uploads, and watches failures and memory.
pub fn load(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("load", args)
}

/// Prepares what the tests need and runs them.
pub fn test(project: &Project, args: &[String]) -> Result<()> {
    engine::prepare(project)?;
    // What the end-to-end tests start, and the pages of the book in them. Of the other programs, `lint` checks that they compile.
    let programs = ["mistralrs-steered", "mapper", "fetch-model", "stories", "demo"].map(|name| ["--bin", name]);
    run(checked(
        project
            .cargo("build")
            .args(["--release", "--workspace"])
            .args(programs.as_flattened()),
    ))?;
    fetch_models(project, &["smollm2-135m"])?;
    clients::install(project)?;
    run(checked(project.cargo("test").args(["--release", "--workspace"])).args(args))?;
    run(project.cargo("test").args([
        "--release",
        "--manifest-path",
        "xtask/Cargo.toml",
        "--target-dir",
        "target/xtask",
    ]))
}

/// The crates that the tests are of: all of ours but residual-hooks, since the engine depends on it and would be built once
/// more.
const CHECKED: [&str; 5] = [
    "steermap-maps",
    "steermap-plugin",
    "steermap-mapper",
    "steermap-examples",
    "steermap-tests",
];

/// `command` with debug assertions and overflow checks in our crates. Everything else is built as ever, and so is shared.
fn checked(command: &mut Command) -> &mut Command {
    for name in CHECKED {
        for check in ["debug-assertions", "overflow-checks"] {
            command.args(["--config", &format!("profile.release.package.{name}.{check}=true")]);
        }
    }
    command
}

/// Fetches and converts a real model.
pub fn models(project: &Project, name: &str) -> Result<()> {
    build(project)?;
    fetch_models(project, &[name])
}

/// Fetches and converts real models. The binary `fetch-model` must have been built.
pub fn fetch_models(project: &Project, names: &[&str]) -> Result<()> {
    for name in names {
        project.run_bin("fetch-model", &[name.to_string()])?;
    }
    Ok(())
}

/// Runs a benchmark, or all of them.
pub fn bench(project: &Project, what: Bench, args: &[String]) -> Result<()> {
    if !matches!(what, Bench::All) {
        return run(benchmark(project, what)?.args(args));
    }
    ensure!(
        args.is_empty(),
        "found arguments, expected none: they are in {}",
        tables::PAGE
    );
    let page = std::fs::read_to_string(project.root().join(tables::PAGE)).context(tables::PAGE)?;
    for entry in tables::entries(&page)? {
        let what = Bench::from_str(&entry.name, false).map_err(anyhow::Error::msg)?;
        println!("cargo xtask bench {} -- {}", entry.name, entry.args.join(" "));
        let mut command = benchmark(project, what)?;
        command.args(&entry.args);
        if matches!(what, Bench::Peers) {
            // Its table is no plain text, and it writes it.
            run(command.args(["--write", tables::PAGE]))?;
        } else {
            tables::write(project, &entry, &tables::capture(&mut command)?)?;
        }
    }
    Ok(())
}

/// The command of a benchmark, with all that it needs prepared.
fn benchmark(project: &Project, what: Bench) -> Result<Command> {
    let model = || models(project, "smollm2-135m");
    match what {
        Bench::Seam | Bench::Serve => model().and_then(|()| build_stock(project))?,
        Bench::Limits | Bench::Collect | Bench::Peers => model()?,
        _ => build(project)?,
    }
    let name = match what {
        Bench::Peers => {
            let peers = peers::install(project)?;
            let mut command = Command::new(&peers.python);
            command
                .current_dir(project.root())
                .args(["examples/bench/peers.py", "--llama"])
                .arg(&peers.llama);
            return Ok(command);
        }
        Bench::All => bail!("all benchmarks are not one command"),
        Bench::Seam => "bench-seam",
        Bench::Fit => "bench-fit",
        Bench::Scale => "bench-scale",
        Bench::Kernels => "bench-kernels",
        Bench::Compile => "bench-compile",
        Bench::Limits => "bench-limits",
        Bench::Live => "bench-live",
        Bench::Collect => "bench-collect",
        Bench::Serve => "bench-serve",
    };
    Ok(project.bin(name))
}

/// Builds the main workspace. Always all of it: cargo unites the features of what it builds, and with a part of the
/// workspace the engine would be built with others, so again.
fn build(project: &Project) -> Result<()> {
    build_binaries(project, &[])
}

/// As [`build`], but of the binaries only those named, if any are. The features are still those of the whole workspace, so no
/// other command builds the engine again.
pub fn build_binaries(project: &Project, names: &[&str]) -> Result<()> {
    engine::prepare(project)?;
    let names = names.iter().flat_map(|name| ["--bin", name]);
    run(project.cargo("build").args(["--release", "--workspace"]).args(names))
}

/// Builds the benchmark's worker on the published engine, with the same versions of everything else.
fn build_stock(project: &Project) -> Result<()> {
    let stock = project.root().join("xtask/stock");
    std::fs::copy(project.root().join("Cargo.lock"), stock.join("Cargo.lock")).context("Cargo.lock")?;
    run(project
        .cargo("build")
        .args(["--release", "--target-dir", "target", "--manifest-path"])
        .arg(stock.join("Cargo.toml")))
}

/// Format, clippy and rustdoc, warnings denied, the playground's own linters, and the links of all pages.
pub fn lint(project: &Project) -> Result<()> {
    engine::prepare(project)?;
    run(Command::new("node")
        .arg(project.root().join("tests/playground/lint.mjs"))
        .current_dir(clients::npm_packages(project, "playground")?))?;
    docs::links(project)?;
    let xtask = ["--manifest-path", "xtask/Cargo.toml"];
    run(project.cargo("fmt").args(["--all", "--check"]))?;
    run(project.cargo("fmt").args(xtask).arg("--check"))?;
    run(project.cargo("clippy").args([
        "--release",
        "--workspace",
        "--all-targets",
        "--no-deps",
        "--",
        "-D",
        "warnings",
    ]))?;
    run(project.cargo("clippy").args(xtask).args([
        "--release",
        "--target-dir",
        "target/xtask",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    run(project.cargo("doc").env("RUSTDOCFLAGS", "-D warnings").args([
        "--release",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]))
}
