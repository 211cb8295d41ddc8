//! Random values of the field `steering` that a server must accept: all operations, selectors, conditions, norms and
//! conflicts, alone and combined.
//!
//! A selector of prompt positions is made for one prompt, since a clause that selects no position is an error.

use std::collections::BTreeSet;

use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::models::{ServedModel, Steerable};
use super::prompts::StoryPrompt;

/// Number of shared specs that fit every prompt, so that requests with equal specs meet.
const SHARED_SPECS: usize = 12;

/// Makes fields, determined by the model, the seed and the prompts.
pub struct Specs {
    model: &'static ServedModel,
    rng: ChaCha8Rng,
    shared: Vec<Value>,
    /// Number of messages of the prompt that a spec is made for.
    messages: usize,
}

/// How a request is steered.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestedSteering {
    /// By the server's default, without the field.
    Default,
    /// Not at all: `{"mode": "off"}`.
    Off,
    /// Not at all, with readouts: `{"mode": "off", "readout": ..}`.
    Reading(Value),
    /// By a field that replaces or extends the default.
    Field(Value),
}

impl RequestedSteering {
    /// The field `steering`.
    pub fn field(&self) -> Option<Value> {
        match self {
            Self::Default => None,
            Self::Off => Some(json!({"mode": "off"})),
            Self::Reading(readouts) => Some(json!({"mode": "off", "readout": readouts})),
            Self::Field(field) => Some(field.clone()),
        }
    }

    /// Whether the stream is changed.
    pub fn steers(&self) -> bool {
        matches!(self, Self::Default | Self::Field(_))
    }
}

impl Specs {
    /// A series for a model with its vectors.
    pub fn new(model: &'static ServedModel, seed: u64) -> Self {
        let mut specs = Self {
            model,
            rng: ChaCha8Rng::seed_from_u64(seed),
            shared: Vec::new(),
            messages: 0,
        };
        specs.shared = (0..SHARED_SPECS).map(|_| specs.spec(None)).collect();
        specs
    }

    /// Steering for a request with this prompt, sent as `messages` messages of a chat: four in ten are unsteered or use
    /// the default, three use a shared spec, three a new one.
    pub fn steering(&mut self, prompt: &StoryPrompt, messages: usize) -> RequestedSteering {
        self.messages = messages;
        match self.rng.random_range(0..10) {
            0..2 => RequestedSteering::Off,
            2 => RequestedSteering::Reading(self.readouts()),
            3 => RequestedSteering::Default,
            4..7 => RequestedSteering::Field(self.shared.choose(&mut self.rng).expect("some are shared").clone()),
            _ => RequestedSteering::Field(self.spec(Some(prompt))),
        }
    }

    /// A field for this prompt, or for all prompts.
    fn spec(&mut self, prompt: Option<&StoryPrompt>) -> Value {
        let mut field = Map::new();
        match self.rng.random_range(0..4) {
            0 => {
                field.insert("mode".into(), "extend".into());
            }
            1 => {
                field.insert("mode".into(), "replace".into());
            }
            _ => {}
        }
        let extends = field.get("mode").is_some_and(|mode| mode == "extend");
        let mut vectors: Vec<Value> = (0..self.rng.random_range(1..=3))
            .map(|_| self.vector_use(prompt))
            .collect();
        match self.rng.random_range(0..4) {
            0 => {
                field.insert("conflict".into(), "first".into());
            }
            // Two vectors may act at one place, and the default already has one.
            1 if !extends => {
                vectors.truncate(1);
                field.insert("conflict".into(), "error".into());
            }
            2 => {
                field.insert("conflict".into(), "sequential".into());
            }
            _ => {}
        }
        if self.rng.random_bool(0.3) {
            field.insert("norm".into(), "preserve".into());
        }
        field.insert("vectors".into(), vectors.into());
        if extends && self.rng.random_bool(0.4) {
            let change = self.change();
            field.insert("change".into(), json!([change]));
        }
        if self.rng.random_bool(0.3) {
            let readouts = self.readouts();
            field.insert("readout".into(), readouts);
        }
        field.into()
    }

