//! The source of the states of one of the two models: the model itself, or folders of activations.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use residual_hooks::StreamInfo;
use steermap_maps::Numerics;
use steermap_maps::activations::{Activations, WindowEntry};
use tokenizers::Tokenizer;

use super::header::{SideHeader, UNKNOWN_DTYPE};
use super::texts::{WindowId, WindowText};
use crate::align::TokenizedText;
use crate::capture::{LayerStates, StreamCapture};
use crate::corpus::CorpusFile;
use crate::session::{ModelSource, Session};

/// The source of a side's states.
#[derive(Clone, Debug)]
pub enum SideSource {
    /// A model that is loaded and run.
    Model(ModelSource),
    /// Folders of activations of one model, captured earlier.
    Activations(Vec<PathBuf>),
}

/// One side, ready to give states.
pub enum Side<'a> {
    /// A running model.
    Model(ModelSide<'a>),
    /// Activations on disk.
    Recorded(Recorded),
}

/// The tokens of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowTokens {
    /// The tokens, up to the model's context length.
    pub tokens: TokenizedText,
    /// Whether tokens were cut off.
    pub cut: bool,
}

/// A model that runs.
pub struct ModelSide<'a> {
    session: &'a Session,
    tokenizer: Arc<Tokenizer>,
    capture: Arc<StreamCapture>,
}

/// Folders of activations of one model.
pub struct Recorded {
    folders: Vec<Activations>,
    /// By window: the index of the folder, and the window's index in it.
    places: HashMap<WindowId, (usize, usize)>,
    layers: Vec<usize>,
}

impl<'a> ModelSide<'a> {
    /// Of a loaded model.
    ///
    /// # Errors
    ///
    /// A model without a tokenizer.
    pub fn new(session: &'a Session) -> Result<Self> {
        Ok(Self {
            session,
            tokenizer: session.tokenizer()?,
            capture: Arc::new(StreamCapture::new(Vec::new())),
        })
    }

    /// The tokens of a text, up to the model's context length.
    fn tokenize(&self, text: &str) -> Result<WindowTokens> {
        let mut tokens = TokenizedText::new(&self.tokenizer, text)?;
        let most = self.session.max_sequence();
        let cut = tokens.ids.len() > most;
        tokens.truncate(most);
        Ok(WindowTokens { tokens, cut })
    }

    /// The states of texts; `done` is called after each.
    async fn run(&self, texts: &[&TokenizedText], done: &mut dyn FnMut()) -> Result<Vec<Vec<LayerStates>>> {
        // Sorted by length, since the engine batches prompts of similar length.
        let mut order: Vec<usize> = (0..texts.len()).filter(|&i| !texts[i].ids.is_empty()).collect();
        order.sort_by_key(|&i| (texts[i].ids.len(), i));
        let prompts: Vec<&[u32]> = order.iter().map(|&i| texts[i].ids.as_slice()).collect();
        let mut streams = vec![Vec::new(); texts.len()];
        let states = self.session.streams(&self.capture, &prompts, done).await?;
        for (i, stream) in order.iter().zip(states) {
            streams[*i] = stream;
        }
        Ok(streams)
    }
}

