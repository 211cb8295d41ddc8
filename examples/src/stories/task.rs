//! A concept as a task for `mapper eval`: names of its sides, texts to continue, and the words that distinguish the
//! sides.

use std::collections::BTreeSet;

use serde::Serialize;

use super::concepts::Concept;
use super::contrasts::items;
use super::words::SLOTS;

/// Texts to continue.
const PROMPTS: usize = 6;

/// Seed of the stories that they come from; the committed items have another.
const SEED: u64 = 5;

/// A task file, in the format that the mapper's `tasks` reads.
#[derive(Serialize)]
pub struct TaskFile {
    format: &'static str,
    description: String,
    positive: &'static str,
    negative: &'static str,
    kind: &'static str,
    items: String,
    pairs: String,
    position: &'static str,
    generation: ContinuedPrompts,
}

#[derive(Serialize)]
struct ContinuedPrompts {
    prompts: Vec<String>,
    rule: Keywords,
}

#[derive(Serialize)]
struct Keywords {
    kind: &'static str,
    positive: BTreeSet<String>,
    negative: BTreeSet<String>,
}

/// The task of a concept.
pub fn task(concept: Concept) -> TaskFile {
    let (positive, negative) = match concept {
        Concept::Mood => ("happy", "sad"),
        Concept::Topic => ("at sea", "on the farm"),
        Concept::Register => ("formal", "plain"),
        Concept::Tense => ("past", "present"),
        Concept::Gender => ("girl", "boy"),
        Concept::Time => ("night", "day"),
        Concept::Voice => ("loud", "quiet"),
    };
    let name = concept.name();
    TaskFile {
        format: "steermap-task/1",
        description: format!("The {name} of a little story: {positive} (the positive side) or {negative}."),
        positive,
        negative,
        kind: "completion",
        items: format!("{name}.items.jsonl"),
        pairs: format!("{name}.pairs.jsonl"),
        position: "mean",
        generation: ContinuedPrompts {
            prompts: items(concept, PROMPTS, SEED)
                .into_iter()
                .map(|item| item.prompt)
                .collect(),
            rule: Keywords {
                kind: "keywords",
                positive: words(concept, true),
                negative: words(concept, false),
            },
        },
    }
}

/// The words that occur in stories with this value of the label, and in none with the other.
fn words(concept: Concept, value: bool) -> BTreeSet<String> {
    let told = |value: bool| -> BTreeSet<String> {
        let slots = SLOTS.iter().filter_map(|slot| {
            let bit = slot.by.iter().position(|&by| by == concept)?;
            Some((slot, bit))
        });
        let forms = slots.flat_map(|(slot, bit)| {
            let of = move |form: &usize| (form >> bit & 1 == 1) == value;
            slot.choices.iter().flat_map(move |choice| {
                choice
                    .split('|')
                    .enumerate()
                    .filter(move |(form, _)| of(form))
                    .map(|(_, text)| text.to_lowercase())
            })
        });
        forms.collect()
    };
    told(value).difference(&told(!value)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_belong_to_one_side() {
        for concept in Concept::ALL {
            let (positive, negative) = (words(concept, true), words(concept, false));
            assert!(positive.len() >= 8 && negative.len() >= 8, "{concept:?}");
            assert!(positive.is_disjoint(&negative));
        }
        assert!(words(Concept::Mood, true).contains("smiled") && words(Concept::Mood, false).contains("sighs"));
        assert!(
            words(Concept::Tense, true).contains("obtained") && words(Concept::Register, true).contains("obtained")
        );
        // A form that both tenses share belongs to neither.
        assert!(!words(Concept::Tense, true).contains("her"));
    }
}
