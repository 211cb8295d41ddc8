//! The elements of a JSON array, read one at a time.

use std::io::BufRead;

use anyhow::{Result, bail};

/// The elements of an array that an input holds.
#[derive(Debug)]
pub struct ArrayReader<R> {
    input: R,
    state: ArrayState,
    /// Elements begun.
    number: u64,
    /// Line feeds read.
    newlines: u64,
    /// Line of the element's first character.
    line: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArrayState {
    /// Before the opening bracket.
    Start,
    /// After the bracket.
    First,
    /// After a comma.
    Next,
    /// After the closing bracket.
    Closed,
    /// At the end of the input.
    End,
}

/// The result of reading an element.
#[derive(Debug, PartialEq, Eq)]
pub enum Element {
    /// An element. Its inside may still be invalid JSON.
    Whole,
    /// The list's end.
    End,
    /// The beginning of an element without its end, and why the end is missing.
    Unfinished(String),
}

impl<R: BufRead> ArrayReader<R> {
    /// The elements of the array that `input` holds, and nothing else.
    pub fn new(input: R) -> Self {
        Self {
            input,
            state: ArrayState::Start,
            number: 0,
            newlines: 0,
            line: 1,
        }
    }

    /// The number of the element that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The line in which it begins, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Replaces `element` by the next element, from its first character to the comma or the bracket after it.
    ///
    /// # Errors
    ///
    /// The input's error; something other than an array; a missing element; something after the array. An element of
    /// more than `most` bytes is unfinished; no more than that and one buffer of the input is kept.
    pub fn read(&mut self, element: &mut Vec<u8>, most: usize) -> Result<Element> {
        element.clear();
        if self.state == ArrayState::Start {
            match self.next_byte()? {
                Some(b'[') => self.state = ArrayState::First,
                _ => bail!("found no list, expected ["),
            }
        }
        if matches!(self.state, ArrayState::First | ArrayState::Next) {
            self.number += 1;
            return self.element(element, most);
        }
        if self.state == ArrayState::Closed {
            if let Some(byte) = self.next_byte()? {
                bail!(
                    "found {:?} after the list, expected the end of the file",
                    char::from(byte)
                );
            }
            self.state = ArrayState::End;
        }
        Ok(Element::End)
    }

    /// The input, behind the elements that were read.
    pub fn into_input(self) -> R {
        self.input
    }

    fn element(&mut self, element: &mut Vec<u8>, most: usize) -> Result<Element> {
        let first = self.peek_byte()?;
        self.line = self.newlines + 1;
        match first {
            None => return Ok(unclosed()),
            Some(b']') if self.state == ArrayState::First => {
                self.next_byte()?;
                self.state = ArrayState::Closed;
                self.number = 0;
                return self.read(element, most);
            }
            Some(b @ (b']' | b',')) => bail!("found {:?}, expected an element of the list", char::from(b)),
            Some(_) => {}
        }
        let mut nesting = Nesting::default();
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(unclosed());
            }
            let end = bytes.iter().position(|&byte| nesting.ends_before(byte));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            element.extend_from_slice(part);
            self.newlines += part.iter().filter(|&&byte| byte == b'\n').count() as u64;
            let closed = end.map(|end| bytes[end] == b']');
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if element.len() > most {
                return Ok(Element::Unfinished(format!(
                    "found a record of more than {most} bytes, expected fewer"
                )));
            }
            if let Some(closed) = closed {
                self.state = if closed { ArrayState::Closed } else { ArrayState::Next };
                return Ok(Element::Whole);
            }
        }
    }

    /// The next byte that is not white space, without consuming it.
    fn peek_byte(&mut self) -> Result<Option<u8>> {
        loop {
            let bytes = self.input.fill_buf()?;
            let space = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.newlines += bytes[..space].iter().filter(|&&byte| byte == b'\n').count() as u64;
            if let Some(&byte) = bytes.get(space) {
                self.input.consume(space);
                return Ok(Some(byte));
            }
            if space == 0 {
                return Ok(None);
            }
            self.input.consume(space);
        }
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek_byte()?;
        self.line = self.newlines + 1;
        if byte.is_some() {
            self.input.consume(1);
        }
        Ok(byte)
    }
}

fn unclosed() -> Element {
    Element::Unfinished("found the file's end in the list, expected ]: the file is cut off".into())
}

/// The nesting at a byte of an element.
#[derive(Default)]
struct Nesting {
    depth: u64,
    string: bool,
    escaped: bool,
}

impl Nesting {
    /// Takes the next byte; whether the element ends before it.
    fn ends_before(&mut self, byte: u8) -> bool {
        if self.string {
            if self.escaped {
                self.escaped = false;
            } else {
                self.escaped = byte == b'\\';
                self.string = byte != b'"';
            }
            return false;
        }
        match byte {
            b'"' => self.string = true,
            b'[' | b'{' => self.depth += 1,
            b',' | b']' if self.depth == 0 => return true,
            // An extra brace is an error when the element is parsed.
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// All elements and their lines, through a buffer of a few bytes.
    fn all(text: &str, buffer: usize) -> Result<Vec<(String, u64)>> {
        let mut list = ArrayReader::new(BufReader::with_capacity(buffer, text.as_bytes()));
        let (mut element, mut all) = (Vec::new(), Vec::new());
        loop {
            match list.read(&mut element, 40)? {
                Element::Whole => {
                    assert_eq!(list.number(), all.len() as u64 + 1);
                    all.push((String::from_utf8(element.clone())?, list.line()));
                }
                Element::End => return Ok(all),
                Element::Unfinished(why) => bail!("{}, line {}: {why}", list.number(), list.line()),
            }
        }
    }

    #[test]
    fn elements_end_where_they_end() {
        let text = " [ {\"a\": [1, 2]} ,\n{\"b,]\": \"\\\"},\\\\\"},\n\n 3,\"x]\", [[],[{}]]]\n ";
        let expected = [
            ("{\"a\": [1, 2]} ", 1),
            ("{\"b,]\": \"\\\"},\\\\\"}", 2),
            ("3", 4),
            ("\"x]\"", 4),
            ("[[],[{}]]", 4),
        ];
        for buffer in [1, 2, 7, 1000] {
            let found = all(text, buffer).unwrap();
            let found: Vec<(&str, u64)> = found.iter().map(|(element, line)| (element.as_str(), *line)).collect();
            assert_eq!(found, expected, "{buffer}");
        }
        assert!(all("[]", 9).unwrap().is_empty());
        assert!(all(" [ \n ] \n", 9).unwrap().is_empty());
    }

    #[test]
    fn errors_say_what_is_not_a_list() {
        for (text, word) in [
            ("", "found no list"),
            ("{}", "found no list"),
            ("[", "1, line 1: found the file's end"),
            ("[1,\n2", "2, line 2: found the file's end"),
            ("[1,", "found the file's end"),
            ("[1,]", "found ']', expected an element"),
            ("[,1]", "found ',', expected an element"),
            ("[1,,2]", "found ',', expected an element"),
            ("[1]\n[2]", "found '[' after the list"),
            ("[]]", "found ']' after the list"),
            ("[{\"a\": 1]", "found the file's end"),
            ("[\"never closed, 1]", "found the file's end"),
            ("[11111111111111111111111111111111111111111]", "more than 40 bytes"),
        ] {
            let error = all(text, 3).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn white_space_takes_no_memory() {
        let text = format!("[{}1{}]", " ".repeat(100_000), "");
        assert_eq!(all(&text, 9).unwrap()[0].0, "1");
    }
}
