//! The map in maps/ between two real models, which `cargo xtask demo --real` uses.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::commands::{build_binaries, fetch_models};
use crate::project::{Project, run};

const SOURCE: &str = "smollm2-135m";
const TARGET: &str = "gemma3-270m";
/// Debian's package with the texts, and their folder in it.
const PACKAGE: &str = "fortunes";
const TEXTS: &str = "usr/share/games/fortunes";

/// Fits the map again, on Debian's `fortunes`. This takes some minutes on two cores, and needs apt-get and dpkg.
pub fn fit(project: &Project, args: &[String]) -> Result<()> {
    build_binaries(project, &["mapper", "fetch-model"])?;
    fetch_models(project, &[SOURCE, TARGET])?;
    let corpus = corpus(project)?;
    let map = format!("maps/{SOURCE}--{TARGET}.toml");
    let arguments = [
        "fit",
        "--cpu",
        "--dtype",
        "f32",
        "--source",
        &format!("models/{SOURCE}"),
        "--target",
        &format!("models/{TARGET}"),
        "--corpus",
        &corpus,
        "--tokens",
        "100000",
        // Layers at the same relative depth, in the middle.
        "--pairs",
        "14:8,16:9,17:10",
        "--map-dtype",
        "bf16",
        "--out",
        &map,
    ];
    let arguments: Vec<String> = arguments
        .iter()
        .map(ToString::to_string)
        .chain(args.iter().cloned())
        .collect();
    project.run_bin("mapper", &arguments)
}

/// Makes the corpus in target/real-map, unless it exists. Returns its path from the top folder.
fn corpus(project: &Project) -> Result<String> {
    let relative = "target/real-map/fortunes.jsonl";
    let corpus = project.root().join(relative);
    if corpus.exists() {
        return Ok(relative.to_string());
    }
    let folder = project.root().join("target/real-map");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    run(Command::new("apt-get").args(["download", PACKAGE]).current_dir(&folder))
        .with_context(|| format!("the corpus is made from Debian's package {PACKAGE}"))?;
    let packages: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    ensure!(
        packages.len() == 1,
        "{}: expected one package, found {}",
        folder.display(),
        packages.len()
    );
    run(Command::new("dpkg")
        .arg("-x")
        .arg(&packages[0])
        .arg(folder.join(PACKAGE)))?;
    let new = corpus.with_extension("new");
    run(Command::new("python3")
        .arg(project.root().join("examples/real-models/make_corpus.py"))
        .arg(folder.join(PACKAGE).join(TEXTS))
        .stdout(File::create(&new).with_context(|| new.display().to_string())?))?;
    fs::rename(&new, &corpus).with_context(|| corpus.display().to_string())?;
    Ok(relative.to_string())
}
