//! The licences of everything that is compiled into the programs, with their texts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::clients::once;
use crate::project::{Project, run};

/// The tool that collects the licences of crates, and its version.
const CARGO_ABOUT: (&str, &str) = ("cargo-about", "0.9.3");

/// Writes the licences of all crates in the programs, with their texts.
pub fn collect(project: &Project, host: &str, out: &Path) -> Result<()> {
    let (name, version) = CARGO_ABOUT;
    let tools = project.root().join("target/tools");
    fs::create_dir_all(&tools).with_context(|| tools.display().to_string())?;
    let (wanted, installed) = (tools.join("cargo-about.txt"), tools.join(name));
    write(&wanted, &format!("{name} {version}"))?;
    once(&wanted, &installed, |folder| {
        run(project
            .cargo("install")
            .args([
                name,
                "--version",
                &format!("={version}"),
                "--locked",
                "--features",
                "cli",
                "--root",
            ])
            .arg(folder)
            .env("CARGO_TARGET_DIR", tools.join("build")))
    })?;
    // Fetches all crates of the lock file, also those of other platforms, since cargo-about asks cargo about all of them. After that,
    // `--frozen` prevents downloads: cargo-about would otherwise search a crate's repository for texts that its source lacks.
    run(project.cargo("fetch").arg("--locked"))?;
    let settings = project.root().join("xtask/dist");
    // For the mapper, which depends on all other crates of the project that are in a package.
    run(Command::new(
        installed
            .join("bin")
            .join(name)
            .with_extension(std::env::consts::EXE_EXTENSION),
    )
    .current_dir(project.root())
    .args([
        "generate",
        "--fail",
        "--frozen",
        "--manifest-path",
        "mapper/Cargo.toml",
        "--target",
        host,
    ])
    .arg("--config")
    .arg(settings.join("about.toml"))
    .arg("--output-file")
    .arg(out)
    .arg(settings.join("licences.hbs")))?;
    let mut text = fs::read_to_string(out).with_context(|| out.display().to_string())?;
    text += &bundled(project, host)?;
    write(out, &text)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// The library that it links, if any: most such crates contain the library's source.
    links: Option<String>,
    manifest_path: PathBuf,
}

/// The licences of C libraries that crates contain. cargo-about reports only the licences that the crates themselves declare, and leaves out
/// licence texts of other works within them.
fn bundled(project: &Project, host: &str) -> Result<String> {
    let output = project
        .cargo("metadata")
        .args(["--format-version", "1", "--frozen", "--filter-platform", host])
        .output()
        .context("could not start cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("the output of cargo metadata")?;
    let mut text = String::new();
    for package in metadata.packages.iter().filter(|package| package.links.is_some()) {
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                find_licences(&path, &mut files)?;
            }
        }
        let mut written = BTreeSet::new();
        for file in files {
            let licence = fs::read(&file).with_context(|| file.display().to_string())?;
            let licence = String::from_utf8_lossy(&licence).trim_end().to_string();
            if written.insert(licence.clone()) {
                let path = file.strip_prefix(folder).unwrap_or(&file).display();
                let line = "-".repeat(80);
                text += &format!(
                    "\n{line}\nWithin {} {}: {path}\n\n{licence}\n",
                    package.name, package.version
                );
            }
        }
    }
    Ok(text)
}

/// Finds files with the usual names of licences, in `folder` and below.
fn find_licences(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find_licences(&path, files)?;
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(is_licence) {
            files.insert(path);
        }
    }
    Ok(())
}

/// Whether a file name is one of a licence: LICENSE, COPYING.txt or NOTICE, but not license.rs.
fn is_licence(name: &str) -> bool {
    let (stem, end) = name.split_once('.').unwrap_or((name, ""));
    let begins = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];
    begins.iter().any(|begin| stem.to_uppercase().starts_with(begin)) && ["", "md", "txt"].contains(&end)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_licences_are_recognised() {
        assert!(
            ["LICENSE", "LICENSE-MIT", "COPYING.txt", "license.md", "Notice"]
                .iter()
                .all(|name| is_licence(name))
        );
        assert!(
            !["license.rs", "relicense", "licenses.py", "README.md"]
                .iter()
                .any(|name| is_licence(name))
        );
    }

    #[test]
    fn licences_of_c_libraries_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("library/third_party/other");
        fs::create_dir_all(&below).unwrap();
        for file in [
            below.join("COPYING"),
            dir.path().join("library/LICENSE"),
            below.join("code.c"),
        ] {
            fs::write(file, "text").unwrap();
        }
        let mut files = BTreeSet::new();
        find_licences(dir.path(), &mut files).unwrap();
        let found: Vec<_> = files
            .iter()
            .map(|file| file.strip_prefix(dir.path()).unwrap())
            .collect();
        let expected = ["library/LICENSE", "library/third_party/other/COPYING"];
        assert_eq!(found, expected.map(Path::new));
    }
}
