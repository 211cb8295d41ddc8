//! Where a text can be cut so that a tokenizer makes of its two parts, apart, what it makes of the whole.
//!
//! A cut is taken between two verified stretches (`stretches`), and only where all stretches from the start of the text up
//! to it, or all from it to the end, are verified. Then what is on one side of it is known, and so is the other side.

use super::content::Content;
use super::reading::Reading;
use super::stretches::{Stretch, stretches};

/// A place to cut at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The place in the content.
    pub(super) content: usize,
    /// The place in the text.
    pub(super) text: usize,
}

/// The cuts of a text, ascending by their place in the content.
pub(super) fn cuts(text: &str, reading: &Reading, content: &mut Content<'_>) -> Vec<Cut> {
    let all = stretches(text, reading, content);
    let mut cuts = Vec::with_capacity(all.len());
    let (mut before, mut done) = (0, 0);
    // Added tokens are found before the rest is normalised, so what lies between two of them stands by itself.
    for stretches in all.chunk_by(|a, b| !a.added && !b.added) {
        done += stretches.len();
        let next = all.get(done);
        let part = StretchRun {
            text,
            stretches,
            before,
            behind: next.map_or(text.len(), |next| next.start),
            next_verified: next.is_none_or(|next| next.verified),
        };
        part.cut(content, &mut cuts);
        before = stretches.last().map_or(before, |last| last.end);
    }
    cuts
}

/// Stretches that are normalised together.
struct StretchRun<'a> {
    text: &'a str,
    stretches: &'a [Stretch],
    /// Where the stretch before ends, and the one behind begins.
    before: usize,
    behind: usize,
    next_verified: bool,
}

impl StretchRun<'_> {
    /// Adds the part's cuts.
    fn cut(&self, content: &Content<'_>, cuts: &mut Vec<Cut>) {
        let count = self.stretches.len();
        let explained: Vec<bool> = (0..=count).map(|gap| self.is_explained(gap, content)).collect();
        let verified = |index: usize| {
            self.stretches
                .get(index)
                .map_or(self.next_verified, |stretch| stretch.verified)
        };
        let from_start = (0..count)
            .take_while(|&index| verified(index) && explained[index])
            .count();
        let to_end = (0..count)
            .rev()
            .take_while(|&index| verified(index) && explained[index + 1])
            .count();
        for (index, stretch) in self.stretches.iter().enumerate() {
            let next = index + 1;
            let one_side_known = index < from_start || next + to_end >= count;
            // Of other characters than white space that are dropped it isn't certain to which side they belong.
            let no_text_between = explained[next] && self.gap(next).is_some_and(|gap| gap.trim().is_empty());
            if one_side_known && verified(index) && verified(next) && no_text_between {
                let Stretch { content_end, end, .. } = *stretch;
                if content.may_cut(self.text, end) {
                    cuts.push(Cut {
                        content: content_end,
                        text: end,
                    });
                }
            }
        }
    }

    /// The text before the stretch of this index, behind the one before it, of which nothing is left in the content.
    fn gap(&self, index: usize) -> Option<&str> {
        self.text
            .get(self.gap_start(index)..self.stretches.get(index).map_or(self.behind, |stretch| stretch.start))
    }

    fn gap_start(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .map_or(self.before, |last| self.stretches[last].end)
    }

    /// Whether it is known why there is nothing of a gap in the content.
    fn is_explained(&self, index: usize, content: &Content<'_>) -> bool {
        // White space is dropped all or not at all: where some is left before a gap, the alignment has lost count.
        let miscounted = || self.text[..self.gap_start(index)].ends_with(char::is_whitespace);
        self.gap(index)
            .is_some_and(|gap| gap.is_empty() || !miscounted() && content.drops(gap))
    }
}
