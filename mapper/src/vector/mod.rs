//! `mapper vector`: finds a steering vector from contrastive pairs. `mapper combine`: makes one of several.
//!
//! | module | role |
//! | --- | --- |
//! | [`method`] | how a direction is found from states |
//! | `pca`, `logistic` | what it is found with |
//! | `sign` | which way along a principal component is positive |
//! | [`distinct`] | pairs that are there twice, or share a text |
//! | `table` | what was found, for people |
//! | [`position`] | which state stands for a text |
//! | [`states`] | the states of pairs, read in the engine |
//! | [`arithmetic`] | sums of vectors, and what is orthogonal to others |

mod logistic;
mod pca;
mod sign;
mod table;

pub mod arithmetic;
pub mod distinct;
pub mod method;
pub mod position;
pub mod states;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use steermap_maps::{Numerics, Provenance, TokenPosition, VectorFile, VectorHeader, digest::sha256_file};

use crate::layers::LayerSelection;
use crate::map::provenance;
use crate::pairs::read_pairs;
use crate::session::{ModelSource, Session};
use crate::statistics::Folds;

pub use distinct::DistinctPairs;
pub use method::Method;
pub use sign::Sign;
pub use states::PairStates;
pub use table::table;

/// What `mapper vector` is asked to do.
#[derive(Clone, Debug)]
pub struct VectorJob {
    /// The model to find the vector on.
    pub source: ModelSource,
    /// Contrastive pairs, JSON lines.
    pub pairs: PathBuf,
    /// What the vector stands for.
    pub concept: String,
    /// The layers to find it at.
    pub layers: LayerSelection,
    /// How it is found from the states.
    pub method: Method,
    /// By which rule a principal component gets its sign.
    pub sign: Sign,
    /// Which states of a text are compared.
    pub position: TokenPosition,
    /// Of what is random in the method, if anything is.
    pub seed: u64,
    /// The command line, for the file's provenance.
    pub command: String,
    /// Whether to show a progress bar.
    pub progress: bool,
}

/// A vector, and of how many pairs it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The vector; its `pairs` are the distinct ones.
    pub vector: VectorFile,
    /// The pairs, sorted out.
    pub pairs: DistinctPairs,
}

impl VectorJob {
    /// Runs the model over the pairs and finds the direction of each layer. The model is dropped at the end.
    ///
    /// # Errors
    ///
    /// Lines that are not pairs, a sign that the method has no use for, a model that can't be loaded or hooked, a layer that
    /// it does not have, texts that it does not tell apart or that the method finds no direction from.
    pub async fn run(&self) -> Result<Found> {
        // Everything that can be wrong with the input is found before the model is loaded.
        self.read()?;
        let session = Session::load(self.source.clone()).await?;
        self.run_on(&session).await
    }

    /// As [`run`](Self::run), on a model that is loaded already. What hook the model had is gone afterwards.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(&self, session: &Session) -> Result<Found> {
        let pairs = self.read()?;
        let layers = self.layers.resolve(&session.slot().stream()?)?;
        let corpus = self.pairs.file_name().unwrap_or_default().to_string_lossy();
        let made = provenance(self.command.clone(), corpus.into_owned(), sha256_file(&self.pairs)?);
        let wanted = Wanted {
            concept: self.concept.clone(),
            layers,
            method: self.method,
            sign: self.sign,
            position: self.position,
            seed: self.seed,
        };
        let vector = find(session, &pairs, &wanted, made, self.progress).await;
        let vector = vector.with_context(|| self.pairs.display().to_string())?;
        Ok(Found { vector, pairs })
    }

    /// The pairs, once all options are checked.
    fn read(&self) -> Result<DistinctPairs> {
        let given = read_pairs(&self.pairs)?;
        let pairs = DistinctPairs::new(&given);
        ensure!(
            pairs.pairs.len() >= 2,
            "{}: found {} pairs that are all the same, expected two different ones at least",
            self.pairs.display(),
            given.len()
        );
        ensure!(
            !self.concept.trim().is_empty(),
            "concept: found nothing, expected a name"
        );
        let lines: Vec<&str> = Method::ALL
            .iter()
            .filter(|method| method.finds_a_line())
            .map(|method| method.as_str())
            .collect();
        ensure!(
            self.sign == Sign::default() || self.method.finds_a_line(),
            "sign: found {} with the method {}, expected it with one of {}: the others know which side is positive",
            self.sign,
            self.method,
            lines.join(", ")
        );
        Ok(pairs)
    }
}

/// What vector is wanted, of whatever pairs.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it stands for.
    pub concept: String,
    /// The layers to find it at.
    pub layers: Vec<usize>,
    /// How it is found from the states.
    pub method: Method,
    /// By which rule a principal component gets its sign.
    pub sign: Sign,
    /// Which states of a text are compared.
    pub position: TokenPosition,
    /// Of what is random in the method, if anything is.
    pub seed: u64,
}

/// Runs a model over pairs and finds the direction of each layer. What hook the model had is gone afterwards.
///
/// # Errors
///
/// Texts that the model does not tell apart or that the method finds no direction from, or what the engine answers with.
pub async fn find(
    session: &Session,
    pairs: &DistinctPairs,
    wanted: &Wanted,
    made: Provenance,
    progress: bool,
) -> Result<VectorFile> {
    let states = PairStates::read(session, &pairs.pairs, &wanted.layers, wanted.position, progress).await?;
    vector_of(session, &states, pairs, wanted, made)
}

/// The direction of each layer, from states that were read already.
///
/// # Errors
///
/// Texts that the model does not tell apart or that the method finds no direction from.
pub fn vector_of(
    session: &Session,
    states: &PairStates,
    pairs: &DistinctPairs,
    wanted: &Wanted,
    made: Provenance,
) -> Result<VectorFile> {
    let model = session.info()?;
    let header = VectorHeader {
        concept: wanted.concept.clone(),
        method: match wanted.sign {
            Sign::Mean => wanted.method.to_string(),
            Sign::Vote => format!("{}, sign by vote", wanted.method),
        },
        token_position: wanted.position,
        pairs: u32::try_from(pairs.pairs.len()).context("too many pairs")?,
        model,
        numerics: Numerics {
            dtype: states.dtype().to_string(),
            quantization: session.quantization(),
        },
        provenance: Provenance {
            seed: wanted.method.uses_seed().then_some(wanted.seed),
            ..made
        },
    };
    let folds = Folds::new(&pairs.groups);
    let vectors = states.vectors(wanted.method, wanted.sign, wanted.seed, folds.as_ref())?;
    VectorFile::new(header, vectors).context("no vector could be made from these pairs")
}
