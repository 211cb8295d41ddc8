//! What a request's sequences read of the stream, on its way to the answer.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::apply::reader::{Budget, SequenceReader};
use crate::compile::Readouts;
use crate::token_texts::TokenTexts;

/// Most prompts whose readers are kept: as many as a request may have.
const MAX_SENT: usize = 64;

/// The readers of all sequences of one request.
pub struct Readings {
    readouts: Arc<Readouts>,
    texts: Arc<TokenTexts>,
    budget: Budget,
    /// By what was sent to the engine, in that order; several where a request has several prompts.
    sent: Mutex<Vec<Group>>,
}

struct Group {
    id: usize,
    /// By answer.
    readers: Vec<Arc<SequenceReader>>,
}

impl Readings {
    /// None yet. All sequences together keep `bytes` at most.
    pub(super) fn new(readouts: Arc<Readouts>, texts: Arc<TokenTexts>, bytes: usize) -> Self {
        Self {
            readouts,
            texts,
            budget: Arc::new(AtomicUsize::new(bytes)),
            sent: Mutex::default(),
        }
    }

    /// What was sent as `id`.
    pub(super) fn sent_as(&self, id: usize) {
        let mut sent = lock(&self.sent);
        if !sent.iter().any(|group| group.id == id) {
            // A request that is sent again and again does not grow.
            if sent.len() == MAX_SENT {
                sent.remove(0);
            }
            sent.push(Group {
                id,
                readers: Vec::new(),
            });
        }
    }

    /// The engine takes up what was sent as `id`: for the first time, or for another round of a tool's calls, which are read anew.
    pub(super) fn claimed(&self, id: usize) {
        if let Some(group) = lock(&self.sent).iter_mut().find(|group| group.id == id) {
            group.readers.clear();
        }
    }

    /// A reader for the next sequence of what was sent as `id`, with a prompt of `prompt_len` tokens.
    pub(super) fn admit(&self, id: usize, prompt_len: usize) -> Arc<SequenceReader> {
        let reader = SequenceReader::new(self.readouts.clone(), prompt_len, self.budget.clone());
        let reader = Arc::new(reader);
        if let Some(group) = lock(&self.sent).iter_mut().find(|group| group.id == id) {
            group.readers.push(reader.clone());
        }
        reader
    }

    /// What is read.
    pub fn readouts(&self) -> &Readouts {
        &self.readouts
    }

    /// What tokens spell.
    pub fn texts(&self) -> &TokenTexts {
        &self.texts
    }

    /// The reader of the answer `index`, where each prompt has `each` of them: those to the first prompt come first.
    pub fn of_choice(&self, index: usize, each: usize) -> Option<Arc<SequenceReader>> {
        let sent = lock(&self.sent);
        let group = sent.get(index.checked_div(each)?)?;
        group.readers.get(index % each).cloned()
    }
}
