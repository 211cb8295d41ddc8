//! All tasks of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::files::file_name;
use super::published::{GENERATE, OPEN_ENDED, PromptForm, TEST};
use super::task::Task;
use super::{own, published};
use crate::records::name::FileName;

/// Reads all tasks of a folder, sorted by name, published data in its plain form. The table in [`tasks`](super) lists
/// the formats. A folder with `generate_dataset.json` and `test_dataset_ab.json` is one task with the folder's name:
/// this folder, a folder in it, or, as CAA publishes them, `generate/NAME` and `test/NAME`. Other files and folders are
/// ignored.
///
/// # Errors
///
/// A folder without tasks, two tasks of the same name, or an error of [`read`](super::read).
pub fn read_folder(dir: &Path) -> Result<Vec<Task>> {
    read_folder_as(dir, PromptForm::Plain)
}

/// [`read_folder`], with published data in `form`.
///
/// # Errors
///
/// As [`read_folder`].
pub fn read_folder_as(dir: &Path, form: PromptForm) -> Result<Vec<Task>> {
    let at = dir.display();
    if let Some(task) = pair(dir, form)? {
        return Ok(vec![task]);
    }
    let entries = entries(dir)?;
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.into_iter().partition(|path| path.is_dir());
    let mut tasks = Vec::new();
    for path in files.iter().filter(|path| has_extension(path, "toml")) {
        tasks.push(own::read(path)?);
    }
    for path in files.iter().filter(|path| own::concept_of(file_name(path)).is_some()) {
        if !named(&tasks, path) {
            tasks.push(own::read_concept(path)?);
        }
    }
    let rest = |path: &&PathBuf| FileName::of(file_name(path)).is_json();
    for path in files.iter().filter(rest) {
        if named(&tasks, path) || file_name(path) == OPEN_ENDED {
            continue;
        }
        if let Some(name) = own::pairs_of(file_name(path)) {
            bail!(
                "{}: found pairs without a task, expected {name}.items.jsonl or a .toml that names them",
                path.display()
            );
        }
        tasks.push(published::read(path, form)?);
    }
    let tests = dir.join("test");
    for folder in &folders {
        if file_name(folder) == "generate" && tests.is_dir() {
            for finding in split(folder)? {
                let measuring = tests.join(file_name(&finding));
                tasks.push(published::read_pair(&finding, &measuring, form)?);
            }
        } else {
            tasks.extend(pair(folder, form)?);
        }
    }
    ensure!(
        !tasks.is_empty(),
        "{at}: found no task, expected NAME.toml, NAME.items.jsonl, or a published NAME.jsonl or NAME.json"
    );
    tasks.sort_by(|a, b| a.name.cmp(&b.name));
    for two in tasks.windows(2) {
        ensure!(
            two[0].name != two[1].name,
            "{at}: found two tasks named {:?}, {} and {}, expected different names",
            two[0].name,
            two[0].files[0].display(),
            two[1].files[0].display()
        );
    }
    Ok(tasks)
}

/// The task of a folder with CAA's two files; `None` if it has neither.
fn pair(folder: &Path, form: PromptForm) -> Result<Option<Task>> {
    let has = [GENERATE, TEST].map(|file| folder.join(file).is_file());
    match has {
        [false, false] => Ok(None),
        [true, true] => published::read_pair(folder, folder, form).map(Some),
        [finds, _] => {
            let (found, missing) = if finds { (GENERATE, TEST) } else { (TEST, GENERATE) };
            bail!(
                "{}: found {found} alone, expected {missing} beside it",
                folder.display()
            )
        }
    }
}

/// The folders of `generate/`.
fn split(generate: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = entries(generate)?;
    folders.retain(|folder| folder.join(GENERATE).is_file());
    Ok(folders)
}

/// The entries of a folder, sorted, without hidden files.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let unread = || format!("{}: can't be read, expected a folder of tasks", dir.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a task was read from this file.
fn named(tasks: &[Task], path: &Path) -> bool {
    tasks.iter().flat_map(|task| &task.files).any(|file| file == path)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
