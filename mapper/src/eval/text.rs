//! The neutral text, on which representation and perplexity are measured.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use steermap_extract::neutral;
use steermap_fit::stats::Split;
use steermap_maps::MapFile;
use steermap_maps::digest::sha256;

use crate::corpus::{Corpus, TextOptions, summary};

/// No more documents are read: the measures need some thousand positions, and a corpus may be very large.
const MOST_DOCUMENTS: usize = 4096;

/// Documents, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct NeutralText {
    /// File names.
    pub name: String,
    /// Over the files.
    pub sha256: String,
    /// Whether this is the text that the map was fitted on, and these are the documents that the fit held out.
    pub held_out: bool,
    /// The documents.
    pub documents: Vec<String>,
}

impl NeutralText {
    /// Reads `paths`, but only the documents that a fit holds out for testing. Their hash decides that, whatever file
    /// they are in, so the map was fitted on none of them. With `unseen`, reads all documents of a text that the map
    /// was not fitted on. Without paths, takes the built-in text, which no fit has seen.
    ///
    /// # Errors
    ///
    /// A file that is not text, no document that can be used, or `unseen` for the text that the map was fitted on.
    pub fn read(paths: &[PathBuf], options: &TextOptions, map: &MapFile, unseen: bool) -> Result<Self> {
        if paths.is_empty() {
            return Ok(Self {
                name: "built-in".to_string(),
                sha256: sha256(neutral::TEXT.as_bytes()),
                held_out: false,
                documents: neutral::documents(),
            });
        }
        let corpus = Corpus::open(paths, options)?;
        let (name, sha256) = summary(&corpus.record());
        let held_out = sha256 == map.header().provenance.corpus_sha256;
        ensure!(
            !(held_out && unseen),
            "unseen-text: found the text that the map was fitted on: {name}"
        );
        let (mut documents, mut read) = (Vec::new(), 0usize);
        for document in corpus.documents() {
            let document = document?;
            read += 1;
            if unseen || Split::of(&document.hash) == Split::Test {
                documents.push(document.text);
            }
            if documents.len() >= MOST_DOCUMENTS {
                break;
            }
        }
        ensure!(
            !documents.is_empty(),
            "text: found none among the {read} documents of {name} that a fit holds out (one in ten, by their hash), expected \
             at least one: give more text, or --unseen-text if the map was fitted on none of it"
        );
        Ok(Self {
            name,
            sha256,
            held_out,
            documents,
        })
    }
}
