//! Files that the real writers made: see fixtures/make_foreign.py.

use std::path::PathBuf;

use serde_json::Value;

use super::vector::LayerTensor;
use super::*;

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/foreign/fixtures")
        .join(name)
}

pub(super) fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

/// The model that the fixtures are for.
pub(super) fn model() -> ModelInfo {
    ModelInfo {
        model: "tiny".to_string(),
        fingerprint: "sm1:1".to_string(),
        hidden_size: 4,
        num_layers: 3,
    }
}

pub(super) fn numbers(values: &Value) -> Vec<f32> {
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

/// Reads the file that an entry of expected.json names, with its options.
fn read_entry(entry: &Value) -> (&str, Result<ForeignVector, ForeignError>) {
    let file = entry["file"].as_str().unwrap();
    let options = ReadOptions {
        layer: entry["layer"].as_u64().map(|layer| layer as usize),
        key: entry["key"].as_str().map(String::from),
        shift: 0,
    };
    let bytes = std::fs::read(fixture(file)).unwrap();
    let format = Format::of(Path::new(file)).unwrap();
    (file, read(format, &bytes, file, "happy", model(), &options))
}

#[test]
fn what_others_write_is_read() {
    let expected = expected();
    let files = expected["files"].as_array().unwrap();
    assert!(files.len() > 15);
    for entry in files {
        let (file, read) = read_entry(entry);
        let vector = read.unwrap_or_else(|error| panic!("{file}: {error}")).vector;
        let layers = entry["layers"].as_object().unwrap();
        assert_eq!(vector.layers().len(), layers.len(), "{file}");
        for (layer, values) in layers {
            let direction = vector.direction(layer.parse().unwrap());
            assert_eq!(direction, Some(&numbers(values)[..]), "{file}, layer {layer}");
        }
        assert_eq!(vector.header().concept, "happy");
        assert_eq!(vector.header().provenance.corpus, file);
    }
}

#[test]
fn what_is_no_vector_is_refused() {
    let expected = expected();
    for entry in expected["refused"].as_array().unwrap() {
        let (file, read) = read_entry(entry);
        let (error, message) = (read.unwrap_err().to_string(), entry["message"].as_str().unwrap());
        assert!(error.contains(message), "{file}: {error}");
    }
}

/// Whatever a broken file says, it must come back, soon, and as an error where it is cut short.
#[test]
fn broken_files_do_no_harm() {
    for file in std::fs::read_dir(fixture("")).unwrap() {
        let path = file.unwrap().path();
        let Some(format) = Format::of(&path) else { continue };
        let good = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            let options = ReadOptions {
                layer: Some(1),
                ..ReadOptions::default()
            };
            read(format, bytes, "x", "happy", model(), &options)
        };
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "{}: {end} bytes", path.display());
        }
        for at in 0..good.len() {
            for value in [255, good[at] ^ 1] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
    }
}

#[test]
fn endings_say_the_format() {
    for (path, format) in [
        ("a.GGUF", Some(Format::Gguf)),
        ("a.safetensors", Some(Format::Safetensors)),
        ("a.b/c.npy", Some(Format::Npy)),
        ("c.npz", Some(Format::Npz)),
        ("c.pt", Some(Format::Torch)),
        ("c.pth", Some(Format::Torch)),
        ("pytorch_model.bin", Some(Format::Torch)),
        ("c.toml", None),
        ("c.pkl", None),
        ("pt", None),
    ] {
        assert_eq!(Format::of(Path::new(path)), format, "{path}");
        assert!(format.is_none() || ENDINGS.contains(&path.to_ascii_lowercase()[path.rfind('.').unwrap()..]));
    }
}

#[test]
fn zeros_are_left_out_and_numbers_shifted() {
    let found = |block: usize, values: [f32; 4]| LayerTensor {
        block,
        name: format!("layer.{block}"),
        values: values.to_vec(),
    };
    let header = || unknown_origin("happy", "m", model(), "x", b"");
    let all = vec![found(1, [0.0; 4]), found(2, [1.0; 4]), found(3, [2.0; 4])];
    let read = assemble(all, header(), -1, None).unwrap();
    assert_eq!(read.skipped, [0]);
    assert_eq!(read.vector.direction(1), Some(&[1.0; 4][..]));
    assert_eq!(read.vector.direction(2), Some(&[2.0; 4][..]));
    let error = assemble(vec![found(1, [1.0; 4])], header(), 2, None)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "\"layer.1\": found block 1 shifted by 2, expected one of the 3 blocks of tiny, 0 to 2"
    );
    let error = assemble(vec![found(1, [0.0; 4])], header(), 0, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("only zeros"), "{error}");
    let error = assemble(vec![found(1, [f32::NAN, 0.0, 0.0, 0.0])], header(), 0, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("NaN"), "{error}");
    assert!(assemble(vec![found(usize::MAX, [1.0; 4])], header(), i64::MIN, None).is_err());
}
