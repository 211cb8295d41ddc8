//! Draws items, or whole clusters of them, with replacement.

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which items each resample has: as many clusters as there are, drawn with replacement, with all of their items. The
/// same for the same seed on every machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Resamples {
    items: usize,
    clusters: usize,
    effective_clusters: f64,
    /// Where in `indices` each resample ends.
    ends: Vec<usize>,
    /// The items of all resamples, one resample after the other.
    indices: Vec<usize>,
}

impl Resamples {
    /// Draws `count` resamples of `items` independent items with ChaCha8.
    pub fn new(count: usize, items: usize, seed: u64) -> Self {
        let alone: Vec<usize> = (0..items).collect();
        Self::clustered(count, &alone, seed)
    }

    /// Draws `count` resamples of whole clusters, for items that are independent only between clusters (Davison &
    /// Hinkley 1997, "Bootstrap Methods and their Application", 3.8). `clusters[i]` is the cluster of item `i`, any
    /// number. Where clusters differ in size, so do resamples. With one item a cluster it is [`Resamples::new`].
    pub fn clustered(count: usize, clusters: &[usize], seed: u64) -> Self {
        let members = members(clusters);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut ends = Vec::with_capacity(count);
        let mut indices = Vec::with_capacity(count * clusters.len());
        for _ in 0..count {
            for _ in 0..members.len() {
                indices.extend_from_slice(&members[rng.random_range(0..members.len())]);
            }
            ends.push(indices.len());
        }
        Self {
            items: clusters.len(),
            clusters: members.len(),
            effective_clusters: effective(&members),
            ends,
            indices,
        }
    }

    /// Number of items that are drawn from.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of clusters that are drawn from, which is also that of each resample.
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// As many clusters of one size as tell as much: `sum(n)^2 / sum(n^2)` of the clusters' numbers of items (Kish
    /// 1965, "Survey Sampling", 11.2). The number of clusters if they have one size; 0 without items.
    pub fn effective_clusters(&self) -> f64 {
        self.effective_clusters
    }

    /// The resamples one after the other: the indices of their items.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[usize]> {
        self.ends.iter().enumerate().map(|(resample, &end)| {
            let start = if resample == 0 { 0 } else { self.ends[resample - 1] };
            &self.indices[start..end]
        })
    }
}

/// See [`Resamples::effective_clusters`].
fn effective(members: &[Vec<usize>]) -> f64 {
    let items: usize = members.iter().map(Vec::len).sum();
    let squares: usize = members.iter().map(|items| items.len().pow(2)).sum();
    (items as f64).powi(2) / squares.max(1) as f64
}

/// The items of each cluster; clusters in the order of their first items.
fn members(clusters: &[usize]) -> Vec<Vec<usize>> {
    let mut places = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (item, cluster) in clusters.iter().enumerate() {
        let place = *places.entry(cluster).or_insert(members.len());
        if place == members.len() {
            members.push(Vec::new());
        }
        members[place].push(item);
    }
    members
}
