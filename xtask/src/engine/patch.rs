//! Applies a patch to a folder: a unified diff of several files, without context lines.

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};

/// Applies `patch` to the files below `dir`. Every hunk must apply exactly where it says: a diff without context would
/// otherwise fit anywhere.
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

/// Checks that the lines which each hunk takes away stand exactly where the hunk says.
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
    fn hunks_without_context_go_where_they_say() {
        let dir = folder("same\nsame\nthree\nsame\n");
        apply(PATCH, dir.path()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("one.txt"), "same\ninserted\nsame\nTHREE\nmore\nsame\n");
        assert_eq!(read("sub/sub.txt"), "new\n");
    }

    #[test]
    fn a_hunk_that_does_not_fit_is_one_clear_error() {
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
