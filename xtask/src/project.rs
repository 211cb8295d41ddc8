//! Paths of the project, and calls of cargo on the main workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The checkout.
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The checkout that this xtask was built from.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent folder")?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// The top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A page as it is, and with the tables that `tables` makes from the text of `source`, which are below the line that names `source`.
    pub fn generated_page(
        &self,
        page: &str,
        source: &str,
        tables: impl FnOnce(&str) -> Result<String>,
    ) -> Result<(String, String)> {
        let read = |name: &str| fs::read_to_string(self.root.join(name)).with_context(|| name.to_string());
        let text = read(page)?;
        let begin = format!("<!-- made from {source} by cargo xtask docs -->\n");
        let expected = replace_between(&text, &begin, "<!-- end -->\n", &tables(&read(source)?)?)
            .with_context(|| format!("{page}: {begin}"))?;
        Ok((text, expected))
    }

    /// The folder with the engine's pins and patches.
    pub fn engine(&self) -> PathBuf {
        self.root.join("plugin/engine")
    }

    /// A `cargo` command in the top folder, with the target folder that all commands share.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Makes sure that binaries are where `run_bin` expects them, in any environment.
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .arg(subcommand);
        // Removes the variables that `cargo run` sets for xtask itself. Build scripts that watch them would run again,
        // and the engine would be rebuilt, whenever cargo is called alternately by hand and through xtask.
        for (name, _) in std::env::vars_os() {
            let own = [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
                "CARGO_PRIMARY_",
            ];
            if own.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                cargo.env_remove(name);
            }
        }
        cargo
    }

    /// The binary `name` of the main workspace, which must have been built, in the top folder.
    pub fn bin(&self, name: &str) -> Command {
        let path = self
            .root
            .join("target/release")
            .join(name)
            .with_extension(std::env::consts::EXE_EXTENSION);
        let mut command = Command::new(path);
        command.current_dir(&self.root);
        command
    }

    /// Runs the binary `name` of the main workspace, which must have been built, with `args`.
    pub fn run_bin(&self, name: &str, args: &[String]) -> Result<()> {
        run(self.bin(name).args(args))
    }
}

/// Runs `command`; an exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// `text` with `new` between the first `begin` and the first `end` after it, if it has both.
pub fn replace_between(text: &str, begin: &str, end: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some([before, begin, new, end, after].concat())
}
