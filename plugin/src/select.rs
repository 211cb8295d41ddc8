//! Selectors: which tokens a vector acts on, in a form that is fast to query.
//!
//! A [`Selector`] is a [`Where`] with token texts replaced by ids, in a form in which selectors of equal tokens are
//! mostly equal: positions and windows are merged ranges, and exclusions are subtracted as far as possible.

mod ranges;
mod roles;
mod set;

use std::ops::Range;

use residual_hooks::{Phase, Turn};

use crate::SteeringError;
use crate::spec::{Selection, TokenRef, Where, Window};

use roles::Roles;
use set::TokenSet;

/// Returns the id of a text that is one token; the error says what it is instead, as in `which is 2 tokens: "ha",
/// "ppy"`.
pub type ResolveToken<'a> = &'a dyn Fn(&str) -> Result<u32, String>;

/// The tokens of one phase that a vector acts on.
#[derive(Clone, Debug)]
pub struct Selector {
    phase: Phase,
    include: TokenSet,
    exclude: TokenSet,
    /// Whether the prompt's last token is selected in addition.
    also_last: bool,
    /// The clauses, to check a prompt against; `None` for all and none.
    clauses: Option<Box<Clauses>>,
}

/// The lists of a [`Selection`], token texts resolved.
#[derive(Clone, Debug, Default)]
struct Clauses {
    positions: Vec<i64>,
    windows: Vec<Window>,
    tokens: Vec<u32>,
    exclude_positions: Vec<i64>,
    exclude_windows: Vec<Window>,
    exclude_tokens: Vec<u32>,
    roles: Roles,
    exclude_roles: Roles,
    /// The positions of the messages of these roles, once a chat is known.
    turns: Vec<Range<usize>>,
    exclude_turns: Vec<Range<usize>>,
    /// Whether a chat is known.
    told: bool,
    required: bool,
}

impl PartialEq for Selector {
    /// Whether they are known to select equal tokens.
    fn eq(&self, other: &Self) -> bool {
        self.phase == other.phase && self.is_alike(other) && self.also_last == other.also_last
    }
}

impl Selector {
    /// The selector of `tokens` in `phase`. `at` is the path of `tokens`, for messages.
    ///
    /// # Errors
    ///
    /// A text is not one token, or exclusions leave no token of any prompt or generation.
    ///
    /// For the generation it selects generated tokens only; [`Where::reaches_back`] says whether the prompt's last
    /// token is included.
    pub fn new(tokens: &Where, phase: Phase, at: &str, resolve: ResolveToken<'_>) -> Result<Self, SteeringError> {
        let nothing_left =
            || SteeringError::value(at, "exclusions that leave no token", "at least one token, or \"none\"");
        let generated;
        let written = tokens;
        let tokens = match phase {
            Phase::Prompt => tokens,
            Phase::Generation => {
                generated = tokens.generated();
                &generated
            }
        };
        let reaches_back = phase == Phase::Generation && written.reaches_back();
        let (include, clauses) = match tokens {
            Where::None => (TokenSet::default(), None),
            Where::All => (TokenSet::all(), None),
            Where::Only(selection) => {
                let clauses = Clauses::new(selection, at, resolve)?;
                let include = TokenSet::new(&clauses.positions, &clauses.windows, &clauses.tokens, clauses.roles);
                (
                    if clauses.includes_all() {
                        TokenSet::all()
                    } else {
                        include
                    },
                    Some(Box::new(clauses)),
                )
            }
        };
        let exclude = clauses.as_ref().map_or_else(TokenSet::default, |clauses| {
            TokenSet::new(
                &clauses.exclude_positions,
                &clauses.exclude_windows,
                &clauses.exclude_tokens,
                clauses.exclude_roles,
            )
        });
        let (include, exclude) = include.without(exclude);
        if include.is_empty() && *written != Where::None && !reaches_back {
            return Err(nothing_left());
        }
        Ok(Self {
            phase,
            include,
            exclude,
            also_last: false,
            clauses,
        })
    }

    /// The selector of all tokens of `phase`.
    pub fn all(phase: Phase) -> Self {
        Self {
            phase,
            include: TokenSet::all(),
            exclude: TokenSet::default(),
            also_last: false,
            clauses: None,
        }
    }

    /// Whether it selects tokens by role. Without the turns, which [`in_turns`](Self::in_turns) sets, roles select no
    /// token.
    pub fn has_roles(&self) -> bool {
        // Also if it selects nothing, since its prompt is checked anyway.
        let by_roles = |clauses: &Clauses| !(clauses.roles.is_empty() && clauses.exclude_roles.is_empty());
        self.clauses
            .as_ref()
            .is_some_and(|clauses| by_roles(clauses) && !clauses.told)
    }

    /// The same for a prompt with these turns.
    pub fn in_turns(&self, turns: &[Turn]) -> Self {
        Self {
            include: self.include.in_turns(turns),
            exclude: self.exclude.in_turns(turns),
            clauses: self.clauses.as_ref().map(|clauses| Box::new(clauses.in_turns(turns))),
            ..self.clone()
        }
    }

