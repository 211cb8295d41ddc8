//! Behaviour tasks: two-choice items that find a vector, others that measure its steering, and texts to continue.
//!
//! | what | is read as |
//! | --- | --- |
//! | `NAME.toml` and the JSON lines that it names | a task in our own format ([`own`]) |
//! | `NAME.items.jsonl`, `NAME.pairs.jsonl` beside it | a concept: a task without a TOML file ([`own`]) |
//! | any other `NAME.jsonl` | one of Anthropic's model-written evaluations ([`published`]) |
//! | any other `NAME.json`; the folders of `generate_dataset.json` and `test_dataset_ab.json` | CAA ([`published`]) |
//!
//! `.ndjson` is read like `.jsonl`, and each may be compressed (`.gz`, `.zst`); the first character decides whether a
//! file has JSON lines or one JSON array ([`records`](crate::records)).
//!
//! [`rule`] classifies continued texts as positive or negative, and [`tokenized`] tokenizes items for one model.

use std::path::Path;

use anyhow::{Result, bail};

use crate::records::name::json_stem;
use files::file_name;

pub use folder::{read_folder, read_folder_as};
pub use published::PromptForm;
pub use rule::Rule;
pub use task::{ItemKind, Task, TaskItem, TextsToContinue, answered};
pub use tokenized::{ItemChoice, Skipped, choices, choices_async};

mod checks;
mod fields;
mod files;
mod folder;
pub mod own;
pub mod published;
pub mod rule;
mod task;
pub mod tokenized;

/// Reads one task: a TOML file, a file of items, a published file (in its plain form), or a folder of two of CAA's.
///
/// # Errors
///
/// A file that is not a task: the message names the file, the line and field, what was found, and what was expected.
pub fn read(path: &Path) -> Result<Task> {
    read_as(path, PromptForm::Plain)
}

/// [`read`], with published data in `form`.
///
/// # Errors
///
/// As [`read`].
pub fn read_as(path: &Path, form: PromptForm) -> Result<Task> {
    let name = file_name(path);
    if own::concept_of(name).is_some() {
        return own::read_concept(path);
    }
    if path.is_dir() {
        return published::read_pair(path, path, form);
    }
    if path.extension().is_some_and(|extension| extension == "toml") {
        return own::read(path);
    }
    if json_stem(name).is_some() {
        return published::read(path, form);
    }
    bail!(
        "{}: found a file of another kind, expected a task: .toml, .jsonl, .ndjson or .json",
        path.display()
    )
}

#[cfg(test)]
mod tests;