    /// A change to the vector of the server's default.
    fn change(&mut self) -> Value {
        let Steerable { name, layers, .. } = self.model.default;
        let most = self.model.scale;
        match self.rng.random_range(0..4) {
            0 => json!({"vector": name, "drop": true}),
            1 => json!({"vector": name, "relative_scale": self.number(-0.6, 0.6)}),
            2 => json!({"vector": name, "layers": self.some_of(layers)}),
            _ => json!({"vector": name, "scale": self.number(-most, most)}),
        }
    }

    /// Readouts of one to three vectors, at all tokens or at generated ones.
    fn readouts(&mut self) -> Value {
        let phases = ["both", "both", "generation", "prompt"];
        (0..self.rng.random_range(1..=3))
            .map(|_| {
                let Steerable { name, map, layers } = self.vector();
                let layer = layers.choose(&mut self.rng).expect("each has a layer");
                let of = if self.rng.random_bool(0.5) {
                    "projection"
                } else {
                    "cosine"
                };
                let phase = phases.choose(&mut self.rng).expect("there are some");
                let mut readout = json!({"vector": name, "layer": layer, "of": of, "phase": phase});
                if let Some(map) = map {
                    readout["map"] = map.into();
                }
                readout
            })
            .collect()
    }

    /// A schedule of factors from `least` to 1 over generated tokens, from the first on or from a trigger token.
    fn schedule(&mut self, least: f64) -> Value {
        let mut schedule = match self.rng.random_range(0..3) {
            0 => {
                let factors: Vec<f64> = (0..self.rng.random_range(1..5))
                    .map(|_| self.number(least, 1.0))
                    .collect();
                json!({"factors": factors, "repeat": self.rng.random_bool(0.5)})
            }
            kind => {
                let shape = if kind == 1 { "linear" } else { "cosine" };
                let (from, to) = (self.number(least, 1.0), self.number(least, 1.0));
                json!({"shape": shape, "from": from, "to": to, "tokens": self.rng.random_range(1..20)})
            }
        };
        if self.rng.random_bool(0.3) {
            schedule["trigger"] = self.token_ids(1).into_iter().sum::<u32>().into();
            schedule["before"] = self.number(least, 1.0).into();
        }
        schedule
    }

    fn vector_use(&mut self, prompt: Option<&StoryPrompt>) -> Value {
        let (vector, most) = (self.vector(), self.model.scale);
        let mut used = Map::new();
        used.insert("vector".into(), vector.name.into());
        if let Some(map) = vector.map {
            used.insert("map".into(), map.into());
            if self.rng.random_bool(0.3) {
                used.insert("offset".into(), "affine".into());
            }
        }
        match self.rng.random_range(0..6) {
            5 if vector.map.is_none() => {
                if self.rng.random_bool(0.3) {
                    used.insert("op".into(), "set".into());
                }
                let scale = self.number(-3.0, 3.0);
                used.insert("std_scale".into(), scale.into());
            }
            4 | 5 => {
                used.insert("op".into(), "clamp".into());
                let (min, width) = (self.number(-most, most), self.number(0.0, most));
                let bounds = self.rng.random_range(0..3);
                if bounds != 1 {
                    used.insert("min".into(), min.into());
                }
                if bounds != 0 {
                    used.insert("max".into(), (min + width).into());
                }
            }
            0 => {
                used.insert("op".into(), "ablate".into());
                if self.rng.random_bool(0.5) {
                    let scale = self.number(0.2, 1.5);
                    used.insert("scale".into(), scale.into());
                }
            }
            1 => {
                used.insert("op".into(), "set".into());
                let scale = self.number(-most, most);
                used.insert("scale".into(), scale.into());
            }
            2 => {
                let scale = self.number(-0.6, 0.6);
                used.insert("relative_scale".into(), scale.into());
            }
            _ if self.rng.random_bool(0.2) => {
                let scale = self.number(-4.0, 4.0);
                used.insert("normalize".into(), false.into());
                used.insert("scale".into(), scale.into());
            }
            _ => {
                let scale = self.number(-most, most);
                used.insert("scale".into(), scale.into());
            }
        }
        if self.rng.random_bool(0.6) {
            let layers = self.some_of(vector.layers);
            if vector.layers.first() == Some(&0) && self.rng.random_bool(0.2) {
                // It has all layers of the model.
                used.insert("layers".into(), "0.4-1.0".into());
            } else if self.rng.random_bool(0.2) {
                let (first, last) = (
                    layers.iter().min().copied().unwrap_or(0),
                    layers.iter().max().copied().unwrap_or(0),
                );
                used.insert("layers".into(), format!("{first}-{last}").into());
            } else {
                used.insert("layers".into(), layers.into());
            }
        }
        if self.rng.random_bool(0.25) {
            // Operations that remove a component have no negative factors.
            let least = if used.contains_key("op") { 0.0 } else { -1.0 };
            let schedule = self.schedule(least);
            used.insert("schedule".into(), schedule);
        }
        if self.rng.random_bool(0.15) {
            // The condition is decided at its layer, which is before all steered ones.
            let layers = vector.layers;
            let first = layers.iter().min().copied().unwrap_or(0);
            used.remove("layers");
            let mut when = self.test(true, first);
            if self.rng.random_bool(0.3) {
                let other = self.test(true, first);
                let list = if self.rng.random_bool(0.5) { "all" } else { "any" };
                when = json!({list: [when, other]});
            }
            used.insert("when".into(), when);
            if self.rng.random_bool(0.5) {
                let apply = self.apply(prompt);
                used.insert("apply".into(), apply);
            }
        } else if self.rng.random_bool(0.2) {
            used.insert("when".into(), self.when());
            if self.rng.random_bool(0.5) {
                let generation = self.generation();
                used.insert("apply".into(), json!({"generation": generation}));
            }
        } else if self.rng.random_bool(0.7) {
            let apply = self.apply(prompt);
            used.insert("apply".into(), apply);
        }
        used.into()
    }

