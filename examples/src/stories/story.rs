//! A story: labels, choices, the resulting text, and its probability.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::concepts::{Concept, Labels};
use super::templates::{LENGTHS, OPENINGS, SENTENCES};
use super::words::{SLOTS, Slot};

/// A fixed word or punctuation mark, or the result of one choice (which may be several words).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text, without the space before it.
    pub text: String,
    /// Whether a space stands before it.
    pub spaced: bool,
    /// The concepts that this piece reveals: it would read differently with one of them flipped.
    pub tells: Labels,
    /// Whether a sentence ends with it.
    pub ends_sentence: bool,
}

/// A generated story.
#[derive(Clone, Debug)]
pub struct Story {
    /// The story's labels.
    pub labels: Labels,
    /// Its text in pieces. Flipping a label does not change their number.
    pub pieces: Vec<Piece>,
    /// The negative log-probability of the text, in nats.
    pub nats: f64,
}

impl Story {
    /// Story number `index` of the endless series of `seed`.
    pub fn generate(seed: u64, index: u64) -> Self {
        Self::derive(seed, index, None)
    }

    /// The same story with the same choices, but with the label of `concept` flipped.
    pub fn generate_flipped(seed: u64, index: u64, concept: Concept) -> Self {
        Self::derive(seed, index, Some(concept))
    }

    fn derive(seed: u64, index: u64, flip: Option<Concept>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let mut labels = Labels::from_bits(rng.random_range(0..1 << Concept::ALL.len()));
        if let Some(concept) = flip {
            labels = labels.flipped(concept);
        }
        let mut teller = Teller::new(rng, labels);
        let sentences = LENGTHS[teller.choose(LENGTHS.len())];
        for sentence in 0..sentences {
            let templates = if sentence == 0 { OPENINGS } else { SENTENCES };
            let template = templates[teller.choose(templates.len())];
            teller.tell(template);
        }
        // A label that no word reveals adds nothing, since both of its values give this text.
        let told = teller
            .pieces
            .iter()
            .fold(Labels::default(), |told, piece| told.union(piece.tells));
        let nats = teller.nats + f64::from(told.len()) * std::f64::consts::LN_2;
        Self {
            labels,
            pieces: teller.pieces,
            nats,
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.text_before(self.pieces.len())
    }

    /// The text of the first `end` pieces.
    pub fn text_before(&self, end: usize) -> String {
        let mut text = String::new();
        for piece in &self.pieces[..end] {
            if piece.spaced && !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&piece.text);
        }
        text
    }

    /// Number of words in the text, separated by spaces.
    pub fn words(&self) -> usize {
        self.text().split_whitespace().count()
    }
}

/// The slot that templates call `name`.
pub(super) fn slot_index(name: &str) -> usize {
    SLOTS
        .iter()
        .position(|slot| slot.name == name)
        .unwrap_or_else(|| panic!("there is no slot {name:?}"))
}

/// The form of choice number `choice` of `slot` under `labels`.
pub(super) fn form(slot: &Slot, choice: usize, labels: Labels) -> &'static str {
    let bits = slot
        .by
        .iter()
        .enumerate()
        .map(|(bit, &concept)| usize::from(labels.contains(concept)) << bit);
    slot.choices[choice]
        .split('|')
        .nth(bits.sum())
        .expect("every choice has a form for every labelling")
}

/// Writes sentences and records the choices.
struct Teller {
    rng: ChaCha8Rng,
    labels: Labels,
    kept: Vec<Option<usize>>,
    pieces: Vec<Piece>,
    nats: f64,
    at_start: bool,
    after_quote: bool,
}

impl Teller {
    fn new(rng: ChaCha8Rng, labels: Labels) -> Self {
        let kept = vec![None; SLOTS.len()];
        Self {
            rng,
            labels,
            kept,
            pieces: Vec::new(),
            nats: 0.0,
            at_start: true,
            after_quote: false,
        }
    }

    /// One of `count` equally likely choices. The draw never depends on the labels.
    fn choose(&mut self, count: usize) -> usize {
        self.nats += (count as f64).ln();
        self.rng.random_range(0..count as u32) as usize
    }

    fn tell(&mut self, template: &str) {
        self.at_start = true;
        // Slot names may hold a space, so split at braces first.
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let close = rest.find('}').expect("every brace is closed");
            rest[..open].split_whitespace().for_each(|word| self.literal(word));
            self.fill(&rest[open + 1..close]);
            rest = &rest[close + 1..];
        }
        rest.split_whitespace().for_each(|word| self.literal(word));
        self.pieces.last_mut().expect("a sentence has words").ends_sentence = true;
    }

    fn fill(&mut self, name: &str) {
        match name {
            "who" => {
                if self.is_kept("name") && self.choose(2) == 0 {
                    self.slot("he")
                } else {
                    self.slot("name")
                }
            }
            "they" | "them" => {
                if !self.is_kept("goats") {
                    self.slot("some");
                    self.slot("little");
                    self.slot("goats");
                } else if self.choose(2) == 0 {
                    self.literal(name);
                } else {
                    self.literal("the");
                    self.slot("goats");
                }
            }
            _ => self.slot(name),
        }
    }

    fn is_kept(&self, name: &str) -> bool {
        self.kept[slot_index(name)].is_some()
    }

    fn slot(&mut self, name: &str) {
        let index = slot_index(name);
        let slot = &SLOTS[index];
        let choice = match self.kept[index] {
            Some(choice) => choice,
            None => self.choose(slot.choices.len()),
        };
        if slot.kept {
            self.kept[index] = Some(choice);
        }
        let text = form(slot, choice, self.labels);
        let tells = slot
            .by
            .iter()
            .filter(|&&concept| form(slot, choice, self.labels.flipped(concept)) != text);
        let tells = tells.fold(Labels::default(), |tells, &concept| tells.with(concept));
        self.push(text, tells);
    }

    fn literal(&mut self, word: &str) {
        match word {
            "<<" => {
                self.push("\"", Labels::default());
                self.after_quote = true;
                self.at_start = true;
            }
            ">>" => self.glue("\""),
            "." | "," | "!" | ":" => {
                self.glue(word);
                // After an exclamation a new sentence starts, unless a closing quotation mark follows.
                self.at_start = word == "!";
            }
            _ => self.push(word, Labels::default()),
        }
        if word == ">>" {
            self.at_start = false;
        }
    }

    fn glue(&mut self, mark: &str) {
        let (text, tells) = (mark.to_string(), Labels::default());
        self.pieces.push(Piece {
            text,
            spaced: false,
            tells,
            ends_sentence: false,
        });
    }

    fn push(&mut self, word: &str, tells: Labels) {
        let mut text = word.to_string();
        if self.at_start
            && let Some(first) = text.get_mut(..1)
        {
            first.make_ascii_uppercase();
        }
        self.pieces.push(Piece {
            text,
            spaced: !self.after_quote,
            tells,
            ends_sentence: false,
        });
        self.at_start = false;
        self.after_quote = false;
    }
}
