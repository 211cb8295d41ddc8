//! Other engines for comparison: transformers with torch, and llama.cpp's server, which is built from the source in
//! llama-cpp-python. Both come from PyPI, in exact versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::clients::{interpreter, once, python_environment};
use crate::project::{Project, run};

/// The source distribution that contains llama.cpp.
const LLAMA: &str = "llama-cpp-python==0.3.36";

/// The installed engines.
pub struct Peers {
    pub python: PathBuf,
    /// llama-server, llama-quantize and convert_hf_to_gguf.py.
    pub llama: PathBuf,
}

/// Installs both into `target/peers`, unless they are installed. Building llama.cpp takes some minutes.
pub fn install(project: &Project) -> Result<Peers> {
    let list = project.root().join("examples/bench/requirements.txt");
    let target = project.root().join("target/peers");
    let environment = target.join("python");
    python_environment(&list, &environment)?;
    let llama = target.join("llama");
    let wanted = target.join("llama.txt");
    fs::write(&wanted, LLAMA).with_context(|| wanted.display().to_string())?;
    once(&wanted, &llama, |folder| build_llama(&environment, folder))?;
    Ok(Peers {
        python: interpreter(&environment),
        llama,
    })
}

fn pip(environment: &Path) -> Command {
    let mut command = Command::new(interpreter(environment));
    // The build back end needs cmake and ninja, which are in the environment.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = interpreter(environment)
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let paths = std::iter::once(programs).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(paths).unwrap_or(path));
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

fn build_llama(environment: &Path, folder: &Path) -> Result<()> {
    run(pip(environment)
        .args([
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--no-build-isolation",
            "--dest",
        ])
        .args([folder.as_os_str(), LLAMA.as_ref()]))?;
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = paths
        .find(|path| path.to_string_lossy().ends_with(".tar.gz"))
        .with_context(|| format!("{}: found no archive from pip", folder.display()))?;
    run(Command::new(interpreter(environment))
        .args(["-m", "tarfile", "-e"])
        .args([&archive, folder]))?;
    let unpacked = archive.to_string_lossy().trim_end_matches(".tar.gz").to_string();
    let source = Path::new(&unpacked).join("vendor/llama.cpp");
    ensure!(source.is_dir(), "{}: does not exist", source.display());
    let build = folder.join("build");
    let cmake = interpreter(environment).with_file_name("cmake");
    let mut configure = Command::new(&cmake);
    let ninja = interpreter(environment).with_file_name("ninja");
    configure.arg("-S").arg(&source).arg("-B").arg(&build);
    configure.args([
        "-G",
        "Ninja",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DGGML_NATIVE=ON",
        "-DBUILD_SHARED_LIBS=OFF",
    ]);
    configure.args([
        "-DLLAMA_CURL=OFF",
        "-DLLAMA_BUILD_TESTS=OFF",
        "-DLLAMA_BUILD_EXAMPLES=OFF",
        "-DLLAMA_BUILD_UI=OFF",
    ]);
    configure.arg(format!("-DCMAKE_MAKE_PROGRAM={}", ninja.display()));
    run(&mut configure)?;
    run(Command::new(&cmake)
        .arg("--build")
        .arg(&build)
        .args(["--target", "llama-server", "llama-quantize"]))?;
    for program in ["llama-server", "llama-quantize"] {
        let built = build.join("bin").join(program);
        fs::copy(&built, folder.join(program)).with_context(|| built.display().to_string())?;
    }
    for script in ["convert_hf_to_gguf.py", "conversion", "gguf-py"] {
        let from = source.join(script);
        if from.exists() {
            fs::rename(&from, folder.join(script)).with_context(|| from.display().to_string())?;
        }
    }
    fs::remove_dir_all(&unpacked).context(unpacked)?;
    fs::remove_dir_all(&build).with_context(|| build.display().to_string())?;
    fs::remove_file(&archive).with_context(|| archive.display().to_string())
}
