//! The commands that run programs of the main workspace.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::clients;
use crate::docs;
use crate::engine;
use crate::peers;
use crate::project::{Project, run};
use crate::tables;

/// The benchmarks.
#[derive(Clone, Copy, ValueEnum)]
pub enum Bench {
    /// Cost of the seam: the unpatched engine against the patched one, without a hook and with hooks
    Seam,
    /// Cost of computing statistics and fitting a map, against faer's own product and scikit-learn's Ridge
    Fit,
    /// Memory, time and file sizes of fits of real sizes, against the plan
    Scale,
    /// Speed of `mapper fit`, against the forward passes of both models alone
    Collect,
    /// Cost of steering while serving: requests steered in several ways, against the published engine
    Serve,
    /// Products of the patch on a CPU, against candle's
    Kernels,
    /// The same work on transformers and on llama.cpp's server, which are fetched and built first
    Peers,
    /// How much compiling specs for a large model slows down other requests
    Compile,
    /// 64 requests at once, steered in up to 64 ways, against the same requests unsteered
    Limits,
    /// Requests that contain the pairs of their vector: time to the first token, and the slowdown of a stream beside them
    Live,
    /// All benchmarks with a marked table in docs/src/benchmarks.md, one after the other; writes the tables there
    All,
}

/// Runs the demo with the embedded models, or with real models, which are fetched.
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

/// Evaluates a map between the embedded models and broken versions of it, checks the verdicts, and writes the table.
pub fn broken(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("broken-maps", args)
}

/// Sends a server many requests at once, and compares each answer with the answer to the same request alone.
pub fn isolation(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("isolation", args)
}

/// Sends servers hostile and ordinary requests, and compares the answers to the ordinary ones with the answers to these alone.
pub fn chaos(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("chaos", args)
}

/// Keeps a server busy with mixed traffic, reloads and uploads; counts failures and measures its memory.
pub fn load(project: &Project, args: &[String]) -> Result<()> {
    build(project)?;
    project.run_bin("load", args)
}

/// Prepares everything that the tests need, and runs them.
pub fn test(project: &Project, args: &[String]) -> Result<()> {
    engine::prepare(project)?;
    // The programs that the end-to-end tests start, including those on pages of the book. `lint` checks that the others compile.
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

/// The crates that are tested with checks: all crates of the project except residual-hooks. The engine depends on that one, and would be
/// built again.
const CHECKED: [&str; 5] = [
    "steermap-maps",
    "steermap-plugin",
    "steermap-mapper",
    "steermap-examples",
    "steermap-tests",
];

/// Adds debug assertions and overflow checks for the project's own crates to `command`. All other crates are built as usual, so that their
/// builds are shared.
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
        return run(benchmark(project, what, args)?.args(args));
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
        let mut command = benchmark(project, what, &entry.args)?;
        command.args(&entry.args);
        if matches!(what, Bench::Peers) {
            // Its table is not plain text, and it writes the table itself.
            run(command.args(["--write", tables::PAGE]))?;
        } else {
            tables::write(project, &entry, &tables::capture(&mut command)?)?;
        }
    }
    Ok(())
}

/// The command of a benchmark, without its arguments, after preparing everything that it needs: also the models that `args` name.
fn benchmark(project: &Project, what: Bench, args: &[String]) -> Result<Command> {
    let model = || models(project, "smollm2-135m");
    match what {
        Bench::Serve if args.iter().any(|arg| arg == "--without-published") => model()?,
        Bench::Seam | Bench::Serve => model().and_then(|()| build_stock(project))?,
        Bench::Limits | Bench::Collect | Bench::Peers => model()?,
        _ => build(project)?,
    }
    fetch_models(project, &missing_models(project, args))?;
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
        Bench::All => bail!("`all` stands for several commands"),
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

/// The models in `args` (`models/NAME`) that are not in the checkout.
fn missing_models<'a>(project: &Project, args: &'a [String]) -> Vec<&'a str> {
    let names = args.iter().filter_map(|arg| arg.strip_prefix("models/"));
    names
        .filter(|name| !project.root().join("models").join(name).exists())
        .collect()
}

/// Builds the whole main workspace. Cargo unites the features of everything that it builds, so with a part of the workspace it would build
/// the engine again with other features.
fn build(project: &Project) -> Result<()> {
    build_binaries(project, &[])
}

/// Like [`build`], but if `names` is not empty, only these binaries. The features are still those of the whole workspace, so no other
/// command builds the engine again.
pub fn build_binaries(project: &Project, names: &[&str]) -> Result<()> {
    engine::prepare(project)?;
    let names = names.iter().flat_map(|name| ["--bin", name]);
    run(project.cargo("build").args(["--release", "--workspace"]).args(names))
}

/// Builds the benchmark's worker with the published engine, and with the same versions of all other crates.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_in_arguments_are_fetched_unless_they_are_there() {
        let project = Project::find().unwrap();
        let args = [
            "--model",
            "models/no-such-model",
            "--source",
            "examples/family/stories-260k",
        ]
        .map(String::from);
        assert_eq!(missing_models(&project, &args), ["no-such-model"]);
    }
}
