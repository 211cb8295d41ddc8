//! Tests of the generator as a whole.

use std::collections::{HashMap, HashSet};

use super::story::{form, slot_index};
use super::templates::{OPENINGS, SENTENCES};
use super::words::SLOTS;
use super::*;

#[test]
fn a_seed_gives_the_same_stories_and_another_seed_others() {
    let texts = |seed| {
        (0..20)
            .map(|index| Story::generate(seed, index).text())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(7), texts(7));
    assert_ne!(texts(7), texts(8));
    assert_eq!(texts(7).into_iter().collect::<HashSet<_>>().len(), 20);
}

#[test]
fn every_choice_has_a_form_for_every_labelling_and_no_two_choices_read_alike() {
    for slot in SLOTS {
        let mut owner = HashMap::new();
        for (number, choice) in slot.choices.iter().enumerate() {
            assert_eq!(choice.split('|').count(), 1 << slot.by.len(), "{}: {choice}", slot.name);
            for text in choice.split('|') {
                assert_eq!(
                    *owner.entry(text).or_insert(number),
                    number,
                    "{}: {text} is made twice",
                    slot.name
                );
            }
        }
    }
}

#[test]
fn labels_choose_the_form_alone_and_together() {
    let weeps = &SLOTS[slot_index("weeps")];
    let read = |labels| form(weeps, 0, labels);
    let none = Labels::default();
    assert_eq!(read(none), "weeps");
    assert_eq!(read(none.with(Concept::Mood)), "smiles");
    assert_eq!(read(none.with(Concept::Tense)), "wept");
    assert_eq!(
        read(none.with(Concept::Tense).with(Concept::Mood).with(Concept::Topic)),
        "smiled"
    );
}

#[test]
fn templates_are_different_and_use_every_slot() {
    let all: Vec<&str> = OPENINGS.iter().chain(SENTENCES).copied().collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    let referred = ["goats", "some"];
    for slot in SLOTS {
        let used = all
            .iter()
            .any(|template| template.contains(&format!("{{{}}}", slot.name)));
        assert!(used || referred.contains(&slot.name), "{} is never used", slot.name);
    }
}

#[test]
fn labels_are_balanced_and_independent() {
    let count = 8_000;
    let labels: Vec<Labels> = (0..count).map(|index| Story::generate(1, index).labels).collect();
    for first in Concept::ALL {
        for second in Concept::ALL {
            let both = labels
                .iter()
                .filter(|labels| labels.contains(first) && labels.contains(second))
                .count();
            let expected = if first == second { 0.5 } else { 0.25 };
            assert!(
                (both as f64 / count as f64 - expected).abs() < 0.025,
                "{first:?} and {second:?}: {both}"
            );
        }
    }
}

#[test]
fn a_flipped_label_changes_only_the_words_that_reveal_it() {
    for concept in Concept::ALL {
        for index in 0..200 {
            let (story, flipped) = (Story::generate(2, index), Story::generate_flipped(2, index, concept));
            assert_eq!(story.labels.flipped(concept), flipped.labels);
            assert_eq!(story.pieces.len(), flipped.pieces.len());
            for (one, other) in story.pieces.iter().zip(&flipped.pieces) {
                assert_eq!(
                    one.text != other.text,
                    one.tells.contains(concept),
                    "{} and {}",
                    one.text,
                    other.text
                );
            }
            assert!(
                (story.nats - flipped.nats).abs() < 3.0,
                "only labels that one version alone reveals may differ"
            );
        }
    }
}

#[test]
fn different_derivations_make_different_texts() {
    // Two versions with the same text must also have the same probability.
    let mut seen: HashMap<String, f64> = HashMap::new();
    for index in 0..20_000 {
        let story = Story::generate(3, index);
        let nats = *seen.entry(story.text()).or_insert(story.nats);
        assert!((nats - story.nats).abs() < 1e-9, "{}", story.text());
    }
}

#[test]
fn a_story_reveals_nearly_all_labels_and_stories_have_several_hundred_words() {
    let mut words = HashSet::new();
    let mut told = 0;
    for index in 0..3_000 {
        let story = Story::generate(4, index);
        told += story
            .pieces
            .iter()
            .fold(Labels::default(), |told, piece| told.union(piece.tells))
            .len();
        let text = story.text();
        words.extend(text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase));
    }
    assert!(words.len() > 300, "{} words", words.len());
    assert!(f64::from(told) / 3_000.0 > 6.7, "{told}");
}

#[test]
fn pairs_differ_and_end_at_the_cut() {
    for concept in Concept::ALL {
        for pair in pairs(concept, PairEnd::Sentence, 40, 5) {
            assert_ne!(pair.positive, pair.negative);
            assert!(pair.positive.ends_with('.') && pair.negative.ends_with('.'));
        }
        for pair in pairs(concept, PairEnd::Word, 40, 5) {
            let last = |text: &str| text.rsplit(' ').next().map(str::to_string);
            assert_eq!(last(&pair.positive), last(&pair.negative));
        }
        for pair in pairs(concept, PairEnd::Story, 10, 5) {
            assert_ne!(pair.positive, pair.negative);
        }
    }
}

#[test]
fn items_are_neutral_beginnings_with_two_different_next_words() {
    for concept in Concept::ALL {
        let items = items(concept, 60, 6);
        assert_eq!(items.len(), 60);
        assert_eq!(items.iter().map(|item| &item.prompt).collect::<HashSet<_>>().len(), 60);
        for item in items {
            assert_ne!(item.positive.as_bytes()[1], item.negative.as_bytes()[1]);
            assert!(!item.prompt.ends_with(' ') && item.positive.starts_with(' '));
        }
    }
}
