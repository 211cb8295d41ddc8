//! A corpus, window by window.

use std::ops::Range;

use anyhow::Result;
use steermap_maps::activations::WindowEntry;

use super::header::Shard;
use crate::corpus::{Corpus, Document};
use crate::windows::windows;

/// Windows that are tokenized in parallel.
pub(crate) const WINDOWS_AT_A_TIME: usize = 16;

/// A piece of a document that is run separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowText {
    /// Which one.
    pub id: WindowId,
    /// The text.
    pub text: String,
    /// Bytes of the corpus that it accounts for in the progress.
    pub bytes: u64,
}

impl WindowText {
    /// A window whose states are on disk.
    pub fn without_text(id: WindowId) -> Self {
        Self {
            id,
            text: String::new(),
            bytes: 1,
        }
    }
}

/// Which window of which document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowId {
    /// SHA-256 of the document's text.
    pub document: [u8; 32],
    /// The byte of the document that the window begins at.
    pub start: u64,
}

impl From<&WindowEntry> for WindowId {
    fn from(entry: &WindowEntry) -> Self {
        Self {
            document: entry.document,
            start: entry.start,
        }
    }
}

/// Reads the windows of those documents of a corpus that belong to a shard.
pub struct WindowReader<'a> {
    documents: Box<dyn Iterator<Item = Result<Document>> + 'a>,
    /// The number of shards, whose bytes each window accounts for in the progress.
    shards: u64,
    most: usize,
    /// The document that is being read.
    current: Option<OpenDocument>,
}

struct OpenDocument {
    document: Document,
    /// The byte behind the last window.
    next: usize,
    /// Bytes of the document that the windows so far account for.
    counted: u64,
}

impl<'a> WindowReader<'a> {
    /// Windows of at most `most` bytes.
    pub fn new(corpus: &'a Corpus, shard: Shard, most: usize) -> Self {
        let documents = corpus
            .documents()
            .enumerate()
            .filter(move |(index, document)| index % shard.count == shard.index || document.is_err())
            .map(|(_, document)| document);
        Self {
            documents: Box::new(documents),
            shards: shard.count as u64,
            most,
            current: None,
        }
    }
}

impl OpenDocument {
    fn next(&mut self, most: usize, shards: u64) -> Option<WindowText> {
        let range: Range<usize> = windows(&self.document.text[self.next..], most).next()?;
        let (start, end) = (self.next + range.start, self.next + range.end);
        self.next = end;
        let text = &self.document.text;
        let last = text[end..].trim_start().is_empty();
        let ended = if last {
            self.document.bytes
        } else {
            // A number of at most 16 MiB times a file's size: far from overflow in 128 bits.
            (u128::from(self.document.bytes) * end as u128 / text.len() as u128) as u64
        };
        let bytes = (ended - self.counted) * shards;
        self.counted = ended;
        Some(WindowText {
            id: WindowId {
                document: self.document.hash,
                start: start as u64,
            },
            text: text[start..end].to_string(),
            bytes,
        })
    }
}

impl Iterator for WindowReader<'_> {
    type Item = Result<WindowText>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(window) = self
                .current
                .as_mut()
                .and_then(|current| current.next(self.most, self.shards))
            {
                return Some(Ok(window));
            }
            match self.documents.next()? {
                Ok(document) => {
                    self.current = Some(OpenDocument {
                        document,
                        next: 0,
                        counted: 0,
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
