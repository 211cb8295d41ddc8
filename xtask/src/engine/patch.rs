//! Applies a patch to a folder, and makes one from two folders: a unified diff of several files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::tree;

/// Unchanged lines around each change, as `diff -u` writes them, so that a person can review a patch and rebase it.
const CONTEXT_LINES: usize = 3;

/// The patch from the folder `published` to the folder `changed`.
pub fn make(published: &Path, changed: &Path) -> Result<String> {
    let files: BTreeSet<PathBuf> = [published, changed]
        .map(tree::files)
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    let mut patch = String::new();
    for file in files {
        let [before, after] = [published, changed].map(|dir| read_if_there(&dir.join(&file)));
        let (before, after) = (before?, after?);
        if before == after {
            continue;
        }
        let name = file.to_string_lossy().replace('\\', "/");
        let after = after.with_context(|| format!("{name}: a patch cannot delete a file"))?;
        let [before, after] = [before, Some(after)].map(|bytes| bytes.map(String::from_utf8).transpose());
        let (before, after) = (before.context(name.clone())?, after.context(name.clone())?);
        let mut options = diffy::DiffOptions::new();
        options.set_context_len(CONTEXT_LINES);
        let head = if before.is_some() {
            format!("a/{name}")
        } else {
            "/dev/null".to_string()
        };
        options
            .set_original_filename(head)
            .set_modified_filename(format!("b/{name}"));
        let [before, after] = [before, after].map(Option::unwrap_or_default);
        patch.push_str(&options.create_patch(&before, &after).to_string());
    }
    Ok(patch)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

/// Applies `patch` to the files below `dir`. Every hunk must apply exactly where it states, not merely near it.
pub fn apply(patch: &str, dir: &Path) -> Result<()> {
    for (name, diff) in split(patch)? {
        let path = dir.join(&name);
        let parsed = diffy::Patch::from_str(&diff).with_context(|| format!("{name}: not a unified diff"))?;
        let is_new = parsed.original() == Some("/dev/null");
        ensure!(
            is_new != path.exists(),
            "{name}: {}",
            if is_new { "exists already" } else { "is missing" }
        );
        let original = if is_new {
            String::new()
        } else {
            fs::read_to_string(&path).with_context(|| name.clone())?
        };
        check_positions(&parsed, &original).with_context(|| name.clone())?;
        let patched = diffy::apply(&original, &parsed).with_context(|| format!("{name}: does not apply"))?;
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        fs::write(&path, patched).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// The file names and the diffs of a patch of several files.
fn split(patch: &str) -> Result<Vec<(String, String)>> {
    let lines: Vec<&str> = patch.split_inclusive('\n').collect();
    let heads: Vec<usize> = (0..lines.len().saturating_sub(1))
        .filter(|&i| lines[i].starts_with("--- ") && lines[i + 1].starts_with("+++ "))
        .collect();
    ensure!(heads.first() == Some(&0), "does not begin with `--- ` and `+++ ` lines");
    let ends = heads.iter().skip(1).copied().chain([lines.len()]);
    heads
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let name = lines[start + 1]
                .trim_end()
                .strip_prefix("+++ b/")
                .with_context(|| format!("line {}: expected `+++ b/FILE`", start + 2))?;
            let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
            ensure!(plain, "line {}: {name:?} is not a plain relative path", start + 2);
            Ok((name.to_string(), lines[start..end].concat()))
        })
        .collect()
}

/// Checks that the lines which each hunk removes are exactly where the hunk states.
fn check_positions(patch: &diffy::Patch<'_, str>, original: &str) -> Result<()> {
    let lines: Vec<&str> = original.split_inclusive('\n').collect();
    for (index, hunk) in patch.hunks().iter().enumerate() {
        let range = hunk.old_range();
        // An insertion names the line before it; anything else its first line, counted from 1.
        let start = range.start().saturating_sub(usize::from(!range.is_empty()));
        if start + range.len() > lines.len() {
            bail!("hunk {}: line {} is past the end of the file", index + 1, range.start());
        }
        let mut at = start;
        for line in hunk.lines() {
            let expected = match line {
                diffy::Line::Context(text) | diffy::Line::Delete(text) => text,
                diffy::Line::Insert(_) => continue,
            };
            if lines[at] != *expected {
                bail!(
                    "hunk {}: line {} is {:?}, expected {:?}",
                    index + 1,
                    at + 1,
                    lines[at].trim_end(),
                    expected.trim_end()
                );
            }
            at += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "--- a/one.txt\n+++ b/one.txt\n@@ -1,0 +2 @@\n+inserted\n@@ -3 +4,2 @@\n-three\n+THREE\n+more\n\
                         --- /dev/null\n+++ b/sub/sub.txt\n@@ -0,0 +1 @@\n+new\n";

    fn folder(one: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one.txt"), one).unwrap();
        dir
    }

    #[test]
    fn a_patch_made_from_two_folders_applies() {
        let dir = tempfile::tempdir().unwrap();
        let [published, changed] = ["published", "changed"].map(|name| dir.path().join(name));
        for folder in [&published, &changed] {
            fs::create_dir_all(folder.join("src")).unwrap();
            fs::write(folder.join("same.txt"), "same\n").unwrap();
        }
        let lines = |changed: &str| {
            (0..20)
                .map(|i| if i == 9 { changed.into() } else { format!("{i}\n") })
                .collect::<String>()
        };
        fs::write(published.join("src/lib.rs"), lines("nine\n")).unwrap();
        fs::write(changed.join("src/lib.rs"), lines("NINE\n--- more\n")).unwrap();
        fs::write(changed.join("src/new.rs"), "new\n").unwrap();
        let patch = make(&published, &changed).unwrap();
        assert_eq!(
            patch,
            "--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -7,7 +7,8 @@\n 6\n 7\n 8\n-nine\n+NINE\n+--- more\n 10\n 11\n 12\n\
             --- /dev/null\n+++ b/src/new.rs\n@@ -0,0 +1 @@\n+new\n"
        );
        apply(&patch, &published).unwrap();
        assert_eq!(tree::hash(&published).unwrap(), tree::hash(&changed).unwrap());

        fs::remove_file(changed.join("same.txt")).unwrap();
        let error = make(&published, &changed).unwrap_err().to_string();
        assert_eq!(error, "same.txt: a patch cannot delete a file");
    }

    #[test]
    fn hunks_without_context_apply_at_their_line() {
        let dir = folder("same\nsame\nthree\nsame\n");
        apply(PATCH, dir.path()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("one.txt"), "same\ninserted\nsame\nTHREE\nmore\nsame\n");
        assert_eq!(read("sub/sub.txt"), "new\n");
    }

    #[test]
    fn a_hunk_that_does_not_fit_is_a_clear_error() {
        let dir = folder("same\nthree\nsame\nsame\n");
        let error = format!("{:#}", apply(PATCH, dir.path()).unwrap_err());
        assert_eq!(error, "one.txt: hunk 2: line 3 is \"same\", expected \"three\"");
        assert!(apply(PATCH, folder("same\n").path()).is_err());
    }

    #[test]
    fn a_patch_can_not_leave_its_folder_or_overwrite() {
        let outside = "--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+new\n";
        assert!(apply(outside, folder("").path()).is_err());
        let twice = "--- /dev/null\n+++ b/one.txt\n@@ -0,0 +1 @@\n+new\n";
        assert!(apply(twice, folder("a\n").path()).is_err());
        assert!(apply("no patch\n", folder("").path()).is_err());
    }
}
