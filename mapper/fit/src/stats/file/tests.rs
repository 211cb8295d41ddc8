use std::io::Write;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::stats::tests::{Data, SOURCE, TARGET, difference, of, sampled, statistics};
use crate::stats::{Precision, Split, Statistics, StatsFileError};

fn save(statistics: &Statistics) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    statistics.save(&path, &json!({"corpus": "text", "seed": 7})).unwrap();
    std::fs::read(path).unwrap()
}

fn load(bytes: &[u8]) -> Result<(Statistics, serde_json::Value), StatsFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    std::fs::write(&path, bytes).unwrap();
    Statistics::load(&path)
}

#[test]
fn files_give_back_every_bit() {
    for (precision, rows) in [
        (Precision::F64, 100),
        (Precision::F32, 100),
        (Precision::F64, 3),
        (Precision::F64, 0),
    ] {
        let saved = of(&Data::new(rows, 2.0), precision, 32, 10);
        let bytes = save(&saved);
        let (loaded, header) = load(&bytes).unwrap();
        assert_eq!(header, json!({"corpus": "text", "seed": 7}));
        assert_eq!((loaded.layout(), loaded.precision()), (saved.layout(), precision));
        assert_eq!(format!("{:?}", saved.train()), format!("{:?}", loaded.train()));
        assert_eq!(sampled(&saved), sampled(&loaded));
        assert_eq!(loaded.test().sample().capacity(), 16);
        assert_eq!(save(&loaded), bytes);
        // Any safetensors reader opens it.
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(
            tensors.tensor("train.pair.1.cross").unwrap().shape(),
            [TARGET, 2 * SOURCE]
        );
    }
}

#[test]
fn loaded_statistics_grow_on() {
    let data = Data::new(90, 2.0);
    let (first, second): (Vec<usize>, Vec<usize>) = ((0..50).collect(), (50..90).collect());
    let (mut loaded, _) = load(&save(&of(&data.pick(&first), Precision::F64, 32, 10))).unwrap();
    loaded.merge(of(&data.pick(&second), Precision::F64, 32, 10)).unwrap();
    let whole = of(&data, Precision::F64, 32, 10);
    assert!(difference(whole.train(), loaded.train()) < 1e-12);
    assert_eq!(sampled(&whole), sampled(&loaded));
}

#[test]
fn staged_rows_are_not_saved_by_halves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    let mut statistics = statistics(Precision::F64, 64);
    Data::new(3, 0.0).add(&mut statistics, Split::Train, 3);
    let error = statistics.save(&path, &()).unwrap_err().to_string();
    assert!(error.contains("a.stats: 3 train rows are staged"), "{error}");
    assert!(!path.exists());
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let bytes = save(&of(&Data::new(20, 1.0), Precision::F64, 32, 10));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..bytes.len()).rev() {
        file.set_len(length as u64).unwrap();
        assert!(
            matches!(Statistics::load(&path), Err(StatsFileError::Invalid { .. })),
            "{length}"
        );
    }
    assert!(load(&[&bytes[..], b"\0"].concat()).is_err());
}

