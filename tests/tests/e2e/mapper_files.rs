//! The mapper's commands on files: outputs that they refuse, and their behaviour when their output is not read.

use std::path::{Path, PathBuf};
use std::process::Output;

use steermap_examples::programs::binary;
use steermap_maps::VectorFile;
use steermap_tests::maps::printed;
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::{reference_vector, save_reference_vector};
use steermap_tests::{fixture, project};

/// Runs the mapper. Arguments that begin with `@` are names of files in `folder`.
fn mapper(folder: &Path, args: &[&str]) -> Output {
    let path = |arg: &&str| match arg.strip_prefix('@') {
        Some(name) => folder.join(name).to_str().unwrap().to_string(),
        None => arg.to_string(),
    };
    let args: Vec<String> = args.iter().map(path).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run("mapper", &args)
}

/// All files of a folder with their contents.
fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn inputs_are_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    save_reference_vector("tiny-llama", folder);
    reference_vector("tiny-llama").save(&folder.join("other.toml")).unwrap();
    for entry in std::fs::read_dir(project("maps")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("stories-260k--") {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    std::fs::copy(fixture("tiny-llama.gguf"), folder.join("tiny-llama.gguf")).unwrap();
    std::fs::write(folder.join("pairs.toml"), "not read").unwrap();
    // A renamed vector, whose tensors are still those of `test.toml`.
    std::fs::copy(folder.join("test.toml"), folder.join("renamed.toml")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.join("test.toml"), folder.join("link.toml")).unwrap();
        std::fs::hard_link(folder.join("test.toml"), folder.join("hard.toml")).unwrap();
        std::os::unix::fs::symlink(folder, folder.join("inside")).unwrap();
    }
    let links: &[&str] = if cfg!(unix) {
        &["@link.toml", "@hard.toml", "@inside/test.toml"]
    } else {
        &[]
    };
    let before = content(folder);
    let map = "@stories-260k--stories-3m.toml";
    let mut commands = vec![
        vec!["combine", "@test.toml", "--out", "@test.toml"],
        vec!["combine", "@other.toml", "@test.toml", "--out", "@test.toml"],
        vec![
            "combine",
            "@other.toml",
            "--orthogonal-to",
            "@test.toml",
            "--out",
            "@test.toml",
        ],
        vec!["combine", "@renamed.toml", "--out", "@test.toml"],
        vec!["apply", "--map", map, "--vector", "@test.toml", "--out", "@test.toml"],
        vec!["apply", "--map", map, "--vector", "@test.toml", "--out", map],
        vec![
            "convert",
            "@test.toml",
            "@tiny-llama.gguf",
            "--model",
            "@.",
            "--gguf",
            "tiny-llama.gguf",
        ],
    ];
    commands.extend(links.iter().map(|link| vec!["combine", "@test.toml", "--out", link]));
    let model = fixture("tiny-llama");
    let find = ["vector", "--model", model.to_str().unwrap(), "--concept", "a test"];
    commands.push([&find[..], &["--pairs", "@pairs.toml", "--out", "@pairs.toml"]].concat());
    for command in commands {
        let error = error_of(&mapper(folder, &command));
        assert!(
            error.starts_with("error: out: found ") && error.ends_with("expected another name"),
            "{command:?}: {error}"
        );
        assert!(content(folder) == before, "{command:?} changed a file");
    }
    // A file that is not an input may be replaced.
    printed(&mapper(folder, &["combine", "@test.toml", "--out", "@other.toml"]));
    VectorFile::load(&folder.join("other.toml")).unwrap();
    VectorFile::load(&folder.join("test.toml")).unwrap();
}

#[test]
fn unwritable_outputs_are_detected_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    save_reference_vector("tiny-llama", folder);
    let read_only = folder.join("kept.toml");
    std::fs::write(&read_only, "kept").unwrap();
    let mut permissions = std::fs::metadata(&read_only).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&read_only, permissions).unwrap();
    std::fs::create_dir(folder.join("folder.toml")).unwrap();
    let combine = |out: &str| error_of(&mapper(folder, &["combine", "@test.toml", "--out", out]));
    assert!(combine("@kept.toml").contains("read-only"));
    assert!(combine("@folder.toml").contains("which is a folder"));
    assert_eq!(std::fs::read_to_string(&read_only).unwrap(), "kept");
    if cfg!(target_os = "linux") {
        // Not even root can create files there. The model is never loaded.
        let find = [
            "vector",
            "--model",
            "./nowhere",
            "--pairs",
            "@none",
            "--concept",
            "a",
            "--out",
            "/proc/a.toml",
        ];
        for command in [&find[..], &["combine", "@test.toml", "--out", "/proc/a.toml"][..]] {
            let error = error_of(&mapper(folder, command));
            assert!(
                error.contains("out: found the folder /proc, in which no file can be created"),
                "{error}"
            );
        }
    }
    // The attempts leave no files.
    let files: Vec<_> = content(folder).into_iter().map(|(path, _)| path).collect();
    assert_eq!(files.len(), 3, "{files:?}");
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_the_mapper_silently() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let vector = save_reference_vector("tiny-llama", dir.path());
    let vector = vector.to_str().unwrap();
    let mapper = binary("mapper").expect("run the tests with `cargo xtask test`");
    for args in [&["inspect", vector][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        // As `head` does after its last line.
        drop(reader);
        let output = Command::new(&mapper)
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        // SIGPIPE, as for other tools; a shell reports 141.
        assert_eq!(output.status.signal(), Some(13), "{args:?}: {}", output.status);
    }
}
