//! Plain text: blank lines separate documents.

use anyhow::{Context, Result};

use super::length::{MAX_DOCUMENT, check_length};
use crate::records::input::Input;
use crate::records::lines::{Lines, utf8};

/// The blocks of a file.
#[derive(Debug)]
pub struct Blocks {
    file: String,
    lines: Lines<Input>,
    line: Vec<u8>,
}

impl Blocks {
    /// The blocks of an input. `file` names it in messages.
    pub fn new(input: Input, file: String) -> Self {
        Self {
            file,
            lines: Lines::new(input),
            line: Vec::new(),
        }
    }

    /// The next block that is not blank, its lines joined by line feeds; `None` at the file's end.
    ///
    /// # Errors
    ///
    /// Damaged compressed data, bytes that are not UTF-8, a line or a block of more than [`MAX_DOCUMENT`] bytes; the
    /// message names file and line.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        let mut text = String::new();
        loop {
            let number = self.lines.number() + 1;
            let at = || format!("{}, line {number}", self.file);
            if !self.lines.read(&mut self.line, MAX_DOCUMENT).with_context(at)? {
                break;
            }
            let line = utf8(&self.line).with_context(at)?;
            if !line.trim().is_empty() {
                if !text.is_empty() {
                    text.push('\n');
                }
                check_length(text.len() + line.len())
                    .with_context(|| format!("{}; blank lines separate documents", at()))?;
                text.push_str(line);
            } else if !text.is_empty() {
                break;
            }
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The rest of the input.
    pub fn into_input(self) -> Input {
        self.lines.into_input()
    }
}