impl Recorded {
    /// Opens the folders and checks everything but their states.
    ///
    /// # Errors
    ///
    /// A folder without activations or with an unfinished capture; a folder of another model, other layers or other
    /// windows than the first, or of a part of the corpus that another folder has.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut folders: Vec<Activations> = Vec::new();
        let mut places = HashMap::new();
        for path in paths {
            let folder = Activations::open(path)?;
            let at = || path.display().to_string();
            ensure!(
                folder.index().complete,
                "{}: found activations of an unfinished capture, expected those of a finished one: run the same `mapper capture` \
                 again",
                at()
            );
            if let Some(first) = folders.first() {
                let (found, expected) = (&folder.index().header, &first.index().header);
                ensure!(
                    found.model.fingerprint == expected.model.fingerprint && found.numerics == expected.numerics,
                    "{}: model: found {} in {}, expected {} in {} as in {}",
                    at(),
                    found.model.fingerprint,
                    found.numerics.dtype,
                    expected.model.fingerprint,
                    expected.numerics.dtype,
                    first.folder().display()
                );
                ensure!(
                    found.layers == expected.layers && found.window_bytes == expected.window_bytes,
                    "{}: layers or window_bytes: found other values than in {}, expected the same",
                    at(),
                    first.folder().display()
                );
            }
            let part = |folder: &Activations| (folder.index().header.part, folder.index().header.corpus.clone());
            if let Some(other) = folders.iter().find(|other| part(other) == part(&folder)) {
                let (index, count) = folder.index().header.part;
                anyhow::bail!(
                    "{}: found part {index}/{count} of the corpus, which is also in {}, expected every part once",
                    at(),
                    other.folder().display()
                );
            }
            let windows = folder.windows().iter().enumerate();
            places.extend(windows.map(|(place, window)| (WindowId::from(window), (folders.len(), place))));
            folders.push(folder);
        }
        ensure!(
            !folders.is_empty(),
            "activations: found no folder, expected at least one"
        );
        Ok(Self {
            folders,
            places,
            layers: Vec::new(),
        })
    }

    /// The stream's sizes.
    pub fn stream(&self) -> StreamInfo {
        let header = &self.folders[0].index().header;
        StreamInfo {
            num_layers: header.model.num_layers,
            hidden_size: header.model.hidden_size,
            last_block: header.layers.contains(&(header.model.num_layers - 1)),
        }
    }

    /// The folders.
    pub fn folders(&self) -> &[Activations] {
        &self.folders
    }

    /// All windows, in the order of the folders.
    pub fn windows(&self) -> impl Iterator<Item = WindowId> + '_ {
        self.folders
            .iter()
            .flat_map(|folder| folder.windows().iter().map(WindowId::from))
    }

    /// The files of the corpus, each once.
    pub fn corpus(&self) -> Vec<CorpusFile> {
        let mut files: Vec<CorpusFile> = Vec::new();
        for (name, sha256) in self.folders.iter().flat_map(|folder| &folder.index().header.corpus) {
            let file = CorpusFile {
                name: name.clone(),
                sha256: sha256.clone(),
            };
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files
    }

    /// Number of windows.
    pub fn count(&self) -> usize {
        self.folders.iter().map(|folder| folder.windows().len()).sum()
    }

    fn entry(&self, id: &WindowId) -> Option<(&Activations, &WindowEntry)> {
        let (folder, place) = self.places.get(id)?;
        let folder = &self.folders[*folder];
        Some((folder, &folder.windows()[*place]))
    }

    /// The tokens of a window, their ends counted from the window's start; `None` if no folder has it.
    pub(crate) fn tokens(&self, id: &WindowId) -> Result<Option<WindowTokens>> {
        let Some((folder, entry)) = self.entry(id) else {
            return Ok(None);
        };
        let window = folder.read(entry, &[])?;
        let ends = window.ends.iter().map(|end| end.map(|end| (end - id.start) as usize));
        let tokens = TokenizedText::recorded(window.tokens, ends.collect(), &window.special);
        Ok(Some(WindowTokens { tokens, cut: false }))
    }

    fn states(&self, id: &WindowId) -> Result<Vec<LayerStates>> {
        let (folder, entry) = self.entry(id).context("found no such window in the activations")?;
        let width = folder.index().header.model.hidden_size;
        let window = folder.read(entry, &self.layers)?;
        let layers = window.states.into_iter();
        Ok(layers.map(|values| LayerStates::from_rows(width, values)).collect())
    }
}

