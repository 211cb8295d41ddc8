//! The text that nothing is to be said about: what representation and perplexity are measured on.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use steermap_extract::neutral;
use steermap_fit::stats::Split;
use steermap_maps::MapFile;
use steermap_maps::digest::sha256;

use crate::corpus::{Corpus, TextOptions, summary};

/// More documents are not read: measures need some thousand positions, and a corpus may be endless.
const MOST_DOCUMENTS: usize = 4096;

/// Documents, and what they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct NeutralText {
    /// File names.
    pub name: String,
    /// Over the files.
    pub sha256: String,
    /// Whether this is the very text that the map was fitted on, of which these are the documents that the fit held out.
    pub held_out: bool,
    /// The documents.
    pub documents: Vec<String>,
}

impl NeutralText {
    /// Reads `paths`, but only the documents that a fit holds out: it knows them by their hash, whatever file they come in, so
    /// that none of these was fitted on. With `unseen`, all documents of a text that the fit saw none of. Without paths, a
    /// text that is built in, which no fit has seen.
    ///
    /// # Errors
    ///
    /// A file that is not text, nothing in it that can be used, or the very text of the fit called unseen.
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
             one at least: give more text, or --unseen-text if the map's fit saw none of it"
        );
        Ok(Self {
            name,
            sha256,
            held_out,
            documents,
        })
    }
}
