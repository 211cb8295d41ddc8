//! Which states of a steered sequence in the prefix cache other sequences may use.

use std::collections::HashMap;

use steermap_maps::digest::sha256;

use super::program::Program;
use super::step::Step;
use crate::spec::{Conflict, NormRule};

/// The most changes of salt in one sequence; states after them are not shared. Engines search all salts for each block
/// of tokens.
const MAX_SALTS: usize = 256;

/// What the states of a sequence depend on besides its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharing {
    /// Pairs of a position and a salt: a hash over everything that is done to tokens from that position on. 0 means
    /// nothing is done, as before the first position.
    pub salts: Vec<(usize, u64)>,
    /// The first position from which states belong to this sequence only.
    pub own_from: Option<usize>,
}

impl Program {
    /// What the states of a sequence with this prompt depend on besides its tokens.
    ///
    /// A salt depends on what is done to a token, whether it is in the prompt or generated. A generated token that is
    /// steered equally when it comes back as history has the same salt.
    pub fn sharing(&self, prompt: &[u32]) -> Sharing {
        let len = prompt.len();
        if self.goes_by_tokens() && !self.steps.iter().any(|step| step.prompt.adds_last(prompt)) {
            let from = self.first_in_prompt(prompt);
            return Sharing {
                salts: vec![(from, self.salt_by_tokens())],
                own_from: None,
            };
        }
        let mut salts = SaltBuilder::new(self);
        let acts = |position: usize| {
            let token = prompt[position];
            move |step: &Step| step.prompt.contains(position, len, token)
        };
        // Visits the positions at which the set of acting steps may change, and always the last one.
        let before_last = len.saturating_sub(1);
        let changes = |step: &Step| !(step.prompt.is_all() || step.prompt.is_none() || step.prompt.is_last());
        let walked = if self.steps.iter().any(changes) {
            before_last
        } else {
            before_last.min(1)
        };
        for position in (0..walked).chain(before_last..len) {
            if salts.own_from.is_none() {
                salts.extend(position, &acts(position));
            }
        }
        // What is done to a generated token must not depend on the token, its position or earlier tokens.
        let known = |step: &Step| {
            step.generation.is_none() || (step.generation.is_all() && step.when.is_none() && step.schedule.is_none())
        };
        if self.steps.iter().all(known) {
            salts.extend(len, &|step| !step.generation.is_none());
        } else {
            salts.end(len);
        }
        // A condition on the whole prompt already affects the prompt's last token.
        let waits = |step: &Step| {
            let conditions = step.when.iter().flat_map(|when| when.conditions());
            let mut conditions = conditions.filter_map(|index| self.conditions.get(index));
            step.schedule.is_some() || conditions.any(|condition| !condition.is_each())
        };
        let at_last = |step: &Step| match prompt.last() {
            Some(&token) => step.prompt.contains(len - 1, len, token),
            None => false,
        };
        if self.steps.iter().any(|step| waits(step) && at_last(step)) {
            salts.end(len - 1);
        }
        Sharing {
            salts: salts.list,
            own_from: salts.own_from,
        }
    }

    /// Whether the steering of a token depends only on the token, not on its position or phase.
    fn goes_by_tokens(&self) -> bool {
        self.uniform && self.steps.iter().any(|step| !step.prompt.is_all())
    }

    /// The salt of all tokens of a program whose steering depends only on the token.
    fn salt_by_tokens(&self) -> u64 {
        let steps = self.steps.iter().zip(&self.digests);
        let steps = steps.map(|(step, digest)| format!("{digest} {}", sha256(&step.prompt.canonical())));
        self.salt(&steps.collect::<Vec<_>>())
    }

    /// The salt of a token that is steered by steps with these digests.
    fn salt(&self, steps: &[impl AsRef<str>]) -> u64 {
        let mut text = match self.norm {
            NormRule::Free => "free",
            NormRule::Preserve => "preserve",
        }
        .to_string();
        if self.conflict == Conflict::First && steps.len() > 1 {
            text.push_str(" first");
        }
        for step in steps {
            text.push('\n');
            text.push_str(step.as_ref());
        }
        let hash = sha256(text.as_bytes());
        // 0 is the salt of tokens that are not steered.
        u64::from_str_radix(&hash[..16], 16).unwrap_or(1).max(1)
    }
}

/// Collects salts position by position.
struct SaltBuilder<'a> {
    program: &'a Program,
    /// The salt by set of steps, one bit per step.
    known: HashMap<u32, u64>,
    /// The steps that act on the previous token.
    steps: u32,
    list: Vec<(usize, u64)>,
    own_from: Option<usize>,
}

impl<'a> SaltBuilder<'a> {
    fn new(program: &'a Program) -> Self {
        Self {
            program,
            known: HashMap::new(),
            steps: 0,
            list: Vec::new(),
            own_from: None,
        }
    }

    /// From `position` on, the steps act for which `acts` returns true.
    fn extend(&mut self, position: usize, acts: &dyn Fn(&Step) -> bool) {
        let numbered = self.program.steps.iter().enumerate();
        // A spec has at most 32 vectors.
        let steps = numbered.fold(0, |steps, (number, step)| steps | u32::from(acts(step)) << number);
        if steps == self.steps || self.own_from.is_some() {
            return;
        }
        self.steps = steps;
        if self.list.len() == MAX_SALTS {
            return self.end(position);
        }
        let program = self.program;
        let salt = *self.known.entry(steps).or_insert_with(|| {
            let acting = program.digests.iter().enumerate();
            let acting = acting
                .filter(|(number, _)| steps >> number & 1 == 1)
                .map(|(_, digest)| digest);
            match steps {
                0 => 0,
                _ => program.salt(&acting.collect::<Vec<_>>()),
            }
        });
        self.list.push((position, salt));
    }

    /// From `position` on, states are not shared.
    fn end(&mut self, position: usize) {
        self.own_from = Some(self.own_from.map_or(position, |from| from.min(position)));
        self.list.retain(|(from, _)| *from < position);
    }
}
