//! The readers of a request's sequences, between the engine and the answer.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use crate::apply::reader::{Budget, SequenceReader};
use crate::compile::Readouts;
use crate::lock::lock;
use crate::token_texts::TokenTexts;

/// Most prompts whose readers are kept, which is the most prompts of a request.
const MAX_SENT: usize = 64;

/// The readers of all sequences of one request.
pub struct Readings {
    readouts: Arc<Readouts>,
    texts: Arc<TokenTexts>,
    budget: Budget,
    /// By request sent to the engine, in order; several if the request has several prompts.
    sent: Mutex<Vec<PromptReaders>>,
}

struct PromptReaders {
    id: usize,
    /// One reader per answer.
    readers: Vec<Arc<SequenceReader>>,
}

impl Readings {
    /// No readers yet. All sequences together keep at most `bytes`.
    pub(super) fn new(readouts: Arc<Readouts>, texts: Arc<TokenTexts>, bytes: usize) -> Self {
        Self {
            readouts,
            texts,
            budget: Arc::new(AtomicUsize::new(bytes)),
            sent: Mutex::default(),
        }
    }

    /// Records that a request was sent as `id`.
    pub(super) fn sent_as(&self, id: usize) {
        let mut sent = lock(&self.sent);
        if !sent.iter().any(|group| group.id == id) {
            // Keeps the list bounded when a request is sent repeatedly.
            if sent.len() == MAX_SENT {
                sent.remove(0);
            }
            sent.push(PromptReaders {
                id,
                readers: Vec::new(),
            });
        }
    }

    /// Records that the engine has claimed `id`: for the first time, or for another round of tool calls, which is read
    /// anew.
    pub(super) fn claimed(&self, id: usize) {
        if let Some(group) = lock(&self.sent).iter_mut().find(|group| group.id == id) {
            group.readers.clear();
        }
    }

    /// A reader for the next sequence of the request `id`, with a prompt of `prompt_len` tokens.
    pub(super) fn admit(&self, id: usize, prompt_len: usize) -> Arc<SequenceReader> {
        let reader = SequenceReader::new(self.readouts.clone(), prompt_len, self.budget.clone());
        let reader = Arc::new(reader);
        if let Some(group) = lock(&self.sent).iter_mut().find(|group| group.id == id) {
            group.readers.push(reader.clone());
        }
        reader
    }

    /// The readouts of the request.
    pub fn readouts(&self) -> &Readouts {
        &self.readouts
    }

    /// The texts of tokens.
    pub fn texts(&self) -> &TokenTexts {
        &self.texts
    }

    /// The reader of the answer `index`. Each prompt has `each` answers; those of the first prompt come first.
    pub fn of_choice(&self, index: usize, each: usize) -> Option<Arc<SequenceReader>> {
        let sent = lock(&self.sent);
        let group = sent.get(index.checked_div(each)?)?;
        group.readers.get(index % each).cloned()
    }
}
