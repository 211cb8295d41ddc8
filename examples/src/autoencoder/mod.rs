//! A small sparse autoencoder of a model's residual stream: training, labelling of its features, and steering with
//! them.
//!
//! | module | role |
//! | --- | --- |
//! | `model` | the autoencoder: TopK, encode and decode |
//! | `rows` | states as rows: from a folder of activations, split for training and measuring |
//! | `train` | training: Adam, unit decoder rows, dead features reset |
//! | `gradient` | the gradient of a batch |
//! | `quality` | explained variance, active and dead features |
//! | `label` | which feature separates a concept's pairs, and how well it does on pairs that did not choose it |
//! | `feature_map` | a map from features to the large model's states |
//! | `file` | the files in SAELens's layout |
//! | `measure` | what steering by a feature does to the large model, beside the concept's mean-difference vectors |
//! | `table` | the page with the results |
//!
//! Training uses states of stories only. Features are labelled with concepts afterwards, by when they are active, so a
//! feature's meaning is known although it was not made from the pairs.

mod feature_map;
mod file;
mod gradient;
mod label;
mod measure;
mod model;
mod quality;
mod rows;
mod table;
mod train;

#[cfg(test)]
mod testing;

pub use feature_map::{FeatureMap, explained_variance};
pub use file::{StatesOrigin, save};
pub use label::{Activity, ConceptSide, FeatureLabel, label};
pub use measure::{ConceptResult, ControlRetention, FeatureProtocol, LabelledConcept};
pub use model::Autoencoder;
pub use quality::AutoencoderQuality;
pub use rows::{StateRows, TrainingSplit};
pub use table::FeatureReport;
pub use train::Training;
