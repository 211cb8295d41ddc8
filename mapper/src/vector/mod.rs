//! `mapper vector`: finds a steering vector from contrastive pairs. `mapper combine`: combines several.
//!
//! | module | role |
//! | --- | --- |
//! | `table` | a vector's layers as a table |
//! | [`arithmetic`] | sums of vectors, and vectors orthogonal to others |
//!
//! The methods are in steermap-extract.

mod table;

pub mod arithmetic;

use std::path::PathBuf;

use anyhow::{Context, Result};
use steermap_extract::find::distinct;
pub use steermap_extract::{DistinctPairs, Method, PairStates, Sign};
use steermap_extract::{Origin, ReadProgress, VectorOfPairs, Wanted, find};
use steermap_maps::{TokenPosition, digest::sha256_file};

use crate::layers::LayerSelection;
use crate::map::provenance;
use crate::pairs::read_pairs;
use crate::progress::{Progress, Unit};
use crate::session::{ModelSource, Session};

pub use table::{found_table, table};

/// The options of `mapper vector`.
#[derive(Clone, Debug)]
pub struct VectorJob {
    /// The model to find the vector on.
    pub source: ModelSource,
    /// Contrastive pairs, JSON lines.
    pub pairs: PathBuf,
    /// What the vector stands for.
    pub concept: String,
    /// The layers to find directions at.
    pub layers: LayerSelection,
    /// The method that finds the vector from the states.
    pub method: Method,
    /// The rule for the sign of a principal component.
    pub sign: Sign,
    /// Which states of a text are compared.
    pub position: TokenPosition,
    /// Seed of the method, if it draws.
    pub seed: u64,
    /// Whether the mean and deviation of the component on neutral text are measured too.
    pub neutral: bool,
    /// The command line, for the file's provenance.
    pub command: String,
    /// Whether to show a progress bar.
    pub progress: bool,
}

impl VectorJob {
    /// Runs the model over the pairs and finds the direction of each layer. The model is dropped at the end.
    ///
    /// # Errors
    ///
    /// Lines that are not pairs, a sign that the method doesn't use, a model that can't be loaded or hooked, a layer
    /// that it does not have, texts with equal states or from which the method finds no direction.
    pub async fn run(&self) -> Result<VectorOfPairs> {
        // Errors in the input are found before the model is loaded.
        self.read()?;
        let session = Session::load(self.source.clone()).await?;
        self.run_on(&session).await
    }

    /// As [`run`](Self::run), on a model that is already loaded. An earlier hook of the model is removed.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(&self, session: &Session) -> Result<VectorOfPairs> {
        let pairs = self.read()?;
        let wanted = self.wanted(self.layers.resolve(&session.stream()?)?);
        let corpus = self.pairs.file_name().unwrap_or_default().to_string_lossy();
        let made = provenance(self.command.clone(), corpus.into_owned(), sha256_file(&self.pairs)?);
        let bar = VectorProgress(Progress::new(
            self.progress,
            "reading pairs",
            Unit::Of("texts"),
            2 * pairs.pairs.len() as u64,
        ));
        let vector = find(&**session, &origin(session)?, &pairs, &wanted, made, true, &bar).await;
        bar.0.finish();
        let vector = vector.with_context(|| self.pairs.display().to_string())?;
        Ok(VectorOfPairs { vector, pairs })
    }

    fn wanted(&self, layers: Vec<usize>) -> Wanted {
        Wanted {
            concept: self.concept.clone(),
            layers,
            method: self.method,
            sign: self.sign,
            position: self.position,
            seed: self.seed,
            neutral: self.neutral,
        }
    }

    /// Reads the pairs and checks all options.
    fn read(&self) -> Result<DistinctPairs> {
        let given = read_pairs(&self.pairs)?;
        let pairs = distinct(&given).with_context(|| self.pairs.display().to_string())?;
        self.wanted(Vec::new()).check()?;
        Ok(pairs)
    }
}

/// The model and quantisation that a session's vectors are found on.
///
/// # Errors
///
/// A model without a residual stream that can be hooked, or files that can't be read.
pub fn origin(session: &Session) -> Result<Origin> {
    Ok(Origin {
        model: session.info()?,
        quantization: session.quantization(),
    })
}

/// Advances a progress bar.
struct VectorProgress(Progress);

impl ReadProgress for VectorProgress {
    fn read(&self) {
        self.0.add(1);
    }
}
