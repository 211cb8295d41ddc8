//! What is read when, what is found when, dtypes, and several files.

use std::path::PathBuf;

use super::*;
use crate::store::MAX_MAP_TOML_BYTES;

/// A map of three affine pairs and one of low rank, in the dtype, in files of `file_bytes` at most.
fn write(path: &Path, dtype: FloatDtype, file_bytes: u64) -> MapFile {
    let writer = MapWriter::create(path, map_header(), 4).unwrap();
    let mut writer = writer.with_dtype(dtype).with_file_bytes(file_bytes);
    written().iter().for_each(|pair| writer.push(pair).unwrap());
    writer.finish().unwrap()
}

fn written() -> Vec<LayerPair> {
    vec![
        pair(&[14], 11),
        pair(&[9, 3], 2),
        low_rank_pair(&[15], 11),
        pair(&[1], 3),
    ]
}

/// The numbers of a map, in its own dtype.
fn rounded(map: &LinearMap, dtype: FloatDtype) -> Vec<DMatrix<f32>> {
    let matrices = map.matrices().iter().map(|matrix| matrix.to_dense());
    matrices.map(|dense| dense.map(|value| dtype.round(value))).collect()
}

/// The files of tensors in a folder.
fn weights(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().unwrap() == "safetensors")
        .collect();
    files.sort();
    files
}

#[test]
fn each_kind_in_each_dtype() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [FloatDtype::F32, FloatDtype::Bf16, FloatDtype::F16] {
        let path = folder.path().join("a.toml");
        let file = write(&path, dtype, MAX_FILE_BYTES);
        file.verify().unwrap();
        assert_eq!(weights(folder.path()).len(), 1);
        for (found, given) in file.pairs().iter().zip(written()) {
            assert_eq!((found.map.dtype(), found.map.kind()), (dtype, given.map.kind()));
            let (map, given) = (found.map.load().unwrap(), given.map.load().unwrap());
            assert_eq!(map.dtype(), dtype);
            assert_eq!(found.map.bytes(), given.bytes_as(dtype));
            assert_eq!(found.map.bytes(), map.bytes());
            assert_eq!(map.bias(), given.bias());
            assert_eq!(rounded(&map, FloatDtype::F32), rounded(&given, dtype));
            // f32 holds what the others do, so a product tells no difference.
            let v: Vec<f32> = (0..map.columns()).map(|index| index as f32 - 1.5).collect();
            let mut matrices = rounded(&given, dtype)
                .iter()
                .map(WeightMatrix::from)
                .collect::<Vec<_>>();
            let same = LinearMap::of(std::mem::take(&mut matrices), given.bias().to_vec());
            assert_eq!(map.linear(&v), same.linear(&v));
            assert_eq!(map.affine_rows(&v), same.affine_rows(&v));
        }
        // Saved again, it keeps its dtype, and is the same file.
        let (text, bytes) = (fs::read(&path).unwrap(), fs::read(&weights(folder.path())[0]).unwrap());
        file.save(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
        assert_eq!(fs::read(&weights(folder.path())[0]).unwrap(), bytes);
    }
}

/// Written in one dtype, read, written in another: no different from written in that one, if it holds all that the
/// first does.
#[test]
fn dtypes_can_be_changed_from_file_to_file() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
    let change = |from: FloatDtype, to: FloatDtype| {
        let file = write(&a, from, MAX_FILE_BYTES);
        let mut writer = MapWriter::create(&b, map_header(), 4).unwrap().with_dtype(to);
        file.pairs().iter().for_each(|pair| writer.push(pair).unwrap());
        writer.finish().unwrap()
    };
    for half in [FloatDtype::Bf16, FloatDtype::F16] {
        let widened = change(half, FloatDtype::F32);
        widened.verify().unwrap();
        let direct = write(&a, half, MAX_FILE_BYTES);
        for (widened, direct) in widened.pairs().iter().zip(direct.pairs()) {
            let (widened, direct) = (widened.map.load().unwrap(), direct.map.load().unwrap());
            assert_eq!(rounded(&widened, FloatDtype::F32), rounded(&direct, FloatDtype::F32));
        }
        let narrowed = change(FloatDtype::F32, half);
        assert_same(narrowed.pairs(), write(&a, half, MAX_FILE_BYTES).pairs());
    }
}