    /// The same for a prompt, with its last token.
    pub fn with_last(mut self) -> Self {
        self.also_last = !(self.include.is_all() && self.exclude.is_empty());
        self
    }

    /// Whether the last token of `prompt` is selected only because it is the last.
    pub fn adds_last(&self, prompt: &[u32]) -> bool {
        let (len, last) = (prompt.len() as i64, prompt.last().copied().unwrap_or_default());
        let otherwise = self.include.contains(len - 1, len, last) && !self.exclude.contains(len - 1, len, last);
        self.also_last && !otherwise
    }

    /// Selects no token; the clauses are still checked against a prompt.
    pub fn never(self) -> Self {
        Self {
            include: TokenSet::default(),
            exclude: TokenSet::default(),
            also_last: false,
            ..self
        }
    }

    /// Whether the token `token` at `position` of a sequence, counted from its first token, is selected.
    #[inline]
    pub fn contains(&self, position: usize, prompt_len: usize, token: u32) -> bool {
        let index = match self.phase {
            Phase::Prompt if position < prompt_len => position,
            Phase::Generation if position >= prompt_len => position - prompt_len,
            Phase::Prompt | Phase::Generation => return false,
        };
        // Positions are far below 2^63.
        let (index, len) = (index as i64, prompt_len as i64);
        (self.include.contains(index, len, token) && !self.exclude.contains(index, len, token))
            || (self.also_last && index + 1 == len)
    }

    /// Whether every token is selected.
    pub fn is_all(&self) -> bool {
        self.include.is_all() && self.exclude.is_empty()
    }

    /// Whether no token is selected.
    pub fn is_none(&self) -> bool {
        self.include.is_empty() && !self.also_last
    }

    /// Whether only the prompt's last token is selected, because it is the last.
    pub fn is_last(&self) -> bool {
        self.include.is_empty() && self.also_last
    }

    /// Whether a token's selection depends only on the token, not on its position, except for [the last
    /// token](Self::adds_last).
    pub fn ignores_position(&self) -> bool {
        self.include.ignores_position() && self.exclude.ignores_position()
    }

    /// Whether `other`, possibly of another phase, selects the same indices and tokens, except for [the last
    /// token](Self::adds_last). May be false although it does.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.include == other.include && self.exclude == other.exclude
    }

    /// Whether both may select the same token of some sequence. False only if this is impossible.
    pub fn may_overlap(&self, other: &Self) -> bool {
        // The exclusions are already subtracted from each.
        let left = |a: &Self, b: &Self| {
            let include = if a.also_last {
                a.include.clone().with_last()
            } else {
                a.include.clone()
            };
            if b.also_last {
                include
            } else {
                include.minus(&b.exclude)
            }
        };
        self.phase == other.phase && left(self, other).may_meet(&left(other, self))
    }

    /// Bytes that are equal if and only if the selectors are equal.
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = vec![match self.phase {
            Phase::Prompt => 0,
            Phase::Generation => 1,
        }];
        self.include.write(&mut bytes);
        self.exclude.write(&mut bytes);
        if self.also_last {
            bytes.push(1);
        }
        let roles = [&self.include, &self.exclude].map(|set| set.roles().canonical());
        if roles != [0, 0] {
            bytes.push(2);
            bytes.extend(roles);
        }
        bytes
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        let clauses = self.clauses.as_ref().map_or(0, |clauses| clauses.bytes());
        size_of::<Self>() + self.include.bytes() + self.exclude.bytes() + clauses
    }

    /// Checks that each clause of a selector of the prompt selects a token of `prompt`, and that exclusions leave some
    /// token.
    ///
    /// A clause is one position or one window, or the list of tokens if it is `required`. Without `required`, a prompt
    /// may have none of the tokens.
    ///
    /// # Errors
    ///
    /// The clause that selects nothing, as in `positions[1]: found 40, expected one of the prompt's 12 positions`.
    pub fn selects_something(&self, prompt: &[u32]) -> Result<(), String> {
        match (&self.clauses, self.phase) {
            (Some(clauses), Phase::Prompt) => clauses.select_something(prompt),
            _ => Ok(()),
        }
    }
}

impl Clauses {
    fn new(selection: &Selection, at: &str, resolve: ResolveToken<'_>) -> Result<Self, SteeringError> {
        let ids = |name: &str, tokens: &Option<Vec<TokenRef>>| -> Result<Vec<u32>, SteeringError> {
            let id = |(index, token): (usize, &TokenRef)| match token {
                TokenRef::Id(id) => Ok(*id),
                TokenRef::Text(text) => resolve(text).map_err(|instead| {
                    let found = format!("{text:?}, {instead}");
                    SteeringError::value(
                        format!("{at}.{name}[{index}]"),
                        found,
                        "one token of the model's tokenizer",
                    )
                }),
            };
            tokens.iter().flatten().enumerate().map(id).collect()
        };
        Ok(Self {
            positions: selection.positions.clone().unwrap_or_default(),
            windows: selection.windows.clone().unwrap_or_default(),
            tokens: ids("tokens", &selection.tokens)?,
            exclude_positions: selection.exclude_positions.clone().unwrap_or_default(),
            exclude_windows: selection.exclude_windows.clone().unwrap_or_default(),
            exclude_tokens: ids("exclude_tokens", &selection.exclude_tokens)?,
            roles: Roles::new(&selection.roles),
            exclude_roles: Roles::new(&selection.exclude_roles),
            turns: Vec::new(),
            exclude_turns: Vec::new(),
            told: false,
            required: selection.required,
        })
    }

