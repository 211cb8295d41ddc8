//! Obtains the published source through cargo.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::pins::{Pin, Pins};
use crate::project::{Project, run};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The folders that cargo unpacked the pinned crates into, in the order of the pins.
pub fn obtain(project: &Project, pins: &Pins) -> Result<Vec<PathBuf>> {
    // A package that depends on the pinned crates and nothing else; cargo downloads and checks them for it. It gets the
    // project's lock file, so that its other dependencies are those of the project.
    let probe = project.root().join("target/xtask/engine-source");
    fs::create_dir_all(probe.join("src")).with_context(|| format!("{}", probe.display()))?;
    let dependencies: String = pins
        .crates
        .iter()
        .map(|pin| format!("{} = \"={}\"\n", pin.name, pin.version))
        .collect();
    fs::write(
        probe.join("Cargo.toml"),
        format!(
            "[package]\nname = \"engine-source\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\n{dependencies}"
        ),
    )?;
    fs::write(probe.join("src/lib.rs"), "")?;
    let lock_file = probe.join("Cargo.lock");
    let project_lock = project.root().join("Cargo.lock");
    if project_lock.exists() {
        fs::copy(&project_lock, &lock_file).with_context(|| format!("{}", lock_file.display()))?;
    }

    let cargo = |subcommand: &str| {
        let mut cargo = project.cargo(subcommand);
        cargo.arg("--manifest-path").arg(probe.join("Cargo.toml"));
        cargo
    };
    run(&mut cargo("fetch")).context("cargo could not obtain the source of the engine")?;
    let output = cargo("metadata")
        .args(["--format-version", "1", "--offline"])
        // cargo metadata repeats the warning that a crate without a library is ignored; `locate` searches for it beside
        // the others.
        .stderr(std::process::Stdio::null())
        .output()
        .context("could not start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata ended with {}", output.status);
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("the output of cargo metadata")?;
    let lock: Lock =
        toml::from_str(&fs::read_to_string(&lock_file)?).with_context(|| format!("{}", lock_file.display()))?;
    let checksums: HashMap<_, _> = lock
        .package
        .into_iter()
        .map(|p| ((p.name, p.version), p.checksum))
        .collect();
    pins.crates
        .iter()
        .map(|pin| locate(pin, &metadata, &checksums))
        .collect()
}

fn locate(pin: &Pin, metadata: &Metadata, checksums: &HashMap<(String, String), Option<String>>) -> Result<PathBuf> {
    let Pin {
        name,
        version,
        checksum,
        ..
    } = pin;
    let found = checksums
        .get(&(name.clone(), version.clone()))
        .with_context(|| format!("cargo did not resolve {name} {version}"))?;
    if found.as_ref() != Some(checksum) {
        bail!(
            "{name} {version}: the registry's checksum is {}, expected {checksum}",
            found.as_deref().unwrap_or("missing")
        );
    }
    // Cargo unpacks crates side by side, but its metadata leaves out those that have only a binary.
    metadata
        .packages
        .iter()
        .filter_map(|package| package.manifest_path.parent()?.parent())
        .map(|folder| folder.join(format!("{name}-{version}")))
        .find(|folder| folder.join("Cargo.toml").exists())
        .with_context(|| format!("cargo fetched {name} {version}, but it is not where cargo unpacks crates"))
}
