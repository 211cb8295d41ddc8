//! The readouts that a request asked for, written into its answer: in each choice, or at the top of a response.
//!
//! ```json
//! "readout": {
//!   "tokens": [{"position": 0, "phase": "prompt", "token": "Once", "bytes": [0, 4], "values": [-0.71, null]}],
//!   "states": [{"layer": 9, "positions": [3], "shape": [1, 64], "f32": "…"}],
//!   "truncated": true
//! }
//! ```
//!
//! `bytes` is the token's byte range in the text of all tokens of its phase, special tokens included. In a stream
//! everything comes once, with the first event after it is known. The last generated token has no numbers, since the
//! model never reads it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde::Serialize;
use serde_json::Value;

use super::object::Object;
use crate::apply::reader::ReadoutChunk;
use crate::spec::StateDtype;
use crate::steering::Readings;
use crate::token_texts::TokenTexts;

/// The `readout` of one event or answer.
#[derive(Serialize)]
struct ReadoutJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<TokenJson>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    states: Vec<StatesJson>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Serialize)]
struct TokenJson {
    position: usize,
    phase: &'static str,
    token: String,
    bytes: [usize; 2],
    /// By readout; `null` where it is not read, or not a finite number.
    values: Vec<Option<f32>>,
}

#[derive(Serialize)]
struct StatesJson {
    layer: usize,
    positions: Vec<usize>,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    f32: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f16: Option<String>,
}

/// What has been written of a choice so far.
#[derive(Clone, Copy, Default)]
struct WrittenSoFar {
    /// The position after the last token.
    end: usize,
    /// Bytes of the prompt's text so far.
    prompt: usize,
    /// Bytes of the generated text so far.
    generation: usize,
    /// Whether it was written that the readout is truncated.
    truncated: bool,
}

/// Above this many numbers, writing takes too long for the async worker.
const MAX_INLINE_NUMBERS: usize = 1 << 14;

/// Writes readouts into the events of a streamed answer, or into a whole answer.
pub(super) struct ReadoutWriter {
    readings: std::sync::Arc<Readings>,
    /// How many answers each prompt has.
    each: usize,
    /// By choice.
    written: Vec<WrittenSoFar>,
}

impl ReadoutWriter {
    /// For a request with `each` answers to each prompt.
    pub(super) fn new(readings: std::sync::Arc<Readings>, each: usize) -> Self {
        Self {
            readings,
            each,
            written: Vec::new(),
        }
    }

    /// `json` with what is known and not yet written; `None` if there is nothing to write, or `json` has no place for
    /// it.
    ///
    /// Places are the choices of a completion or of a chunk, an event of `/v1/responses` that brings text or ends the
    /// response, and a response itself.
    pub(super) fn extended(&mut self, json: &[u8]) -> Option<String> {
        let object = Object::parse(json)?;
        if let Some(choices) = object.get("choices") {
            let choices: Vec<&serde_json::value::RawValue> = serde_json::from_str(choices).ok()?;
            let mut changed = false;
            let written: Vec<String> = choices
                .into_iter()
                .map(|choice| match self.choice(choice.get()) {
                    Some(extended) => {
                        changed = true;
                        extended
                    }
                    None => choice.get().to_string(),
                })
                .collect();
            return changed.then(|| object.with("choices", &format!("[{}]", written.join(","))));
        }
        let kind: Option<String> = object.get("type").and_then(|kind| serde_json::from_str(kind).ok());
        match kind.as_deref() {
            Some("response.output_text.delta") => {
                let readout = self.take(0)?;
                Some(object.with("readout", &readout))
            }
            Some("response.completed" | "response.incomplete" | "response.failed") => {
                let response = Object::parse(object.get("response")?.as_bytes())?;
                let readout = self.take(0)?;
                Some(object.with("response", &response.with("readout", &readout)))
            }
            Some(_) => None,
            None => {
                let is_response = object.get("object").is_some_and(|kind| kind == "\"response\"");
                let readout = is_response.then(|| self.take(0)).flatten()?;
                Some(object.with("readout", &readout))
            }
        }
    }

    fn choice(&mut self, json: &str) -> Option<String> {
        let choice = Object::parse(json.as_bytes())?;
        let index: usize = choice.get("index").and_then(|index| index.parse().ok())?;
        let readout = self.take(index)?;
        Some(choice.with("readout", &readout))
    }

