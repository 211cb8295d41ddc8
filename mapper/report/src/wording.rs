//! The texts of figures and controls, in `texts.txt`.

/// The three texts of a figure (title, alternative text, caption) or of a control.
pub(crate) fn texts(key: &str) -> [&'static str; 3] {
    let blocks = include_str!("texts.txt").split("\n\n");
    let mut lines = blocks
        .map(str::lines)
        .find_map(|mut lines| (lines.next() == Some(key)).then_some(lines));
    std::array::from_fn(|_| lines.as_mut().and_then(Iterator::next).unwrap_or_default())
}