    fn vector(&mut self) -> Steerable {
        *self.model.vectors.choose(&mut self.rng).expect("there are some")
    }

    /// A condition that holds for some prompts and not for others: one test, or two combined.
    fn when(&mut self) -> Value {
        let first = self.test(false, usize::MAX);
        if self.rng.random_bool(0.7) {
            return first;
        }
        let second = self.test(false, usize::MAX);
        let list = if self.rng.random_bool(0.5) { "all" } else { "any" };
        json!({list: [first, second]})
    }

    /// A test of one of the vectors, at one of its layers up to `last`, decided once or at each token.
    fn test(&mut self, each: bool, last: usize) -> Value {
        let (vector, layer) = loop {
            let vector = self.vector();
            let layers = vector.layers.iter().filter(|layer| **layer <= last);
            if let Some(layer) = layers.choose(&mut self.rng) {
                break (vector, *layer);
            }
        };
        let most = self.model.scale / 3.0;
        let above = self.rng.random_bool(0.5);
        let threshold = self.number(-most, most);
        let mut test =
            json!({"vector": vector.name, "layer": layer, (if above { "above" } else { "below" }): threshold});
        let fields = test.as_object_mut().expect("made as an object");
        if let Some(map) = vector.map {
            fields.insert("map".into(), map.into());
        }
        if each {
            fields.insert("each".into(), "token".into());
            if self.rng.random_bool(0.4) {
                let width = self.number(0.0, most);
                let release = if above { threshold - width } else { threshold + width };
                fields.insert("release".into(), release.into());
            }
            if self.rng.random_bool(0.4) {
                fields.insert("window".into(), self.rng.random_range(1..6).into());
            }
        } else if self.rng.random_bool(0.5) {
            fields.insert("token".into(), "mean".into());
        }
        test
    }

    fn apply(&mut self, prompt: Option<&StoryPrompt>) -> Value {
        let (start, rest) = (self.prompt_phase(prompt), self.generation());
        match self.rng.random_range(0..4) {
            0 => json!({"prompt": start}),
            1 => json!({"prompt": "none", "generation": rest}),
            _ => json!({"prompt": start, "generation": rest}),
        }
    }

    /// Where a vector acts in the prompt.
    fn prompt_phase(&mut self, prompt: Option<&StoryPrompt>) -> Value {
        let Some(prompt) = prompt.filter(|_| self.rng.random_bool(0.8)) else {
            return "all".into();
        };
        if self.messages > 0 && self.rng.random_bool(0.6) {
            return self.roles();
        }
        loop {
            let (value, selected) = self.prompt_selector(prompt);
            if !selected.is_empty() {
                return value;
            }
        }
    }