    /// What is known of a choice and not yet written, as JSON.
    fn take(&mut self, choice: usize) -> Option<String> {
        let reader = self.readings.of_choice(choice, self.each)?;
        let chunk = reader.take_chunk();
        if self.written.len() <= choice {
            self.written.resize(choice + 1, WrittenSoFar::default());
        }
        let written = &mut self.written[choice];
        // After a tool call the engine runs the conversation again from its start.
        if !chunk.ids.is_empty() && chunk.first < written.end {
            *written = WrittenSoFar::default();
        }
        let numbers = chunk.ids.len() * chunk.values.len().max(1);
        let numbers = numbers + chunk.states.iter().map(|(_, values)| values.len()).sum::<usize>();
        let write = || {
            let readout = readout(chunk, reader.prompt_len(), &self.readings, written)?;
            serde_json::to_string(&readout).ok()
        };
        let several = tokio::runtime::Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
        if several && numbers > MAX_INLINE_NUMBERS {
            tokio::task::block_in_place(write)
        } else {
            write()
        }
    }
}

/// The readout of a chunk of tokens; `None` if there is nothing to write.
fn readout(
    chunk: ReadoutChunk,
    prompt_len: usize,
    readings: &Readings,
    written: &mut WrittenSoFar,
) -> Option<ReadoutJson> {
    let readouts = readings.readouts();
    let states = readouts.states.iter().flat_map(|states| {
        let layers = states.layers.iter().zip(&chunk.states);
        layers
            .filter(|(_, (positions, _))| !positions.is_empty())
            .map(|(layer, (positions, values))| StatesJson {
                layer: *layer,
                shape: [positions.len(), values.len() / positions.len().max(1)],
                positions: positions.clone(),
                f32: (states.dtype == StateDtype::F32)
                    .then(|| STANDARD.encode(values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())),
                f16: (states.dtype == StateDtype::F16).then(|| {
                    let halves = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes());
                    STANDARD.encode(halves.collect::<Vec<u8>>())
                }),
            })
    });
    let states: Vec<StatesJson> = states.collect();
    let tokens = tokens(&chunk, prompt_len, readings.texts(), written);
    let truncated = chunk.truncated && !written.truncated;
    if tokens.is_empty() && states.is_empty() && !truncated {
        return None;
    }
    written.truncated |= chunk.truncated;
    Some(ReadoutJson {
        tokens: (!readouts.readings.is_empty()).then_some(tokens),
        states,
        truncated: chunk.truncated,
    })
}

fn tokens(chunk: &ReadoutChunk, prompt_len: usize, texts: &TokenTexts, written: &mut WrittenSoFar) -> Vec<TokenJson> {
    written.end = written.end.max(chunk.first + chunk.ids.len());
    let token = |(index, id): (usize, &u32)| {
        let position = chunk.first + index;
        let (phase, end) = if position < prompt_len {
            ("prompt", &mut written.prompt)
        } else {
            ("generation", &mut written.generation)
        };
        let bytes = texts.bytes(*id);
        let start = *end;
        *end += bytes.len();
        let value = |values: &Vec<f32>| values.get(index).copied().filter(|value| value.is_finite());
        TokenJson {
            position,
            phase,
            token: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: [start, *end],
            values: chunk.values.iter().map(value).collect(),
        }
    };
    chunk.ids.iter().enumerate().map(token).collect()
}

/// The schema of a `readout` in an answer, for the OpenAPI document.
pub(super) fn schema() -> Value {
    let count = serde_json::json!({ "type": "integer", "minimum": 0 });
    let pair = serde_json::json!({ "type": "array", "items": count, "minItems": 2, "maxItems": 2 });
    serde_json::json!({
        "type": "object",
        "description": "What the request's `readout` and `states` asked for, without what an earlier event had",
        "properties": {
            "tokens": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["position", "phase", "token", "bytes", "values"],
                    "properties": {
                        "position": count,
                        "phase": { "enum": ["prompt", "generation"] },
                        "token": { "type": "string" },
                        "bytes": { "allOf": [pair], "description": "The token's byte range in the text of its phase's tokens" },
                        "values": {
                            "type": "array",
                            "items": { "type": ["number", "null"] },
                            "description": "One value per readout of the request; null where it is not read",
                        },
                    },
                },
            },
            "states": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["layer", "positions", "shape"],
                    "properties": {
                        "layer": count,
                        "positions": { "type": "array", "items": count },
                        "shape": pair,
                        "f32": { "type": "string", "description": "Little-endian 32-bit floats in base64, row by row" },
                        "f16": { "type": "string", "description": "Little-endian 16-bit floats in base64, row by row" },
                    },
                },
            },
            "truncated": { "type": "boolean", "description": "Whether more would have exceeded the limit" },
        },
    })
}
