use steermap_maps::ModelInfo;

use super::*;
use crate::foreign::ReadOptions;

pub(crate) fn model(hidden_size: usize, num_layers: usize) -> ModelInfo {
    ModelInfo {
        model: "tiny".to_string(),
        fingerprint: "sm1:1".to_string(),
        hidden_size,
        num_layers,
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn meta(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), value].concat()
}

fn info(name: &str, shape: &[u64], dtype: u32, offset: u64) -> Vec<u8> {
    let shape_bytes: Vec<u8> = shape.iter().flat_map(|length| length.to_le_bytes()).collect();
    let rank = (shape.len() as u32).to_le_bytes();
    [
        &text(name)[..],
        &rank,
        &shape_bytes,
        &dtype.to_le_bytes(),
        &offset.to_le_bytes(),
    ]
    .concat()
}

fn file(metadata: &[Vec<u8>], tensors: &[Vec<u8>], data: &[Vec<f32>]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    bytes.extend(metadata.concat());
    bytes.extend(tensors.concat());
    for values in data {
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

fn architecture() -> Vec<u8> {
    meta("general.architecture", 8, &text("controlvector"))
}

/// A control vector as repeng writes it: layers 1 and 2 of a stream of width 3.
pub(crate) fn good() -> Vec<u8> {
    let metadata = [
        architecture(),
        meta("controlvector.model_hint", 8, &text("llama")),
        meta("controlvector.layer_count", 4, &2u32.to_le_bytes()),
    ];
    let tensors = [info("direction.2", &[3], 0, 0), info("direction.1", &[3], 0, 32)];
    file(&metadata, &tensors, &[vec![1.0, 2.0, 2.0], vec![0.0, -1.0, 0.5]])
}

fn error(bytes: &[u8]) -> String {
    read(bytes, "happy", model(3, 4)).unwrap_err().to_string()
}

#[test]
fn a_control_vector_is_read() {
    let vector = read(&good(), "happy", model(3, 4)).unwrap();
    assert_eq!(vector.direction(1), Some(&[0.0, -1.0, 0.5][..]));
    assert_eq!(vector.direction(2), Some(&[1.0, 2.0, 2.0][..]));
    assert_eq!((vector.layers().len(), vector.layers()[0].mean_norm), (2, 0.0));
    assert_eq!(vector.header().concept, "happy");
    assert_eq!(vector.header().method, "GGUF control vector of a llama model");
    assert_eq!(vector.model(), &model(3, 4));
}

#[test]
fn what_candle_writes_is_read() {
    use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
    use candle_core::{Device, Tensor};

    let directions = [[0.25f32, -1.0, 0.5], [1.0, 2.0, 2.0]];
    let tensors = directions.map(|values| {
        let tensor = Tensor::new(&values, &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
    });
    let architecture = gguf_file::Value::String("controlvector".to_string());
    let count = gguf_file::Value::U32(2);
    let metadata = [
        ("general.architecture", &architecture),
        ("controlvector.layer_count", &count),
    ];
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(
        &mut file,
        &metadata,
        &[("direction.1", &tensors[0]), ("direction.3", &tensors[1])],
    )
    .unwrap();
    let vector = read(file.get_ref(), "happy", model(3, 4)).unwrap();
    assert_eq!(vector.direction(1), Some(&directions[0][..]));
    assert_eq!(vector.direction(3), Some(&directions[1][..]));
}

#[test]
fn other_metadata_is_passed_over() {
    let strings = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text("b")].concat();
    let numbers = [&6u32.to_le_bytes()[..], &3u64.to_le_bytes(), &[0; 12]].concat();
    let metadata = |padding| {
        [
            meta("a", 9, &strings),
            meta("f", 8, &text(&"x".repeat(padding))),
            meta("b", 9, &numbers),
            meta("c", 12, &[0; 8]),
            meta("d", 7, &[1]),
            meta("e", 1, &[255]),
            meta("general.alignment", 4, &64u32.to_le_bytes()),
            architecture(),
        ]
    };
    let header = |padding| file(&metadata(padding), &[info("direction.3", &[3, 1], 0, 0)], &[]);
    // So long that the next multiples of 32 and 64 are not the same.
    let padding = (0..64)
        .find(|padding| (1..=32).contains(&(header(*padding).len() % 64)))
        .unwrap();
    let mut bytes = header(padding);
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend([1.0f32, 0.0, 0.0].iter().flat_map(|value| value.to_le_bytes()));
    let vector = read(&bytes, "happy", model(3, 4)).unwrap();
    assert_eq!(vector.direction(3), Some(&[1.0, 0.0, 0.0][..]));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let good = good();
    for end in 0..good.len() {
        assert!(read(&good[..end], "happy", model(3, 4)).is_err(), "{end} bytes");
    }
}

#[test]
fn no_single_byte_can_do_harm() {
    let good = good();
    for at in 0..good.len() {
        for value in [0, 1, 9, 127, 255] {
            let mut bytes = good.clone();
            bytes[at] = value;
            // Whatever it says, it must come back.
            let _ = read(&bytes, "happy", model(3, 4));
        }
    }
}

#[test]
fn mistakes_name_their_place() {
    let tensor = |tensor: Vec<u8>| error(&file(&[architecture()], &[tensor], &[vec![1.0; 3]]));
    let one = |bytes: Vec<u8>| error(&file(&[bytes, architecture()], &[], &[]));
    assert_eq!(
        error(b"PK\x03\x04 and more"),
        "magic: found \"PK\\u{3}\\u{4}\", expected \"GGUF\""
    );
    assert!(error(b"GGUF\x00\x00\x00\x03").contains("version: found 50331648"));
    assert!(error(b"GGUF\x01\x00\x00\x00").contains("version: found 1,"));
    // The lengths that candle's reader would reserve memory for.
    let huge = [&u64::MAX.to_le_bytes()[..], b"x"].concat();
    assert!(one(huge).contains("expected 18446744073709551615"));
    let array = [&10u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    assert!(one(meta("a", 9, &array)).starts_with("a: found"));
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    assert!(one(meta("a", 9, &nested)).contains("array of the type 9"));
    assert!(one(meta("a", 13, &[])).contains("the type 13"));
    assert!(one(architecture()).contains("the key twice"));
    assert!(one(meta("general.alignment", 4, &0u32.to_le_bytes())).contains("general.alignment: found 0"));
    assert!(one(meta("general.alignment", 4, &3u32.to_le_bytes())).contains("general.alignment: found 3"));
    assert!(one(meta("controlvector.layer_count", 8, &text("x"))).contains("layer_count: found \"x\""));
    assert!(one(meta("controlvector.model_hint", 7, &[1])).contains("model_hint: found a value"));
    assert!(one(meta("a\u{0}", 8, &[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat())).contains("not UTF-8"));
    let llama = meta("general.architecture", 8, &text("llama"));
    let found = error(&file(&[llama], &[], &[]));
    assert_eq!(
        found,
        "general.architecture: found \"llama\", expected \"controlvector\""
    );
    assert!(error(&file(&[], &[], &[])).contains("general.architecture: found nothing"));
    assert!(error(&file(&[architecture()], &[], &[])).contains("found no [[layer]]"));
    for name in [
        "direction.0",
        "direction.5",
        "direction.+1",
        "direction.01",
        "direction.",
        "token_embd.weight",
    ] {
        assert!(tensor(info(name, &[3], 0, 0)).starts_with("tensors: found"), "{name}");
    }
    assert!(tensor(info("direction.1", &[4], 0, 0)).contains("shape [4], expected [3]"));
    assert!(tensor(info("direction.1", &[3, 2], 0, 0)).contains("shape [3, 2]"));
    assert!(tensor(info("direction.1", &[], 0, 0)).contains("0 dimensions"));
    assert!(tensor(info("direction.1", &[3; 5], 0, 0)).contains("5 dimensions"));
    assert!(tensor(info("direction.1", &[3], 8, 0)).contains("GGML's type 8"));
    assert!(tensor(info("direction.1", &[3], 0, 5)).contains("the offset 5"));
    assert!(tensor(info("direction.1", &[3], 0, 64)).starts_with("direction.1: found"));
    assert!(tensor(info("direction.1", &[3], 0, u64::MAX - 31)).starts_with("direction.1: found 0 bytes left"));
    let mut counts = good();
    counts[8..16].copy_from_slice(&5u64.to_le_bytes());
    assert!(error(&counts).contains("tensor count: found 5, expected at most 4"));
    counts[8..24].copy_from_slice(&[[1, 0, 0, 0, 0, 0, 0, 0], u64::MAX.to_le_bytes()].concat());
    assert!(error(&counts).contains("metadata count: found 18446744073709551615"));
    let twice = [info("direction.1", &[3], 0, 0), info("direction.1", &[3], 0, 0)];
    assert!(error(&file(&[architecture()], &twice, &[vec![1.0; 3]])).contains("the tensor twice"));
    let values = |values: Vec<f32>| error(&file(&[architecture()], &[info("direction.1", &[3], 0, 0)], &[values]));
    assert!(values(vec![1.0, f32::NAN, 0.0]).contains("NaN at index 1"));
    assert!(values(vec![0.0; 3]).contains("only zeros"));
}

#[test]
fn half_precision_is_read() {
    let bytes = |kind: u32, ones: [u8; 2], twos: [u8; 2]| {
        let mut bytes = file(&[architecture()], &[info("direction.2", &[3], kind, 0)], &[]);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend([ones, twos, [0, 0]].concat());
        bytes
    };
    for bytes in [
        bytes(1, [0x00, 0x3c], [0x00, 0xc0]),
        bytes(30, [0x80, 0x3f], [0x00, 0xc0]),
    ] {
        let vector = read(&bytes, "happy", model(3, 4)).unwrap();
        assert_eq!(vector.direction(2), Some(&[1.0, -2.0, 0.0][..]));
        assert!(read(&bytes[..bytes.len() - 1], "happy", model(3, 4)).is_err());
    }
}

#[test]
fn a_direction_of_zeros_is_left_out() {
    let tensors = [
        info("direction.1", &[3], 0, 0),
        info("direction.2", &[3], 0, 32),
        info("direction.3", &[3], 0, 64),
    ];
    let bytes = file(
        &[architecture()],
        &tensors,
        &[vec![0.0; 3], vec![1.0, 0.0, 0.0], vec![-0.0; 3]],
    );
    let read = read_with(&bytes, "happy", model(3, 4), &ReadOptions::default()).unwrap();
    assert_eq!((read.vector.layers().len(), read.skipped.clone()), (1, vec![1, 3]));
    assert_eq!(read.notes(None), ["left out: layer 1, 3, whose direction is all zeros"]);
}

/// A file of layers 1 to 4, for a model that has 0 to 3.
#[test]
fn a_count_from_1_is_explained_and_can_be_shifted() {
    let tensors: Vec<_> = (1..=4)
        .map(|layer| info(&format!("direction.{layer}"), &[3], 0, (layer - 1) * 32))
        .collect();
    let data: Vec<_> = (1..=4).map(|layer| vec![layer as f32; 3]).collect();
    let bytes = file(&[architecture()], &tensors, &data);
    let found = error(&bytes);
    assert!(
        found.starts_with("\"direction.4\": found block 4, expected one of the 4 blocks of tiny, 0 to 3"),
        "{found}"
    );
    assert!(found.contains("--shift -1"), "{found}");
    let options = |shift| ReadOptions {
        shift,
        ..ReadOptions::default()
    };
    let read = read_with(&bytes, "happy", model(3, 4), &options(-1)).unwrap().vector;
    assert_eq!(read.direction(0), Some(&[1.0; 3][..]));
    assert_eq!(read.direction(3), Some(&[4.0; 3][..]));
    for shift in [-2, 1, i64::MIN, i64::MAX] {
        let error = read_with(&bytes, "happy", model(3, 4), &options(shift))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("once shifted by {shift}")), "{error}");
    }
}

#[test]
fn one_layer_can_be_chosen() {
    let options = |layer| ReadOptions {
        layer: Some(layer),
        ..ReadOptions::default()
    };
    let read = |layer| read_with(&good(), "happy", model(3, 4), &options(layer));
    assert_eq!(read(2).unwrap().vector.layers().len(), 1);
    let error = read(3).unwrap_err().to_string();
    assert_eq!(error, "layer: found 3, expected one of the file's: [1, 2]");
    let key = ReadOptions {
        key: Some("a.{}".to_string()),
        ..ReadOptions::default()
    };
    let error = read_with(&good(), "happy", model(3, 4), &key).unwrap_err().to_string();
    assert!(error.starts_with("key: found \"a.{}\", expected none"), "{error}");
}

#[test]
fn what_easysteer_writes_is_read() {
    let metadata = [
        architecture(),
        meta("controlvector.model_hint", 8, &text("unknown")),
        meta("controlvector.method", 8, &text("diffmean")),
        meta("controlvector.layer_count", 4, &2u32.to_le_bytes()),
        meta("controlvector.explained_variance.0", 6, &0.5f32.to_le_bytes()),
    ];
    let tensors = [info("direction.0", &[3], 0, 0), info("direction.3", &[3], 0, 32)];
    let bytes = file(&metadata, &tensors, &[vec![1.0, 2.0, 2.0], vec![0.0, -1.0, 0.5]]);
    let read = read_with(&bytes, "happy", model(3, 4), &ReadOptions::default()).unwrap();
    assert_eq!(read.vector.direction(0), Some(&[1.0, 2.0, 2.0][..]));
    assert_eq!(read.notes(Some("llama")), [""; 0]);
}

#[test]
fn another_family_is_noted() {
    let read = read_with(&good(), "happy", model(3, 4), &ReadOptions::default()).unwrap();
    assert_eq!(read.hint.as_deref(), Some("llama"));
    assert_eq!(read.notes(Some("llama")), [""; 0]);
    assert_eq!(read.notes(Some("mistral")), [""; 0]);
    let hinted = |hint: &str, architecture: &str| {
        let hint = Some(hint.to_string());
        let read = crate::foreign::ForeignVector { hint, ..read.clone() };
        read.notes(Some(architecture)).len()
    };
    for (hint, architecture, notes) in [
        ("qwen2.5", "qwen2", 0),
        ("qwen", "qwen3", 0),
        ("Qwen3-MoE", "qwen3_moe", 0),
        ("gemma3_text", "gemma3", 0),
        ("unknown", "gemma3", 0),
        ("gemma2", "gemma3", 1),
        ("phi3", "llama", 1),
    ] {
        assert_eq!(hinted(hint, architecture), notes, "{hint} {architecture}");
    }
    assert!(
        read.notes(Some("gemma3"))[0].starts_with("controlvector.model_hint: found \"llama\", expected \"gemma3\"")
    );
}

#[test]
fn what_is_not_to_be_added_is_refused() {
    let read = |key: &str, kind: u32, value: &[u8]| {
        let tensors = [info("direction.1", &[3], 0, 0)];
        let bytes = file(&[architecture(), meta(key, kind, value)], &tensors, &[vec![1.0; 3]]);
        read(&bytes, "happy", model(3, 4)).map_err(|error| error.to_string())
    };
    for (key, value) in [
        ("controlvector.mode", "projection"),
        ("controlvector.operation", "ablate"),
        ("controlvector.op", "x"),
        ("controlvector.method", "directional ablation"),
        ("controlvector.algorithm", "erase"),
        ("general.type", "Control-Projector"),
    ] {
        let error = read(key, 8, &text(value)).unwrap_err();
        assert!(
            error.starts_with(&format!("{key}: found \"{value}\", expected addition")),
            "{error}"
        );
    }
    assert!(
        read("controlvector.projection", 7, &[1])
            .unwrap_err()
            .starts_with("controlvector.projection: found true")
    );
    assert!(
        read("controlvector.mode", 4, &1u32.to_le_bytes())
            .unwrap_err()
            .starts_with("controlvector.mode: found 1")
    );
    for (key, value) in [
        ("controlvector.mode", "add"),
        ("controlvector.operation", "Addition"),
        ("controlvector.method", "pca_diff"),
        ("general.type", "adapter"),
        ("general.name", "ablation"),
    ] {
        assert!(read(key, 8, &text(value)).is_ok(), "{key} {value}");
    }
    assert!(read("controlvector.projection", 7, &[0]).is_ok());
}
