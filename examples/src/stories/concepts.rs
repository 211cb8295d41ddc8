//! What a story is about: seven labels, independent of each other, each true in half of the stories.

use clap::ValueEnum;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A binary property of a whole story that many of its words depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Concept {
    /// Happy (true) or sad.
    Mood,
    /// At sea (true) or on the farm.
    Topic,
    /// Formal (true) or plain words.
    Register,
    /// Past (true) or present.
    Tense,
    /// The hero is a girl (true) or a boy.
    Gender,
    /// Night (true) or day.
    Time,
    /// Everybody is loud (true) or quiet.
    Voice,
}

impl Concept {
    /// All concepts, in the order of their bits.
    pub const ALL: [Concept; 7] = [
        Concept::Mood,
        Concept::Topic,
        Concept::Register,
        Concept::Tense,
        Concept::Gender,
        Concept::Time,
        Concept::Voice,
    ];

    /// Lower-case name, as on the command line.
    pub fn name(self) -> &'static str {
        ["mood", "topic", "register", "tense", "gender", "time", "voice"][self as usize]
    }
}

/// A set of concepts; as the labels of a story, the set of those that are true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(u8);

impl Labels {
    /// The labels whose bits, in the order of [`Concept::ALL`], are set.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether `concept` is in the set.
    pub fn contains(self, concept: Concept) -> bool {
        self.0 >> concept as u8 & 1 == 1
    }

    /// The same labels with `concept` flipped.
    pub fn flipped(self, concept: Concept) -> Self {
        Self(self.0 ^ (1 << concept as u8))
    }

    /// The set with `concept` in it.
    pub fn with(self, concept: Concept) -> Self {
        Self(self.0 | (1 << concept as u8))
    }

    /// The union of the sets.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Number of concepts in the set.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Concept::ALL.len()))?;
        for concept in Concept::ALL {
            map.serialize_entry(concept.name(), &self.contains(concept))?;
        }
        map.end()
    }
}
