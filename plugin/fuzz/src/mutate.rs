//! Mutations that keep the syntax: changes of one node of a spec's tree. Mutants by bytes are rarely valid specs, so
//! that the compiler would rarely be reached.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// Specs whose parts are inserted into others.
static PARTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    [
        include_str!("../seeds/spec_json/all-keys.json"),
        include_str!("../seeds/spec_json/apart.json"),
        include_str!("../seeds/spec_json/changes.json"),
        include_str!("../seeds/spec_json/conditions.json"),
        include_str!("../seeds/spec_json/first.json"),
        include_str!("../seeds/spec_json/inline.json"),
        include_str!("../seeds/spec_json/pairs.json"),
        include_str!("../seeds/spec_json/roles.json"),
        include_str!("../seeds/spec_json/tokens.json"),
    ]
    .map(|text| serde_json::from_str(text).expect("a seed"))
    .into()
});

/// Texts that are meaningful in some field.
const WORDS: [&str; 40] = [
    "a",
    "b",
    "c",
    "small",
    "other",
    "up",
    "all",
    "none",
    "add",
    "ablate",
    "set",
    "sequential",
    "first",
    "error",
    "free",
    "preserve",
    "replace",
    "extend",
    "last",
    "mean",
    "linear",
    "affine",
    "clamp",
    "off",
    "best",
    "1-2",
    "0.4-0.6",
    "prompt",
    "generation",
    "both",
    "token",
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "cosine",
    "projection",
    " cat",
    "the",
];

/// A small random number generator (splitmix64). libFuzzer provides one seed per mutation.
pub struct Rng(u64);

impl Rng {
    /// A generator started with `seed`.
    pub fn new(seed: u32) -> Self {
        Self(seed.into())
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % (n as u64).max(1)) as usize
    }
}

/// JSON with up to four nodes changed; `None` if `bytes` are not JSON.
pub fn json(bytes: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
    let mut tree = serde_json::from_slice(bytes).ok()?;
    change_some(&mut tree, rng);
    serde_json::to_vec(&tree).ok()
}

/// TOML with up to four nodes changed; `None` if `bytes` are not TOML, or the mutant can't be written as TOML.
pub fn toml(bytes: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
    let table: toml::Table = toml::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    let mut tree = serde_json::to_value(table).ok()?;
    change_some(&mut tree, rng);
    toml::to_string(&tree).ok().map(String::into_bytes)
}

fn change_some(tree: &mut Value, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let mut place = rng.below(count(tree));
        at(tree, "", &mut place, rng);
    }
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(table) => table.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the node that comes `place` nodes later in depth-first order; `key` is the last key above it. Returns
/// whether it was reached.
fn at(node: &mut Value, key: &str, place: &mut usize, rng: &mut Rng) -> bool {
    if *place == 0 {
        change(node, key, rng);
        return true;
    }
    *place -= 1;
    match node {
        Value::Array(list) => list.iter_mut().any(|node| at(node, key, place, rng)),
        Value::Object(table) => table.iter_mut().any(|(key, node)| at(node, key, place, rng)),
        _ => false,
    }
}

fn change(node: &mut Value, key: &str, rng: &mut Rng) {
    if rng.below(8) == 0 {
        let mut same_key = Vec::new();
        PARTS.iter().for_each(|part| values_of(part, key, &mut same_key));
        if !same_key.is_empty() {
            *node = same_key[rng.below(same_key.len())].clone();
        }
        return;
    }
    match node {
        Value::Null => *node = number(rng),
        Value::Bool(value) => *value = !*value,
        Value::Number(old) => {
            *node = match old.as_i64() {
                Some(old) if rng.below(2) == 0 => json!(old.wrapping_add([-1, 1, 2, -2][rng.below(4)])),
                _ => number(rng),
            }
        }
        Value::String(_) => *node = WORDS[rng.below(WORDS.len())].into(),
        Value::Array(list) => change_list(list, key, rng),
        Value::Object(table) => change_table(table, rng),
    }
}

fn number(rng: &mut Rng) -> Value {
    match rng.below(8) {
        0 => json!([i64::from(i32::MAX), i64::from(u32::MAX), i64::MAX, i64::MIN][rng.below(4)]),
        1 => json!((rng.below(2001) as f64 - 1000.0) / 64.0),
        _ => json!(rng.below(20) as i64 - 10),
    }
}

fn change_list(list: &mut Vec<Value>, key: &str, rng: &mut Rng) {
    let place = rng.below(list.len());
    match rng.below(4) {
        0 if !list.is_empty() => drop(list.remove(place)),
        1 if !list.is_empty() => list.insert(place, list[place].clone()),
        2 if list.len() > 1 => list.swap(0, place),
        _ => {
            let mut same_key = Vec::new();
            PARTS.iter().for_each(|part| values_of(part, key, &mut same_key));
            let entries: Vec<&Value> = same_key.iter().filter_map(|value| value.as_array()).flatten().collect();
            let entry = entries.get(rng.below(entries.len()));
            list.insert(place, entry.map_or_else(|| number(rng), |entry| (*entry).clone()));
        }
    }
}

fn change_table(table: &mut Map<String, Value>, rng: &mut Rng) {
    if rng.below(3) == 0 && !table.is_empty() {
        let key = table.keys().nth(rng.below(table.len())).cloned();
        key.and_then(|key| table.shift_remove(&key));
        return;
    }
    // A member of a table that shares a key, so that it usually belongs here.
    let mut alike = Vec::new();
    PARTS.iter().for_each(|part| tables_like(part, table, &mut alike));
    if let Some((key, value)) = alike.get(rng.below(alike.len())) {
        table.insert(key.to_string(), (*value).clone());
    }
}

fn values_of<'a>(tree: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match tree {
        Value::Array(list) => list.iter().for_each(|node| values_of(node, key, found)),
        Value::Object(table) => {
            found.extend(table.get(key));
            table.values().for_each(|node| values_of(node, key, found));
        }
        _ => {}
    }
}

fn tables_like<'a>(tree: &'a Value, like: &Map<String, Value>, members: &mut Vec<(&'a String, &'a Value)>) {
    match tree {
        Value::Array(list) => list.iter().for_each(|node| tables_like(node, like, members)),
        Value::Object(table) => {
            if like.is_empty() || table.keys().any(|key| like.contains_key(key)) {
                members.extend(table);
            }
            table.values().for_each(|node| tables_like(node, like, members));
        }
        _ => {}
    }
}