    fn in_turns(&self, turns: &[Turn]) -> Self {
        Self {
            turns: self.roles.ranges(turns).collect(),
            exclude_turns: self.exclude_roles.ranges(turns).collect(),
            told: true,
            ..self.clone()
        }
    }

    fn bytes(&self) -> usize {
        let positions = self.positions.len() + self.exclude_positions.len();
        let windows = self.windows.len() + self.exclude_windows.len();
        let tokens = self.tokens.len() + self.exclude_tokens.len();
        let turns = self.turns.len() + self.exclude_turns.len();
        let lists = positions * size_of::<i64>() + windows * size_of::<Window>() + tokens * size_of::<u32>();
        size_of::<Self>() + lists + turns * size_of::<Range<usize>>()
    }

    fn includes_all(&self) -> bool {
        self.positions.is_empty() && self.windows.is_empty() && self.tokens.is_empty() && self.roles.is_empty()
    }

    fn select_something(&self, prompt: &[u32]) -> Result<(), String> {
        let len = prompt.len() as i64;
        let mut selected = vec![self.includes_all(); prompt.len()];
        for (index, &position) in self.positions.iter().enumerate() {
            match from_start(position, len) {
                Some(at) if at < len => selected[at as usize] = true,
                _ => {
                    return Err(format!(
                        "positions[{index}]: found {position}, expected one of the prompt's {len} positions"
                    ));
                }
            }
        }
        for (index, window) in self.windows.iter().enumerate() {
            let range = within(window, len);
            if range.is_empty() {
                return Err(format!(
                    "windows[{index}]: found {window}, expected one with any of the prompt's {len} positions"
                ));
            }
            selected[range].fill(true);
        }
        let mut tokens = self.tokens.clone();
        tokens.sort_unstable();
        let of = |ids: &[u32], token: &u32| ids.binary_search(token).is_ok();
        if !tokens.is_empty() {
            let mut found = false;
            for (selected, _) in selected.iter_mut().zip(prompt).filter(|(_, token)| of(&tokens, token)) {
                (*selected, found) = (true, true);
            }
            if !found && self.required {
                return Err(format!(
                    "tokens: found none of these among the prompt's {len} tokens, expected at least one"
                ));
            }
        }

        for range in &self.turns {
            mark(&mut selected, range, true);
        }
        if !self.roles.is_empty() && self.turns.is_empty() && self.required {
            return Err("roles: found no message with these roles in the prompt, expected at least one".to_string());
        }

        // If there are only tokens or roles and none occurs, the exclusions are not the reason.
        if !selected.contains(&true) {
            return Ok(());
        }
        let none_left = |clause: &str| {
            Err(format!(
                "{clause}: found none of the prompt's {len} positions left, expected at least one"
            ))
        };
        for &position in &self.exclude_positions {
            if let Some(at) = from_start(position, len).filter(|at| *at < len) {
                selected[at as usize] = false;
            }
        }
        if !selected.contains(&true) {
            return none_left("exclude_positions");
        }
        for window in &self.exclude_windows {
            selected[within(window, len)].fill(false);
        }
        if !selected.contains(&true) {
            return none_left("exclude_windows");
        }
        for range in &self.exclude_turns {
            mark(&mut selected, range, false);
        }
        if !selected.contains(&true) {
            return none_left("exclude_roles");
        }
        let mut tokens = self.exclude_tokens.clone();
        tokens.sort_unstable();
        let mut left = selected
            .iter()
            .zip(prompt)
            .filter(|(selected, token)| **selected && !of(&tokens, token));
        if left.next().is_none() {
            return none_left("exclude_tokens");
        }
        Ok(())
    }
}

/// Sets the flags of a range, as far as it lies within `flags`.
fn mark(flags: &mut [bool], range: &Range<usize>, to: bool) {
    let end = range.end.min(flags.len());
    flags[range.start.min(end)..end].fill(to);
}

/// A position counted from the prompt's start; `None` if it lies before it.
fn from_start(position: i64, len: i64) -> Option<i64> {
    let at = if position < 0 { position + len } else { position };
    (at >= 0).then_some(at)
}

/// The part of a window that lies in a prompt of `len` tokens, as indices; empty if there is none.
fn within(window: &Window, len: i64) -> std::ops::Range<usize> {
    let start = from_start(window.start, len).unwrap_or(0).min(len);
    let end = window.end.map_or(len, |end| from_start(end, len).unwrap_or(0)).min(len);
    start as usize..end.max(start) as usize
}

#[cfg(test)]
mod tests;
