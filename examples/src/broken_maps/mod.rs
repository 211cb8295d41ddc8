//! Maps broken in known ways, made from an intact one, and their evaluations by `mapper eval`: `cargo xtask broken`.
//!
//! | module | role |
//! | --- | --- |
//! | `variant` | the variants, how each is made, where its file is |
//! | `weights` | maps with other weights: permuted rows, random numbers, another layer's weights |
//! | `concepts` | a map that exchanges concepts |
//! | `table` | the evaluations as a table, and the check of each verdict |

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

    /// The shipped map, of one pair of layers.
    pub fn map() -> MapFile {
        MapFile::load(&shipped("stories-260k--stories-3m.toml")).expect("the map is there")
    }

    /// The shipped vector, at the layer that the map reads.
    pub fn vector() -> VectorFile {
        VectorFile::load(&shipped("stories-260k-mood.toml")).expect("the vector is there")
    }
}
