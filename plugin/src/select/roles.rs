//! Roles of chat messages, and the positions of the messages in a prompt.

use std::ops::Range;

use residual_hooks::Turn;

use crate::spec::Role;

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles(u8);

impl Roles {
    pub(super) fn new(roles: &Option<Vec<Role>>) -> Self {
        Self(roles.iter().flatten().fold(0, |bits, role| bits | bit(*role)))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// A byte that encodes the set.
    pub(super) fn canonical(self) -> u8 {
        self.0
    }

    /// The positions of the messages with these roles: the tokens of the text and, for an assistant, the position
    /// before it, from whose state the first token is chosen.
    pub(super) fn ranges(self, turns: &[Turn]) -> impl Iterator<Item = Range<usize>> {
        let ours = turns.iter().filter(move |turn| self.has(&turn.role));
        ours.map(|turn| {
            let before = usize::from(turn.role == Role::Assistant.name());
            turn.tokens.start.saturating_sub(before)..turn.tokens.end
        })
    }

    fn has(self, name: &str) -> bool {
        ALL.into_iter()
            .any(|role| role.name() == name && self.0 & bit(role) != 0)
    }
}

const ALL: [Role; 5] = [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool];

fn bit(role: Role) -> u8 {
    1 << match role {
        Role::System => 0,
        Role::Developer => 1,
        Role::User => 2,
        Role::Assistant => 3,
        Role::Tool => 4,
    }
}
