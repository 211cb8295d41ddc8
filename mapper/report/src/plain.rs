//! Text that is safe in XML and on a terminal.

/// A text in which control characters and other characters that XML doesn't allow are replaced.
pub(crate) fn clean(text: &str) -> String {
    let bad = |c: char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.replace(bad, "\u{fffd}")
}
