//! Third-party packages for the tests, from PyPI and the npm registry, in exact versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::project::{Project, run};

/// The path of Debian's Chromium.
const CHROMIUM: &str = "/usr/bin/chromium";

/// The path of Debian's qemu-user.
const QEMU: &str = "/usr/bin/qemu-x86_64";

/// The path of Debian's package manager.
const APT: &str = "/usr/bin/apt-get";

/// Installs everything that the tests need in addition to the engine, unless it is installed: the packages listed in `tests/clients` and
/// `tests/playground`, into `target/clients`; a browser; and an emulator of other processors.
pub fn install(project: &Project) -> Result<()> {
    let wanted = project.root().join("tests/clients");
    let installed = project.root().join("target/clients");
    python_environment(&wanted.join("requirements.txt"), &installed.join("python"))?;
    once(&wanted.join("package.json"), &installed.join("node"), |folder| {
        fs::copy(wanted.join("package.json"), folder.join("package.json")).context("package.json")?;
        npm(folder, &["install", "--no-package-lock"])
    })?;
    npm_packages(project, "playground")?;
    browser()?;
    emulator()
}

/// Installs the packages of `tests/KIND` in the versions of its lock file, and returns their folder.
pub fn npm_packages(project: &Project, kind: &str) -> Result<PathBuf> {
    let wanted = project.root().join("tests").join(kind);
    let installed = project.root().join("target/clients").join(kind);
    once(&wanted.join("package-lock.json"), &installed, |folder| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(wanted.join(file), folder.join(file)).context(file)?;
        }
        npm(folder, &["ci"])
    })?;
    Ok(installed)
}

fn npm(folder: &Path, args: &[&str]) -> Result<()> {
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    run(Command::new(npm)
        .args(args)
        .args(["--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder))
}

/// Makes sure that there is a browser: the one that STEERMAP_CHROME names, or Debian's /usr/bin/chromium.
fn browser() -> Result<()> {
    let named = std::env::var_os("STEERMAP_CHROME");
    let path = named.clone().map_or_else(|| PathBuf::from(CHROMIUM), PathBuf::from);
    if path.exists() {
        return Ok(());
    }
    if named.is_none() && Path::new(APT).exists() {
        println!("installing Debian's package chromium, to test the playground");
        debian("chromium")?;
    }
    ensure!(
        path.exists(),
        "{} does not exist: testing the playground needs a browser; set STEERMAP_CHROME to the path of Chromium",
        path.display()
    );
    Ok(())
}

/// Makes sure that there is qemu-x86_64, which emulates an older processor. If it can't be installed, the test that uses it fails, and all
/// others run.
fn emulator() -> Result<()> {
    let wanted = cfg!(all(target_os = "linux", target_arch = "x86_64")) && Path::new(APT).exists();
    if wanted && !Path::new(QEMU).exists() {
        println!("installing Debian's package qemu-user, to test binaries on another processor");
        if let Err(error) = debian("qemu-user") {
            println!("not installed: {error:#}");
        }
    }
    Ok(())
}

/// Installs a package of Debian.
fn debian(package: &str) -> Result<()> {
    run(Command::new(APT).args(["update", "--quiet"]))?;
    run(Command::new(APT)
        .args(["install", "--yes", "--quiet", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Makes a virtual environment with the packages of a list in `folder`, unless it exists.
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

/// Empties `folder` and calls `install` to fill it, unless it was filled before for the same list. A copy of the list marks it as filled and
/// is written last, so an interrupted installation starts again.
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
