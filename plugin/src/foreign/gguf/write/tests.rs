use steermap_maps::LayerVector;

use super::super::read;
use super::super::tests::{good, model};
use super::*;

/// A vector of a stream of width 3 with these layers.
fn vector(layers: &[(usize, [f32; 3])]) -> VectorFile {
    let header = read(&good(), "happy", model(3, 4)).unwrap().header().clone();
    let layers = layers.iter().map(|(layer, direction)| LayerVector {
        layer: *layer,
        direction: direction.to_vec(),
        mean_norm: 2.0,
        auroc: Some(0.5),
        neutral: None,
    });
    VectorFile::new(header, layers.collect()).unwrap()
}

fn directions(bytes: &[u8]) -> Vec<(usize, Vec<f32>)> {
    let vector = read(bytes, "happy", model(3, 4)).unwrap();
    let layers = vector
        .layers()
        .iter()
        .map(|layer| (layer.layer, layer.direction.clone()));
    layers.collect()
}

fn error(vector: &VectorFile, options: &WriteOptions) -> String {
    write(vector, options).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_again_bit_for_bit() {
    // Subnormal, negative zero, the largest: all that a direction can hold.
    let layers = [(3, [1e-42, -0.0, f32::MAX]), (1, [0.1, -1.0 / 3.0, f32::MIN_POSITIVE])];
    let vector = vector(&layers);
    let written = write(&vector, &WriteOptions::new("llama")).unwrap();
    assert_eq!((&written.layers[..], &written.left_out[..]), (&[1, 3][..], &[][..]));
    let again = read(&written.bytes, "happy", model(3, 4)).unwrap();
    assert_eq!(again.header().method, "GGUF control vector of a llama model");
    for layer in [1, 3] {
        let bits = |vector: &VectorFile| vector.direction(layer).unwrap().iter().map(|v| v.to_bits()).collect();
        let (found, expected): (Vec<u32>, Vec<u32>) = (bits(&again), bits(&vector));
        assert_eq!(found, expected, "layer {layer}");
    }
    assert_eq!(write(&again, &WriteOptions::new("llama")).unwrap(), written);
}

/// The bytes that `gguf` 0.19 wrote, by repeng's `export_gguf`, with directions in ascending order.
#[test]
fn the_bytes_are_those_of_repeng() {
    let vector = vector(&[(1, [0.0, -1.0, 0.5]), (2, [1.0, 2.0, 2.0])]);
    let written = write(&vector, &WriteOptions::new("llama")).unwrap();
    assert_eq!(written.bytes, include_bytes!("repeng.gguf"));
}

#[test]
fn what_is_written_is_read_by_candle() {
    use candle_core::Device;
    use candle_core::quantized::gguf_file::Content;

    let vector = vector(&[(1, [0.25, -1.0, 0.5]), (3, [1.0, 2.0, 2.0])]);
    let written = write(&vector, &WriteOptions::new("gemma3")).unwrap();
    let mut file = std::io::Cursor::new(&written.bytes);
    let content = Content::read(&mut file).unwrap();
    let text = |key: &str| content.metadata[key].to_string().unwrap().clone();
    assert_eq!(text("general.architecture"), "controlvector");
    assert_eq!(text("controlvector.model_hint"), "gemma3");
    assert_eq!(content.metadata["controlvector.layer_count"].to_u32().unwrap(), 2);
    for layer in [1, 3] {
        let tensor = content
            .tensor(&mut file, &format!("direction.{layer}"), &Device::Cpu)
            .unwrap();
        let values = tensor.dequantize(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, vector.direction(layer).unwrap());
    }
}

#[test]
fn layer_0_is_left_out_and_alone_it_is_an_error() {
    let both = vector(&[(0, [1.0, 0.0, 0.0]), (2, [0.0, 1.0, 0.0])]);
    let written = write(&both, &WriteOptions::new("llama")).unwrap();
    assert_eq!((&written.layers[..], &written.left_out[..]), (&[2][..], &[0][..]));
    assert_eq!(directions(&written.bytes), [(2, vec![0.0, 1.0, 0.0])]);
    let alone = vector(&[(0, [1.0, 0.0, 0.0])]);
    assert_eq!(
        error(&alone, &WriteOptions::new("llama")),
        "layers: found only layer 0, expected a layer after the first: llama.cpp has no direction.0"
    );
}

#[test]
fn directions_are_scaled_and_brought_to_norm_1() {
    let vector = vector(&[(1, [3.0, -4.0, 0.0])]);
    let written = |scale, normalize| {
        let options = WriteOptions {
            scale,
            normalize,
            ..WriteOptions::new("llama")
        };
        directions(&write(&vector, &options).unwrap().bytes).remove(0).1
    };
    assert_eq!(written(-2.0, false), [-6.0, 8.0, 0.0]);
    assert_eq!(written(1.0, true), [0.6, -0.8, 0.0]);
    assert_eq!(written(10.0, true), [6.0, -8.0, 0.0]);
}

#[test]
fn what_cannot_be_written_says_why() {
    let vector = vector(&[(1, [3.0, -4.0, 0.0])]);
    let with = |hint: &str, scale| WriteOptions {
        scale,
        ..WriteOptions::new(hint)
    };
    assert!(error(&vector, &with(" ", 1.0)).starts_with("controlvector.model_hint: found nothing"));
    for scale in [0.0, f64::NAN, f64::INFINITY] {
        let expected = format!("scale: found {scale}, expected a finite number other than 0");
        assert_eq!(error(&vector, &with("llama", scale)), expected);
    }
    assert!(error(&vector, &with("llama", 1e39)).contains("direction.1: found inf"));
    assert!(error(&vector, &with("llama", 1e-60)).contains("direction.1: found only zeros"));
}
