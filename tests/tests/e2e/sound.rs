//! Prompts with sound over HTTP (Voxtral): what one request sends is heard in its own answer alone.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use steermap_examples::server::Server;
use steermap_tests::{copy_of, fixture};
use tempfile::TempDir;

/// Sounds of one kind after another while texts are generated.
const SOUNDS: usize = 12;

struct TestServer {
    server: Server,
    model: String,
    _folder: TempDir,
}

impl TestServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = fixture("architectures");
        let model = copy_of(&models.join("voxtral"), folder.path());
        for entry in std::fs::read_dir(models.join("tokenizer")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
        }
        std::fs::remove_file(model.join("references.safetensors")).unwrap();
        let model = model.display().to_string();
        let config = format!(
            "[[models]]\nkind = \"auto\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n[steering]\n"
        );
        Self {
            server: Server::start(folder.path(), &config).unwrap(),
            model,
            _folder: folder,
        }
    }

    /// The answer to a user's message: its text, and the log probability of each token.
    fn answer(&self, content: &Value) -> (String, Vec<f64>) {
        let body = json!({
            "model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": 40,
            "temperature": 0.0, "logprobs": true, "top_logprobs": 1,
        });
        let (status, text) = self.server.post("/v1/chat/completions", &body).unwrap();
        assert_eq!(status, 200, "{text}");
        let reply: Value = serde_json::from_str(&text).unwrap();
        let choice = &reply["choices"][0];
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        (
            choice["message"]["content"].as_str().unwrap().to_string(),
            tokens.iter().map(|token| token["logprob"].as_f64().unwrap()).collect(),
        )
    }
}

/// Two seconds of a tone of `hertz` with 16,000 samples of 16 bits a second, as a WAV file in a data URL.
fn tone(hertz: f32) -> Value {
    let rate = 16_000_u32;
    let samples: Vec<u8> = (0..2 * rate)
        .map(|i| (i as f32 * hertz * std::f32::consts::TAU / rate as f32).sin())
        .flat_map(|value| ((value * 20_000.0) as i16).to_le_bytes())
        .collect();
    let mut wav = Vec::from(b"RIFF" as &[u8]);
    wav.extend((36 + samples.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    // PCM, one channel.
    wav.extend([1_u16, 1].map(u16::to_le_bytes).concat());
    wav.extend([rate, 2 * rate].map(u32::to_le_bytes).concat());
    wav.extend([2_u16, 16].map(u16::to_le_bytes).concat());
    wav.extend(b"data");
    wav.extend((samples.len() as u32).to_le_bytes());
    wav.extend(samples);
    let url = format!("data:audio/wav;base64,{}", STANDARD.encode(wav));
    json!([
        {"type": "audio_url", "audio_url": {"url": url}},
        {"type": "text", "text": "Write it down."},
    ])
}

fn assert_same(found: &(String, Vec<f64>), expected: &(String, Vec<f64>), what: &str) {
    assert_eq!(found.0, expected.0, "{what}");
    assert_eq!(found.1.len(), expected.1.len(), "{what}");
    for (found, expected) in found.1.iter().zip(&expected.1) {
        assert!((found - expected).abs() < 1e-3, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn what_one_request_hears_is_in_no_other_answer() {
    let tested = TestServer::start();
    let text = json!("Tell me of the pond.");
    let (low, high) = (tone(220.0), tone(1760.0));
    let alone = tested.answer(&text);
    let (low_alone, high_alone) = (tested.answer(&low), tested.answer(&high));
    assert_ne!(low_alone, high_alone, "the sound makes no difference");
    assert_same(&tested.answer(&text), &alone, "text after sound");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let texts = scope.spawn(|| {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                answers.push(tested.answer(&text));
            }
            answers
        });
        let highs = scope.spawn(|| -> Vec<_> { (0..SOUNDS).map(|_| tested.answer(&high)).collect() });
        for _ in 0..SOUNDS {
            assert_same(&tested.answer(&low), &low_alone, "a low tone beside others");
        }
        for answer in highs.join().unwrap() {
            assert_same(&answer, &high_alone, "a high tone beside others");
        }
        done.store(true, Ordering::Relaxed);
        for answer in texts.join().unwrap() {
            assert_same(&answer, &alone, "text beside sounds");
        }
    });
}