    /// A selector of tokens by the role of their message. A chat has a user's message, and often an assistant's.
    fn roles(&mut self) -> Value {
        match self.rng.random_range(0..4) {
            0 => json!({"roles": ["user"], "required": true}),
            1 => json!({"roles": ["user", "tool"], "positions": [-1]}),
            2 if self.messages > 1 => json!({"exclude_roles": ["user"], "windows": [[0]]}),
            _ => json!({"roles": ["assistant", "system"]}),
        }
    }

    /// A selector and the positions of the prompt that it selects. Every including clause selects some.
    fn prompt_selector(&mut self, prompt: &StoryPrompt) -> (Value, BTreeSet<usize>) {
        let length = prompt.tokens.len();
        let (mut table, mut included, mut excluded) = (Map::new(), BTreeSet::new(), BTreeSet::new());
        for (prefix, selected) in [("", &mut included), ("exclude_", &mut excluded)] {
            let likely = if prefix.is_empty() { 0.45 } else { 0.25 };
            if self.rng.random_bool(likely) {
                let positions = self.positions(length);
                selected.extend(positions.iter().map(|&position| absolute(position, length)));
                table.insert(format!("{prefix}positions"), positions.into());
            }
            if self.rng.random_bool(likely) {
                let (window, start, end) = self.window(length);
                selected.extend(start..end);
                table.insert(format!("{prefix}windows"), json!([window]));
            }
            if self.rng.random_bool(likely) {
                let (tokens, ids) = self.tokens(prompt);
                selected.extend((0..length).filter(|&at| ids.contains(&prompt.tokens[at])));
                table.insert(format!("{prefix}tokens"), tokens);
            }
        }
        if table.is_empty() {
            return ("all".into(), (0..length).collect());
        }
        if !table.keys().any(|key| !key.starts_with("exclude_")) {
            included = (0..length).collect();
        }
        (table.into(), &included - &excluded)
    }

    fn positions(&mut self, length: usize) -> Vec<i64> {
        let length = length as i64;
        let count = self.rng.random_range(1..=4);
        (0..count).map(|_| self.rng.random_range(-length..length)).collect()
    }

    /// A window in one of its notations, and its range in a prompt of that length.
    fn window(&mut self, length: usize) -> (Vec<i64>, usize, usize) {
        let start = self.rng.random_range(0..length);
        let end = self.rng.random_range(start + 1..=length);
        let from_end = |position: usize| position as i64 - length as i64;
        match self.rng.random_range(0..4) {
            0 => (vec![start as i64], start, length),
            1 => (vec![from_end(start)], start, length),
            // The end has no index when counting from the end.
            2 if end < length => (vec![from_end(start), from_end(end)], start, end),
            _ => (vec![start as i64, end as i64], start, end),
        }
    }

    /// Some of the prompt's tokens, each by its id or its text, and their ids.
    fn tokens(&mut self, prompt: &StoryPrompt) -> (Value, BTreeSet<u32>) {
        let mut ids = BTreeSet::new();
        let count = self.rng.random_range(1..=3);
        let tokens = (0..count).map(|_| match prompt.spelled.choose(&mut self.rng) {
            Some((id, text)) if self.rng.random_bool(0.5) => {
                ids.insert(*id);
                Value::from(text.as_str())
            }
            _ => {
                let id = *prompt.tokens.choose(&mut self.rng).expect("a prompt has tokens");
                ids.insert(id);
                Value::from(id)
            }
        });
        (tokens.collect(), ids)
    }

    /// Where a vector acts on generated tokens, if there are enough.
    fn generation(&mut self) -> Value {
        match self.rng.random_range(0..6) {
            0 => {
                let positions: Vec<u32> = (0..3).map(|_| self.rng.random_range(0..16)).collect();
                json!({"positions": positions})
            }
            1 => {
                let start = self.rng.random_range(0..10);
                let end = start + self.rng.random_range(1..10);
                json!({"windows": [[start, end], [end + 3]]})
            }
            2 => {
                let tokens = self.token_ids(40);
                json!({"exclude_tokens": tokens, "exclude_positions": [0]})
            }
            3 => {
                let tokens = self.token_ids(200);
                json!({"tokens": tokens, "exclude_windows": [[2, 4]]})
            }
            _ => "all".into(),
        }
    }

