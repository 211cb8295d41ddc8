//! Steering by the role of a token's message: an answer is steered as history as it was while generated, and the prefix
//! cache takes this into account.

use serde_json::{Value, json};
use steermap_examples::server::Server;
use steermap_examples::traffic::client::{Client, Reply, merged};
use steermap_examples::traffic::served::{Served, Settings};
use steermap_tests::run::steered_prompt_tokens;
use steermap_tests::{change_json, copy_of, fixture, project};

use super::images::image;
use super::operator::{self, start_as};

const FIRST: &str = "Once upon a time there was a little girl named Lily.";
const SECOND: &str = "One day she met a big dog.";

/// Largest allowed difference of log probabilities computed in one pass and from a cache.
const NEAR: f64 = 2e-4;

/// A server of stories-3m.
struct TestServer {
    client: Client,
    _served: operator::TestServer,
}

fn start(prefix_cache: bool, default: &str) -> TestServer {
    let settings = Settings {
        prefix_cache,
        ..Settings::default()
    };
    let served = start_as(&settings, default, &[]);
    TestServer {
        client: Client::new(served.server.url()),
        _served: served,
    }
}

/// The vector of one layer, acting there.
fn steering(apply: &Value) -> Value {
    json!({"vectors": [{"vector": "one", "relative_scale": 0.3, "apply": apply}]})
}

fn as_assistant() -> Value {
    steering(&json!({"prompt": {"roles": ["assistant"]}, "generation": "all"}))
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

impl TestServer {
    fn post(&self, route: &str, more: &Value) -> Reply {
        let body = json!({"model": "default", "max_tokens": 12, "temperature": 0.0, "top_k": 1});
        self.client.post(route, &merged(&body, more)).unwrap()
    }

    /// The text of an answer, and the log probability of each token.
    fn chat(&self, messages: &[Value], steering: &Value) -> (String, Vec<f64>) {
        let more = json!({"messages": messages, "steering": steering, "logprobs": true});
        let reply = self.post("/v1/chat/completions", &more).success().unwrap();
        let choice = &reply["choices"][0];
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let numbers = tokens.iter().map(|token| token["logprob"].as_f64().unwrap());
        (
            choice["message"]["content"].as_str().unwrap().to_string(),
            numbers.collect(),
        )
    }

    fn check(&self, messages: &[Value], steering: &Value) -> Value {
        let body = json!({"steering": steering, "prompt": messages});
        self.client
            .post("/v1/steering/check", &body)
            .unwrap()
            .success()
            .unwrap()
    }

    /// Number of prompt tokens steered so far, which are those that were computed.
    fn steered_prompt_tokens(&self) -> u64 {
        steered_prompt_tokens(&self.client.get("/metrics").unwrap().body)
    }
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let apart = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(apart < NEAR, "{what}: {apart} apart");
}

#[test]
fn an_answer_stays_steered_as_history_and_is_taken_from_the_cache() {
    let (cached, fresh) = (start(true, ""), start(false, ""));
    let first = [message("user", FIRST)];
    let (answer, _) = cached.chat(&first, &as_assistant());
    let history = [
        first[0].clone(),
        message("assistant", answer.trim()),
        message("user", SECOND),
    ];

    // The positions of the answer, and the one from which its first token is chosen.
    let told = cached.check(&history, &as_assistant());
    let length = told["prompt_tokens"].as_u64().unwrap();
    let positions = told["vectors"][0]["positions"].as_str().unwrap().to_string();
    let (range, last) = positions.split_once(',').unwrap();
    let (start_of, end_of) = range.split_once('-').unwrap();
    let (from, to): (u64, u64) = (start_of.parse().unwrap(), end_of.parse().unwrap());
    let prompt = cached.check(&first, &as_assistant())["prompt_tokens"].as_u64().unwrap();
    assert_eq!((from, last), (prompt - 1, (length - 1).to_string().as_str()), "{told}");
    assert_eq!(
        to - from,
        12,
        "one position before the answer, and its twelve tokens: {told}"
    );

    // Equal to steering these positions explicitly, and to no other steering.
    let windows = steering(&json!({"prompt": {"windows": [[from, to + 1]]}, "generation": "all"}));
    let (_, by_windows) = fresh.chat(&history, &windows);
    let (_, by_roles) = fresh.chat(&history, &as_assistant());
    assert_eq!(by_roles, by_windows);
    let forgotten = steering(&json!({"generation": "all"}));
    assert_ne!(fresh.chat(&history, &forgotten).1, by_roles);
    let users = steering(&json!({"prompt": {"roles": ["user"]}, "generation": "all"}));
    assert_ne!(fresh.chat(&history, &users).1, by_roles);

    // From the cache, only two steered tokens are computed: the answer's last token, which was never computed, and the
    // last token of the prompt.
    let before = cached.steered_prompt_tokens();
    let (_, from_cache) = cached.chat(&history, &as_assistant());
    assert_near(&from_cache, &by_roles, "from the cache");
    assert_eq!(cached.steered_prompt_tokens() - before, 2);
    // History with other steering is not taken from the cache.
    let (_, again) = cached.chat(&history, &forgotten);
    assert_near(&again, &fresh.chat(&history, &forgotten).1, "forgotten");
    let (_, unsteered) = cached.chat(&history, &json!({"mode": "off"}));
    assert_near(
        &unsteered,
        &fresh.chat(&history, &json!({"mode": "off"})).1,
        "unsteered",
    );
}

#[test]
fn roles_are_those_of_a_chat() {
    let default = "[[steering.defaults]]\n[[steering.defaults.vectors]]\nvector = \"one\"\nrelative_scale = 0.3\n\
                   apply = { prompt = { roles = [\"user\"] } }\n";
    let tested = start(false, default);
    // A default with roles does nothing in a prompt without messages; a request with roles is refused.
    let completion = |steering: Value| tested.post("/v1/completions", &json!({"prompt": FIRST, "steering": steering}));
    let text = |reply: Reply| reply.success().unwrap()["choices"][0]["text"].clone();
    assert_eq!(
        text(tested.post("/v1/completions", &json!({"prompt": FIRST}))),
        text(completion(json!({"mode": "off"})))
    );
    let refused = completion(as_assistant());
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (
            422,
            "steering.vectors[0].apply.prompt: found roles for a prompt without messages, expected a chat"
        )
    );
    // A request may extend that default with something else.
    let more = json!({"mode": "extend", "vectors": [{"vector": "two", "scale": 1}]});
    assert_eq!(completion(more).status, 200);
    // In a chat it acts.
    let chat = [message("user", FIRST)];
    let (_, by_default) = tested.chat(&chat, &json!({"mode": "extend", "vectors": []}));
    let off = tested.chat(&chat, &json!({"mode": "off"})).1;
    assert_ne!(by_default, off);
    // A chat without a message of the role is an error only if the request itself names the role.
    let tools = |required: bool| steering(&json!({"prompt": {"roles": ["tool"], "required": required}}));
    assert_eq!(tested.chat(&chat, &tools(false)).1, off);
    let more = json!({"messages": chat, "steering": tools(true)});
    let refused = tested.post("/v1/chat/completions", &more);
    assert_eq!(refused.status, 422);
    assert!(
        refused
            .message()
            .contains("apply.prompt.roles: found no message with these roles"),
        "{}",
        refused.body
    );
    // Long chats are tokenized on another thread.
    let long = [message("user", &"so ".repeat(6000)), message("assistant", "yes")];
    let more = json!({"messages": long, "steering": as_assistant()});
    let refused = tested.post("/v1/chat/completions", &more);
    assert!(refused.status >= 400 && refused.status < 500, "{}", refused.body);
}

