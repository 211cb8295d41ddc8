//! A set of positions and tokens.

use residual_hooks::Turn;

use super::ranges::{Ranges, WindowUnion};
use super::roles::Roles;
use crate::spec::Window;

/// The tokens of a sequence at some positions, in some windows, of some ids, or in messages of some roles.
///
/// Positions that count from the end stay relative, since the set is used for prompts of any length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenSet {
    /// Positions and windows that count from the start.
    from_start: Ranges,
    /// Positions and windows that count from the end, which is 0.
    from_end: Ranges,
    /// Windows whose start counts from the start and whose end counts from the end.
    inner: WindowUnion,
    /// Windows whose start counts from the end and whose end counts from the start.
    outer: WindowUnion,
    /// Token ids, ascending.
    tokens: Vec<u32>,
    /// Roles, whose positions are known only for a chat: see [`TokenSet::in_turns`].
    roles: Roles,
}

impl TokenSet {
    pub(super) fn new(positions: &[i64], windows: &[Window], tokens: &[u32], roles: Roles) -> Self {
        let mut ranges: [Vec<(i64, i64)>; 2] = Default::default();
        let mut mixed: [Vec<(i64, i64)>; 2] = Default::default();
        for &position in positions {
            ranges[usize::from(position < 0)].push((position, position.saturating_add(1)));
        }
        for window in windows {
            match (window.start, window.end) {
                (start, None) if start < 0 => ranges[1].push((start, 0)),
                (start, None) => ranges[0].push((start, i64::MAX)),
                (start, Some(end)) if (start < 0) == (end < 0) => ranges[usize::from(start < 0)].push((start, end)),
                (start, Some(end)) => mixed[usize::from(start < 0)].push((start, end)),
            }
        }
        let [from_start, from_end] = ranges.map(Ranges::new);
        if from_start.is_all() {
            return Self::all();
        }
        let [inner, outer] = mixed.map(WindowUnion::new);
        let mut tokens = tokens.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        Self {
            from_start,
            from_end,
            inner,
            outer,
            tokens,
            roles,
        }
    }

    /// The same set for a chat with these turns, with positions instead of roles.
    pub(super) fn in_turns(&self, turns: &[Turn]) -> Self {
        let ranges = self.roles.ranges(turns);
        let ranges = ranges.map(|range| (range.start as i64, range.end as i64));
        Self {
            from_start: self.from_start.with_all(ranges),
            roles: Roles::default(),
            ..self.clone()
        }
    }

    /// The roles in the set.
    pub(super) fn roles(&self) -> Roles {
        self.roles
    }

    pub(super) fn all() -> Self {
        Self {
            from_start: Ranges::all(),
            ..Self::default()
        }
    }

    /// The same with the last position.
    pub(super) fn with_last(self) -> Self {
        if self.is_all() {
            return self;
        }
        Self {
            from_end: self.from_end.with(-1, 0),
            ..self
        }
    }

    pub(super) fn is_all(&self) -> bool {
        self.from_start.is_all()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from_start.is_empty() && !self.counts_from_end() && self.tokens.is_empty() && self.roles.is_empty()
    }

    pub(super) fn counts_from_end(&self) -> bool {
        !(self.from_end.is_empty() && self.inner.is_empty() && self.outer.is_empty())
    }

    pub(super) fn ignores_position(&self) -> bool {
        (self.from_start.is_empty() || self.is_all()) && !self.counts_from_end() && self.roles.is_empty()
    }

    /// Whether the token `token` at `index` of `len` is in the set.
    pub(super) fn contains(&self, index: i64, len: i64, token: u32) -> bool {
        let from_end = index - len;
        self.from_start.contains(index)
            || self.from_end.contains(from_end)
            || self.inner.contains(index, from_end)
            || self.outer.contains(from_end, index)
            || self.tokens.binary_search(&token).is_ok()
    }

    /// This set without those parts of `other` that are given in the same terms.
    pub(super) fn minus(self, other: &Self) -> Self {
        if other.is_all() {
            return Self::default();
        }
        let mut tokens = self.tokens;
        tokens.retain(|token| other.tokens.binary_search(token).is_err());
        Self {
            from_start: self.from_start.minus(&other.from_start),
            from_end: self.from_end.minus(&other.from_end),
            inner: self.inner.minus(&other.inner),
            outer: self.outer.minus(&other.outer),
            tokens,
            roles: self.roles.minus(other.roles),
        }
    }

    /// Two sets with the same difference as this set and `exclude`, mostly smaller.
    pub(super) fn without(self, mut exclude: Self) -> (Self, Self) {
        let include = self.minus(&exclude);
        let starts = !include.from_start.is_empty();
        let ends = !include.from_end.is_empty();
        let windows = !(include.inner.is_empty() && include.outer.is_empty());
        let tokens = !include.tokens.is_empty();
        // If the set has one part only, what was subtracted from it need not be excluded again. (A turn may begin with
        // another's last token.)
        match (starts, ends, windows, tokens) {
            _ if !include.roles.is_empty() => {}
            (false, false, false, false) => exclude = Self::default(),
            (true, false, false, false) => exclude.from_start = Ranges::default(),
            (false, true, false, false) => exclude.from_end = Ranges::default(),
            (false, false, false, true) => exclude.tokens.clear(),
            _ => {}
        }
        (include, exclude)
    }

    /// Whether some token of some sequence may be in both. False only if this is impossible.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        let parts = |set: &Self| {
            [
                !set.from_start.is_empty(),
                !set.from_end.is_empty(),
                !set.inner.is_empty(),
                !set.outer.is_empty(),
                !set.tokens.is_empty(),
                !set.roles.is_empty(),
            ]
        };
        let (mine, theirs) = (parts(self), parts(other));
        // Two sets in different terms can meet for some length of the prompt, or with some token.
        let across = (0..mine.len()).any(|i| mine[i] && (0..theirs.len()).any(|j| i != j && theirs[j]));
        across
            || (mine[2] && theirs[2])
            || (mine[3] && theirs[3])
            || (mine[5] && theirs[5])
            || self.from_start.intersects(&other.from_start)
            || self.from_end.intersects(&other.from_end)
            || self
                .tokens
                .iter()
                .any(|token| other.tokens.binary_search(token).is_ok())
    }

    /// The size of its lists in memory.
    pub(super) fn bytes(&self) -> usize {
        let ranges = self.from_start.bytes() + self.from_end.bytes() + self.inner.bytes() + self.outer.bytes();
        ranges + size_of_val(self.tokens.as_slice())
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        self.from_start.write(bytes);
        self.from_end.write(bytes);
        self.inner.write(bytes);
        self.outer.write(bytes);
        bytes.extend((self.tokens.len() as u64).to_le_bytes());
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
    }
}
