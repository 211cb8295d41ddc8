//! Perplexity of the neutral text, steered and not.

use anyhow::{Result, ensure};
use tokenizers::Tokenizer;

use super::text::NeutralText;
use crate::align::TokenizedText;
use crate::session::steered_by;
use crate::steerer::{LayerOffset, Steerer};

/// Maximum number of tokens of a document. Longer ones are cut, since the logits of all positions are in memory at
/// once.
const LONGEST: usize = 128;

/// The neutral text as tokens, at least two in each document.
pub struct PerplexityText {
    tokens: Vec<Vec<u32>>,
}

impl PerplexityText {
    /// The first documents of `text`, until `wanted` tokens are predicted.
    ///
    /// # Errors
    ///
    /// No document has two tokens.
    pub fn new(tokenizer: &Tokenizer, text: &NeutralText, longest: usize, wanted: usize) -> Result<Self> {
        let mut documents = Self { tokens: Vec::new() };
        for document in &text.documents {
            if documents.predicted() >= wanted {
                break;
            }
            let mut tokens = TokenizedText::new(tokenizer, document)?.ids;
            tokens.truncate(LONGEST.min(longest));
            if tokens.len() >= 2 {
                documents.tokens.push(tokens);
            }
        }
        ensure!(
            !documents.tokens.is_empty(),
            "text: found no document of two tokens in {}, expected at least one",
            text.name
        );
        Ok(documents)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Predicted tokens: all but each document's first.
    pub fn predicted(&self) -> usize {
        self.tokens.iter().map(|tokens| tokens.len() - 1).sum()
    }

    /// Perplexity: `exp` of the mean negative log likelihood of the predicted tokens, each document by itself, with
    /// `offset` added at every position. `done` is called after each document.
    ///
    /// # Errors
    ///
    /// A layer that can't be steered, or an error of the engine.
    pub async fn perplexity(
        &self,
        steerer: &Steerer<'_>,
        offset: Option<LayerOffset>,
        mut done: impl FnMut(),
    ) -> Result<f64> {
        let steered = offset.map(|offset| steerer.adding(offset)).transpose()?;
        let mut nats = 0.0;
        for tokens in &self.tokens {
            let (first, rest) = tokens.split_at(1);
            nats += steered_by(&steered, steerer.session().nats_behind(first, rest)).await?;
            done();
        }
        let perplexity = (nats / self.predicted() as f64).exp();
        ensure!(
            perplexity.is_finite(),
            "the text's perplexity is not finite: steering is too strong for the model's dtype"
        );
        Ok(perplexity)
    }
}
