//! The memory of fits, before any row is added.

use crate::low_rank::RankChoice;
use crate::stats::Layout;

/// Bytes that fitting takes in addition to the sums and the held-out rows, for any penalty: those of the widest input
/// and one pair of it, since only one map is in memory at a time.
pub fn fitting_bytes(layout: &Layout, held_out_rows: usize, rank: RankChoice) -> u64 {
    let width = |layers: usize| (layers * layout.source_hidden) as u64;
    let widest = layout
        .inputs()
        .iter()
        .map(|input| width(input.len()))
        .max()
        .unwrap_or(0);
    let (target, rows) = (layout.target_hidden as u64, held_out_rows as u64);
    // Matrices of the input: eigenvectors, the decomposition's own, the validation rows' Gram matrix, as it is and
    // rotated, and the test rows'; while they are rotated, the whole of a triangle and half of a product.
    let squares = 6 * widest * widest;
    // Of the pair: cross products rotated, those of validation or test rows, as they are and rotated, and the weights.
    let products = 4 * widest * target;
    // The held-out rows in f64, as they are and less their mean, of both splits; those of a target.
    let samples = 4 * rows * widest + 3 * rows * target;
    // Of low rank: both factors of all ranks, in place of what is gone by then.
    let smaller = widest.min(target);
    let components = if rank == RankChoice::Full {
        0
    } else {
        smaller * (widest + target)
    };
    8 * (squares + products + samples + components)
}

/// Bytes of the maps' weights in f32, all of them.
pub fn map_bytes(layout: &Layout) -> u64 {
    let pair = |sources: usize| (sources * layout.source_hidden + 1) as u64 * layout.target_hidden as u64;
    4 * layout.pairs.iter().map(|p| pair(p.source_layers.len())).sum::<u64>()
}
