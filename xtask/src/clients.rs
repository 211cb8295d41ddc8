//! The packages of other people that the tests drive a server with: from PyPI and the npm registry, in exact versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::{Project, run};

/// Installs the packages that `tests/clients` names into `target/clients`, unless they are there.
pub fn install(project: &Project) -> Result<()> {
    let (wanted, installed) = (
        project.root().join("tests/clients"),
        project.root().join("target/clients"),
    );
    python_environment(&wanted.join("requirements.txt"), &installed.join("python"))?;
    once(&wanted.join("package.json"), &installed.join("node"), |folder| {
        fs::copy(wanted.join("package.json"), folder.join("package.json")).context("package.json")?;
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        run(Command::new(npm)
            .args([
                "install",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
                "--loglevel=error",
            ])
            .current_dir(folder))
    })
}

/// Makes `folder` a virtual environment with the packages of a list, unless it is one.
pub fn python_environment(list: &Path, folder: &Path) -> Result<()> {
    once(list, folder, |folder| {
        let python = std::env::var("STEERMAP_PYTHON").unwrap_or_else(|_| "python3".to_string());
        run(Command::new(python).args(["-m", "venv"]).arg(folder))?;
        run(Command::new(interpreter(folder))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(list))
    })
}

/// Has `install` fill an empty `folder`, unless it was filled before by the same list. The copy of the list that says so is
/// written last, so what was broken off is begun again.
pub fn once(list: &Path, folder: &Path, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let done = folder.join("installed");
    if fs::read_to_string(&done).is_ok_and(|before| before == text) {
        return Ok(());
    }
    println!("installing {} into {}", list.display(), folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    install(folder)?;
    fs::write(&done, text).with_context(|| done.display().to_string())
}

/// The interpreter of a virtual environment.
pub fn interpreter(environment: &Path) -> PathBuf {
    environment.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_installed_once_and_again_when_it_changes_or_failed() {
        let dir = tempfile::tempdir().unwrap();
        let (list, folder) = (dir.path().join("list"), dir.path().join("installed/here"));
        let runs = |fails: bool| {
            let mut ran = false;
            let result = once(&list, &folder, |folder| {
                assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
                fs::write(folder.join("package"), "x").unwrap();
                ran = true;
                anyhow::ensure!(!fails, "no network");
                Ok(())
            });
            assert_eq!(result.is_err(), fails);
            ran
        };
        fs::write(&list, "a==1").unwrap();
        assert!(runs(true) && runs(false) && !runs(false));
        fs::write(&list, "a==2").unwrap();
        assert!(runs(false) && !runs(false));
    }
}
