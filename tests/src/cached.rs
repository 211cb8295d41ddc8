//! A model in the engine with a prefix cache, which a `Session` does not have.

use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor};
use mistralrs::core::{NormalRequest, Request, RequestMessage, Response, SamplingParams};
use mistralrs::{CustomLogitsProcessor, Model, ModelBuilder, ModelDType};

/// Loads the folder of a model, in float32 on the CPU, with a cache of 16 prefixes.
pub async fn caching(folder: &Path) -> Model {
    let builder = ModelBuilder::new(folder.to_str().expect("a path in UTF-8"))
        .with_dtype(ModelDType::F32)
        .with_force_cpu()
        .with_prefix_cache_n(Some(16));
    builder.build().await.expect("the model loads")
}

/// As `Session::generate`: the text of `max_tokens` greedy tokens, and the logits that each was picked from.
pub async fn generate(model: &Model, prompt: Vec<u32>, max_tokens: usize) -> (String, Vec<Vec<f32>>) {
    let engine = model.inner();
    let steps = Arc::new(Mutex::new(Vec::<Vec<f32>>::new()));
    let tapped = steps.clone();
    let tap: Arc<dyn CustomLogitsProcessor> = Arc::new(move |logits: &Tensor, _: &[u32]| {
        let values = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        tapped.lock().unwrap().push(values);
        Ok(logits.clone())
    });
    let sampling = SamplingParams {
        max_len: Some(max_tokens),
        ..SamplingParams::deterministic()
    };
    let (sender, mut answers) = tokio::sync::mpsc::channel(1);
    let message = RequestMessage::CompletionTokens(prompt);
    let id = engine.next_request_id();
    let mut request = NormalRequest::new_simple(message, sampling, sender, id, None, None);
    request.logits_processors = Some(vec![tap]);
    let requests = engine.get_sender(None).unwrap();
    requests.send(Request::Normal(Box::new(request))).await.unwrap();
    let text = match answers.recv().await {
        Some(Response::CompletionDone(done)) => done.choices[0].text.clone(),
        Some(Response::CompletionModelError(error, _)) => panic!("{error}"),
        Some(Response::InternalError(error) | Response::ValidationError(error)) => panic!("{error}"),
        _ => panic!("a completion was expected"),
    };
    let mut steps = std::mem::take(&mut *steps.lock().unwrap());
    steps.truncate(max_tokens);
    (text, steps)
}
