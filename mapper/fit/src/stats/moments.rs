//! Centred second moments of rows.
//!
//! Two sets of rows `a` and `b` are joined by the parallel update of Chan, Golub & LeVeque ("Updating formulae and a
//! pairwise algorithm for computing sample variances", Stanford STAN-CS-79-773, 1979; for covariances Schubert & Gertz,
//! SSDBM 2018): with `d = mean_b - mean_a` and `n = n_a + n_b`,
//!
//! ```text
//! mean = mean_a + d n_b / n        S = S_a + S_b + (n_a n_b / n) d d^T
//! ```
//!
//! No difference of large sums is ever taken, so means a thousand times the spread cost no digits.

use rayon::prelude::*;

use super::layout::LayoutPlan;
use super::matrix::Matrix;

/// Count, means and centred sums of products of rows.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Number of rows.
    pub count: u64,
    /// Per unique source layer: the mean state, `[source_hidden]`.
    pub source_mean: Vec<Vec<f64>>,
    /// Per unique target layer: the mean state, `[target_hidden]`.
    pub target_mean: Vec<Vec<f64>>,
    /// Per unique target layer: sum of squares about the mean, per dimension, `[target_hidden]`.
    pub target_squares: Vec<Vec<f64>>,
    /// Per input: `sum (x - mean)(x - mean)^T`, `[d_in, d_in]`; only the lower triangle is kept, above it are zeros.
    pub gram: Vec<Matrix<f64>>,
    /// Per pair: `sum (x - mean)(y - mean)^T`, `[d_in, target_hidden]`.
    pub cross: Vec<Matrix<f64>>,
    /// Per unique source layer: sum of the rows' L2 norms.
    pub source_norms: Vec<f64>,
    /// Per unique target layer: sum of the rows' L2 norms.
    pub target_norms: Vec<f64>,
}

impl Moments {
    /// Moments of no rows; `None` if there isn't the memory.
    pub(super) fn new(plan: &LayoutPlan) -> Option<Self> {
        let (sources, targets) = (plan.sources.len(), plan.targets.len());
        let width = plan.layout.target_hidden;
        let cross = |pair: &super::layout::PairPlaces| Matrix::zeros(plan.inputs[pair.input].width, width);
        Some(Self {
            count: 0,
            source_mean: vec![vec![0.0; plan.layout.source_hidden]; sources],
            target_mean: vec![vec![0.0; width]; targets],
            target_squares: vec![vec![0.0; width]; targets],
            gram: plan
                .inputs
                .iter()
                .map(|i| Matrix::zeros(i.width, i.width))
                .collect::<Option<_>>()?,
            cross: plan.pairs.iter().map(cross).collect::<Option<_>>()?,
            source_norms: vec![0.0; sources],
            target_norms: vec![0.0; targets],
        })
    }

    /// The mean of an input: its layers' means, concatenated. `[d_in]`
    pub(crate) fn input_mean(&self, sources: &[usize]) -> Vec<f64> {
        sources
            .iter()
            .flat_map(|&s| self.source_mean[s].iter().copied())
            .collect()
    }

    /// The moments of some of the layers, inputs and pairs.
    pub(super) fn restrict(mut self, places: &Places) -> Self {
        fn pick<T: Default>(all: &mut [T], places: &[usize]) -> Vec<T> {
            places.iter().map(|&place| std::mem::take(&mut all[place])).collect()
        }
        let Places {
            sources,
            targets,
            inputs,
            pairs,
        } = places;
        Self {
            count: self.count,
            source_mean: pick(&mut self.source_mean, sources),
            target_mean: pick(&mut self.target_mean, targets),
            target_squares: pick(&mut self.target_squares, targets),
            gram: pick(&mut self.gram, inputs),
            cross: pick(&mut self.cross, pairs),
            source_norms: pick(&mut self.source_norms, sources),
            target_norms: pick(&mut self.target_norms, targets),
        }
    }

    /// Joins the moments of other rows to these. Both have the plan's shapes.
    pub(super) fn merge(&mut self, other: Self, plan: &LayoutPlan) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let step = MomentsUpdate::new(self.count, other.count);
        let shifts = |to: &[Vec<f64>], from: &[Vec<f64>]| -> Vec<Vec<f64>> {
            to.iter().zip(from).map(|(to, from)| shift(to, from)).collect()
        };
        let source = shifts(&self.source_mean, &other.source_mean);
        let target = shifts(&self.target_mean, &other.target_mean);
        let of_input = |input: usize| -> Vec<f64> {
            let sources = plan.inputs[input].sources.iter();
            sources.flat_map(|&s| source[s].iter().copied()).collect()
        };
        for (index, (gram, from)) in self.gram.iter_mut().zip(&other.gram).enumerate() {
            let shift = of_input(index);
            add(gram, from, &shift, &shift, step.weight, true);
        }
        for (pair, (cross, from)) in plan.pairs.iter().zip(self.cross.iter_mut().zip(&other.cross)) {
            add(
                cross,
                from,
                &of_input(pair.input),
                &target[pair.target],
                step.weight,
                false,
            );
        }
        for (t, shift) in target.iter().enumerate() {
            step.squares(&mut self.target_squares[t], &other.target_squares[t], shift);
            step.mean(&mut self.target_mean[t], shift);
            self.target_norms[t] += other.target_norms[t];
        }
        for (s, shift) in source.iter().enumerate() {
            step.mean(&mut self.source_mean[s], shift);
            self.source_norms[s] += other.source_norms[s];
        }
        self.count += other.count;
    }
}

/// Where the parts of a smaller plan are in a larger one.
pub(super) struct Places {
    pub sources: Vec<usize>,
    pub targets: Vec<usize>,
    pub inputs: Vec<usize>,
    /// In the order of the smaller plan.
    pub pairs: Vec<usize>,
}

/// The factors of one update.
#[derive(Clone, Copy, Debug)]
pub(super) struct MomentsUpdate {
    /// `n_a n_b / (n_a + n_b)`
    pub weight: f64,
    /// `n_b / (n_a + n_b)`
    pub share: f64,
}

impl MomentsUpdate {
    /// From the number of rows before, and of those that come.
    pub fn new(before: u64, coming: u64) -> Self {
        let share = coming as f64 / (before as f64 + coming as f64);
        Self {
            weight: before as f64 * share,
            share,
        }
    }

    /// Moves a mean by its part of the shift.
    pub fn mean(self, mean: &mut [f64], shift: &[f64]) {
        for (mean, shift) in mean.iter_mut().zip(shift) {
            *mean += shift * self.share;
        }
    }

    /// Joins sums of squares.
    pub fn squares(self, to: &mut [f64], from: &[f64], shift: &[f64]) {
        for ((to, from), shift) in to.iter_mut().zip(from).zip(shift) {
            *to += from + self.weight * shift * shift;
        }
    }
}

/// `from - to`
pub(super) fn shift(to: &[f64], from: &[f64]) -> Vec<f64> {
    from.iter().zip(to).map(|(from, to)| from - to).collect()
}

/// `to += from + weight * left right^T`, whole or the lower triangle alone.
fn add(to: &mut Matrix<f64>, from: &Matrix<f64>, left: &[f64], right: &[f64], weight: f64, lower: bool) {
    let rows = to.rows();
    let columns = to.values_mut().par_chunks_mut(rows).zip(from.values().par_chunks(rows));
    columns.enumerate().for_each(|(column, (to, from))| {
        let start = if lower { column } else { 0 };
        let factor = weight * right[column];
        for ((to, from), left) in to[start..].iter_mut().zip(&from[start..]).zip(&left[start..]) {
            *to += from + factor * left;
        }
    });
}
