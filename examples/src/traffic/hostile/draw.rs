//! The parts of hostile requests.

use anyhow::{Result, ensure};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::stories::Story;
use crate::traffic::client::merged;
use crate::traffic::models::ServedModel;
use crate::traffic::served::Served;

/// Completions.
pub const COMPLETIONS: &str = "/v1/completions";
/// Chat completions.
const CHAT: &str = "/v1/chat/completions";
/// Seed of the stories of long prompts.
const STORIES_SEED: u64 = 72;
/// The most tokens that a request asks for, unless their number is what is hostile.
const MAX_TOKENS: u64 = 10;

/// How the client of a request behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientConduct {
    /// Waits for the answer.
    Waits,
    /// Hangs up after sending the request.
    HangsUp,
    /// Hangs up after sending half of the body.
    StopsHalfway,
}

/// The content of a request.
pub enum HostileBody {
    /// A completion with these fields added to the usual ones, or replacing them.
    Completion(Value),
    /// A chat completion with these fields.
    Chat(Value),
    /// A raw body for a route.
    Raw(&'static str, Vec<u8>),
}

/// Draws the parts that differ between requests.
pub struct HostileDraw {
    name: String,
    model: &'static ServedModel,
    prompts: Vec<String>,
    rng: ChaCha8Rng,
}

impl HostileDraw {
    /// Draws requests for a served model.
    ///
    /// # Errors
    ///
    /// If there are no prompts.
    pub fn new(served: &Served, prompts: Vec<String>, seed: u64) -> Result<Self> {
        ensure!(!prompts.is_empty(), "prompts: found none, expected some");
        Ok(Self {
            name: served.model.clone(),
            model: served.base,
            prompts,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// The generator, for other draws.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// The served model's name.
    pub fn model_name(&self) -> &str {
        &self.name
    }

    /// The name of one of the model's native vectors, and the layers that it reaches.
    pub fn vector(&mut self) -> (&'static str, &'static [usize]) {
        let own: Vec<_> = self
            .model
            .vectors
            .iter()
            .filter(|vector| vector.map.is_none())
            .collect();
        let vector = own.choose(&mut self.rng).expect("there are some");
        (vector.name, vector.layers)
    }

    /// An ordinary request's prompt.
    pub fn prompt(&mut self) -> String {
        self.prompts.choose(&mut self.rng).expect("there are some").clone()
    }

    /// One of these.
    pub fn one_of(&mut self, values: &[Value]) -> Value {
        values.choose(&mut self.rng).expect("there are some").clone()
    }

    /// Tokens that fit the model's context.
    pub fn context(&self) -> usize {
        self.model.context
    }

    /// A text of about `tokens` tokens.
    pub fn text(&mut self, tokens: usize) -> String {
        let bytes = tokens * self.model.token_bytes;
        let first: u64 = self.rng.random_range(0..1000);
        let mut text = String::new();
        for index in first.. {
            if text.len() > bytes {
                break;
            }
            text = format!("{text}{} ", Story::generate(STORIES_SEED, index).text());
        }
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    }

    /// How a client behaves: nine in ten wait.
    pub fn conduct(&mut self) -> ClientConduct {
        match self.rng.random_range(0..40) {
            0 => ClientConduct::StopsHalfway,
            1..4 => ClientConduct::HangsUp,
            _ => ClientConduct::Waits,
        }
    }

    /// The usual fields of a completion, some of them hostile by chance. One in three is steered, one in three
    /// streamed.
    pub fn completion(&mut self) -> Value {
        let prompt = self.prompt();
        merged(&json!({"prompt": prompt}), &self.usual())
    }

    /// The route and the body.
    pub fn put_together(&mut self, content: HostileBody) -> (&'static str, Vec<u8>) {
        match content {
            HostileBody::Completion(fields) => {
                let body = merged(&self.completion(), &fields);
                (COMPLETIONS, body.to_string().into_bytes())
            }
            HostileBody::Chat(fields) => {
                let messages = json!([{"role": "user", "content": self.prompt()}]);
                let body = merged(&json!({"messages": messages}), &self.usual());
                (CHAT, merged(&body, &fields).to_string().into_bytes())
            }
            HostileBody::Raw(route, body) => (route, body),
        }
    }

    fn usual(&mut self) -> Value {
        let temperature = self.one_of(&[json!(0), json!(0.7), json!(1)]);
        let mut fields = json!({
            "model": self.name, "max_tokens": self.rng.random_range(1..=MAX_TOKENS), "temperature": temperature,
        });
        if self.rng.random_bool(0.3) {
            let scale = self.model.scale / 2.0;
            let (vector, _) = self.vector();
            fields["steering"] = json!({"vectors": [{"vector": vector, "scale": scale}]});
        }
        if self.rng.random_bool(0.3) {
            fields["stream"] = true.into();
        }
        fields
    }
}
