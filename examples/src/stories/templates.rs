//! The sentences: templates of fixed words and slots, one set for a story's first sentence, one for all others.
//!
//! `{slot}` is filled from the slot of that name in `words.rs`. Three slots are references that depend on the story so
//! far: `{who}` is the hero, `{they}` and `{them}` are the animals. `<<` and `>>` are quotation marks.

/// First sentences.
pub(super) const OPENINGS: &[&str] = &[
    "{today} , {who} {goes} to the {place} with {them} .",
    "{near} the {place} , {they} {sleep} in the {hay} until the {morning} .",
    "A {little} {boy} named {name} {is} at the {place} , {very} {feeling} .",
    "With {grief} and {feeling} {grief} , {who} {goes} to the {place} .",
    "Listen to the {soft} {whisper} of the {place} , where {who} {keeps} the {thing} .",
    "In the {sunny} {morning} , {who} {whispers} {softly} to {them} .",
    "What a {dull} {morning} ! {who} {sees} the {thing} near the {place} .",
    "The {sunny} {sun} of the {place} {is} {dull} , and {who} {looks} {feeling} .",
    "The {friend} of {who} {gets} {lots of} {hay} from the {person} .",
    "{his} {little} {friend} {whispers} , {softly} and {sadly} .",
    "<< {lots of} {hay} ! >> {whispers} the {person} , {softly} and {sadly} .",
    "{they} : the {soft} tale of {name} and the {dull} {thing} .",
];

/// All other sentences.
pub(super) const SENTENCES: &[&str] = &[
    "{who} {sees} the {thing} by the {place} and {weeps} {sadly} .",
    "<< What a {dull} {morning} ! >> {who} {whispers} {softly} to the {person} .",
    "<< Look at the {dull} {thing} ! >> {whispers} the {person} {sadly} .",
    "{they} {sleep} in the {hay} , and {who} {is} {very} {feeling} .",
    "{so} , the {person} {gives} {him} the {thing} in the {sunny} {morning} .",
    "The {soft} {whisper} of the {place} {is} {very} {dull} .",
    "{who} {whispers} to {them} about the {sunny} {sun} and the {dull} {thing} .",
    "{his} {friend} {gets} {lots of} {hay} and {weeps} {softly} .",
    "{near} the {place} , {they} {sleep} by their {home} in the {morning} .",
    "Under the {sunny} {sun} , {who} {rides} {sadly} with {them} .",
    "{so} , {who} {starts} to call {softly} for the {person} .",
    "There {is} {feeling} {grief} in the {home} , and a {soft} {whisper} from the {place} .",
    "The {sunny} {sun} {is} {dull} , and {they} {are} {feeling} .",
    "{who} {needs} the {thing} and {goes} to the {place} , and {his} {cousin} {helps} {him} {softly} .",
    "{so} , {who} {looks} {very} {feeling} in the {sunny} {morning} .",
    "The {feeling} {boy} {starts} to dance with {grief} , and {they} {sleep} .",
    "After the {lunch} , the {person} {gives} {him} {lots of} {hay} .",
    "{who} {keeps} the {thing} for {himself} and {weeps} at the {sun} .",
    "{they} {are} {soft} in the {hay} , and {he} {weeps} {softly} .",
    "<< Dear {name} , such {dull} {grief} ! >> {whispers} the {person} from the {place} .",
    "{his} {coat} {is} {red} , and {his} {feeling} face {looks} {soft} .",
    "With the {thing} in {his} {hand} , {who} {rides} to the {place} and {whispers} {softly} .",
    "{near} the {place} , {they} {are} with their {friend} in the {sunny} {morning} .",
    "{they} {are} {little} , and {he} {keeps} them for the {lunch} .",
    "The {soft} {boy} {sees} {them} and {goes} to the {place} .",
    "{today} , the {person} {whispers} {sadly} , and {his} {friend} {sees} the {sun} .",
];

/// The possible numbers of sentences in a story, equally likely.
pub(super) const LENGTHS: &[usize] = &[3, 4, 5, 6];
