//! Texts in columns, for terminals.

/// Lays texts out in columns under their titles, each wrapped to `width` characters.
pub fn columns(titles: &[&str], texts: &[&str], width: usize) -> String {
    let wrapped: Vec<Vec<String>> = texts.iter().map(|text| wrap(text, width)).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:<width$}")).collect();
        format!("     {}", cells.join("   ")).trim_end().to_string() + "\n"
    };
    let mut text = line(titles.to_vec());
    for row in 0..height {
        text += &line(
            wrapped
                .iter()
                .map(|lines| lines.get(row).map_or("", String::as_str))
                .collect(),
        );
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_wrapped_and_aligned() {
        let text = columns(&["left", "right"], &["one two three", "four"], 8);
        assert_eq!(text, "     left       right\n     one two    four\n     three\n");
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("longerthanwidth a", 5), ["longerthanwidth", "a"]);
    }
}
