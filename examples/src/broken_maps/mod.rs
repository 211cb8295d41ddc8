//! Maps that are broken in known ways, made from one that is right, and what `mapper eval` finds of them: `cargo xtask broken`.
//!
//! | module | role |
//! | --- | --- |
//! | `variant` | the ways, how each is made, where its file is |
//! | `weights` | maps with other weights: rows in another order, random numbers, those of another layer |
//! | `concepts` | a map that takes each concept for the next |
//! | `table` | the evaluations as a table, and whether each verdict is what it has to be |

mod concepts;
mod table;
mod variant;
mod weights;

pub use table::{EvaluatedVariant, page};
pub use variant::Variant;

#[cfg(test)]
mod testing {
    use std::path::{Path, PathBuf};

    use steermap_maps::{MapFile, VectorFile};

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../maps").join(name)
    }

    /// The map that ships: of one pair of layers.
    pub fn map() -> MapFile {
        MapFile::load(&shipped("stories-260k--stories-3m.toml")).expect("the map is there")
    }

    /// The vector that ships, at the layer that the map reads.
    pub fn vector() -> VectorFile {
        VectorFile::load(&shipped("stories-260k-mood.toml")).expect("the vector is there")
    }
}