#[test]
fn mutations_are_refused_or_change_nothing() {
    let saved = of(&Data::new(20, 1.0), Precision::F64, 32, 10);
    let bytes = save(&saved);
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    std::fs::write(&path, &bytes).unwrap();
    let moments = |statistics: &Statistics| format!("{:?}", statistics.train());
    let expected = moments(&saved);
    let mut refused = 0;
    for turn in 0..6000 {
        let mut mutated = bytes.clone();
        // Half of them in the header, where they do most; one to three bytes, or a piece moved.
        let end = if turn % 2 == 0 { head } else { bytes.len() };
        if turn % 7 == 0 {
            let (from, to) = (rng.random_range(0..end), rng.random_range(0..end));
            let length = rng.random_range(1..40).min(bytes.len() - from.max(to));
            mutated.copy_within(from..from + length, to);
        } else {
            for _ in 0..rng.random_range(1..=3) {
                mutated[rng.random_range(0..end)] = rng.random();
            }
        }
        // Over the old content, of the same length: some file systems sync a file that was emptied and written anew.
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all(&mutated).unwrap();
        match Statistics::load(&path) {
            Ok((loaded, header)) => {
                assert_eq!(header, json!({"corpus": "text", "seed": 7}));
                assert_eq!(moments(&loaded), expected);
                assert_eq!(sampled(&loaded), sampled(&saved));
                assert_eq!(loaded.layout(), saved.layout());
            }
            Err(error) => {
                assert!(error.to_string().contains("a.stats"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 5000, "{refused}");
}

/// The file with its description changed, and the hash made right again.
fn with_description(bytes: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    with_header(bytes, |head, data| {
        let text = head["__metadata__"]["steermap"].as_str().unwrap();
        let mut description = serde_json::from_str(text).unwrap();
        change(&mut description);
        rehash(head, description.to_string(), data);
    })
}

fn with_header(bytes: &[u8], change: impl FnOnce(&mut serde_json::Value, &mut Vec<u8>)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut head = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(&mut head, &mut data);
    let head = head.to_string().into_bytes();
    [&(head.len() as u64).to_le_bytes()[..], &head, &data].concat()
}

fn rehash(head: &mut serde_json::Value, description: String, data: &[u8]) {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new_with_prefix(&description);
    let mut places: Vec<(usize, usize)> = head.as_object().unwrap().values().filter_map(place).collect();
    places.sort_unstable();
    places
        .iter()
        .for_each(|&(start, end)| hash.update(Sha256::digest(&data[start..end])));
    let hash = hash.finalize();
    head["__metadata__"] = json!({"steermap": description, "sha256": steermap_maps::digest::hex(&hash)});
}

/// Where a tensor lies, from its line in the header.
fn place(tensor: &serde_json::Value) -> Option<(usize, usize)> {
    let offsets = tensor.get("data_offsets")?;
    Some((offsets[0].as_u64()? as usize, offsets[1].as_u64()? as usize))
}

fn message(bytes: &[u8]) -> String {
    load(bytes).unwrap_err().to_string()
}

#[test]
fn descriptions_that_lie_are_refused() {
    let bytes = save(&of(&Data::new(20, 1.0), Precision::F64, 32, 10));
    assert!(load(&with_description(&bytes, |_| ())).is_ok());
    let said = |change: &dyn Fn(&mut serde_json::Value), word: &str| {
        let message = message(&with_description(&bytes, change));
        assert!(
            message.contains(word) && message.contains("a.stats"),
            "{word}: {message}"
        );
    };
    said(
        &|d| d["format"] = json!("steermap-stats/3"),
        "expected steermap-stats/2 or steermap-stats/1",
    );
    said(&|d| d["precision"] = json!("f16"), "f16");
    said(
        &|d| d["layout"]["source_hidden"] = json!(0),
        "layout.source_hidden: found 0",
    );
    said(
        &|d| d["layout"]["source_hidden"] = json!(6),
        "shape: found [5], expected [6]",
    );
    said(&|d| d["layout"]["pairs"] = json!([]), "number of pairs");
    said(&|d| d["layout"]["pairs"][0]["target_layer"] = json!(4), "target.4.mean");
    said(
        &|d| d["layout"]["pairs"][0]["source_layers"] = json!([6, 6]),
        "every layer once",
    );
    said(&|d| d["rows"][1] = json!(u64::MAX), "rows of validation");
    said(&|d| d["rows"][0] = json!(0), "as there are no rows");
    said(
        &|d| d["rows"][2] = json!(15),
        "sample_rows of test: found 16, expected 15",
    );
    said(&|d| d["sample_capacity"] = json!(usize::MAX), "sample_capacity");
    said(
        &|d| d["sample_rows"] = json!([0, 3]),
        "sample_rows of test: found 3, expected 16",
    );
    said(&|d| d["sample_rows"] = json!(16), "those of another version");
    said(&|d| d["format"] = json!("steermap-stats/1"), "those of another version");
    said(&|d| d["more"] = json!(1), "more");
}

#[test]
fn tensors_that_can_not_be_are_refused() {
    let bytes = save(&of(&Data::new(20, 1.0), Precision::F64, 32, 10));
    // One tensor's bytes changed, and the hash made right again.
    let said = |tensor: &str, index: usize, value: &[u8], word: &str| {
        let bytes = with_header(&bytes, |head, data| {
            let start = head[tensor]["data_offsets"][0].as_u64().unwrap() as usize + index * value.len();
            data[start..start + value.len()].copy_from_slice(value);
            let description = head["__metadata__"]["steermap"].as_str().unwrap().to_owned();
            rehash(head, description, data);
        });
        let message = message(&bytes);
        assert!(
            message.contains(tensor) && message.contains(word),
            "{tensor}: {message}"
        );
    };
    said("train.input.0.gram", 3, &f64::NAN.to_le_bytes(), "index 3: found NaN");
    // The second diagonal entry of a triangle of five.
    said(
        "train.input.0.gram",
        5,
        &(-1f64).to_le_bytes(),
        "index 5: found -1, expected 0 or more",
    );
    said(
        "train.target.8.squares",
        1,
        &(-1f64).to_le_bytes(),
        "expected 0 or more",
    );
    said("train.source_norms", 0, &f64::INFINITY.to_le_bytes(), "finite");
    said("test.keys", 0, &u64::MAX.to_le_bytes(), "ascending");
    said("test.target", 3, &f32::NAN.to_le_bytes(), "row 0, index 3");

    let changed = |change: &dyn Fn(&mut serde_json::Value), word: &str| {
        let message = message(&with_header(&bytes, |head, _| change(head)));
        assert!(message.contains(word), "{word}: {message}");
    };
    changed(
        &|h| h["__metadata__"]["sha256"] = json!("0"),
        "sha256: found 0, expected",
    );
    changed(
        &|h| drop(h.as_object_mut().unwrap().remove("__metadata__")),
        "__metadata__.steermap: found nothing",
    );
    changed(
        &|h| h["train.source_norms"]["dtype"] = json!("I64"),
        "dtype: found I64, expected F64",
    );
    changed(
        &|h| h["train.source_norms"]["shape"] = json!([1, 2]),
        "shape: found [1, 2], expected [2]",
    );
    changed(
        &|h| {
            let tensor = h.as_object_mut().unwrap().remove("test.keys").unwrap();
            h["test.kees"] = tensor;
        },
        "\"test.keys\": found nothing",
    );
    changed(
        &|h| h["extra"] = json!({"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}),
        "extra",
    );
}

#[test]
fn files_that_are_none_are_named() {
    let missing = Statistics::load(Path::new("nowhere/a.stats")).unwrap_err().to_string();
    assert!(missing.starts_with("nowhere/a.stats: can't be opened"), "{missing}");
    assert!(Statistics::load(Path::new(".")).is_err());
    for garbage in [&b""[..], b"steermap", &[0xff; 64], &[0; 64]] {
        assert!(matches!(load(garbage), Err(StatsFileError::Invalid { .. })));
    }
    let unwritable = of(&Data::new(2, 0.0), Precision::F64, 32, 10).save(Path::new("nowhere/a.stats"), &());
    assert!(unwritable.unwrap_err().to_string().contains("can't be written"));
}
/// A file that version 0.1.0 wrote of `Data::new(60, 2.0)`, its first 30 rows train, the next 12 validation, the others
/// test.
const VERSION_1: &[u8] = include_bytes!("fixtures/version-1.stats");

#[test]
fn files_of_the_first_version_are_read_and_fitted_as_they_were() {
    let (loaded, header) = load(VERSION_1).unwrap();
    assert_eq!(header["rules"]["window"], 256);
    assert_eq!(Split::ALL.map(|split| loaded.rows(split)), [30, 12, 18]);
    let data = Data::new(60, 2.0);
    let mut same = statistics(Precision::F64, 64);
    for (split, rows) in Split::ALL.into_iter().zip([0..30, 30..42, 42..60]) {
        data.pick(&rows.collect::<Vec<usize>>()).add(&mut same, split, 10);
    }
    same.flush();
    assert!(difference(loaded.train(), same.train()) < 1e-12);
    assert_eq!(sampled(&loaded), sampled(&same));
    // What that version printed. Its sample had 16 of the 18 test rows, so measures of rows are those of all only here.
    let fitted = crate::fit_pairs(&loaded, crate::RidgeChoice::Auto, crate::RankChoice::Full, |_| ()).unwrap();
    let printed = [
        (5.123051867432667e0, -0.12218205369718604, 0.8964445400017458),
        (1.7659480697723446e1, -0.00880343821994334, 0.8319333838976925),
        (1.620051247226622e1, -0.01978651346426563, 0.8313234878053134),
    ];
    for (fitted, (lambda, r2, cosine)) in fitted.iter().zip(printed) {
        assert!((fitted.lambda / lambda - 1.0).abs() < 1e-9, "{:e}", fitted.lambda);
        assert!((fitted.r2 - r2).abs() < 1e-9 && (fitted.cosine - cosine).abs() < 1e-9);
        assert_eq!(
            (fitted.validation_rows, fitted.test_rows, fitted.cosine_rows),
            (12, 18, 16)
        );
    }
    // Written again as it was, but for nothing.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    loaded.save(&path, &header).unwrap();
    assert!(std::fs::read(&path).unwrap() == VERSION_1);
    // Added up with its like alone.
    let mut twice = loaded.clone();
    twice.merge(loaded.clone()).unwrap();
    assert_eq!(twice.rows(Split::Test), 36);
    let other = twice.merge(same).unwrap_err().to_string();
    assert!(other.contains("version: found 2, expected 1"), "{other}");
}