    fn token_ids(&mut self, count: usize) -> Vec<u32> {
        let ids = 3..self.model.vocabulary;
        (0..count).map(|_| self.rng.random_range(ids.clone())).collect()
    }

    fn some_of(&mut self, layers: &[usize]) -> Vec<usize> {
        let count = self.rng.random_range(1..=layers.len());
        let mut some = layers.iter().copied().choose_multiple(&mut self.rng, count);
        some.sort_unstable();
        some
    }

    /// A number with two decimals other than 0.
    fn number(&mut self, low: f64, high: f64) -> f64 {
        let number = (self.rng.random_range(low..high) * 100.0).round() / 100.0;
        if number == 0.0 { high } else { number }
    }
}

fn absolute(position: i64, length: usize) -> usize {
    let position = if position < 0 {
        position + length as i64
    } else {
        position
    };
    usize::try_from(position).expect("made within the prompt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::models::{STORIES, WINDOW};

    fn prompt() -> StoryPrompt {
        StoryPrompt {
            text: "a b a c".into(),
            tokens: vec![0, 5, 6, 5, 7],
            spelled: vec![(5, "a".into()), (7, "c".into())],
        }
    }

    #[test]
    fn a_series_has_all_features_and_is_reproducible() {
        let make = || {
            let mut specs = Specs::new(&STORIES, 3);
            (0..400).map(|_| specs.steering(&prompt(), 3)).collect::<Vec<_>>()
        };
        let made = make();
        assert_eq!(made, make());
        let text = format!(
            "{}",
            made.iter().filter_map(RequestedSteering::field).collect::<Value>()
        );
        for word in [
            "off",
            "extend",
            "replace",
            "first",
            "sequential",
            "\"error\"",
            "preserve",
            "ablate",
            "\"set\"",
            "relative_scale",
            "std_scale",
            "\"max\"",
            "\"change\"",
            "\"drop\"",
            "0.4-1.0",
            "normalize",
            "affine",
            "above",
            "below",
            "mean",
            "positions",
            "windows",
            "tokens",
            "exclude_positions",
            "exclude_windows",
            "exclude_tokens",
            "layers",
            "readout",
            "cosine",
            "schedule",
            "trigger",
            "\"each\"",
            "release",
            "window\"",
            "\"all\":[",
            "\"any\":[",
            "roles",
            "required",
            "exclude_roles",
        ] {
            assert!(text.contains(word), "no {word}");
        }
        assert!(made.contains(&RequestedSteering::Default));
        let fields: Vec<_> = made.iter().filter_map(RequestedSteering::field).collect();
        let repeated = fields
            .iter()
            .filter(|field| fields.iter().filter(|other| other == field).count() > 1);
        assert!(repeated.count() > 50);
    }

    #[test]
    fn a_series_uses_the_vectors_of_its_model() {
        let mut specs = Specs::new(&WINDOW, 5);
        let made = (0..200).map(|_| specs.steering(&prompt(), 3)).collect::<Vec<_>>();
        let text = format!(
            "{}",
            made.iter().filter_map(RequestedSteering::field).collect::<Value>()
        );
        assert!(text.contains("\"three\"") && !text.contains("mood") && !text.contains("across"));
        for field in made.iter().filter_map(RequestedSteering::field) {
            for used in field["vectors"].as_array().into_iter().flatten() {
                let mut layers = used["layers"].as_array().into_iter().flatten();
                assert!(layers.all(|layer| layer.as_u64() < Some(6)), "{field}");
            }
        }
    }

    #[test]
    fn a_selector_selects_positions_of_its_prompt() {
        let mut specs = Specs::new(&STORIES, 4);
        for _ in 0..500 {
            let (start, _, end) = specs.window(5);
            assert!(!start.is_empty() && end <= 5);
            let (value, selected) = specs.prompt_selector(&prompt());
            assert!(selected.iter().all(|&at| at < 5), "{value}");
        }
        assert_eq!((absolute(-1, 5), absolute(-5, 5), absolute(4, 5)), (4, 0, 4));
    }
}
