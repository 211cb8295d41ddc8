//! The marked tables of docs/src/benchmarks.md: each is between `<!-- cargo xtask bench NAME [-- ARGS] -->` and `<!-- end -->`, and is the output
//! of that command.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::project::{Project, replace_between};

/// The page.
pub const PAGE: &str = "docs/src/benchmarks.md";

const BEGIN: &str = "<!-- cargo xtask bench ";
const CLOSE: &str = " -->\n";
const END: &str = "<!-- end -->";

/// A table's command: the benchmark's name and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub args: Vec<String>,
    /// The line above the table.
    marker: String,
}

/// The commands of the page's tables, in their order.
pub fn entries(page: &str) -> Result<Vec<Entry>> {
    let entry = |rest: &str| {
        let (command, _) = rest.split_once(CLOSE).context("a marker without an end")?;
        let (name, args) = command.split_once(" -- ").unwrap_or((command, ""));
        Ok(Entry {
            name: name.to_string(),
            args: args.split_whitespace().map(str::to_string).collect(),
            marker: format!("{BEGIN}{command}{CLOSE}"),
        })
    };
    page.split(BEGIN).skip(1).map(entry).collect()
}

/// Writes the output of an entry's command into the page, which is read again, since benchmarks take long.
pub fn write(project: &Project, entry: &Entry, printed: &str) -> Result<()> {
    let path = project.root().join(PAGE);
    let page = fs::read_to_string(&path).context(PAGE)?;
    fs::write(&path, replaced(&page, entry, printed)?).context(PAGE)
}

fn replaced(page: &str, entry: &Entry, printed: &str) -> Result<String> {
    let new = format!("\n```text\n{}\n```\n\n", printed.trim_end());
    replace_between(page, &entry.marker, END, &new).with_context(|| format!("{PAGE}: {}", entry.marker.trim()))
}

/// Runs `command`, shows its output, and returns it.
pub fn capture(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let Some(output) = child.stdout.take() else {
        bail!("{command:?} has no standard output");
    };
    let mut printed = String::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        std::io::stdout().flush()?;
        printed += &line;
        printed.push('\n');
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_command_replaces_its_table() {
        let page = "a\n<!-- cargo xtask bench seam -->\nold\n<!-- end -->\nb\n<!-- cargo xtask bench fit -- --rows 8 -->\nold\n<!-- end -->\n";
        let entries = entries(page).unwrap();
        assert_eq!(entries[0].name, "seam");
        assert!(entries[0].args.is_empty());
        assert_eq!(
            (entries[1].name.as_str(), entries[1].args.join(" ")),
            ("fit", "--rows 8".to_string())
        );
        let page = replaced(page, &entries[1], "new\n").unwrap();
        assert_eq!(
            page,
            "a\n<!-- cargo xtask bench seam -->\nold\n<!-- end -->\nb\n<!-- cargo xtask bench fit -- --rows 8 -->\n\n```text\nnew\n```\n\n<!-- end -->\n"
        );
        assert!(replaced("nothing", &entries[0], "new").is_err());
    }

    #[test]
    fn the_page_names_existing_benchmarks() {
        let project = Project::find().unwrap();
        let page = fs::read_to_string(project.root().join(PAGE)).unwrap();
        let entries = entries(&page).unwrap();
        assert!(!entries.is_empty());
        for entry in entries {
            <crate::commands::Bench as clap::ValueEnum>::from_str(&entry.name, false).unwrap();
            assert!(replace_between(&page, &entry.marker, END, "").is_some(), "{entry:?}");
        }
    }
}
