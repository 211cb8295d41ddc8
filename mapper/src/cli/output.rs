//! Checks of output files, made before any work.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use steermap_maps::{MAX_TOML_BYTES, atomic, read};

/// Checks before the work, which may take hours, that a file can be written: its name has the extension, no folder and
/// no read-only file is in its place, and its folder is writable. For the last, a temporary file is made there and
/// removed.
///
/// # Errors
///
/// The first of these that does not hold.
pub fn check_out(out: &Path, extension: &str) -> Result<()> {
    ensure!(
        out.extension().is_some_and(|found| found == extension),
        "out: found {}, expected a name that ends with .{extension}",
        out.display()
    );
    if let Ok(there) = fs::metadata(out) {
        ensure!(
            !there.is_dir(),
            "out: found {}, which is a folder, expected the name of a file",
            out.display()
        );
        ensure!(
            !there.permissions().readonly(),
            "out: found {}, which exists and is read-only, expected a file that may be replaced",
            out.display()
        );
    }
    let folder = atomic::folder_of(out);
    ensure!(folder.is_dir(), "out: the folder of {} does not exist", out.display());
    check_folder(folder)
}

/// Checks that a folder is writable. A temporary file is made there and removed.
///
/// # Errors
///
/// The operating system's error.
fn check_folder(folder: &Path) -> Result<()> {
    let made = tempfile::Builder::new()
        .prefix(".steermap-")
        .suffix(".tmp")
        .tempfile_in(folder);
    if let Err(error) = made.and_then(tempfile::NamedTempFile::close) {
        // The kind alone: the whole message names the temporary file.
        bail!(
            "out: found the folder {}, in which no file can be created ({}), expected a writable folder",
            folder.display(),
            error.kind()
        );
    }
    Ok(())
}

/// Checks that a folder is writable or, if it doesn't exist yet, can be created. It isn't created here.
///
/// # Errors
///
/// A file is in its place, or the operating system refuses.
pub fn check_out_folder(out: &Path) -> Result<()> {
    ensure!(
        !out.is_file(),
        "out: found {}, which is a file, expected a folder",
        out.display()
    );
    let there = out.ancestors().find(|folder| folder.is_dir());
    // A relative path's last ancestor is the empty one.
    check_folder(there.unwrap_or(Path::new(".")))
}

/// Refuses an output that would overwrite one of the inputs: by its name, through a link, or as the tensors of a vector
/// or map. Call it before anything is written. Files that don't exist are ignored.
///
/// # Errors
///
/// Names the first input that would be overwritten.
pub fn check_inputs<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    // Writing the output replaces all of these.
    let replaced = files_of(out);
    for input in inputs {
        for file in files_of(input) {
            match replaced.iter().find(|replaced| is_same(replaced, &file)) {
                None => {}
                Some(lost) if lost == out => bail!(
                    "out: found {}, which is the input {}; expected another name",
                    out.display(),
                    file.display()
                ),
                Some(lost) => bail!(
                    "out: found {}, whose tensors ({}) are those of the input {}; expected another name",
                    out.display(),
                    lost.display(),
                    input.display()
                ),
            }
        }
    }
    Ok(())
}

/// A file and, if it is a vector or a map, the tensor files that it names.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let mut files = vec![path.to_path_buf()];
    if path.extension().is_some_and(|extension| extension == "toml") {
        let names = weights(path).unwrap_or_default();
        files.extend(names.iter().map(|name| path.with_file_name(name)));
    }
    files
}

/// The values of `file` in the table or tables `weights` of a TOML file. The rest of the file isn't checked. `None` if
/// the file can't be read or has no `weights`.
fn weights(path: &Path) -> Option<Vec<String>> {
    let bytes = read::whole(path, "the TOML file", MAX_TOML_BYTES).ok()?;
    let table: toml::Table = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
    let name = |weights: &toml::Value| Some(weights.get("file")?.as_str()?.to_string());
    match table.get("weights")? {
        toml::Value::Array(several) => Some(several.iter().filter_map(name).collect()),
        one => Some(name(one).into_iter().collect()),
    }
}