#[test]
fn several_files_hold_all_pairs_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    for dtype in [FloatDtype::F32, FloatDtype::F16] {
        let whole = folder.path().join("whole.toml");
        let one = write(&whole, dtype, MAX_FILE_BYTES);
        assert_eq!(one.files.len(), 1);
        let whole = one.files[0].tensors.length();
        for (limit, files) in [(0, 4), (1, 4), (whole - 1, 2), (whole, 1)] {
            let several = write(&path, dtype, limit);
            assert_eq!(several.files.len(), files, "{limit}");
            several.verify().unwrap();
            assert_same(several.pairs(), one.pairs());
            let loaded = MapFile::load(&path).unwrap();
            assert_same(loaded.pairs(), one.pairs());
            // Those of the write before are gone, and no temporary files are there.
            let names = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(names, 2 + 1 + files);
            for file in &several.files {
                assert!(file.tensors.length() <= limit || files == 4, "{limit}");
            }
        }
    }
}

/// 32 by 80 layers, each with its quality at 20 ranks.
#[test]
fn all_pairs_of_large_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let mut header = map_header();
    (header.source.num_layers, header.target.num_layers) = (32, 80);
    let mut writer = MapWriter::create(&path, header, 32 * 80).unwrap();
    let mut of_all = pair(&[0], 0);
    let ranks = (1..=20u64).map(|rank| RankR2 {
        rank: 32 * rank,
        r2: 1.0 - 1.0 / (rank as f64 + 1.0),
    });
    of_all.fit.r2_by_rank = ranks.collect();
    for source in 0..32 {
        for target in 0..80 {
            of_all.source_layers = vec![source];
            of_all.target_layer = target;
            writer.push(&of_all).unwrap();
        }
    }
    let file = writer.finish().unwrap();
    assert_eq!((file.pairs().len(), file.files.len()), (2560, 1));
    assert_eq!(
        (&file.pairs()[2559].source_layers[..], file.pairs()[2559].target_layer),
        (&[31][..], 79)
    );
    let text = fs::metadata(&path).unwrap().len();
    assert!(text < MAX_MAP_TOML_BYTES / 4, "{text}");
    file.pairs()[1234].map.load().unwrap();
}

