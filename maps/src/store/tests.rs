//! Crashes, errors, and paths that try to lead elsewhere.

use super::*;

const FORMAT: &str = "steermap-test/1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    format: String,
    text: String,
    weights: Weights,
}

fn table(text: &str) -> impl FnOnce(Weights) -> Table {
    move |weights| Table {
        format: FORMAT.to_owned(),
        text: text.to_owned(),
        weights,
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], format: &'static str) -> Result<T, Problem> {
    parse_toml(bytes, format)
}

/// How tensors are listed in `stem`.toml.
fn listed(stem: &str, tensors: &[u8]) -> Weights {
    Weights::of(stem, digest::sha256(tensors))
}

/// A file of these tensors that waits to be put in place.
fn written(replacement: &Replacement, tensors: &[u8]) -> NamedTempFile {
    let mut file = replacement.temporary().unwrap();
    file.write_all(tensors).unwrap();
    file
}

/// The text and the tensors that `path` stands for.
fn load(path: &Path) -> Result<(String, Vec<u8>), FileError> {
    let table: Table = read_toml(path, FORMAT)?;
    Ok((table.text, table.weights.read(path)?.1))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is(loaded: Result<(String, Vec<u8>), FileError>, text: &str, tensors: &[u8]) {
    assert_eq!(loaded.unwrap(), (text.to_owned(), tensors.to_vec()));
}

#[test]
fn saving_again_replaces_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    for (text, tensors) in [("one", b"1"), ("two", b"2"), ("two", b"2"), ("three", b"2")] {
        save(&path, tensors, table(text)).unwrap();
        is(load(&path), text, tensors);
        let file = listed("a", tensors).file;
        assert_eq!(names(folder.path()), [&file, "a.toml"]);
    }
}

#[test]
fn a_crash_at_any_step_leaves_a_file_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    save(&path, b"old", table("old")).unwrap();

    let mut replacement = Replacement::new(&path).unwrap();
    let text = to_text(&path, &table("new")(listed("a", b"new")), MAX_TOML_BYTES).unwrap();
    is(load(&path), "old", b"old");
    let file = written(&replacement, b"new");
    fs::write(folder.path().join(".steermap-crash.tmp"), "half of ne").unwrap();
    is(load(&path), "old", b"old");
    replacement.place(file, &listed("a", b"new")).unwrap();
    is(load(&path), "old", b"old");
    fs::write(&path, &text).unwrap();
    is(load(&path), "new", b"new");
    // As a crash would.
    std::mem::forget(replacement);
    assert_eq!(names(folder.path()).len(), 4, "the crash came before cleaning up");

    save(&path, b"newer", table("newer")).unwrap();
    is(load(&path), "newer", b"newer");
}

#[test]
fn what_is_not_committed_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    save(&path, b"old", table("old")).unwrap();
    let before = names(folder.path());
    let mut replacement = Replacement::new(&path).unwrap();
    for tensors in [&b"old"[..], b"new"] {
        let file = written(&replacement, tensors);
        replacement.place(file, &listed("a", tensors)).unwrap();
    }
    let unplaced = written(&replacement, b"newer");
    assert_eq!(names(folder.path()).len(), 4);
    drop((replacement, unplaced));
    assert_eq!(names(folder.path()), before);
    is(load(&path), "old", b"old");
}

#[test]
fn several_files_are_replaced_by_several() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let put = |all: &[&[u8]]| {
        let mut replacement = Replacement::new(&path).unwrap();
        let mut text = String::new();
        for tensors in all {
            let file = written(&replacement, tensors);
            let weights = replacement.weights(digest::sha256(tensors));
            replacement.place(file, &weights).unwrap();
            text += &format!("[[weights]]\n{}", toml::to_string(&weights).unwrap());
        }
        replacement.commit(&text).unwrap();
        let mut expected: Vec<_> = all.iter().map(|tensors| listed("a", tensors).file).collect();
        expected.push("a.toml".to_owned());
        expected.sort();
        assert_eq!(names(folder.path()), expected);
    };
    put(&[b"1", b"2", b"3"]);
    put(&[b"3", b"4"]);
    put(&[b"5"]);
    // A copy mentions one of two.
    put(&[b"6", b"7"]);
    let copy = folder.path().join("copy.toml");
    fs::write(&copy, format!("file = \"{}\"", listed("a", b"6").file)).unwrap();
    save(&path, b"8", table("eight")).unwrap();
    let left = names(folder.path());
    assert!(
        left.contains(&listed("a", b"6").file) && !left.contains(&listed("a", b"7").file),
        "{left:?}"
    );
}

