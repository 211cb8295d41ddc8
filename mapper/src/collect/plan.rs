//! The cost of a run, before it runs.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use indicatif::HumanBytes;
use steermap_fit::RankChoice;
use steermap_fit::memory::{fitting_bytes, map_bytes};
use steermap_fit::stats::memory::{Memory, file_bytes};
use steermap_fit::stats::{Layout, Precision};

use super::group_size::group_tokens;
use crate::machine::{free_disk, free_memory};
use crate::progress::grouped;

/// The cost of collecting statistics, and of fitting maps from them.
#[derive(Clone, Debug, PartialEq)]
pub struct CostPlan {
    /// Pairs of layers.
    pub pairs: usize,
    /// Paired positions to come, if known.
    pub rows: Option<u64>,
    /// Rows kept of each held-out split.
    pub held_out_rows: usize,
    /// Memory of the statistics.
    pub memory: Memory,
    /// Bytes of the states of two groups of windows, and of one's rows.
    pub groups: u64,
    /// Bytes that fitting takes in addition to sums and held-out rows; 0 if no map is fitted.
    pub fitting: u64,
    /// Bytes of the checkpoint or the statistics file.
    pub checkpoint: u64,
    /// Bytes of the map's weights; 0 if no map is fitted.
    pub map: u64,
}

impl CostPlan {
    /// The plan of a layout. `fits` is the rank of the maps that are fitted afterwards, if any.
    pub fn new(
        layout: &Layout,
        precision: Precision,
        held_out_rows: usize,
        rows: Option<u64>,
        fits: Option<RankChoice>,
    ) -> Self {
        // No more rows are kept than there are.
        let kept = rows.map_or(held_out_rows, |rows| {
            held_out_rows.min(usize::try_from(rows).unwrap_or(usize::MAX))
        });
        let group = group_tokens(layout) as u64 * layout.row_bytes();
        Self {
            pairs: layout.pairs.len(),
            rows,
            held_out_rows: kept,
            memory: Memory::of(layout, precision, kept),
            groups: 2 * group,
            fitting: fits.map_or(0, |rank| fitting_bytes(layout, kept, rank)),
            checkpoint: file_bytes(layout, kept),
            map: fits.map_or(0, |_| map_bytes(layout)),
        }
    }

    /// Peak memory in bytes, without the two models.
    pub fn peak(&self) -> u64 {
        let kept = self.memory.sums + self.memory.held_out;
        let reading = self.memory.total() + self.groups;
        reading.max(kept + self.fitting)
    }

    /// Checks that the free memory suffices, and the free space on the file system of the checkpoint, `out`.
    ///
    /// # Errors
    ///
    /// Says which of them is too small, and which options would help.
    pub fn check(&self, out: &Path) -> Result<()> {
        let (peak, free) = (self.peak(), free_memory());
        if peak > free {
            bail!(
                "memory: found {} free, expected at least {}, the peak for {} layer pairs (sums {}, held-out rows {}, staged \
                 rows {}): give fewer pairs with --pairs, in several runs if necessary, or fewer --held-out-rows",
                HumanBytes(free),
                HumanBytes(peak),
                self.pairs,
                HumanBytes(self.memory.sums),
                HumanBytes(self.memory.held_out),
                HumanBytes(self.memory.stage + self.memory.products + self.groups),
            );
        }
        // The old checkpoint stays until the new one is complete.
        let needed = (2 * self.checkpoint).max(self.checkpoint + self.map);
        match free_disk(out) {
            Some(free) if needed > free => bail!(
                "disk: found {} free in the folder of {}, expected at least {}: two checkpoints of {}{}; give an --out on \
                 another disk, or fewer pairs with --pairs",
                HumanBytes(free),
                out.display(),
                HumanBytes(needed),
                HumanBytes(self.checkpoint),
                if self.map > 0 {
                    format!(", then a map of {}", HumanBytes(self.map))
                } else {
                    String::new()
                }
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for CostPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.map_or("an unknown number of rows".to_string(), |rows| {
            format!("about {} rows", grouped(rows))
        });
        writeln!(f, "plan: {} layer pairs, {rows}", self.pairs)?;
        writeln!(
            f,
            "memory: {} at peak in addition to the models: sums {}, held-out rows {} (2 x {}), staged rows {}",
            HumanBytes(self.peak()),
            HumanBytes(self.memory.sums),
            HumanBytes(self.memory.held_out),
            grouped(self.held_out_rows as u64),
            HumanBytes(self.memory.stage + self.memory.products + self.groups)
        )?;
        write!(
            f,
            "disk: {} for the checkpoint, twice that while it is written",
            HumanBytes(self.checkpoint)
        )?;
        if self.map > 0 {
            write!(f, "; {} for the map", HumanBytes(self.map))?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use steermap_fit::stats::PairSpec;

    use super::*;

    fn plan(hidden: usize, layers: usize, rows: Option<u64>) -> CostPlan {
        let layout = Layout {
            source_hidden: hidden,
            target_hidden: hidden,
            pairs: (0..layers)
                .map(|layer| PairSpec {
                    source_layers: vec![layer],
                    target_layer: layer,
                })
                .collect(),
        };
        CostPlan::new(
            &layout,
            Precision::F64,
            layout.held_out_rows(),
            rows,
            Some(RankChoice::Full),
        )
    }

    #[test]
    fn numbers_by_hand() {
        let plan = plan(64, 2, None);
        assert_eq!(plan.memory.sums, 8 * 2 * (64 * 64 + 64 * 64));
        assert_eq!(plan.memory.held_out, 2 * 4096 * 4 * 4 * 64);
        assert_eq!(plan.map, 4 * 2 * (64 * 64 + 64));
        assert!(plan.peak() > plan.memory.total());
        let text = plan.to_string();
        assert!(
            text.contains("2 layer pairs, an unknown number of rows") && text.contains("2 x 4,096"),
            "{text}"
        );
    }

    #[test]
    fn few_rows_need_little() {
        assert_eq!(plan(64, 2, Some(100)).memory.held_out, 2 * 100 * 4 * 4 * 64);
    }

    #[test]
    fn what_can_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("map.toml");
        let error = plan(65536, 4096, None).check(&out).unwrap_err().to_string();
        assert!(
            error.starts_with("memory: found") && error.contains("--pairs"),
            "{error}"
        );
        plan(64, 1, Some(10)).check(&out).unwrap();
    }
}
