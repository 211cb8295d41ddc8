//! Vectors written by other programs, and features of sparse autoencoders: `mapper convert`, `mapper sae`, and the
//! configuration.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use steermap_examples::server::{Server, serve_config};
use steermap_maps::VectorFile;
use steermap_tests::maps::printed;
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::{reference_vector, save_reference_vector};
use steermap_tests::{fixture, project};

/// Writes these vectors of the model's width as a safetensors file.
fn save(path: &Path, tensors: &[(&str, Vec<f32>, Vec<usize>)]) {
    let tensor = |(name, values, shape): &(&str, Vec<f32>, Vec<usize>)| {
        let tensor = Tensor::from_vec(values.clone(), shape.clone(), &Device::Cpu).unwrap();
        (name.to_string(), tensor)
    };
    let tensors: HashMap<String, Tensor> = tensors.iter().map(tensor).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

/// The reference's direction at a layer of tiny-llama.
fn direction(layer: usize) -> Vec<f32> {
    reference_vector("tiny-llama").direction(layer).unwrap().to_vec()
}

fn mapper(args: &[&str]) -> std::process::Output {
    let model = fixture("tiny-llama");
    run("mapper", &[args, &["--model", model.to_str().unwrap()]].concat())
}

#[test]
fn layers_are_read_from_tensor_names() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    for (number, (pattern, more)) in [
        ("layer_activations.{}", &[][..]),
        ("model.layers.{}.output", &[]),
        ("blocks.{}.hook_resid_post", &[]),
        ("mine.{}.mean", &["--key", "mine.{}.mean"]),
    ]
    .into_iter()
    .enumerate()
    {
        let names = [1, 3].map(|layer| pattern.replace("{}", &layer.to_string()));
        let tensors = [
            (&*names[0], direction(1), vec![32]),
            (&*names[1], direction(3), vec![1, 32]),
        ];
        let (from, to) = (at(&format!("{number}.safetensors")), at(&format!("{number}.toml")));
        save(Path::new(&from), &tensors);
        printed(&mapper(&[&["convert", &from, &to], more].concat()));
        let vector = VectorFile::load(Path::new(&to)).unwrap();
        let layers: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
        assert_eq!(layers, [1, 3], "{pattern}");
        assert!(
            [1, 3]
                .into_iter()
                .all(|layer| vector.direction(layer) == Some(&direction(layer)[..]))
        );
    }
    // Names without a layer, and the option that gives it.
    let from = at("0.safetensors");
    save(Path::new(&from), &[("probe", direction(2), vec![32])]);
    let unsaid = error_of(&mapper(&["convert", &from, &at("new.toml")]));
    assert!(
        unsaid.contains("layer: found nothing, expected the layer of the one vector"),
        "{unsaid}"
    );
    printed(&mapper(&["convert", &from, &at("new.toml"), "--layer", "2"]));
    assert_eq!(
        VectorFile::load(Path::new(&at("new.toml"))).unwrap().direction(2),
        Some(&direction(2)[..])
    );
}

#[test]
fn a_pickle_is_not_run_and_other_files_are_refused_with_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new.toml").to_str().unwrap().to_string();
    let theirs = |name: &str| {
        project(&format!("plugin/src/foreign/fixtures/{name}"))
            .to_str()
            .unwrap()
            .to_string()
    };
    for (file, expected) in [
        ("evil.pt", "a pickle is a program, which isn't run"),
        // Of a model of width 4.
        ("by_layer.pt", "32"),
        ("vec_layer_1_Tiny-7b.pt", "32"),
        ("mlp_out.safetensors", "mlp"),
    ] {
        let output = mapper(&["convert", &theirs(file), &out]);
        let error = error_of(&output);
        assert!(error.contains(file) && error.contains(expected), "{file}: {error}");
        assert!(!output.status.success() && !Path::new(&out).exists());
    }
}

#[test]
fn a_feature_of_an_autoencoder_is_a_vector() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, out) = (dir.path().join("sae"), dir.path().join("v.toml"));
    std::fs::create_dir(&folder).unwrap();
    let (features, width) = (3, 32);
    let decoder: Vec<f32> = (0..3).flat_map(direction).collect();
    let zeros = |shape: &[usize]| (vec![0.0; shape.iter().product()], shape.to_vec());
    let ((encoder, encoder_shape), (bias, bias_shape)) = (zeros(&[width, features]), zeros(&[width]));
    let tensors = [
        ("W_dec", decoder, vec![features, width]),
        ("W_enc", encoder, encoder_shape),
        ("b_dec", bias, bias_shape),
        ("b_enc", vec![0.0; features], vec![features]),
    ];
    save(&folder.join("sae_weights.safetensors"), &tensors);
    let config = |hook: &str| {
        let config = json!({"architecture": "standard", "d_in": width, "d_sae": features, "hook_name": hook});
        std::fs::write(folder.join("cfg.json"), config.to_string()).unwrap();
    };
    let sae = |feature: &str| {
        let [file, out] = [&folder, &out].map(|path| path.to_str().unwrap());
        mapper(&["sae", "--file", file, "--feature", feature, "--out", out])
    };
    // The stream before block 2 is that after block 1.
    for (hook, layer) in [("blocks.2.hook_resid_post", 2), ("blocks.2.hook_resid_pre", 1)] {
        config(hook);
        printed(&sae("2"));
        let vector = VectorFile::load(&out).unwrap();
        assert_eq!(vector.layers().len(), 1);
        assert_eq!(vector.direction(layer), Some(&direction(2)[..]));
    }
    let too_many = error_of(&sae("3"));
    assert!(too_many.contains("feature") && too_many.contains('3'), "{too_many}");
    config("blocks.2.mlp.hook_post");
    let inside = error_of(&sae("2"));
    assert!(
        inside.contains("hook_name") && inside.contains("blocks.2.mlp.hook_post"),
        "{inside}"
    );
}

#[test]
fn a_configuration_reads_them_as_vector_files() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("tiny-llama").display().to_string();
    save_reference_vector("tiny-llama", dir.path());
    save(
        &dir.path().join("theirs.safetensors"),
        &[("layers.1", direction(1), vec![32])],
    );
    save(
        &dir.path().join("bare.safetensors"),
        &[("probe", direction(1), vec![32])],
    );
    let config = format!(
        "[[models]]\nkind = \"text\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
         [steering.vectors]\nfile = \"test.toml\"\ntheirs = \"theirs.safetensors\"\n\
         bare = {{ file = \"bare.safetensors\", layer = 1 }}\n"
    );
    let server = Server::start(dir.path(), &config).unwrap();
    let answer = |vector: &str| -> Value {
        let body = json!({"model": model, "prompt": "Hello", "max_tokens": 8, "temperature": 0.0,
            "steering": {"vectors": [{"vector": vector, "scale": 2.0, "layers": [1]}]}});
        let (status, text) = server.post("/v1/completions", &body).unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let expected = answer("file");
    for name in ["theirs", "bare"] {
        let found = answer(name);
        assert_eq!(found["usage"]["steering"], expected["usage"]["steering"], "{name}");
        assert_eq!(found["choices"], expected["choices"], "{name}");
    }
    drop(server);
    // A layer that cannot be determined is a configuration error.
    let wrong = config.replace(", layer = 1", "");
    let path = dir.path().join("wrong.toml");
    std::fs::write(&path, serve_config(&wrong, 1)).unwrap();
    let output = run("mistralrs-steered", &["serve", "--config", path.to_str().unwrap()]);
    let error = error_of(&output);
    assert!(
        !output.status.success() && error.contains("bare.safetensors") && error.contains("layer"),
        "{error}"
    );
}