#[test]
fn a_broken_file_in_the_way_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let file = folder.path().join(listed("a", b"new").file);
    fs::write(&path, "not = [toml").unwrap();
    fs::write(file, "cut sho").unwrap();
    save(&path, b"new", table("new")).unwrap();
    is(load(&path), "new", b"new");
}

#[test]
fn an_error_changes_nothing() {
    // The tensors can be written, the TOML file can't: a folder is in its place.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::create_dir(&path).unwrap();
    let error = save(&path, b"new", table("new")).unwrap_err();
    assert!(
        matches!(&error, FileError::Write { path: at, .. } if *at == path),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["a.toml"]);

    // The tensors can't be written.
    let path = folder.path().join("b.toml");
    save(&path, b"old", table("old")).unwrap();
    fs::create_dir(folder.path().join(listed("b", b"new").file)).unwrap();
    let before = names(folder.path());
    let error = save(&path, b"new", table("new")).unwrap_err();
    assert!(matches!(&error, FileError::Write { .. }), "{error}");
    assert_eq!(names(folder.path()), before);
    is(load(&path), "old", b"old");
}

#[cfg(unix)]
#[test]
fn an_unwritable_folder_is_an_error_and_keeps_the_old_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    save(&path, b"old", table("old")).unwrap();
    let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    // The superuser may write all the same; then there is nothing to see here.
    let bound = fs::write(folder.path().join("probe"), "").is_err();
    if bound {
        assert!(matches!(
            save(&path, b"new", table("new")),
            Err(FileError::Write { .. })
        ));
        is(load(&path), "old", b"old");
    }
    mode(0o755);

    // A folder that nobody can write to: it's a file.
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(
        save(&folder.path().join("file/a.toml"), b"new", table("new")),
        Err(FileError::Write { .. })
    ));
    assert!(save(&folder.path().join("no/a.toml"), b"new", table("new")).is_err());
}

#[test]
fn only_own_and_unused_tensors_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");

    // Someone copied the TOML file: the copy must go on loading.
    save(&path, b"1", table("one")).unwrap();
    let copy = folder.path().join("copy.toml");
    fs::copy(&path, &copy).unwrap();
    save(&path, b"2", table("two")).unwrap();
    is(load(&copy), "one", b"1");

    // Named by hand.
    let hand = folder.path().join("a.safetensors");
    fs::write(&hand, b"3").unwrap();
    let named = Weights {
        file: "a.safetensors".to_owned(),
        sha256: digest::sha256(b"3"),
    };
    fs::write(&path, toml::to_string(&table("three")(named)).unwrap()).unwrap();
    is(load(&path), "three", b"3");
    save(&path, b"4", table("four")).unwrap();
    assert!(hand.exists());

    // A name that leads elsewhere is never followed.
    let outside = folder.path().join("b-0123456789abcdef.safetensors");
    fs::write(&outside, b"5").unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let path = folder.path().join("in/b.toml");
    fs::write(&path, "[weights]\nfile = \"../b-0123456789abcdef.safetensors\"").unwrap();
    save(&path, b"6", table("six")).unwrap();
    assert!(outside.exists());
}

#[test]
fn generated_names_are_known() {
    assert!(is_generated("a", &listed("a", b"x").file));
    assert!(is_generated("a-b", &listed("a-b", b"x").file));
    for name in [
        "a.safetensors",
        "a-b-0123456789abcdef.safetensors",
        "a-0123456789abcdeg.safetensors",
        "a-.safetensors",
    ] {
        assert!(!is_generated("a", name), "{name}");
    }
}

#[test]
fn toml_paths_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a",
        "a.json",
        "a.TOML",
        "a.safetensors",
        ".toml",
        "..toml",
        "...toml",
        ".a.toml",
        "a\\b.toml",
        "c:d.toml",
        "a\nb.toml",
        "..",
    ] {
        let path = folder.path().join(name);
        assert!(
            matches!(save(&path, b"", table("")), Err(FileError::Name { .. })),
            "{name:?}"
        );
        assert!(matches!(load(&path), Err(FileError::Name { .. })), "{name:?}");
    }
    for name in ["a.toml", "a b.toml", "a.b.toml", "a..toml", "ü.toml"] {
        let path = folder.path().join(name);
        save(&path, b"", table("")).unwrap();
        is(load(&path), "", b"");
    }
}

