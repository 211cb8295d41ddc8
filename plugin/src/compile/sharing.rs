//! What of the states that a prefix cache keeps of a steered sequence others may use.

use std::collections::HashMap;

use steermap_maps::digest::sha256;

use super::{Program, Step};
use crate::spec::{Conflict, NormRule};

/// How many times what is done may change from one token to the next before states are not shared any more: engines look through all
/// of the salts for each block of tokens.
const MAX_SALTS: usize = 256;

/// What the states of a sequence depend on beside its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharing {
    /// From each position on, a hash over all that is done to the tokens there; 0, also before the first, for nothing.
    pub salts: Vec<(usize, u64)>,
    /// The first position whose state is this sequence's alone.
    pub own_from: Option<usize>,
}

impl Program {
    /// What the states of a sequence with this prompt depend on beside its tokens.
    ///
    /// Salts go by what is done to a token, be it one of the prompt or generated: a token that was steered when it was generated and is
    /// steered the same as history has one salt.
    pub fn sharing(&self, prompt: &[u32]) -> Sharing {
        let len = prompt.len();
        if self.goes_by_tokens() && !self.steps.iter().any(|step| step.prompt.adds_last(prompt)) {
            let from = self.first_in_prompt(prompt);
            return Sharing {
                salts: vec![(from, self.salt_by_tokens())],
                own_from: None,
            };
        }
        let mut salts = Salts::new(self);
        let acts = |position: usize| {
            let token = prompt[position];
            move |step: &Step| step.prompt.contains(position, len, token)
        };
        // Up to the first position of what goes on, and no further than where something may change before the last.
        let before_last = len.saturating_sub(1);
        let changes = |step: &Step| !(step.prompt.is_all() || step.prompt.is_none() || step.prompt.is_last());
        let walked = match self.steps.iter().any(changes) {
            true => before_last,
            false => before_last.min(1),
        };
        for position in (0..walked).chain(before_last..len) {
            if salts.own_from.is_none() {
                salts.go_on(position, &acts(position));
            }
        }
        // What is done to a generated token must be known without the token, without where it stands, and without what came before.
        let known = |step: &Step| {
            step.generation.is_none() || (step.generation.is_all() && step.when.is_none() && step.schedule.is_none())
        };
        match self.steps.iter().all(known) {
            true => salts.go_on(len, &|step| !step.generation.is_none()),
            false => salts.end(len),
        }
        // A condition on the whole prompt acts on its last token already.
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

    /// Whether tokens of the prompt and generated ones are steered alike, by the token itself, wherever it stands.
    fn goes_by_tokens(&self) -> bool {
        self.uniform && self.steps.iter().any(|step| !step.prompt.is_all())
    }

    /// The salt of all tokens of a program that goes by tokens.
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
        // 0 is the salt of tokens that nothing is done to.
        u64::from_str_radix(&hash[..16], 16).unwrap_or(1).max(1)
    }
}

/// Salts on the way.
struct Salts<'a> {
    program: &'a Program,
    /// By set of steps, a bit each.
    known: HashMap<u32, u64>,
    /// The steps that act on the token before.
    steps: u32,
    list: Vec<(usize, u64)>,
    own_from: Option<usize>,
}

impl<'a> Salts<'a> {
    fn new(program: &'a Program) -> Self {
        Self {
            program,
            known: HashMap::new(),
            steps: 0,
            list: Vec::new(),
            own_from: None,
        }
    }

    /// From `position` on, the steps that `acts` is true of act.
    fn go_on(&mut self, position: usize, acts: &dyn Fn(&Step) -> bool) {
        let numbered = self.program.steps.iter().enumerate();
        // A spec has 32 vectors at most.
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

    /// From `position` on, states are nobody else's.
    fn end(&mut self, position: usize) {
        self.own_from = Some(self.own_from.map_or(position, |from| from.min(position)));
        self.list.retain(|(from, _)| *from < position);
    }
}
