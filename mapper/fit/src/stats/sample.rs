//! A bounded sample of rows that doesn't depend on order, batches or shards.

use std::cmp::Ordering;

/// Bytes of one sample that [`Layout::held_out_rows`](super::Layout::held_out_rows) aims at.
pub(super) const SAMPLE_BYTES: usize = 256 << 20;
/// Minimum number of rows of a sample, even for wide streams: the standard error of an R² of 0.9 is then about 0.01 if
/// rows are independent, and that of a mean cosine is below a twentieth of the cosines' standard deviation.
pub const MIN_SAMPLE_ROWS: usize = 512;
/// The default maximum number of rows of a sample.
pub const DEFAULT_SAMPLE_ROWS: usize = 4096;
/// The largest size that a sample may have.
pub const MAX_SAMPLE_ROWS: usize = 1 << 16;

/// The rows with the smallest keys (bottom-k sampling; Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC
/// 2007). With keys that are hashes it is a uniform sample without replacement, and merging the samples of two parts
/// gives the sample of the whole. Rows of equal key are ordered by their states, so ties don't depend on the order
/// either; a row that was added twice counts as two.
#[derive(Clone, Debug)]
pub struct Sample {
    capacity: usize,
    /// Ascending.
    rows: Vec<SampleRow>,
}

/// A sampled row.
#[derive(Clone, Debug)]
pub struct SampleRow {
    /// The caller's hash.
    pub key: u64,
    /// The source's states: `[unique source layers * hidden]`, layer by layer, ascending.
    pub source: Box<[f32]>,
    /// The target's states, in the same order.
    pub target: Box<[f32]>,
}

impl SampleRow {
    /// The total order that a sample is sorted by: key, then the states.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let states = |a: &[f32], b: &[f32]| {
            let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
            differing.unwrap_or(Ordering::Equal)
        };
        self.key
            .cmp(&other.key)
            .then_with(|| states(&self.source, &other.source))
            .then_with(|| states(&self.target, &other.target))
    }
}

impl Sample {
    /// An empty sample of at most `capacity` rows.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(MAX_SAMPLE_ROWS),
            rows: Vec::new(),
        }
    }

    /// The most rows that it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The rows, ascending by key.
    pub fn rows(&self) -> &[SampleRow] {
        &self.rows
    }

    /// Whether a row with this key may enter; checked before its states are copied.
    pub(super) fn wants(&self, key: u64) -> bool {
        self.rows.len() < self.capacity || self.rows.last().is_some_and(|last| key <= last.key)
    }

    /// Adds a row if it is among the smallest.
    pub(super) fn add(&mut self, row: SampleRow) {
        if !self.wants(row.key) {
            return;
        }
        let place = self.rows.partition_point(|other| other.order(&row).is_lt());
        self.rows.insert(place, row);
        self.rows.truncate(self.capacity);
    }

    /// The same rows, with some of their layers: each side's places among its layers, and its width.
    pub(super) fn restrict(self, source: (&[usize], usize), target: (&[usize], usize)) -> Self {
        let pick = |states: &[f32], (places, width): (&[usize], usize)| -> Box<[f32]> {
            let layers = places
                .iter()
                .flat_map(|&place| &states[place * width..(place + 1) * width]);
            layers.copied().collect()
        };
        let rows = self.rows.into_iter().map(|row| SampleRow {
            key: row.key,
            source: pick(&row.source, source),
            target: pick(&row.target, target),
        });
        Self {
            capacity: self.capacity,
            rows: rows.collect(),
        }
    }

    /// Adds all rows of another sample.
    pub(super) fn merge(&mut self, other: Self) {
        for row in other.rows {
            self.add(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: u64, value: f32) -> SampleRow {
        SampleRow {
            key,
            source: Box::new([value]),
            target: Box::new([-value, key as f32]),
        }
    }

    fn content(sample: &Sample) -> Vec<(u64, f32)> {
        sample.rows().iter().map(|row| (row.key, row.source[0])).collect()
    }

    fn sample(rows: &[(u64, f32)]) -> Sample {
        let mut sample = Sample::new(4);
        for &(key, value) in rows {
            sample.add(row(key, value));
        }
        sample
    }

    #[test]
    fn the_smallest_keys_stay_whatever_the_order() {
        let rows = [(9, 0.0), (3, 1.0), (7, 2.0), (1, 3.0), (8, 4.0), (2, 5.0)];
        let expected = [(1, 3.0), (2, 5.0), (3, 1.0), (7, 2.0)];
        assert_eq!(content(&sample(&rows)), expected);
        let mut reversed = rows;
        reversed.reverse();
        assert_eq!(content(&sample(&reversed)), expected);
        for cut in 0..=rows.len() {
            let mut merged = sample(&rows[cut..]);
            merged.merge(sample(&rows[..cut]));
            assert_eq!(content(&merged), expected, "{cut}");
        }
    }

    #[test]
    fn ties_and_duplicates_do_not_depend_on_the_order() {
        let rows = [(5, 2.0), (5, 1.0), (5, 1.0), (5, -1.0), (5, 3.0), (6, 0.0)];
        let expected = [(5, -1.0), (5, 1.0), (5, 1.0), (5, 2.0)];
        for turn in 0..rows.len() {
            let mut turned = rows;
            turned.rotate_left(turn);
            assert_eq!(content(&sample(&turned)), expected, "{turn}");
        }
    }

    #[test]
    fn an_empty_sample_takes_nothing() {
        let mut none = Sample::new(0);
        assert!(!none.wants(0));
        none.add(row(0, 0.0));
        assert!(none.rows().is_empty());
        assert_eq!(Sample::new(usize::MAX).capacity(), MAX_SAMPLE_ROWS);
    }
}
