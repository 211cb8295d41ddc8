//! What a forward pass computes: the rows of its batch.

/// Whether a row of a forward pass reads its prompt or generates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The prompt (or the part of it that no cache holds) is being read. A sequence that had to make room for others may
    /// be read again from its start, together with what it has generated: a token belongs to the prompt if its
    /// position is below [`Row::prompt_len`].
    Prompt,
    /// Tokens are being generated, one a pass (the whole sequence again where the engine keeps no KV cache).
    Generation,
}

/// One row of a batch: the tokens of one sequence that this forward pass computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The caller's request id; several rows share it when a request asks for several answers.
    pub request: usize,
    /// Absolute position, in the sequence, of the row's first token: 0, or the length of what a cache already holds.
    pub start: usize,
    /// Number of real tokens. The stream may be wider: what lies behind is padding and means nothing.
    pub tokens: usize,
    /// Length of the prompt in tokens, cached part included. Positions from here on are generated.
    pub prompt_len: usize,
    /// Prompt or generation.
    pub phase: Phase,
}

impl Row {
    /// Index, in this row, of the prompt's last token, if this pass computes it.
    ///
    /// ```
    /// use residual_hooks::{Phase, Row};
    /// let row = Row { request: 1, start: 4, tokens: 3, prompt_len: 7, phase: Phase::Prompt };
    /// assert_eq!(row.last_prompt_token(), Some(2));
    /// ```
    pub fn last_prompt_token(&self) -> Option<usize> {
        self.prompt_len
            .checked_sub(1 + self.start)
            .filter(|&index| index < self.tokens)
    }
}

/// The rows of one forward pass, in the order of the stream's first dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchView {
    rows: Vec<Row>,
}

impl BatchView {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// The rows; row `i` is `stream[i, ..rows[i].tokens, ..]`.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Number of tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.rows.iter().map(|row| row.tokens).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: usize, tokens: usize, prompt_len: usize) -> Row {
        Row {
            request: 0,
            start,
            tokens,
            prompt_len,
            phase: Phase::Prompt,
        }
    }

    #[test]
    fn the_last_prompt_token_is_found_only_in_the_pass_that_computes_it() {
        assert_eq!(row(0, 5, 5).last_prompt_token(), Some(4));
        assert_eq!(row(3, 2, 5).last_prompt_token(), Some(1));
        assert_eq!(row(0, 3, 5).last_prompt_token(), None);
        assert_eq!(row(5, 1, 5).last_prompt_token(), None);
        assert_eq!(row(0, 9, 5).last_prompt_token(), Some(4));
        assert_eq!(row(0, 0, 0).last_prompt_token(), None);
    }

    #[test]
    fn the_longest_row_counts() {
        assert_eq!(BatchView::new(vec![row(0, 2, 2), row(0, 7, 7)]).longest(), 7);
        assert_eq!(BatchView::new(Vec::new()).longest(), 0);
    }
}
