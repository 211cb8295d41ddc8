//! The words: the choices of each slot of a sentence, and the form of each choice under each labelling.
//!
//! A choice lists its forms, separated by `|`. Without a concept there is one form. With one concept, the first form is
//! for the false label, the second for the true one. With two, the first concept of `by` varies fastest. Every label
//! gives a slot the same number of choices, so a derivation can keep its choices while a label is flipped.

use super::concepts::Concept::{self, Gender, Mood, Register, Tense, Time, Topic, Voice};

/// A place in a sentence and its possible contents, all equally likely.
pub(super) struct Slot {
    /// Its name in sentence templates.
    pub name: &'static str,
    /// The concepts its forms depend on.
    pub by: &'static [Concept],
    /// Whether the choice is made once for the whole story.
    pub kept: bool,
    /// The choices, each with its forms.
    pub choices: &'static [&'static str],
}

const fn fresh(name: &'static str, by: &'static [Concept], choices: &'static [&'static str]) -> Slot {
    Slot {
        name,
        by,
        kept: false,
        choices,
    }
}

const fn kept(name: &'static str, by: &'static [Concept], choices: &'static [&'static str]) -> Slot {
    Slot {
        name,
        by,
        kept: true,
        choices,
    }
}

/// All slots.
#[rustfmt::skip]
pub(super) const SLOTS: &[Slot] = &[
    // Mood: sad, happy.
    fresh("feeling", &[Mood], &["sad|happy", "gloomy|cheerful", "weary|merry", "lonely|proud", "miserable|glad"]),
    fresh("dull", &[Mood], &["dreadful|lovely", "terrible|wonderful", "nasty|sweet", "grim|pleasant"]),
    fresh("sadly", &[Mood], &["sadly|happily", "bitterly|gladly", "gloomily|merrily", "tearfully|cheerfully"]),
    fresh("grief", &[Mood], &["grief|joy", "sorrow|delight", "despair|hope", "tears|laughter"]),
    fresh("weeps", &[Mood, Tense], &[
        "weeps|smiles|wept|smiled", "sighs|laughs|sighed|laughed", "frowns|grins|frowned|grinned",
    ]),
    // Topic: farm, sea.
    fresh("place", &[Topic], &[
        "barn|beach", "meadow|harbour", "orchard|island", "stable|cliff", "field|pier", "mill|lighthouse",
    ]),
    fresh("hay", &[Topic], &["hay|sand", "straw|salt", "mud|foam", "clover|seaweed"]),
    kept("thing", &[Topic], &["basket|shell", "bucket|net", "saddle|anchor", "plough|oar", "cart|sail", "egg|pearl"]),
    kept("person", &[Topic], &["farmer|sailor", "shepherd|captain", "miller|fisherman", "gardener|pirate"]),
    fresh("rides", &[Topic, Tense], &["rides|sails|rode|sailed", "digs|swims|dug|swam", "climbs|rows|climbed|rowed"]),
    kept("goats", &[Topic], &["hens|crabs", "goats|seals", "ducks|gulls", "cows|whales", "horses|dolphins", "lambs|otters"]),
    // Register: plain, formal; with tense: present, past.
    fresh("goes", &[Tense, Register], &["goes|went|proceeds|proceeded", "heads|headed|travels|travelled"]),
    fresh("gets", &[Tense, Register], &["gets|got|obtains|obtained", "buys|bought|purchases|purchased"]),
    fresh("gives", &[Tense, Register], &["gives|gave|presents|presented", "brings|brought|delivers|delivered"]),
    fresh("sees", &[Tense, Register], &["sees|saw|observes|observed", "finds|found|discovers|discovered"]),
    fresh("needs", &[Tense, Register], &["needs|needed|requires|required", "wants|wanted|desires|desired"]),
    fresh("helps", &[Tense, Register], &["helps|helped|assists|assisted", "backs|backed|supports|supported"]),
    fresh("starts", &[Tense, Register], &["starts|started|commences|commenced", "tries|tried|attempts|attempted"]),
    fresh("keeps", &[Tense, Register], &["keeps|kept|retains|retained", "hides|hid|conceals|concealed"]),
    fresh("looks", &[Tense, Register], &["looks|looked|appears|appeared", "feels|felt|remains|remained"]),
    fresh("so", &[Register], &["So|Thus", "But|However", "Plus|Moreover", "Soon|Presently"]),
    fresh("very", &[Register], &["very|extremely", "really|most", "so|quite"]),
    fresh("lots of", &[Register], &["lots of|considerable", "more|additional", "enough|sufficient"]),
    fresh("friend", &[Register], &["friend|companion", "pal|associate", "buddy|colleague"]),
    fresh("home", &[Register], &["home|residence", "house|dwelling"]),
    // Tense alone.
    fresh("is", &[Tense], &["is|was"]),
    fresh("are", &[Tense], &["are|were"]),
    fresh("today", &[Tense], &["Today|Yesterday", "This week|Last week", "Now|Then"]),
    fresh("sleep", &[Tense], &["sleep|slept", "run|ran", "eat|ate", "stand|stood", "play|played", "wait|waited"]),
    // Gender: boy, girl.
    kept("name", &[Gender], &[
        "Ben|Anna", "David|Clara", "Frank|Emma", "Jack|Lucy", "Leo|Mia", "Tom|Vera",
    ]),
    fresh("he", &[Gender], &["he|she"]),
    fresh("him", &[Gender], &["him|her"]),
    fresh("his", &[Gender], &["his|her"]),
    fresh("himself", &[Gender], &["himself|herself"]),
    fresh("boy", &[Gender], &["boy|girl", "son|daughter", "brother|sister"]),
    // Time: day, night.
    fresh("morning", &[Time], &["morning|evening", "day|night", "noon|midnight", "sunshine|darkness"]),
    fresh("sunny", &[Time], &["sunny|moonlit", "bright|dark", "golden|silver", "clear|dim"]),
    fresh("sun", &[Time], &["sun|moon", "cloud|star", "rainbow|comet", "bee|owl"]),
    fresh("lunch", &[Time], &["lunch|dinner", "breakfast|supper"]),
    // Voice: quiet, loud.
    fresh("whispers", &[Voice, Tense], &[
        "whispers|shouts|whispered|shouted", "murmurs|yells|murmured|yelled", "mumbles|roars|mumbled|roared",
        "breathes|screams|breathed|screamed",
    ]),
    fresh("softly", &[Voice], &["softly|loudly", "gently|noisily", "calmly|boldly", "quietly|wildly"]),
    fresh("soft", &[Voice], &["soft|loud", "gentle|noisy", "hushed|booming", "mild|rough"]),
    fresh("whisper", &[Voice], &["whisper|shout", "murmur|roar", "hush|din", "silence|noise"]),
    // Words that reveal no concept.
    fresh("some", &[], &["some", "many", "several", "three"]),
    fresh("little", &[], &["little", "big", "brown", "white", "young", "clever"]),
    fresh("cousin", &[], &["cousin", "neighbour", "teacher", "parent"]),
    fresh("coat", &[], &["coat", "hat", "scarf", "belt"]),
    fresh("red", &[], &["red", "green", "blue", "yellow"]),
    fresh("near", &[], &["near", "behind", "beside", "beyond"]),
    fresh("hand", &[], &["hand", "arms", "bag"]),
];