/// Whether two paths lead to the same file, also through symbolic or hard links. False if either doesn't exist.
fn is_same(a: &Path, b: &Path) -> bool {
    same_file::is_same_file(a, b).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<()>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn outputs_are_checked_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        check_out(&path("a.toml"), "toml").unwrap();
        assert!(names(folder.path()).is_empty());
        fs::write(path("a.toml"), "old").unwrap();
        check_out(&path("a.toml"), "toml").unwrap();
        assert_eq!(names(folder.path()), ["a.toml"]);
        assert_eq!(fs::read_to_string(path("a.toml")).unwrap(), "old");
        check_out(Path::new("bare.toml"), "toml").unwrap();

        assert!(message(check_out(&path("a.bin"), "toml")).ends_with("expected a name that ends with .toml"));
        assert!(message(check_out(&path("no/a.toml"), "toml")).ends_with("does not exist"));
        assert!(message(check_out(&path("a.toml/b.toml"), "toml")).ends_with("does not exist"));
        fs::create_dir(path("b.toml")).unwrap();
        assert!(message(check_out(&path("b.toml"), "toml")).contains("is a folder"));
        let mut permissions = fs::metadata(path("a.toml")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(path("a.toml"), permissions).unwrap();
        let read_only = message(check_out(&path("a.toml"), "toml"));
        assert!(
            read_only.contains("a.toml, which exists and is read-only"),
            "{read_only}"
        );
    }

    /// Not even root can create files there.
    #[cfg(target_os = "linux")]
    #[test]
    fn folders_that_take_no_file_are_refused() {
        let error = message(check_out(Path::new("/proc/a.toml"), "toml"));
        assert!(
            error.starts_with("out: found the folder /proc, in which no file can be created ("),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn folders_without_permission_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o555)).unwrap();
        // Root may write nevertheless.
        let may_write = fs::write(folder.path().join("probe"), "").is_ok();
        let checked = check_out(&folder.path().join("a.toml"), "toml");
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(checked.is_ok(), may_write);
    }

    #[test]
    fn output_folders_are_checked_and_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        check_out_folder(&path("a/b/c")).unwrap();
        check_out_folder(folder.path()).unwrap();
        check_out_folder(Path::new("a/b")).unwrap();
        assert!(names(folder.path()).is_empty());
        fs::write(path("a"), "").unwrap();
        assert!(message(check_out_folder(&path("a"))).ends_with("which is a file, expected a folder"));
        if cfg!(target_os = "linux") {
            assert!(message(check_out_folder(Path::new("/proc/a/b"))).contains("the folder /proc,"));
        }
    }

    #[test]
    fn an_output_that_is_an_input_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.toml"), "").unwrap();
        fs::write(path("b.toml"), "").unwrap();
        fs::create_dir(path("c")).unwrap();
        let check = |out: &str, inputs: &[&str]| {
            let inputs: Vec<PathBuf> = inputs.iter().map(|name| path(name)).collect();
            check_inputs(&path(out), inputs.iter().map(PathBuf::as_path))
        };
        check("a.toml", &["b.toml"]).unwrap();
        check("new.toml", &["a.toml", "b.toml", "missing.toml", "new.toml"]).unwrap();
        let error = message(check("a.toml", &["b.toml", "a.toml"]));
        assert!(
            error.contains("a.toml, which is the input") && error.ends_with("expected another name"),
            "{error}"
        );
        assert!(message(check("c/../a.toml", &["a.toml"])).contains("which is the input"));
        check("a.toml", &[]).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/a.stats"), "").unwrap();
        symlink(path("real"), path("linked")).unwrap();
        symlink(path("real/a.stats"), path("b.stats")).unwrap();
        fs::hard_link(path("real/a.stats"), path("c.stats")).unwrap();
        symlink(path("nowhere"), path("broken.stats")).unwrap();
        let check = |out: &str| check_inputs(&path(out), [path("real/a.stats").as_path()]);
        for out in ["linked/a.stats", "b.stats", "c.stats"] {
            assert!(message(check(out)).contains("which is the input"), "{out}");
        }
        check("broken.stats").unwrap();
        check("linked/b.stats").unwrap();
    }

    #[test]
    fn tensors_of_an_input_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a-1.safetensors"), "").unwrap();
        fs::write(path("a-2.safetensors"), "").unwrap();
        fs::write(path("a.toml"), "[weights]\nfile = \"a-1.safetensors\"\n").unwrap();
        // Renamed without its tensors.
        fs::write(path("b.toml"), "[weights]\nfile = \"a-1.safetensors\"\n").unwrap();
        let several = "[[weights]]\nfile = \"a-2.safetensors\"\n[[weights]]\nfile = \"a-1.safetensors\"\n";
        fs::write(path("c.toml"), several).unwrap();
        fs::write(path("d.toml"), "[weights]\nfile = \"a-2.safetensors\"\n").unwrap();
        for input in ["b.toml", "c.toml"] {
            let error = message(check_inputs(&path("a.toml"), [path(input).as_path()]));
            assert!(
                error.contains("a.toml, whose tensors (") && error.contains(input),
                "{error}"
            );
        }
        check_inputs(&path("a.toml"), [path("d.toml").as_path()]).unwrap();
        check_inputs(&path("new.toml"), [path("b.toml").as_path()]).unwrap();
    }
}
