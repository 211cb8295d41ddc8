//! Prompts with images over HTTP: steering and the prefix cache use the expanded prompt, which contains the tokens of
//! every image. tests/fixtures/make_vision.py made the model and transformers' answers to the same prompts.

use serde_json::{Value, json};
use steermap_examples::server::Server;
use steermap_tests::fixture;
use steermap_tests::reference::Reference;
use steermap_tests::run::steered_prompt_tokens;
use steermap_tests::vectors::save_reference_vector;
use tempfile::TempDir;

const MODEL: &str = "tiny-gemma3-vision";
/// The text after the images in the references' prompts, and the layer that is steered in them.
const TEXT: &str = "What is it?";
const LAYER: usize = 1;
/// A continuation of [`TEXT`]. A prompt with it and an answer still fits the model's sliding window of 64.
const LONGER: &str = "What is it? A pond?";
/// Ids of the tokens that stand for an image, and of the one that ends a message.
const SOFT: u32 = 263;
const IM_END: u32 = 260;

struct TestServer {
    server: Server,
    model: String,
    _folder: TempDir,
}

impl TestServer {
    fn start(prefix_cache: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        save_reference_vector(MODEL, folder.path());
        let model = fixture(MODEL).display().to_string();
        let cached = if prefix_cache { 16 } else { 0 };
        let config = format!(
            "[runtime]\nprefix_cache_n = {cached}\n\
             [[models]]\nkind = \"multimodal\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
             [steering.vectors]\ntest = \"test.toml\"\n"
        );
        Self {
            server: Server::start(folder.path(), &config).unwrap(),
            model,
            _folder: folder,
        }
    }

    /// Status and body of the answer to `prompt`, with `n` choices.
    fn post(&self, prompt: &Prompt, n: usize) -> (u16, String) {
        let mut body = json!({
            "model": self.model, "messages": prompt.messages(),
            "n": n, "max_tokens": 6, "temperature": 0.0, "top_k": 1,
        });
        if let Some(apply) = &prompt.apply {
            body["steering"] = json!({"vectors": [{
                "vector": "test", "scale": 1.0, "normalize": false, "layers": [LAYER], "apply": apply,
            }]});
        }
        self.server.post("/v1/chat/completions", &body).unwrap()
    }

    fn reply(&self, prompt: &Prompt, n: usize) -> Value {
        let (status, text) = self.post(prompt, n);
        assert_eq!(status, 200, "{prompt:?}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn answer(&self, prompt: &Prompt) -> String {
        answers(&self.reply(prompt, 1)).remove(0)
    }

    /// The message with which `prompt` is refused.
    fn refusal(&self, prompt: &Prompt) -> String {
        let (status, text) = self.post(prompt, 1);
        assert_eq!(status, 422, "{prompt:?}: {text}");
        text
    }

    /// Number of prompt tokens steered so far, which are those that were computed.
    fn steered_prompt_tokens(&self) -> u64 {
        let (status, text) = self.server.get("/metrics").unwrap();
        assert_eq!(status, 200, "{text}");
        steered_prompt_tokens(&text)
    }
}

/// A user's message with images, and its steering.
#[derive(Clone, Debug)]
struct Prompt {
    system: Option<&'static str>,
    /// Names of the images, one letter each.
    images: &'static str,
    text: &'static str,
    apply: Option<Value>,
}

/// The reference's prompt with these images, unsteered.
fn prompt(images: &'static str) -> Prompt {
    Prompt {
        system: None,
        images,
        text: TEXT,
        apply: None,
    }
}

impl Prompt {
    fn under(self, system: &'static str) -> Self {
        Self {
            system: Some(system),
            ..self
        }
    }

    fn saying(self, text: &'static str) -> Self {
        Self { text, ..self }
    }

    /// Steered at one position of the prompt.
    fn at(self, position: i64) -> Self {
        Self {
            apply: Some(json!({"prompt": {"positions": [position]}})),
            ..self
        }
    }

