//! The documents of one file, whatever its format.

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::keyed::KeyedTexts;
use super::parquet::Column;
use super::plain::Blocks;
use crate::records::input::Input;

/// A text that is either fitted on or held out as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// SHA-256 of the text. It decides whether the text is held out, in the same way in every shard and on every
    /// machine.
    pub hash: [u8; 32],
    /// Bytes of the text, for progress. Over all documents they add up to
    /// [`Corpus::total_bytes`](super::Corpus::total_bytes), whatever the files' formats.
    pub bytes: u64,
}

/// The texts of a file.
#[derive(Debug)]
pub(super) enum Texts {
    Plain(Blocks),
    Json(KeyedTexts),
    Parquet(Box<Column>),
}

/// The documents of a file, with running totals.
#[derive(Debug)]
pub(super) struct Documents {
    texts: Texts,
    /// Documents so far.
    pub documents: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// Records so far that have no text.
    pub left_out: u64,
    digest: Sha256,
}

impl Documents {
    pub fn new(texts: Texts) -> Self {
        Self {
            texts,
            documents: 0,
            bytes: 0,
            left_out: 0,
            digest: Sha256::new(),
        }
    }

    /// The next document; `None` at the file's end.
    pub fn next_document(&mut self) -> Result<Option<Document>> {
        loop {
            let text = match &mut self.texts {
                Texts::Plain(blocks) => blocks.next_text()?,
                Texts::Json(keyed) => keyed.next_text()?,
                Texts::Parquet(column) => column.next_text()?,
            };
            let Some(text) = text else {
                return Ok(None);
            };
            if text.trim().is_empty() {
                self.left_out += 1;
                continue;
            }
            let document = Document {
                hash: Sha256::digest(&text).into(),
                bytes: text.len() as u64,
                text,
            };
            self.documents += 1;
            self.bytes += document.bytes;
            self.digest.update(document.hash);
            return Ok(Some(document));
        }
    }

    /// SHA-256 over the hashes of the documents so far: equal for the same documents in the same order.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    /// The rest of the input; `None` for Parquet, which is not read in order.
    pub fn into_input(self) -> Option<Input> {
        match self.texts {
            Texts::Plain(blocks) => Some(blocks.into_input()),
            Texts::Json(keyed) => Some(keyed.into_records().into_input()),
            Texts::Parquet(_) => None,
        }
    }
}
