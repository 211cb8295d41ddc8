//! Whole or not at all, whatever goes wrong.

use std::fs;

use nalgebra::{DMatrix, DVector};

use super::*;
use crate::error::Problem;
use crate::map::AffineMap;
use crate::testing::{map_header, pair};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn with_weight(weight: f32) -> LayerPair {
    LayerPair {
        map: AffineMap {
            weight: DMatrix::from_element(2, 3, weight),
            bias: DVector::zeros(2),
        }
        .into(),
        ..pair(&[1], 1)
    }
}

#[test]
fn what_is_not_finished_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let mut writer = MapWriter::create(&path, map_header(), 2).unwrap().with_file_bytes(1);
    writer.push(&pair(&[1], 1)).unwrap();
    writer.push(&pair(&[2], 1)).unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    drop(writer);
    assert!(names(folder.path()).is_empty());

    // The map that is there stays until the end.
    let mut writer = MapWriter::create(&path, map_header(), 1).unwrap();
    writer.push(&pair(&[1], 1)).unwrap();
    writer.finish().unwrap();
    let before = names(folder.path());
    let mut writer = MapWriter::create(&path, map_header(), 1).unwrap();
    writer.push(&pair(&[2], 1)).unwrap();
    assert_eq!(MapFile::load(&path).unwrap().pairs()[0].source_layers, [1]);
    drop(writer);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_pair_that_is_refused_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let mut writer = MapWriter::create(&path, map_header(), 2)
        .unwrap()
        .with_dtype(FloatDtype::F16);
    let mut problem = |pair: &LayerPair| match writer.push(pair).unwrap_err() {
        FileError::Invalid { path: at, problem } if at == path => problem.to_string(),
        error => panic!("{error}"),
    };
    assert_eq!(
        problem(&with_weight(70_000.0)),
        "tensor \"pair.0.weight\": found 70000 at index 0, expected numbers that f16 can hold"
    );
    assert!(problem(&with_weight(f32::NAN)).contains("expected finite numbers"));
    let mut other = with_weight(1.0);
    other.target_layer = 18;
    assert!(problem(&other).starts_with("pair.0.target_layer: found 18"));
    let mut other = with_weight(1.0);
    other.source_layers = vec![1, 2];
    assert!(problem(&other).contains("found shape [2, 3], expected [2, 6]"));
    let mut other = with_weight(1.0);
    other.fit.rows = 0;
    assert!(problem(&other).starts_with("pair.0.fit.rows: found 0"));
    writer.push(&with_weight(65_504.0)).unwrap();
    assert!(matches!(
        writer.push(&with_weight(1.0)),
        Err(FileError::Invalid {
            problem: Problem::DuplicatePair { .. },
            ..
        })
    ));
    let file = writer.finish().unwrap();
    file.verify().unwrap();
    let map = file.pairs()[0].map.load().unwrap();
    assert_eq!(map.matrices()[0].to_dense(), DMatrix::from_element(2, 3, 65_504.0));
}

#[test]
fn no_pair_is_no_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let writer = MapWriter::create(&path, map_header(), 3).unwrap();
    assert!(matches!(
        writer.finish(),
        Err(FileError::Invalid {
            problem: Problem::NoPairs,
            ..
        })
    ));
    assert!(names(folder.path()).is_empty());
}

/// What can be known at the start is found there, and not after the work.
#[test]
fn an_unusable_path_is_found_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let create = |name: &str| MapWriter::create(&folder.path().join(name), map_header(), 1).map(drop);
    assert!(matches!(create("a.json"), Err(FileError::Name { .. })));
    assert!(matches!(create("no/a.toml"), Err(FileError::Write { .. })));
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    assert!(matches!(create("folder.toml"), Err(FileError::NotAFile { .. })));
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(create("file/a.toml"), Err(FileError::Write { .. })));
    let mut header = map_header();
    header.source.hidden_size = 0;
    let path = folder.path().join("a.toml");
    assert!(matches!(
        MapWriter::create(&path, header, 1),
        Err(FileError::Invalid { .. })
    ));
    assert_eq!(names(folder.path()), ["file", "folder.toml"]);
}

/// The TOML file can't be put in place: a folder has come there since.
#[test]
fn an_error_at_the_end_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let mut writer = MapWriter::create(&path, map_header(), 2).unwrap().with_file_bytes(1);
    writer.push(&pair(&[1], 1)).unwrap();
    writer.push(&pair(&[2], 1)).unwrap();
    fs::create_dir(&path).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(
        matches!(&error, FileError::Write { path: at, .. } if *at == path),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["a.toml"]);
}

/// A map whose TOML file could not be loaded isn't begun to be written for hours.
#[test]
fn a_text_that_grows_too_large_is_found_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let mut writer = MapWriter::create(&path, map_header(), 20).unwrap();
    let mut long = pair(&[1], 1);
    long.fit.method = "x".repeat(4 << 20);
    let mut pushed = 0;
    let error = loop {
        long.source_layers = vec![pushed];
        match writer.push(&long) {
            Ok(()) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, FileError::TooLarge { path: at, .. } if *at == path),
        "{error}"
    );
    assert_eq!(pushed, 7);
    // What was written until then is a map.
    let file = writer.finish().unwrap();
    file.verify().unwrap();
    assert_eq!(file.pairs().len(), 7);
    let mut header = map_header();
    header.provenance.command = "x".repeat(MAX_MAP_TOML_BYTES as usize);
    assert!(matches!(
        MapWriter::create(&path, header, 1),
        Err(FileError::TooLarge { .. })
    ));
}

/// More pairs than were announced go to another file, which has room for them.
#[test]
fn more_pairs_than_announced() {
    let folder = tempfile::tempdir().unwrap();
    for announced in [0, 1, 3, 5] {
        let path = folder.path().join("a.toml");
        let mut writer = MapWriter::create(&path, map_header(), announced).unwrap();
        for layer in 0..4 {
            writer.push(&pair(&[layer], 1)).unwrap();
        }
        let file = writer.finish().unwrap();
        file.verify().unwrap();
        assert_eq!(file.pairs().len(), 4);
        assert!(names(folder.path()).len() <= 5, "{announced}");
    }
}

/// The same pairs always give the same files.
#[test]
fn the_same_pairs_give_the_same_bytes() {
    let written = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let mut writer = MapWriter::create(&path, map_header(), 2).unwrap();
        writer.push(&pair(&[1], 1)).unwrap();
        writer.push(&pair(&[2, 3], 1)).unwrap();
        writer.finish().unwrap();
        let all = names(folder.path());
        all.into_iter()
            .map(|name| (fs::read(folder.path().join(&name)).unwrap(), name))
            .collect::<Vec<_>>()
    };
    assert_eq!(written(), written());
}

/// No half of a pair is ever put in place: a writer that failed once writes nothing more.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_finished_after_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let mut writer = MapWriter::create(&path, map_header(), 2).unwrap();
    // A full disk, as the system has one.
    let full = || {
        let file = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let path = tempfile::NamedTempFile::new_in(folder.path()).unwrap().into_temp_path();
        NamedTempFile::from_parts(file, path)
    };
    writer.current = Some(TensorWriter::new(full(), 6).unwrap());
    for layer in [1, 2] {
        let error = writer.push(&pair(&[layer], 1)).unwrap_err();
        assert!(
            matches!(&error, FileError::Write { path: at, .. } if *at == path),
            "{error}"
        );
    }
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, FileError::Write { .. }), "{error}");
    assert!(names(folder.path()).is_empty());
}
