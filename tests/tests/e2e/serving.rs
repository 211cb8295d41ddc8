//! The server over HTTP.

use serde_json::{Value, json};
use steermap_examples::server::{Server, event_data};
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::pairs::{Message, Text};
use steermap_mapper::session::{ModelSource, Session};
use steermap_plugin::{Library, SteeringSpec, VectorUse, attach};
use steermap_tests::fixture;
use steermap_tests::vectors::{reference_vector, save_reference_vector};

const PROMPT: &str = "Once upon a time";

fn model(name: &str) -> String {
    let folder = fixture(name);
    format!(
        "[[models]]\nkind = \"text\"\nmodel_id = \"{}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n",
        folder.display()
    )
}

/// The answer of `name` to [`PROMPT`] in this process, as text or as a user's message, steered with `spec`.
async fn expected(name: &str, chat: bool, spec: Option<SteeringSpec>) -> String {
    let source = ModelSource {
        dtype: mistralrs::ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture(name).to_str().unwrap())
    };
    let session = Session::load(source).await.unwrap();
    if let Some(spec) = spec {
        let mut library = Library::default();
        library.insert("test", reference_vector(name)).unwrap();
        attach(session.model().inner(), None, &spec, &library).unwrap();
    }
    let text = if chat {
        Text::Chat(vec![Message {
            role: "user".into(),
            content: PROMPT.into(),
        }])
    } else {
        Text::Plain(PROMPT.into())
    };
    let tokens = session.tokenize(&text).await.unwrap();
    session.generate(&tokens, 12).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_spec_steers_every_request_of_its_model_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    save_reference_vector("tiny-llama", dir.path());
    let (llama, gemma) = (fixture("tiny-llama"), fixture("tiny-gemma2"));
    let (llama, gemma) = (llama.to_str().unwrap(), gemma.to_str().unwrap());
    let steering = format!(
        "[steering.vectors]\ntest = \"test.toml\"\n\
         [[steering.defaults]]\nmodel = \"{llama}\"\n\
         [[steering.defaults.vectors]]\nvector = \"test\"\nscale = 1.0\nnormalize = false\n"
    );
    let server = Server::start(
        dir.path(),
        &format!("{}{}{steering}", model("tiny-llama"), model("tiny-gemma2")),
    )
    .unwrap();

    let spec: SteeringSpec = VectorUse::new("test", 1.0).unnormalized().into();
    let steered = expected("tiny-llama", false, Some(spec.clone())).await;
    let steered_chat = expected("tiny-llama", true, Some(spec)).await;
    let gemma_chat = expected("tiny-gemma2", true, None).await;
    assert_ne!(steered, expected("tiny-llama", false, None).await);
    // Twice, the second time with a cached prefix.
    for _ in 0..2 {
        assert_eq!(server.complete(llama, PROMPT, 12).unwrap(), steered);
        assert_eq!(server.chat(llama, PROMPT, 12).unwrap(), steered_chat);
        assert_eq!(server.chat(gemma, PROMPT, 12).unwrap(), gemma_chat);
    }

    // The chat route gives the same text, streamed or not.
    let chat = |stream: bool| {
        json!({
            "model": llama, "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 6, "temperature": 0.0, "top_k": 1, "stream": stream,
        })
    };
    let (status, whole) = server.post("/v1/chat/completions", &chat(false)).unwrap();
    assert_eq!(status, 200, "{whole}");
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let (status, stream) = server.post("/v1/chat/completions", &chat(true)).unwrap();
    assert_eq!(status, 200);
    let streamed: String = event_data(&stream)
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_string))
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"].as_str().unwrap(), streamed);

    // mistral.rs's other routes work.
    let (status, models) = server.get("/v1/models").unwrap();
    assert!(
        status == 200 && models.contains("tiny-llama") && models.contains("tiny-gemma2"),
        "{models}"
    );
    assert_eq!(server.get("/health").unwrap().0, 200);
    assert_eq!(server.get("/no/such/route").unwrap().0, 404);
    let (status, _) = server.post("/v1/completions", &json!({"model": llama})).unwrap();
    assert!((400..500).contains(&status), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_steering_is_served_as_by_stock_mistralrs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &model("tiny-llama")).unwrap();
    let llama = fixture("tiny-llama");
    assert_eq!(
        server.complete(llama.to_str().unwrap(), PROMPT, 12).unwrap(),
        expected("tiny-llama", false, None).await
    );
}
