//! The programs of this workspace as child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};

/// Path of a binary of this workspace: beside the running one or, for a test, in the folder above.
///
/// # Errors
///
/// If the binary was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("the path of this program is unknown")?;
    let name = Path::new(name).with_extension(std::env::consts::EXE_EXTENSION);
    let found = exe
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(&name))
        .find(|path| path.exists());
    found.with_context(|| format!("{} is not built: run `cargo build --release`", name.display()))
}

/// Sends a child a signal: `TERM`, `INT`, `HUP`.
///
/// # Panics
///
/// If there is no program `kill`.
pub fn send_signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status();
    assert!(sent.expect("kill can be run").success());
}

/// Runs a command to its end.
///
/// # Errors
///
/// If it can't be started, or fails.
pub fn run_to_end(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
