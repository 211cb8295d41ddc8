//! The text that nothing is to be said about: what representation and perplexity are measured on.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use steermap_fit::stats::Split;
use steermap_maps::MapFile;
use steermap_maps::digest::sha256;

use crate::corpus::{Corpus, TextOptions, summary};

/// Short English documents for those who give no text, written for this project.
const BUILT_IN: &str = include_str!("neutral.txt");

/// More documents are not read: measures need some thousand positions, and a corpus may be endless.
const MOST_DOCUMENTS: usize = 4096;

/// Documents, and what they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct NeutralText {
    /// File names.
    pub name: String,
    /// Over the files.
    pub sha256: String,
    /// Whether these are the documents that the map's fit held out.
    pub held_out: bool,
    /// The documents.
    pub documents: Vec<String>,
}

impl NeutralText {
    /// Reads `paths`; of the very text that `map` was fitted on, only the documents that the fit held out. Without paths, a
    /// text that is built in.
    ///
    /// # Errors
    ///
    /// A file that is no text, or nothing in it that can be used.
    pub fn read(paths: &[PathBuf], options: &TextOptions, map: &MapFile) -> Result<Self> {
        if paths.is_empty() {
            let documents = BUILT_IN.split("\n\n").map(|text| text.trim().replace('\n', " "));
            return Ok(Self {
                name: "built-in".to_string(),
                sha256: sha256(BUILT_IN.as_bytes()),
                held_out: false,
                documents: documents.filter(|text| !text.is_empty()).collect(),
            });
        }
        let corpus = Corpus::open(paths, options)?;
        let (name, sha256) = summary(&corpus.record());
        let held_out = sha256 == map.header().provenance.corpus_sha256;
        let mut documents = Vec::new();
        for document in corpus.documents() {
            let document = document?;
            if !held_out || Split::of(&document.hash) == Split::Test {
                documents.push(document.text);
            }
            if documents.len() >= MOST_DOCUMENTS {
                break;
            }
        }
        ensure!(
            !documents.is_empty(),
            "text: found no document in {name}{}, expected one at least",
            match held_out {
                true => " that the map's fit held out",
                false => "",
            }
        );
        Ok(Self {
            name,
            sha256,
            held_out,
            documents,
        })
    }
}