impl Side<'_> {
    /// The activations; `None` for a running model.
    pub fn recorded(&self) -> Option<&Recorded> {
        match self {
            Self::Recorded(recorded) => Some(recorded),
            Self::Model(_) => None,
        }
    }

    /// The model and its numerics, for files. The dtype is unknown until a model has run.
    ///
    /// # Errors
    ///
    /// A model without a residual stream that can be hooked, or files that can't be read.
    pub fn header(&self) -> Result<SideHeader> {
        match self {
            Self::Model(model) => {
                let numerics = Numerics {
                    dtype: UNKNOWN_DTYPE.to_string(),
                    quantization: model.session.quantization(),
                };
                Ok(SideHeader::new(model.session.info()?, numerics))
            }
            Self::Recorded(recorded) => {
                let header = &recorded.folders[0].index().header;
                Ok(SideHeader::new(header.model.clone(), header.numerics.clone()))
            }
        }
    }

    /// The stream's sizes.
    ///
    /// # Errors
    ///
    /// A model without a residual stream that can be hooked.
    pub fn stream(&self) -> Result<StreamInfo> {
        match self {
            Self::Model(model) => Ok(model.session.slot().stream()?),
            Self::Recorded(recorded) => Ok(recorded.stream()),
        }
    }

    /// Chooses the layers of the states. `name` is `source` or `target`, for messages.
    ///
    /// # Errors
    ///
    /// A layer that activations don't have.
    pub fn choose(&mut self, name: &str, layers: Vec<usize>) -> Result<()> {
        match self {
            Self::Model(model) => model.capture = Arc::new(StreamCapture::new(layers)),
            Self::Recorded(recorded) => {
                let there = &recorded.folders[0].index().header.layers;
                if let Some(layer) = layers.iter().find(|layer| !there.contains(layer)) {
                    let list: Vec<String> = there.iter().map(ToString::to_string).collect();
                    anyhow::bail!(
                        "pairs: found {name} layer {layer}, expected one of the layers in {}: {}",
                        recorded.folders[0].folder().display(),
                        list.join(", ")
                    );
                }
                recorded.layers = layers;
            }
        }
        Ok(())
    }

    /// The dtype of the stream; `None` before a model has run.
    pub fn dtype(&self) -> Option<String> {
        match self {
            Self::Model(model) => model.capture.dtype().map(|dtype| dtype.as_str().to_string()),
            Self::Recorded(recorded) => Some(recorded.folders[0].index().header.numerics.dtype.clone()),
        }
    }

    /// The model's name.
    pub fn name(&self) -> String {
        match self {
            Self::Model(model) => model.session.source().model.clone(),
            Self::Recorded(recorded) => recorded.folders[0].index().header.model.model.clone(),
        }
    }

    /// Whether a model runs on the CPU.
    pub fn runs_on_cpu(&self) -> bool {
        matches!(self, Self::Model(model) if model.session.on_cpu())
    }

    /// The tokens of windows, on all threads; `None` for a window that isn't in the activations. A model tokenizes the
    /// windows' text.
    ///
    /// # Errors
    ///
    /// An error of the tokenizer or of a file.
    pub fn tokens(&self, windows: &[WindowText]) -> Result<Vec<Option<WindowTokens>>> {
        let one = |window: &WindowText| match self {
            Self::Model(model) => model.tokenize(&window.text).map(Some),
            Self::Recorded(recorded) => recorded.tokens(&window.id),
        };
        windows.par_iter().map(one).collect()
    }

    /// The states of windows, by layer; `done` is called after each window that ran.
    ///
    /// # Errors
    ///
    /// An error of the engine or of a file.
    pub async fn states(
        &self,
        windows: &[(WindowId, &TokenizedText)],
        done: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<LayerStates>>> {
        match self {
            Self::Model(model) => {
                let texts: Vec<&TokenizedText> = windows.iter().map(|(_, tokens)| *tokens).collect();
                model.run(&texts, done).await
            }
            Self::Recorded(recorded) => {
                let read = |(id, _): &(WindowId, &TokenizedText)| recorded.states(id);
                windows.par_iter().map(read).collect()
            }
        }
    }
}
