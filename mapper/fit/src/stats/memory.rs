//! The memory of statistics, before any row is added.

use super::layout::Layout;
use super::statistics::{Precision, block_rows};

/// Bytes in memory while rows are added, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The sums of the train rows.
    pub sums: u64,
    /// The rows kept of validation and test documents, both.
    pub held_out: u64,
    /// Staged rows.
    pub stage: u64,
    /// The block while it is multiplied.
    pub products: u64,
}

impl Memory {
    /// For a layout, when both samples are full.
    pub fn of(layout: &Layout, precision: Precision, held_out_rows: usize) -> Self {
        let rows = block_rows(layout) as u64;
        let [source, target] = [layout.source_hidden as u64, layout.target_hidden as u64];
        let number = match precision {
            Precision::F64 => 8,
            Precision::F32 => 4,
        };
        // All source layers of a block less their means, and one target layer.
        let centred = number * (rows + 1) * (layout.source_layers().len() as u64 * source + target);
        // In f32 a part of a product is made before it is added: as many as there are threads, each half of its share.
        let part = match precision {
            Precision::F64 => 0,
            Precision::F32 => 4 * source * source.max(target) / 2,
        };
        Self {
            sums: layout.sums_bytes(),
            held_out: 2 * held_out_rows as u64 * layout.row_bytes(),
            stage: rows * layout.row_bytes(),
            products: centred + part,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.sums + self.held_out + self.stage + self.products
    }
}

/// Bytes of a statistics file with both samples full.
pub fn file_bytes(layout: &Layout, held_out_rows: usize) -> u64 {
    let triangles: u64 = layout
        .inputs()
        .iter()
        .map(|input| {
            let width = (input.len() * layout.source_hidden) as u64;
            width * (width + 1) / 2
        })
        .sum();
    let crosses: u64 = layout
        .pairs
        .iter()
        .map(|pair| (pair.source_layers.len() * layout.source_hidden * layout.target_hidden) as u64)
        .sum();
    8 * (triangles + crosses) + 2 * held_out_rows as u64 * (layout.row_bytes() + 8)
}
