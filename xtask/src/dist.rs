//! `cargo xtask dist`: packs the two programs for other machines.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use crate::engine;
use crate::licences;
use crate::project::{Project, run};

/// The programs of a package.
const PROGRAMS: [&str; 2] = ["mistralrs-steered", "mapper"];

/// Other files and folders of the checkout in a package, at the same paths. So the configurations of examples/serving work in the package as
/// they do in the checkout.
const FILES: [&str; 4] = [
    "LICENSE",
    "examples/serving",
    "examples/family/stories-260k",
    "examples/family/stories-3m",
];

/// The beginning of the names of the map and the vector for the models in the package.
const FAMILY: &str = "stories-";

/// The README of a package. The checkout's README has links to pages that are not packed.
const README: &str = include_str!("package.md");

/// A file of the package.
struct Entry {
    /// Its path in the package.
    path: String,
    from: PathBuf,
    program: bool,
}

/// Builds both programs for `cpu` and all processors with its instructions, and packs them with their licences and example configurations.
pub fn dist(project: &Project, cpu: Option<&str>) -> Result<()> {
    engine::prepare(project)?;
    let host = host(project)?;
    let cpu = cpu.unwrap_or(if host.starts_with("x86_64-") {
        "x86-64-v3"
    } else {
        "generic"
    });
    let folder = project.root().join("target/dist");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let licences = folder.join("THIRD-PARTY-LICENSES.txt");
    licences::collect(project, &host, &licences)?;
    let programs = build(project, &folder, &host, cpu)?;
    let (version, date, commit) = (version(project)?, date(project)?, commit(project));
    let about = folder.join("BUILD.txt");
    write(
        &about,
        description(&version, commit.as_deref(), &host, cpu, &programs)?.as_bytes(),
    )?;

    let readme = folder.join("README.md");
    write(&readme, README.as_bytes())?;

    let mut entries = vec![
        entry("BUILD.txt", &about),
        entry("README.md", &readme),
        entry("THIRD-PARTY-LICENSES.txt", &licences),
        entry(
            "steering.schema.json",
            &project.root().join("plugin/steering.schema.json"),
        ),
    ];
    for name in FILES {
        add(project.root(), name, &mut entries)?;
    }
    for file in files_in(&project.root().join("maps"))? {
        let name = name_of(&file)?;
        if name.starts_with(FAMILY) {
            add(project.root(), &format!("maps/{name}"), &mut entries)?;
        }
    }
    entries.extend(PROGRAMS.iter().zip(&programs).map(|(name, from)| Entry {
        path: (*name).to_string(),
        from: from.clone(),
        program: true,
    }));
    entries.sort_by(|a, b| a.path.cmp(&b.path));

    let name = format!("steermap-{version}-{host}-{cpu}");
    unpacked(&entries, &folder.join(&name))?;
    let archive = archive(&entries, &name, date)?;
    let path = folder.join(format!("{name}.tar.gz"));
    write(&path, &archive)?;
    let hash = engine::sha256(&archive);
    // The format of sha256sum.
    write(
        &folder.join(format!("{name}.tar.gz.sha256")),
        format!("{hash}  {name}.tar.gz\n").as_bytes(),
    )?;
    println!("{}: {:.1} MB", path.display(), archive.len() as f64 / 1e6);
    Ok(())
}