#[test]
fn weights_can_only_be_beside_the_toml_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(folder.path().join("x.safetensors"), b"1").unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/x.safetensors"), b"1").unwrap();
    let absolute = folder.path().join("x.safetensors").to_str().unwrap().to_owned();
    for file in [
        "",
        ".",
        "..",
        "../a/x.safetensors",
        "sub/x.safetensors",
        "./x.safetensors",
        "sub\\x.safetensors",
        &absolute,
        "C:x.safetensors",
        ".safetensors",
        "..safetensors",
        ".x.safetensors",
        "x.safetensors\0",
        "x\n.safetensors",
        "x.bin",
        "a.toml",
    ] {
        let weights = Weights {
            file: file.to_owned(),
            sha256: digest::sha256(b"1"),
        };
        let problem = weights.read(&path).unwrap_err();
        let refused = |found: &str| found == file;
        assert!(
            matches!(&problem, FileError::Invalid { problem: Problem::WeightsName { found }, .. } if refused(found)),
            "{file:?}: {problem}"
        );
    }
    let weights = |sha256: String| Weights {
        file: "x.safetensors".to_owned(),
        sha256,
    };
    assert_eq!(weights(digest::sha256(b"1")).read(&path).unwrap().1, b"1");
    let error = weights(digest::sha256(b"2")).read(&path).unwrap_err();
    assert!(
        matches!(
            &error,
            FileError::Invalid {
                problem: Problem::Sha256 { .. },
                ..
            }
        ),
        "{error}"
    );
    let error = weights("abc".to_owned()).read(&path).unwrap_err();
    assert!(
        matches!(
            &error,
            FileError::Invalid {
                problem: Problem::Value { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn sizes_are_checked_before_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    save(&path, b"1", table("one")).unwrap();
    // Files of no content on the disk, but of these lengths.
    let grow = |path: &Path, length| {
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(length)
            .unwrap()
    };
    grow(&folder.path().join(listed("a", b"1").file), MAX_WEIGHTS_BYTES + 1);
    assert!(matches!(
        load(&path),
        Err(FileError::TooLarge {
            limit: MAX_WEIGHTS_BYTES,
            ..
        })
    ));
    grow(&path, MAX_TOML_BYTES + 1);
    assert!(matches!(
        load(&path),
        Err(FileError::TooLarge {
            limit: MAX_TOML_BYTES,
            ..
        })
    ));

    let text = "x".repeat(MAX_TOML_BYTES as usize);
    let path = folder.path().join("b.toml");
    let before = names(folder.path());
    assert!(matches!(
        save(&path, b"1", table(&text)),
        Err(FileError::TooLarge {
            limit: MAX_TOML_BYTES,
            ..
        })
    ));
    assert_eq!(names(folder.path()), before);
}

#[test]
fn other_kinds_and_versions_are_told_apart() {
    let problem = |text: &str| {
        parse::<Table>(text.as_bytes(), "steermap-vector/1")
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        problem("format = 'steermap-map/1'\n[source]\nx = 1"),
        "format: found \"steermap-map/1\", expected \"steermap-vector/1\": this is a map file"
    );
    assert_eq!(
        problem("format = 'steermap-vector/2'"),
        "format: found \"steermap-vector/2\", expected \"steermap-vector/1\": \
         it was written by a version of steermap that this one can't read"
    );
    assert_eq!(
        problem("a = 1"),
        "format: found nothing, expected \"steermap-vector/1\""
    );
    assert_eq!(problem("format = 7"), "format: found 7, expected \"steermap-vector/1\"");
    assert_eq!(
        problem("format = ''"),
        "format: found \"\", expected \"steermap-vector/1\""
    );
    let problem = parse::<Table>(b"format = 'steermap-vector/1'", "steermap-map/1").unwrap_err();
    assert!(problem.to_string().ends_with(": this is a vector file"), "{problem}");
}

#[test]
fn toml_errors_say_where() {
    let problem = |text: &[u8]| parse::<Table>(text, FORMAT).unwrap_err();
    let syntax = problem(b"format = 'steermap-test/1'\ntext = = 1");
    assert!(matches!(syntax, Problem::Toml { .. }));
    assert!(
        syntax.to_string().starts_with("TOML parse error at line 2, column 8"),
        "{syntax}"
    );
    let unknown = problem(b"format = 'steermap-test/1'\ntext = ''\ntxet = ''");
    assert!(matches!(unknown, Problem::UnknownKey { .. }));
    assert!(unknown.to_string().contains("line 3, column 1"), "{unknown}");
    assert!(
        unknown.to_string().contains("unknown field `txet`, expected"),
        "{unknown}"
    );
    let kind = problem(b"format = 'steermap-test/1'\ntext = 1");
    assert!(kind.to_string().contains("line 2, column 8"), "{kind}");
    let twice = problem(b"format = 'steermap-test/1'\nformat = 'steermap-test/1'");
    assert!(twice.to_string().contains("duplicate key"), "{twice}");
    assert_eq!(problem(b"a = '\xff'"), Problem::NotText { valid_up_to: 5 });
}
