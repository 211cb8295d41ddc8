//! Which stretch of a text each part of its content stems from, found and verified.
//!
//! A tokenizer's alignment says of every character that its model reads which stretch of the text it is of. It isn't
//! always right: a composed character is aligned with the first of its parts, sorted marks with each other's places, and
//! some normalisers lose count where they drop a character. So each stretch is made into content once more, by itself. If
//! that is what the model reads there, the stretch is verified. Stretches that don't verify alone are joined until they
//! do, since characters that become one have to be taken together.

use super::content::Content;
use super::reading::Reading;

/// Most groups that are joined one by one: more than any language writes into one character. Longer runs are tried once,
/// as a whole, so that the time taken stays in proportion to the text.
const MOST_JOINED: usize = 16;

/// A stretch of a text, with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Where it begins in the text.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// Where its content ends.
    pub(super) content_end: usize,
    /// Whether it is known to become that content. If not, its place in the text is a guess.
    pub(super) verified: bool,
    /// Whether it is an added token.
    pub(super) added: bool,
}

/// All of a text's content, as stretches.
pub(super) fn stretches(text: &str, reading: &Reading, content: &mut Content<'_>) -> Vec<Stretch> {
    let mut verifier = Verifier { text, reading, content };
    let groups = &reading.groups;
    let mut stands_alone = |index: usize| verifier.verify(index, index, groups[index].start, groups[index].end);
    let alone: Vec<bool> = (0..groups.len()).map(&mut stands_alone).collect();
    let mut stretches: Vec<Stretch> = Vec::with_capacity(groups.len());
    let (mut index, mut stop) = (0, 0);
    while index < groups.len() {
        let group = groups[index];
        if alone[index] || group.added {
            stretches.push(Stretch {
                start: group.start,
                end: group.end,
                content_end: group.content_end,
                verified: alone[index],
                added: group.added,
            });
            index += 1;
        } else {
            if stop <= index {
                let run = (index..groups.len()).take_while(|&at| !alone[at] && !groups[at].added);
                stop = index + run.count();
            }
            let from = stretches.last().map_or(0, |last| last.end);
            let (next, stretch) = verifier.join(index, stop, from);
            stretches.push(stretch);
            index = next;
        }
    }
    stretches
}

struct Verifier<'a, 'b> {
    text: &'a str,
    reading: &'a Reading,
    content: &'a mut Content<'b>,
}

impl Verifier<'_, '_> {
    /// Joins groups from `index` on until they verify, and answers with the index of the next, too. The groups before
    /// `stop` don't stand alone; the text before `from` belongs to others.
    fn join(&mut self, index: usize, stop: usize, from: usize) -> (usize, Stretch) {
        let groups = &self.reading.groups;
        // Sorted marks may lie on both sides of one that stayed where it was, so a group that stands alone is no limit.
        let few = groups[index..]
            .iter()
            .take(MOST_JOINED)
            .take_while(|group| !group.added)
            .count();
        let found = (index..index + few).find_map(|last| self.locate(index, last, from));
        let found = found.or_else(|| self.locate(index, stop - 1, from));
        let (last, start, end) = found.unwrap_or_else(|| {
            let furthest = groups[index..stop].iter().map(|group| group.end).fold(from, usize::max);
            (stop - 1, from, furthest)
        });
        let stretch = Stretch {
            start,
            end,
            content_end: groups[last].content_end,
            verified: found.is_some(),
            added: false,
        };
        (last + 1, stretch)
    }

    /// The stretch of the text, from `from` on, that verifies as the groups from `first` to `last`: `last`, and where it
    /// starts and ends.
    fn locate(&mut self, first: usize, last: usize, from: usize) -> Option<(usize, usize, usize)> {
        let groups = &self.reading.groups;
        let next = groups.get(last + 1).map_or(self.text.len(), |next| next.start);
        let mut tried = (0, 0);
        for start in [groups[first].start, from] {
            // A composed character ends where the next one begins, but for white space that was dropped.
            let composed = start + self.text.get(start..next).map_or(0, |text| text.trim_end().len());
            for end in [composed, next, groups[last].end] {
                if from <= start && start < end && end <= next && tried != (start, end) {
                    tried = (start, end);
                    if self.verify(first, last, start, end) {
                        return Some((last, start, end));
                    }
                }
            }
        }
        None
    }

    /// Whether the content of the groups from `first` to `last` is what the text from `start` to `end` becomes.
    fn verify(&mut self, first: usize, last: usize, start: usize, end: usize) -> bool {
        let groups = &self.reading.groups;
        let content_start = first.checked_sub(1).map_or(0, |before| groups[before].content_end);
        let content = &self.reading.content[content_start..groups[last].content_end];
        let Some(text) = self.text.get(start..end) else {
            return false;
        };
        if groups[first].added {
            return self.content.is_added(text, content);
        }
        // A prefix is aligned with the character that it was put before, so that one has some of the content, too.
        let prefix = if groups[first].first {
            groups[first].content_end - content_start
        } else {
            0
        };
        self.content.is(text, content, prefix)
    }
}
