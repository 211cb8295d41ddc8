//! Output of programs: texts in columns on a terminal, a server's playground, and names in generated pages.

use std::io::IsTerminal;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use steermap_report::result::Outcome;

use crate::server::Server;

/// The name of an outcome in the generated pages.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Carried => "carried",
        Outcome::NotCarried => "not carried",
        Outcome::SaysNothing => "says nothing",
    }
}

/// Whether standard input and output are a terminal, so that a person can respond.
pub fn is_watched() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Prints a link that opens the playground of `server` with `settings` (plugin/playground/settings.js), and serves
/// until Ctrl-C.
///
/// # Errors
///
/// If the server cannot be waited for.
pub fn playground(server: Server, settings: &Value) -> Result<()> {
    let fragment = URL_SAFE_NO_PAD.encode(settings.to_string());
    println!(
        "\nThe playground has the same (Ctrl-C ends the server):\n\n   {}/playground#s={fragment}\n",
        server.url()
    );
    server.wait()?;
    Ok(())
}

/// Formats texts in columns under their titles, each wrapped to `width` characters.
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
