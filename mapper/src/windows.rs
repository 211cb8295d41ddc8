//! Cuts documents into windows by the text only, so that all models and tokenizers get the same windows.

use std::ops::Range;

/// Default size of a window in bytes: about 230 tokens of English.
pub const WINDOW_BYTES: usize = 1024;
/// Fewest bytes that a window may be given: four of the longest characters.
pub const MIN_WINDOW_BYTES: usize = 16;

/// The windows of a document, as ranges of its bytes: each of at most `most` bytes ([`MIN_WINDOW_BYTES`] at least), cut
/// at white space where there is some in its second half, and without white space at its ends. In linear time.
pub fn windows(text: &str, most: usize) -> Windows<'_> {
    Windows {
        text,
        most: most.max(MIN_WINDOW_BYTES),
        next: 0,
    }
}

/// The iterator of [`windows`].
#[derive(Clone, Debug)]
pub struct Windows<'a> {
    text: &'a str,
    most: usize,
    next: usize,
}

impl Iterator for Windows<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = &self.text[self.next..];
        let start = self.next + (rest.len() - rest.trim_start().len());
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let cut = if rest.len() <= self.most {
            rest.len()
        } else {
            let limit = rest.floor_char_boundary(self.most);
            let half = rest.floor_char_boundary(limit / 2);
            // White space right behind the limit is as good.
            let behind = rest[limit..].starts_with(char::is_whitespace).then_some(limit);
            let within = || rest[half..limit].rfind(char::is_whitespace).map(|at| half + at);
            behind.or_else(within).filter(|&at| at > 0).unwrap_or(limit)
        };
        self.next = start + cut;
        Some(start..start + rest[..cut].trim_end().len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, most: usize) -> Vec<&str> {
        windows(text, most).map(|range| &text[range]).collect()
    }

    #[test]
    fn cuts_at_white_space_in_the_second_half() {
        assert_eq!(cut("one two three four five", 16), ["one two three", "four five"]);
        assert_eq!(cut("  one two \n", 16), ["one two"]);
        assert_eq!(cut("0123456789012345 x", 16), ["0123456789012345", "x"]);
        assert_eq!(cut("a 0123456789012345678", 16), ["a 01234567890123", "45678"]);
        assert_eq!(cut("ééééééééé", 17), ["éééééééé", "é"]);
        assert_eq!(cut("", 16), [""; 0]);
        assert_eq!(cut(" \n\t", 16), [""; 0]);
        assert_eq!(cut("🙂🙂🙂🙂🙂", 1), ["🙂🙂🙂🙂", "🙂"]);
    }

    proptest! {
        #[test]
        fn all_that_is_no_white_space_is_in_one_window(text in "[ab é\n🙂字]{0,200}", most in 16usize..40) {
            let pieces = cut(&text, most);
            let solid = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
            prop_assert_eq!(solid(&pieces.concat()), solid(&text));
            for piece in pieces {
                prop_assert!(!piece.is_empty() && piece.len() <= most && piece.trim() == piece);
            }
        }
    }
}
