//! SmolLM2-135M-Instruct: the converted folder gives the same text in mistral.rs as in transformers.

use mistralrs::ModelDType;
use serde_json::Value;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::pairs::{Message, Text};
use steermap_mapper::session::{ModelSource, Session};
use steermap_tests::project;

#[tokio::test(flavor = "multi_thread")]
async fn greedy_text_equals_that_of_transformers() {
    let folder = project("models/smollm2-135m");
    assert!(
        folder.is_dir(),
        "run the tests with `cargo xtask test`, which fetches the model"
    );
    let text = std::fs::read_to_string(project("examples/real-models/expected/smollm2-135m.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(folder.to_str().unwrap())
    };
    let session = Session::load(source).await.unwrap();
    let prompts = expected["cases"].as_array().expect("the file lists cases");
    assert!(prompts.len() >= 5);
    for prompt in prompts {
        let content = prompt["prompt"].as_str().unwrap().to_string();
        let text = match prompt["kind"].as_str().unwrap() {
            "chat" => Text::Chat(vec![Message {
                role: "user".to_string(),
                content,
            }]),
            _ => Text::Plain(content),
        };
        let tokens = session.tokenize(&text).await.unwrap();
        let ids = |key: &str| -> Vec<u32> {
            prompt[key]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
                .collect()
        };
        assert_eq!(tokens, ids("prompt_ids"), "{text:?}");
        let generated = ids("generated_ids");
        let (_, steps) = session.generate(&tokens, generated.len()).await.unwrap();
        let picked: Vec<u32> = steps.iter().map(|logits| argmax(logits)).collect();
        assert_eq!(picked, generated, "{text:?}");
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap();
    best as u32
}
