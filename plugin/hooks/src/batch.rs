//! The rows of a forward pass's batch.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// A hook's state of a request or of one of its sequences. The engine carries it without reading it.
pub type RequestState = Arc<dyn Any + Send + Sync>;

/// Whether a row of a forward pass reads its prompt or generates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The prompt (or the part of it that is not cached) is being read. A sequence that was evicted may be read again
    /// from its start, together with what it has generated: a token belongs to the prompt if its position is below
    /// [`Row::prompt_len`].
    Prompt,
    /// Tokens are being generated, one per pass (or the whole sequence again, if the engine has no KV cache).
    Generation,
}

/// One row of a batch: the tokens of one sequence that this forward pass computes.
#[derive(Clone, Debug)]
pub struct Row {
    /// The caller's request id; several rows share it when a request asks for several answers.
    pub request: usize,
    /// Position of the row's first token in the sequence: 0, or the length of the cached part.
    pub start: usize,
    /// Ids of the row's tokens. The stream may be wider; the rest is padding.
    pub ids: Vec<u32>,
    /// Length of the prompt in tokens, including the cached part. Tokens from this position on are generated.
    pub prompt_len: usize,
    /// Prompt or generation.
    pub phase: Phase,
    /// The state that the hook returned when it admitted the sequence ([`Admission::state`](crate::Admission::state)).
    pub state: Option<RequestState>,
}

impl Row {
    /// A prompt's row, without state.
    ///
    /// ```
    /// use residual_hooks::Row;
    /// let row = Row::prompt(1, vec![5, 6, 7]);
    /// assert_eq!((row.start, row.tokens(), row.prompt_len), (0, 3, 3));
    /// ```
    pub fn prompt(request: usize, ids: Vec<u32>) -> Self {
        Self {
            request,
            start: 0,
            prompt_len: ids.len(),
            ids,
            phase: Phase::Prompt,
            state: None,
        }
    }

    /// Number of real tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Index, in this row, of the prompt's last token, if this pass computes it.
    ///
    /// ```
    /// use residual_hooks::Row;
    /// let row = Row { start: 4, prompt_len: 7, ..Row::prompt(1, vec![0; 3]) };
    /// assert_eq!(row.last_prompt_token(), Some(2));
    /// ```
    pub fn last_prompt_token(&self) -> Option<usize> {
        self.prompt_len
            .checked_sub(1 + self.start)
            .filter(|&index| index < self.tokens())
    }
}

/// The rows of one forward pass, in the order of the stream's first dimension.
pub struct BatchView {
    rows: Vec<Row>,
    plan: OnceCell<Rc<dyn Any>>,
}

impl fmt::Debug for BatchView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchView").field("rows", &self.rows).finish()
    }
}

impl BatchView {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self {
            rows,
            plan: OnceCell::new(),
        }
    }

    /// The rows; row `i` is `stream[i, ..rows[i].tokens(), ..]`.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Number of tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.rows.iter().map(Row::tokens).max().unwrap_or(0)
    }

    /// A value that the hook computes once per forward pass and needs after every block. `make` is called the first
    /// time; later calls return the same value. `None` if it was made as another type.
    pub fn plan<T: 'static>(&self, make: impl FnOnce() -> T) -> Option<Rc<T>> {
        self.plan.get_or_init(|| Rc::new(make())).clone().downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: usize, tokens: usize, prompt_len: usize) -> Row {
        Row {
            start,
            prompt_len,
            ..Row::prompt(0, vec![0; tokens])
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

    #[test]
    fn a_plan_is_made_once() {
        let batch = BatchView::new(Vec::new());
        assert_eq!(batch.plan(|| 7).as_deref(), Some(&7));
        assert_eq!(batch.plan(|| 8).as_deref(), Some(&7));
        assert!(batch.plan(|| "a plan of another type").is_none());
    }
}
