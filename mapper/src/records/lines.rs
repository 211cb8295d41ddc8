//! Lines of bounded length, with any line ending.

use std::io::{BufRead, Read};

use anyhow::{Result, anyhow, ensure};

/// The lines of an input.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines from where `input` stands.
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// How many lines were read.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Replaces `line` by the next line, without the line feed and the carriage returns before it. False at the end of
    /// the input.
    ///
    /// # Errors
    ///
    /// The input's error, or a line of more than `most` bytes, of which no more than that is kept.
    pub fn read(&mut self, line: &mut Vec<u8>, most: usize) -> Result<bool> {
        line.clear();
        // Room for the line's end.
        let count = (&mut self.input).take(most as u64 + 2).read_until(b'\n', line)?;
        if count == 0 {
            return Ok(false);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        while line.last() == Some(&b'\r') {
            line.pop();
        }
        ensure!(
            line.len() <= most,
            "found a line of more than {most} bytes, expected fewer"
        );
        Ok(true)
    }

    /// The input, behind the lines that were read.
    pub fn into_input(self) -> R {
        self.input
    }
}

/// Bytes as text.
///
/// # Errors
///
/// Bytes that are not UTF-8, with the column where they begin, counted in bytes from 1.
pub fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        anyhow!(
            "found bytes that are not UTF-8 at column {}, expected text",
            error.valid_up_to() + 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], most: usize) -> Result<Vec<String>> {
        let (mut lines, mut line, mut all) = (Lines::new(bytes), Vec::new(), Vec::new());
        while lines.read(&mut line, most)? {
            all.push(utf8(&line)?.to_string());
        }
        assert_eq!(lines.number(), all.len() as u64);
        Ok(all)
    }

    #[test]
    fn line_ends_are_no_part_of_a_line() {
        assert_eq!(
            all(b"a\r\n\nb\rc\n d \r\r\ne", 9).unwrap(),
            ["a", "", "b\rc", " d ", "e"]
        );
        assert_eq!(all(b"a\n", 9).unwrap(), ["a"]);
        assert!(all(b"", 9).unwrap().is_empty());
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        for end in ["", "\n", "\r\n"] {
            assert_eq!(all(format!("four{end}").as_bytes(), 4).unwrap(), ["four"]);
            let error = all(format!("fiver{end}").as_bytes(), 4).unwrap_err().to_string();
            assert!(error.contains("more than 4 bytes"), "{error}");
        }
        assert_eq!(all(b"four\nfour", 4).unwrap().len(), 2);
    }

    #[test]
    fn the_column_of_bad_bytes_is_named() {
        let error = utf8("ä\u{10000}".as_bytes().split_last().unwrap().1).unwrap_err();
        assert!(error.to_string().contains("at column 3"), "{error}");
    }
}