/// Builds the programs in a separate target folder, since everything is compiled with other flags. Returns their paths.
fn build(project: &Project, folder: &Path, host: &str, cpu: &str) -> Result<Vec<PathBuf>> {
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::home_dir().unwrap_or_default().join(".cargo"),
        PathBuf::from,
    );
    // These replace the flags of .cargo/config.toml. Messages of panics contain paths of source files, which are remapped so that they do not
    // depend on the build machine.
    let flags = [
        format!("-Ctarget-cpu={cpu}"),
        format!("--remap-path-prefix={}=/steermap", project.root().display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
    ];
    let mut cargo = project.cargo("build");
    cargo
        .args([
            "--release",
            "--locked",
            "--bins",
            "--config",
            "profile.release.strip=true",
        ])
        .args(["--package", "steermap-plugin", "--package", "steermap-mapper"])
        // With an explicit target, build scripts and macros, which run on this machine, are compiled without the flags.
        .args(["--target", host])
        .env("CARGO_TARGET_DIR", folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    run(&mut cargo)?;
    let built = folder.join(host).join("release");
    let program = |name: &&str| built.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    Ok(PROGRAMS.iter().map(program).collect())
}

/// The text of BUILD.txt.
fn description(version: &str, commit: Option<&str>, host: &str, cpu: &str, programs: &[PathBuf]) -> Result<String> {
    let mut text = format!("steermap {version} for {host}, processors with the instructions of {cpu}\n");
    if let Some(commit) = commit {
        text += &format!("made from commit {commit}\n");
    }
    let mut needed = None;
    for program in programs {
        needed = needed.max(glibc(
            &fs::read(program).with_context(|| program.display().to_string())?,
        ));
    }
    if let Some((major, minor)) = needed {
        text += &format!("needs glibc {major}.{minor} or newer\n");
    }
    Ok(text)
}

/// The newest version of glibc that a program needs.
fn glibc(program: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    let versions = program
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK);
    versions
        .filter_map(|(at, _)| {
            let rest = &program[at + MARK.len()..];
            let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
            let (major, minor) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
            let minor = minor.split('.').next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
        .max()
}

fn entry(path: &str, from: &Path) -> Entry {
    Entry {
        path: path.to_string(),
        from: from.to_path_buf(),
        program: false,
    }
}

/// Adds the file or folder `name` of the checkout.
fn add(root: &Path, name: &str, entries: &mut Vec<Entry>) -> Result<()> {
    let from = root.join(name);
    if from.is_dir() {
        for file in files_in(&from)? {
            add(root, &format!("{name}/{}", name_of(&file)?), entries)?;
        }
    } else {
        entries.push(entry(name, &from));
    }
    Ok(())
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| Ok(entry.with_context(|| folder.display().to_string())?.path()))
        .collect()
}

fn name_of(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{}: a name that is not UTF-8", path.display()))
}

/// Writes the package as a folder, which the Dockerfile copies into the image.
fn unpacked(entries: &[Entry], folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for entry in entries {
        let to = folder.join(&entry.path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        fs::copy(&entry.from, &to).with_context(|| entry.from.display().to_string())?;
    }
    Ok(())
}

/// The package as a tar.gz. Equal files give equal bytes: owners and dates of the files are left out.
fn archive(entries: &[Entry], name: &str, date: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for entry in entries {
        let content = fs::read(&entry.from).with_context(|| entry.from.display().to_string())?;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(if entry.program { 0o755 } else { 0o644 });
        header.set_mtime(date);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, format!("{name}/{}", entry.path), content.as_slice())?;
    }
    Ok(archive.into_inner()?.finish()?)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path).with_context(|| path.display().to_string())?;
    file.write_all(content).with_context(|| path.display().to_string())
}

/// rustc's default target.
fn host(project: &Project) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = output(Command::new(rustc).arg("-vV").current_dir(project.root()))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_string())
}

#[derive(Deserialize)]
struct Manifest {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    version: String,
}

fn version(project: &Project) -> Result<String> {
    let path = project.root().join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(manifest.workspace.package.version)
}

/// The date of the package's files in seconds since 1970: SOURCE_DATE_EPOCH, otherwise the date of the commit, or 0 without git.
fn date(project: &Project) -> Result<u64> {
    if let Ok(date) = std::env::var("SOURCE_DATE_EPOCH") {
        return date.parse().with_context(|| format!("SOURCE_DATE_EPOCH: {date}"));
    }
    Ok(git(project, &["log", "-1", "--format=%ct"])
        .and_then(|date| date.parse().ok())
        .unwrap_or(0))
}

/// The commit that is built, with a mark if the checkout differs from it. STEERMAP_COMMIT replaces it, for builds without git's history such as
/// that of the image.
fn commit(project: &Project) -> Option<String> {
    if let Some(commit) = std::env::var("STEERMAP_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
    {
        return Some(commit);
    }
    git(
        project,
        &["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
    )
}

fn git(project: &Project, args: &[&str]) -> Option<String> {
    let text = output(Command::new("git").args(args).current_dir(project.root())).ok()?;
    Some(text.trim().to_string())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("the output of {command:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_files_give_equal_archives() {
        let dir = tempfile::tempdir().unwrap();
        let archive_of = |date: u64| {
            fs::write(dir.path().join("program"), "runs").unwrap();
            fs::write(dir.path().join("text"), "reads").unwrap();
            let mut entries = vec![entry("a/text", &dir.path().join("text"))];
            entries.push(Entry {
                path: "program".to_string(),
                from: dir.path().join("program"),
                program: true,
            });
            archive(&entries, "name", date).unwrap()
        };
        let first = archive_of(1_000_000_000);
        assert_eq!(first, archive_of(1_000_000_000));
        let mut unpacked = tar::Archive::new(flate2::read::GzDecoder::new(first.as_slice()));
        let found: Vec<_> = unpacked
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (
                    path,
                    header.mode().unwrap(),
                    header.mtime().unwrap(),
                    header.uid().unwrap(),
                )
            })
            .collect();
        let expected = [("name/a/text", 0o644), ("name/program", 0o755)];
        assert_eq!(
            found,
            expected.map(|(path, mode)| (path.to_string(), mode, 1_000_000_000, 0))
        );
    }

    #[test]
    fn the_newest_glibc_is_found() {
        assert_eq!(
            glibc(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0"),
            Some((2, 34))
        );
        assert_eq!(glibc(b"static"), None);
    }

    #[test]
    fn the_files_of_a_package_exist() {
        let project = Project::find().unwrap();
        let mut entries = Vec::new();
        for name in FILES {
            add(project.root(), name, &mut entries).unwrap();
        }
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        for path in [
            "LICENSE",
            "examples/serving/container.toml",
            "examples/family/stories-3m/model.safetensors",
        ] {
            assert!(paths.contains(&path), "{paths:?}");
        }
        assert!(!version(&project).unwrap().is_empty());
    }
}