/// A byte in one pair's tensors is found when that pair is used, by its number and its file, and by no other pair.
#[test]
fn corrupted_bytes_are_found_by_the_pair_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    for limit in [MAX_FILE_BYTES, 1] {
        let file = write(&path, FloatDtype::Bf16, limit);
        let whole: Vec<_> = file.pairs().iter().map(|pair| pair.map.load().unwrap()).collect();
        let files: Vec<_> = file.files.iter().map(|file| file.tensors.path().to_owned()).collect();
        let originals: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        // Bytes of the pairs' tensors, counted from the end of the file that they are in.
        let sizes: Vec<_> = file.pairs().iter().map(|pair| pair.map.bytes() as usize).collect();
        for spoilt in 0..4 {
            let at = spoilt.min(files.len() - 1);
            let behind: usize = if files.len() == 1 {
                sizes[spoilt + 1..].iter().sum()
            } else {
                0
            };
            for place in [0, sizes[spoilt] / 2, sizes[spoilt] - 1] {
                let mut bytes = originals[at].clone();
                let length = bytes.len();
                bytes[length - 1 - behind - place] ^= 0x10;
                fs::write(&files[at], bytes).unwrap();
                let loaded = MapFile::load(&path).unwrap();
                for (index, pair) in loaded.pairs().iter().enumerate() {
                    match pair.map.load() {
                        Ok(map) => assert_eq!((map, index == spoilt), (whole[index].clone(), false)),
                        Err(FileError::Invalid {
                            path,
                            problem: Problem::PairSha256 { pair, .. },
                        }) => assert_eq!((pair, index, path), (spoilt, spoilt, files[at].clone())),
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(matches!(
                    loaded.verify(),
                    Err(FileError::Invalid { problem: Problem::Sha256 { .. }, path }) if path == files[at]
                ));
            }
            fs::write(&files[at], &originals[at]).unwrap();
        }
        MapFile::load(&path).unwrap().verify().unwrap();
    }
}

/// The check is made once: what is spoilt after it is found by verifying alone.
#[test]
fn a_pair_is_checked_when_it_is_first_used() {
    let saved = Saved::new();
    let file = saved.load().unwrap();
    file.pairs()[0].map.load().unwrap();
    let mut bytes = fs::read(saved.weights()).unwrap();
    let start = bytes.len() - file.pairs().iter().map(|pair| pair.map.bytes() as usize).sum::<usize>();
    bytes[start] ^= 1;
    fs::write(saved.weights(), &bytes).unwrap();
    file.pairs()[0].map.load().unwrap();
    file.clone().pairs()[0].map.load().unwrap();
    assert!(matches!(
        saved.problem(file.verify(), &saved.weights()),
        Problem::Sha256 { .. }
    ));
    assert!(saved.load().unwrap().pairs()[0].map.load().is_err());
}

#[test]
fn missing_cut_and_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let file = write(&path, FloatDtype::F32, 1);
    let files: Vec<_> = file.files.iter().map(|file| file.tensors.path().to_owned()).collect();
    let (first, third) = (fs::read(&files[0]).unwrap(), fs::read(&files[2]).unwrap());

    fs::remove_file(&files[2]).unwrap();
    let error = MapFile::load(&path).unwrap_err();
    assert!(
        matches!(&error, FileError::Missing { path, .. } if *path == files[2]),
        "{error}"
    );
    // The file that was loaded before is still open.
    file.verify().unwrap();

    fs::write(&files[2], &third[..third.len() - 1]).unwrap();
    let error = MapFile::load(&path).unwrap_err();
    assert!(
        matches!(&error, FileError::Invalid { path, problem: Problem::Safetensors { .. } } if *path == files[2]),
        "{error}"
    );
    // Another file of the same map.
    fs::write(&files[2], &first).unwrap();
    let error = MapFile::load(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: tensor \"pair.2.bias\": found no such tensor, expected it in this file",
            files[2].display()
        )
    );
    fs::write(&files[2], &third).unwrap();
    // A file listed twice, and one that no pair names.
    let text = fs::read_to_string(&path).unwrap();
    let name = |index: usize| files[index].file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(&path, text.replace(&name(1), &name(0))).unwrap();
    let error = MapFile::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("tensor \"pair.1.bias\": found no such tensor"),
        "{error}"
    );
    fs::write(&path, text.replacen("weights = 1", "weights = 0", 1)).unwrap();
    let error = MapFile::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("tensor \"pair.1.bias\": found no such tensor"),
        "{error}"
    );
    // A wrong hash in the TOML file: of a file, of a pair.
    let sha256 = digest::sha256(&third);
    let mut other = sha256.clone();
    other.replace_range(..1, if sha256.starts_with('0') { "1" } else { "0" });
    fs::write(
        &path,
        text.replace(&format!("sha256 = \"{sha256}\""), &format!("sha256 = \"{other}\"")),
    )
    .unwrap();
    let loaded = MapFile::load(&path).unwrap();
    loaded.pairs().iter().for_each(|pair| drop(pair.map.load().unwrap()));
    let error = loaded.verify().unwrap_err();
    assert!(
        matches!(&error, FileError::Invalid { path, problem: Problem::Sha256 { .. } } if *path == files[2]),
        "{error}"
    );
}

/// A map in use stays as it is while another takes its place.
#[test]
fn a_loaded_map_outlives_its_replacement() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let old = write(&path, FloatDtype::F32, 1);
    let mut writer = MapWriter::create(&path, map_header(), 1).unwrap();
    writer.push(&pair(&[20], 5)).unwrap();
    let new = writer.finish().unwrap();
    assert_eq!(weights(folder.path()).len(), 1);
    assert_same(old.pairs(), &written());
    old.verify().unwrap();
    assert_same(new.pairs(), &[pair(&[20], 5)]);
}

#[test]
fn pairs_of_a_file_can_go_to_another() {
    let saved = Saved::new();
    let file = saved.load().unwrap();
    let some = MapFile::new(map_header(), vec![file.pairs()[2].clone(), pair(&[5], 5)]).unwrap();
    let other = saved.folder.path().join("other.toml");
    some.save(&other).unwrap();
    assert_same(
        MapFile::load(&other).unwrap().pairs(),
        &[low_rank_pair(&[15], 11), pair(&[5], 5)],
    );
    // But not to one of other sizes.
    let mut header = map_header();
    header.target.hidden_size = 3;
    let problem = MapFile::new(header, vec![file.pairs()[0].clone()]).unwrap_err();
    assert!(matches!(problem, Problem::Shape { .. }), "{problem}");
}
