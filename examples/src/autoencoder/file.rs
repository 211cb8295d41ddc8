//! The files of an autoencoder, as SAELens 6 lays them out: `cfg.json` and `sae_weights.safetensors`.

use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::model::Autoencoder;

/// Origin of the states that an autoencoder was trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatesOrigin {
    /// The model's name.
    pub model: String,
    /// The layer, counted from 0, after which the stream was read.
    pub layer: usize,
}

/// Writes an autoencoder into a folder, creating it if necessary.
///
/// `W_dec` is `[features, width]` and `W_enc` is `[width, features]`, since SAELens multiplies states as rows.
///
/// # Errors
///
/// If a file cannot be written.
pub fn save(autoencoder: &Autoencoder, origin: &StatesOrigin, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (features, width) = (autoencoder.features(), autoencoder.width);
    let config = json!({
        "architecture": "topk",
        "d_in": width,
        "d_sae": features,
        "k": autoencoder.active,
        "rescale_acts_by_decoder_norm": false,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": true,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "model_name": origin.model,
            "hook_name": format!("blocks.{}.hook_resid_post", origin.layer),
        },
    });
    let path = folder.join("cfg.json");
    std::fs::write(&path, serde_json::to_string_pretty(&config)? + "\n").with_context(|| path.display().to_string())?;
    let encoder = transposed(&autoencoder.encoder, width);
    let tensors = [
        ("W_dec", vec![features, width], bytes(&autoencoder.decoder)),
        ("W_enc", vec![width, features], bytes(&encoder)),
        ("b_dec", vec![width], bytes(&autoencoder.decoder_bias)),
        ("b_enc", vec![features], bytes(&autoencoder.encoder_bias)),
    ];
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views: Vec<(&str, TensorView<'_>)> = views.collect::<Result<_>>()?;
    let path = folder.join("sae_weights.safetensors");
    safetensors::serialize_to_file(views, None, &path).with_context(|| path.display().to_string())
}

/// `[rows, width]` as `[width, rows]`.
fn transposed(matrix: &[f32], width: usize) -> Vec<f32> {
    let columns = (0..width).flat_map(|column| matrix.iter().skip(column).step_by(width));
    columns.copied().collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use steermap_maps::ModelInfo;
    use steermap_plugin::foreign::sae::{Feature, load};

    use super::super::testing::numbers;
    use super::*;

    fn autoencoder() -> Autoencoder {
        Autoencoder {
            width: 4,
            active: 2,
            encoder: numbers(12, 1),
            encoder_bias: numbers(3, 2),
            decoder: numbers(12, 3),
            decoder_bias: numbers(4, 4),
        }
    }

    fn model(hidden_size: usize) -> ModelInfo {
        ModelInfo {
            model: "little".to_string(),
            fingerprint: format!("sm1:{}", "0".repeat(32)),
            hidden_size,
            num_layers: 6,
        }
    }

    #[test]
    fn features_read_back_as_vectors() {
        let folder = tempfile::tempdir().unwrap();
        let origin = StatesOrigin {
            model: "little".to_string(),
            layer: 5,
        };
        save(&autoencoder(), &origin, folder.path()).unwrap();
        for index in 0..3 {
            let feature = Feature {
                index,
                layer: None,
                concept: None,
            };
            let read = load(folder.path(), &feature, model(4)).unwrap();
            assert_eq!(read.vector.direction(5).unwrap(), autoencoder().direction(index));
            assert!(read.notes.is_empty(), "{:?}", read.notes);
        }
        let feature = Feature {
            index: 3,
            layer: None,
            concept: None,
        };
        assert!(load(folder.path(), &feature, model(4)).is_err());
    }

    #[test]
    fn tensors_have_the_shapes_of_saelens() {
        let folder = tempfile::tempdir().unwrap();
        let origin = StatesOrigin {
            model: "little".to_string(),
            layer: 0,
        };
        save(&autoencoder(), &origin, folder.path()).unwrap();
        let file = std::fs::read(folder.path().join("sae_weights.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
        assert_eq!((shape("W_dec"), shape("W_enc")), (vec![3, 4], vec![4, 3]));
        assert_eq!((shape("b_dec"), shape("b_enc")), (vec![4], vec![3]));
        // `W_enc` is transposed: the weights of the first input in all features come before those of the second.
        let encoder = tensors.tensor("W_enc").unwrap();
        assert_eq!(encoder.data()[12..16], autoencoder().encoder[1].to_le_bytes());
    }
}