#[test]
fn unknown_places_of_messages_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let shouts = copy_of(&project("examples/family/stories-3m"), folder.path());
    change_json(&shouts.join("tokenizer_config.json"), |config| {
        config["chat_template"] = "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}".into();
    });
    let served = Served::prepare(&project(""), folder.path()).unwrap();
    let config = served
        .config(&Settings::default())
        .replace(&served.model, shouts.to_str().unwrap());
    let server = Server::start(folder.path(), &config).unwrap();
    let client = Client::new(server.url());
    let body = json!({
        "model": "default", "messages": [message("user", FIRST)], "max_tokens": 2,
        "steering": steering(&json!({"prompt": {"roles": ["user"]}})),
    });
    let refused = client.post("/v1/chat/completions", &body).unwrap();
    let expected = "steering.vectors[0].apply.prompt: where the messages of this chat lie is not known: \
                    the chat template changes their texts";
    assert_eq!((refused.status, refused.message().as_str()), (422, expected));
    let asked = json!({"steering": body["steering"], "prompt": body["messages"]});
    let told = client.post("/v1/steering/check", &asked).unwrap().success().unwrap();
    assert_eq!(told["refused"], expected, "{told}");

    // A model without a template has no chats.
    drop(server);
    change_json(&shouts.join("tokenizer_config.json"), |config| {
        config.as_object_mut().unwrap().remove("chat_template");
    });
    let server = Server::start(folder.path(), &config).unwrap();
    let client = Client::new(server.url());
    for asked in [asked, json!({"steering": {"mode": "off"}, "prompt": body["messages"]})] {
        let refused = client.post("/v1/steering/check", &asked).unwrap();
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(
            refused.message().contains("does not have a chat template"),
            "{}",
            refused.body
        );
    }
}

#[test]
fn roles_are_refused_in_a_chat_with_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let name = "tiny-gemma3-vision";
    steermap_tests::vectors::save_reference_vector(name, folder.path());
    let model = fixture(name).display().to_string();
    let config = format!(
        "[[models]]\nkind = \"multimodal\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
         [steering.vectors]\ntest = \"test.toml\"\n"
    );
    let server = Server::start(folder.path(), &config).unwrap();
    let client = Client::new(server.url());
    let used = json!({"vector": "test", "scale": 1, "layers": [1], "apply": {"prompt": {"roles": ["user"]}}});
    let ask = |content: Value| {
        let body = json!({
            "model": "default", "messages": [{"role": "user", "content": content}], "max_tokens": 2,
            "steering": {"vectors": [used]},
        });
        client.post("/v1/chat/completions", &body).unwrap()
    };
    let text = json!({"type": "text", "text": "What is it?"});
    assert_eq!(ask(json!([text])).status, 200);
    assert_eq!(ask(json!("What is it?")).status, 200);
    let refused = ask(json!([image('a'), text]));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(
        refused
            .message()
            .contains("where the messages of this chat lie is not known"),
        "{}",
        refused.body
    );
}