    /// Steered at every token, generated ones included.
    fn everywhere(self) -> Self {
        Self {
            apply: Some(json!({"prompt": "all", "generation": "all"})),
            ..self
        }
    }

    fn messages(&self) -> Vec<Value> {
        let text = json!({"type": "text", "text": self.text});
        let content: Vec<Value> = self.images.chars().map(image).chain([text]).collect();
        let user = json!({"role": "user", "content": content});
        let system = self.system.map(|text| json!({"role": "system", "content": text}));
        system.into_iter().chain([user]).collect()
    }
}

/// The part of a message that is an image of tests/fixtures, as a data URL.
pub fn image(name: char) -> Value {
    let bytes = std::fs::read(fixture(&format!("vision-{name}.png"))).unwrap();
    let data: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png,{data}")}})
}

fn answers(reply: &Value) -> Vec<String> {
    let choices = reply["choices"].as_array().unwrap();
    let text = |choice: &Value| choice["message"]["content"].as_str().unwrap().to_string();
    choices.iter().map(text).collect()
}

/// The continuation by transformers; a token is a byte.
fn expected(reference: &Reference, name: &str) -> String {
    let tokens = reference.tokens(&format!("{name}.gen.tokens"));
    tokens
        .into_iter()
        .map(|token| char::from(u8::try_from(token).unwrap()))
        .collect()
}

fn position(reference: &Reference, scenario: &str) -> i64 {
    reference.tokens(&format!("position.{scenario}"))[0].into()
}

#[test]
fn positions_are_those_of_the_expanded_prompt() {
    let reference = Reference::load(MODEL);
    let tested = TestServer::start(false);
    for images in ["a", "b", "ab"] {
        let reply = tested.reply(&prompt(images), 1);
        assert_eq!(answers(&reply), [expected(&reference, images)], "unsteered, {images}");
        let tokens = reference.tokens(&format!("{images}.tokens"));
        assert_eq!(reply["usage"]["prompt_tokens"], tokens.len(), "{images}");
    }

    let length = reference.tokens("a.tokens").len() as i64;
    for scenario in ["after", "last", "short", "image", "start"] {
        let (position, expected) = (
            position(&reference, scenario),
            expected(&reference, &format!("a.{scenario}")),
        );
        // Counted from either end.
        for position in [position, position - length] {
            let answer = tested.answer(&prompt("a").at(position));
            assert_eq!(answer, expected, "{scenario}: {position}");
        }
    }
    let everywhere = tested.answer(&prompt("a").everywhere());
    assert_eq!(everywhere, expected(&reference, "a.all"));

    for position in [length, -length - 1] {
        let message = format!(
            "steering.vectors[0].apply.prompt.positions[0]: \
             found {position}, expected one of the prompt's {length} positions"
        );
        let refusal = tested.refusal(&prompt("a").at(position));
        assert!(refusal.contains(&message), "{refusal}");
    }
    // The same text without an image is 10 tokens shorter.
    let refusal = tested.refusal(&prompt("").at(position(&reference, "after")));
    let message = format!("expected one of the prompt's {} positions", length - 10);
    assert!(refusal.contains(&message), "{refusal}");
    // A refusal leaves nothing behind.
    assert_eq!(tested.answer(&prompt("a")), expected(&reference, "a"));
}

#[test]
fn cached_prefixes_with_images_are_shared_as_far_as_states_are_equal() {
    let reference = Reference::load(MODEL);
    let (cached, uncached) = (TestServer::start(true), TestServer::start(false));
    let asked = [
        prompt("a").at(-1),
        // The position of -1 depends on the text's length.
        prompt("a").saying(LONGER).at(-1),
        prompt("a").at(-1),
        prompt("a"),
        prompt("a"),
        // Another image with the same tokens.
        prompt("b"),
        prompt("b"),
        prompt("b").at(-1),
        prompt("a"),
        prompt("a").saying(LONGER),
        prompt("a").at(position(&reference, "after")),
        prompt("a").at(-1),
    ];
    for (i, prompt) in asked.iter().enumerate() {
        assert_eq!(
            cached.answer(prompt),
            uncached.answer(prompt),
            "request {i}: {prompt:?}"
        );
    }
    assert_eq!(cached.answer(&prompt("a").at(-1)), expected(&reference, "a.last"));
    assert_eq!(cached.answer(&prompt("b")), expected(&reference, "b"));

    // With every token steered, the steered tokens are those that were computed.
    let computed = |prompt: &Prompt| {
        let before = cached.steered_prompt_tokens();
        assert_eq!(cached.answer(prompt), uncached.answer(prompt), "{prompt:?}");
        cached.steered_prompt_tokens() - before
    };
    let tokens = reference.tokens("a.tokens");
    let index = |id: u32| tokens.iter().position(|&token| token == id).unwrap() as u64;
    let (length, more) = (tokens.len() as u64, (LONGER.len() - TEXT.len()) as u64);
    assert_eq!(computed(&prompt("a").everywhere()), length);
    // Everything is shared up to the end of the shorter text, including the image's states.
    let rest = length + more - index(IM_END);
    assert_eq!(computed(&prompt("a").saying(LONGER).everywhere()), rest);
    // With another image nothing is shared.
    assert!(computed(&prompt("b").everywhere()) >= length - index(SOFT));
    assert_eq!(cached.answer(&prompt("a").everywhere()), expected(&reference, "a.all"));
}

/// Prefixes that end before an image or within one. The tokens of an image attend to each other both ways, so it is
/// computed as a whole or not at all.
#[test]
fn an_image_after_a_cached_prefix_is_computed() {
    let reference = Reference::load(MODEL);
    let (cached, uncached) = (TestServer::start(true), TestServer::start(false));
    let within = prompt("a").at(position(&reference, "image"));
    assert_eq!(cached.answer(&prompt("a")), expected(&reference, "a"));
    assert_eq!(
        cached.answer(&within),
        expected(&reference, "a.image"),
        "within the image"
    );
    // The first image is cached, the second one is not.
    assert_eq!(
        cached.answer(&prompt("ab")),
        expected(&reference, "ab"),
        "a second image"
    );
    let asked = [
        // Before the image.
        prompt("a").at(3),
        prompt("b").at(3),
        prompt("a").under("One"),
        prompt("a").under("Two!"),
        prompt("b").under("Two"),
        prompt("ab").at(3),
    ];
    for prompt in &asked {
        assert_eq!(cached.answer(prompt), uncached.answer(prompt), "{prompt:?}");
    }
    assert_eq!(cached.answer(&prompt("a")), expected(&reference, "a"), "again");

    // The states of the image's tokens before the steered one depend on the steering as well.
    let cached = TestServer::start(true);
    assert_eq!(cached.answer(&within), expected(&reference, "a.image"));
    assert_eq!(
        cached.answer(&prompt("a")),
        expected(&reference, "a"),
        "after one that was steered"
    );
}

#[test]
fn prompts_of_equal_length_with_images_run_in_one_batch() {
    let reference = Reference::load(MODEL);
    let tested = TestServer::start(false);
    // The choices of a request start together.
    let (plain, last) = (expected(&reference, "a"), expected(&reference, "a.last"));
    assert_eq!(answers(&tested.reply(&prompt("a"), 2)), [plain.clone(), plain]);
    assert_eq!(answers(&tested.reply(&prompt("a").at(-1), 2)), [last.clone(), last]);
    let asked = [
        (prompt("a"), "a"),
        (prompt("b"), "b"),
        (prompt("a").at(-1), "a.last"),
        (prompt("a").everywhere(), "a.all"),
    ];
    std::thread::scope(|scope| {
        for (prompt, name) in asked.iter().cycle().take(12) {
            let (tested, expected) = (&tested, expected(&reference, name));
            scope.spawn(move || assert_eq!(tested.answer(prompt), expected, "{prompt:?}"));
        }
    });
}
