//! Statistics of rows with shuffled pairings. A map fitted on them has no information about which states belong
//! together, so it is a control for a map fitted on true pairs.

use super::error::StatsError;
use super::held_out::HeldOut;
use super::sample::SampleRow;
use super::split::Split;
use super::statistics::{Rows, Statistics};

impl Statistics {
    /// The sampled validation rows as train rows, each source state with the target state of the row half of the sample
    /// further on, in the order of their keys, which are hashes. The held-out rows keep their true pairs, so that the
    /// measured quality is that on true pairs.
    ///
    /// # Errors
    ///
    /// [`StatsError::Memory`] if the sums don't fit.
    pub fn shuffled(&self) -> Result<Self, StatsError> {
        let mut shuffled = Self::new(self.layout().clone(), self.precision())?;
        let sampled = self.validation().sample().rows();
        let by = sampled.len() / 2;
        let partner = |row: usize| &sampled[(row + by) % sampled.len()];
        for (row, source) in sampled.iter().enumerate() {
            let target = partner(row);
            let layout = self.layout();
            shuffled.add(
                Split::Train,
                &Rows {
                    keys: &[source.key],
                    source: layers(&source.source, layout.source_hidden),
                    target: layers(&target.target, layout.target_hidden),
                },
            )?;
        }
        shuffled.flush();
        shuffled.held_out = [of_rows(sampled), of_rows(self.test().sample().rows())];
        Ok(shuffled)
    }
}

/// A row's states, layer by layer.
fn layers(states: &[f32], hidden: usize) -> Vec<&[f32]> {
    states.chunks_exact(hidden).collect()
}

/// A held-out split of these rows only.
fn of_rows(rows: &[SampleRow]) -> HeldOut {
    let mut held_out = HeldOut::new(rows.len());
    for row in rows {
        held_out.sample.add(row.clone());
        held_out.count += 1;
    }
    held_out
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::stats::{Layout, PairSpec, Precision};
    use crate::{RankChoice, RidgeChoice, fit_pairs};

    /// Of two-dimensional states that a map predicts but for a little noise.
    fn statistics() -> Statistics {
        let layout = Layout {
            source_hidden: 3,
            target_hidden: 2,
            pairs: vec![PairSpec {
                source_layers: vec![1],
                target_layer: 4,
            }],
        };
        let mut statistics = Statistics::new(layout, Precision::F64).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for (split, count) in [(Split::Train, 400), (Split::Validation, 300), (Split::Test, 300)] {
            for _ in 0..count {
                let x: [f32; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
                let noise: [f32; 2] = std::array::from_fn(|_| rng.sample::<f32, _>(StandardNormal) / 5.0);
                let y = [x[0] - x[1] + noise[0], 2.0 * x[2] + noise[1]];
                let keys = [rng.random()];
                let rows = Rows {
                    keys: &keys,
                    source: vec![&x],
                    target: vec![&y],
                };
                statistics.add(split, &rows).unwrap();
            }
        }
        statistics.flush();
        statistics
    }

    #[test]
    fn a_map_of_shuffled_pairs_predicts_nothing() {
        let r2 = |of: &Statistics| {
            let pairs = fit_pairs(of, RidgeChoice::Fixed(1e-3), RankChoice::Full, |_| ());
            pairs.unwrap()[0].r2
        };
        let whole = statistics();
        let shuffled = whole.shuffled().unwrap();
        assert_eq!(shuffled.rows(Split::Train), 300);
        assert_eq!((shuffled.rows(Split::Test), shuffled.layout()), (300, whole.layout()));
        assert!(
            r2(&whole) > 0.9 && r2(&shuffled) < 0.05,
            "{} {}",
            r2(&whole),
            r2(&shuffled)
        );
    }
}
