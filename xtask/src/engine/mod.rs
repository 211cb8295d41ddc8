//! Prepares the engine: the published source of mistral.rs plus the patches in plugin/engine.
//!
//! The source comes through cargo, which checks the registry's checksum. The unpacked source is hashed again, so that
//! an edited registry folder is detected. The result is recorded beside it, and a second run that finds it unchanged
//! does nothing.

mod patch;
mod pins;
mod source;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::project::Project;
use pins::{Pin, Pins};
pub use tree::sha256;

/// The folder of the prepared source. Until it exists, cargo can only report that a file in it is missing, so its name says how to
/// make it.
const PREPARED: &str = "prepared-by-cargo-xtask-engine";

/// The record of the prepared engine and its origin: `record.toml` in [`PREPARED`], written last.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Record {
    /// One entry per crate, in the order of the pins.
    #[serde(rename = "crate")]
    crates: Vec<CrateRecord>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct CrateRecord {
    name: String,
    version: String,
    /// The registry's checksum.
    checksum: String,
    /// Hash of the unpacked source.
    tree: String,
    /// SHA-256 of the patch.
    patch: String,
    /// Hash of the patched source.
    prepared: String,
}

/// Prepares the engine unless it is prepared already.
pub fn prepare(project: &Project) -> Result<()> {
    let pins = Pins::load(&project.engine())?;
    let Err(reason) = verify(project, &pins) else {
        return Ok(());
    };
    eprintln!("preparing the engine: {reason:#}");
    prepare_from(project, &pins, &source::obtain(project, &pins)?)
}

/// Prepares the engine from the published sources, which are in the order of the pins.
fn prepare_from(project: &Project, pins: &Pins, sources: &[PathBuf]) -> Result<()> {
    let prepared = project.engine().join(PREPARED);
    let mut crates = Vec::new();
    for (pin, source) in pins.crates.iter().zip(sources) {
        crates.push(prepare_crate(project, pin, source, &prepared)?);
    }
    let record = toml::to_string(&Record { crates })?;
    write_whole(&prepared.join("record.toml"), &record)?;
    verify(project, pins).context("the prepared engine differs from its record")?;
    eprintln!("the engine is ready in {}", prepared.display());
    Ok(())
}

/// Checks the prepared engine against its record and the pins; an error names the difference.
pub fn check(project: &Project) -> Result<()> {
    let pins = Pins::load(&project.engine())?;
    verify(project, &pins).context("the prepared engine is not up to date (run `cargo xtask engine`)")?;
    for pin in &pins.crates {
        println!("{} {}: up to date", pin.name, pin.version);
    }
    Ok(())
}

/// Writes the patches again from the prepared source, after changes by hand.
pub fn save(project: &Project) -> Result<()> {
    let pins = Pins::load(&project.engine())?;
    let prepared = project.engine().join(PREPARED);
    let sources = source::obtain(project, &pins)?;
    for (pin, source) in pins.crates.iter().zip(&sources) {
        let changed = prepared.join(&pin.name);
        ensure!(
            changed.exists(),
            "{}: does not exist yet (run `cargo xtask engine`)",
            changed.display()
        );
        let patch = patch::make(source, &changed).with_context(|| pin.name.clone())?;
        write_whole(&project.engine().join(&pin.patch), &patch)?;
    }
    // Records the saved patches; the prepared source is unchanged.
    prepare_from(project, &pins, &sources)
}

fn prepare_crate(project: &Project, pin: &Pin, source: &Path, prepared: &Path) -> Result<CrateRecord> {
    let found = tree::hash(source)?;
    if found != pin.tree {
        bail!(
            "{}: the source of {} {} is not the published one: its tree hashes to {found}, expected {}",
            source.display(),
            pin.name,
            pin.version,
            pin.tree
        );
    }
    let patch_file = project.engine().join(&pin.patch);
    let patch = read(&patch_file)?;
    // Built beside the old source and swapped in, so that an interruption leaves no half-patched source.
    let (target, fresh) = (prepared.join(&pin.name), prepared.join(format!("{}.new", pin.name)));
    remove_dir(&fresh)?;
    tree::copy(source, &fresh)?;
    let applied = patch::apply(&patch, &fresh).with_context(|| format!("{}", patch_file.display()));
    if applied.is_err() {
        remove_dir(&fresh)?;
    }
    applied?;
    let hash = tree::hash(&fresh)?;
    // An unchanged file keeps its time stamp, so that cargo rebuilds only what a changed patch affects.
    if tree::hash(&target).ok().as_ref() == Some(&hash) {
        remove_dir(&fresh)?;
    } else {
        remove_dir(&target)?;
        fs::rename(&fresh, &target).with_context(|| format!("{}", target.display()))?;
    }
    Ok(CrateRecord {
        name: pin.name.clone(),
        version: pin.version.clone(),
        checksum: pin.checksum.clone(),
        tree: pin.tree.clone(),
        patch: sha256(patch.as_bytes()),
        prepared: hash,
    })
}

/// Compares the prepared source with its record, and the record with the pins and patches.
fn verify(project: &Project, pins: &Pins) -> Result<()> {
    let prepared = project.engine().join(PREPARED);
    let record_file = prepared.join("record.toml");
    if !record_file.exists() {
        bail!("the engine is not prepared yet");
    }
    let record: Record = toml::from_str(&read(&record_file)?).with_context(|| format!("{}", record_file.display()))?;
    if record.crates.len() != pins.crates.len() {
        bail!("the prepared crates are not those of plugin/engine/engine.toml");
    }
    for (pin, done) in pins.crates.iter().zip(&record.crates) {
        let patch = sha256(read(&project.engine().join(&pin.patch))?.as_bytes());
        if (&done.name, &done.version, &done.checksum, &done.tree)
            != (&pin.name, &pin.version, &pin.checksum, &pin.tree)
        {
            bail!(
                "{} {} was prepared from other pins than those of plugin/engine/engine.toml",
                done.name,
                done.version
            );
        }
        if done.patch != patch {
            bail!("{} has changed since {} was prepared", pin.patch, pin.name);
        }
        let found = tree::hash(&prepared.join(&pin.name))?;
        if found != done.prepared {
            bail!(
                "the prepared source of {} was changed by hand: its tree hashes to {found}, recorded {}",
                pin.name,
                done.prepared
            );
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

fn write_whole(path: &Path, text: &str) -> Result<()> {
    let fresh: PathBuf = path.with_extension("new");
    fs::write(&fresh, text).with_context(|| format!("{}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("{}", path.display()))
}

fn remove_dir(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}
