//! Held-out rows: those of the validation and test splits.
//!
//! A sample of the rows is kept. Moments are computed from it when they are needed: one input's Gram matrix and one
//! pair's cross products at a time. So a fit only keeps the matrices of the train rows.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

use super::layout::LayoutPlan;
use super::moments::Moments;
use super::sample::Sample;

/// The sample and the count of one held-out split.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Rows that were added, sampled or not.
    pub(super) count: u64,
    pub(super) sample: Sample,
    /// The sums of all rows, in files of version 1. If present, measures use them, and the sample is only used for
    /// cosines.
    pub(super) sums: Option<Moments>,
}

impl HeldOut {
    /// Of no rows, with a sample of at most `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            count: 0,
            sample: Sample::new(capacity),
            sums: None,
        }
    }

    /// Rows that were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Rows that measures are of: those of the sample, or all where a file of version 1 has their sums.
    pub fn measured(&self) -> u64 {
        match &self.sums {
            Some(sums) => sums.count,
            None => self.sample.rows().len() as u64,
        }
    }

    /// The sampled rows.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The moments of an input.
    pub(crate) fn input<'a>(&'a self, plan: &'a LayoutPlan, input: usize) -> InputMoments<'a> {
        let sources = &plan.inputs[input].sources;
        let states = self.source_states(plan, input);
        let (mean, gram, centred) = match &self.sums {
            Some(sums) => {
                let gram = Product::Kept(sums.gram[input].view());
                (sums.input_mean(sources), gram, Mat::new())
            }
            None => {
                let (mean, centred) = centre(states.as_ref());
                let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
                let mut gram = Mat::zeros(centred.nrows(), centred.nrows());
                let (left, right) = (centred.as_ref(), centred.transpose());
                triangular::matmul(
                    &mut gram,
                    half,
                    Accum::Replace,
                    left,
                    all,
                    right,
                    all,
                    1.0,
                    Par::rayon(0),
                );
                (mean, Product::Made(gram), centred)
            }
        };
        InputMoments {
            held_out: self,
            plan,
            count: self.measured() as f64,
            mean,
            gram,
            states,
            centred,
        }
    }

    /// The sampled rows' states of an input, a row a column. `[d_in, rows]`
    fn source_states(&self, plan: &LayoutPlan, input: usize) -> Mat<f64> {
        let (sources, hidden) = (&plan.inputs[input].sources, plan.layout.source_hidden);
        let rows = self.sample.rows();
        Mat::from_fn(plan.inputs[input].width, rows.len(), |i, row| {
            f64::from(rows[row].source[sources[i / hidden] * hidden + i % hidden])
        })
    }

    /// The sampled rows' states of a target layer, a row a column. `[target_hidden, rows]`
    fn target_states(&self, plan: &LayoutPlan, target: usize) -> Mat<f64> {
        let (rows, hidden) = (self.sample.rows(), plan.layout.target_hidden);
        Mat::from_fn(hidden, rows.len(), |i, row| {
            f64::from(rows[row].target[target * hidden + i])
        })
    }
}

/// Centred second moments of one input on held-out rows.
pub(crate) struct InputMoments<'a> {
    held_out: &'a HeldOut,
    plan: &'a LayoutPlan,
    /// Rows.
    pub count: f64,
    /// `[d_in]`
    pub mean: Vec<f64>,
    gram: Product<'a>,
    /// The sampled rows, one a column. `[d_in, rows]`
    pub states: Mat<f64>,
    /// The same less their mean, unless there are sums.
    centred: Mat<f64>,
}

/// Those of a pair with that input.
pub(crate) struct PairMoments<'a> {
    /// Mean of the target's states. `[target_hidden]`
    pub mean: Vec<f64>,
    /// Sum of squares about it, per dimension. `[target_hidden]`
    pub squares: Vec<f64>,
    cross: Product<'a>,
    /// The sampled rows of the target layer, one a column. `[target_hidden, rows]`
    pub states: Mat<f64>,
}

/// A matrix of sums: kept all the time, or made when it was needed.
enum Product<'a> {
    Kept(MatRef<'a, f64>),
    Made(Mat<f64>),
}

impl Product<'_> {
    fn view(&self) -> MatRef<'_, f64> {
        match self {
            Self::Kept(matrix) => *matrix,
            Self::Made(matrix) => matrix.as_ref(),
        }
    }
}

impl<'a> InputMoments<'a> {
    /// `sum (x - mean)(x - mean)^T`; the lower triangle alone. `[d_in, d_in]`
    pub fn gram(&self) -> MatRef<'_, f64> {
        self.gram.view()
    }

    /// Those of a pair with this input.
    pub fn pair(&self, pair: usize) -> PairMoments<'a> {
        let target = self.plan.pairs[pair].target;
        let states = self.held_out.target_states(self.plan, target);
        let (mean, squares, cross) = match &self.held_out.sums {
            Some(sums) => {
                let cross = Product::Kept(sums.cross[pair].view());
                (
                    sums.target_mean[target].clone(),
                    sums.target_squares[target].clone(),
                    cross,
                )
            }
            None => {
                let (mean, centred) = centre(states.as_ref());
                let mut squares = vec![0.0; mean.len()];
                for row in centred.col_iter() {
                    let deviations = squares.iter_mut().zip(row.iter());
                    deviations.for_each(|(square, deviation)| *square += deviation * deviation);
                }
                let mut cross = Mat::zeros(self.centred.nrows(), centred.nrows());
                let (left, right) = (self.centred.as_ref(), centred.transpose());
                matmul(&mut cross, Accum::Replace, left, right, 1.0, Par::rayon(0));
                (mean, squares, Product::Made(cross))
            }
        };
        PairMoments {
            mean,
            squares,
            cross,
            states,
        }
    }
}

impl PairMoments<'_> {
    /// `sum (x - mean)(y - mean)^T`, `[d_in, target_hidden]`.
    pub fn cross(&self) -> MatRef<'_, f64> {
        self.cross.view()
    }
}

/// The mean of the columns, and each column less it.
fn centre(states: MatRef<'_, f64>) -> (Vec<f64>, Mat<f64>) {
    let rows = states.ncols().max(1) as f64;
    let mut mean = vec![0.0; states.nrows()];
    for row in states.col_iter() {
        mean.iter_mut().zip(row.iter()).for_each(|(mean, value)| *mean += value);
    }
    mean.iter_mut().for_each(|mean| *mean /= rows);
    let mut centred = states.to_owned();
    for row in centred.col_iter_mut() {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
    }
    (mean, centred)
}
