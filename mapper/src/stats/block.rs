//! A block of staged rows, and how its products join the moments.
//!
//! The block's means are subtracted, so that what is multiplied is small and products don't cancel; then one product
//! per Gram matrix (lower triangle alone) and one per cross matrix adds to the moments, by the update of
//! [`moments`](super::moments). In f64 the update's rank-one term is one more row of the block, `sqrt(weight) * shift`,
//! so that it costs no pass over the matrices.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::layout::Plan;
use super::matrix::Matrix;
use super::moments::{Moments, Step, shift};

/// Rows that a thread centres at a time: enough to be worth a task, and the sums' order doesn't depend on the threads.
const CHUNK: usize = 128;

/// Rows that wait until there are enough for an efficient product.
#[derive(Clone, Debug, Default)]
pub(super) struct Stage {
    pub rows: usize,
    /// Per unique source layer: `[rows, source_hidden]`, row by row.
    pub source: Vec<Vec<f32>>,
    /// Per unique target layer.
    pub target: Vec<Vec<f32>>,
}

impl Stage {
    pub fn new(plan: &Plan) -> Self {
        Self {
            rows: 0,
            source: vec![Vec::new(); plan.sources.len()],
            target: vec![Vec::new(); plan.targets.len()],
        }
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.source.iter_mut().chain(&mut self.target).for_each(Vec::clear);
    }
}

/// The type that a block is multiplied in.
pub(super) trait Number: ComplexField + Copy + Default + Send + Sync {
    fn from_f64(value: f64) -> Self;

    /// Makes a centred block ready for [`add_product`](Self::add_product).
    fn finish(block: &mut Centred<Self>, step: Step);

    /// Adds `left^T right` and `weight * left.shift right.shift^T` to the part of `to` whose first row and column are
    /// `at`; only its lower triangle if `lower`.
    fn add_product(
        to: &mut Matrix<f64>,
        at: (usize, usize),
        left: &Centred<Self>,
        right: &Centred<Self>,
        lower: bool,
        step: Step,
        product: &mut Vec<Self>,
    );
}

/// One layer's rows of a block, less their mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Centred<T> {
    width: usize,
    /// `[rows, width]`, row by row; in f64 with one row more for the shift.
    values: Vec<T>,
    /// Mean of the block less that of the rows before. `[width]`
    shift: Vec<f64>,
    /// Sum of squares about the block's mean, per dimension. `[width]`
    squares: Vec<f64>,
    /// Sum of the rows' L2 norms.
    norms: f64,
}

/// What a block needs in memory to be multiplied; kept from block to block.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers<T> {
    sources: Vec<Centred<T>>,
    target: Centred<T>,
    product: Vec<T>,
}

/// Joins all staged rows to the moments and empties the stage.
pub(super) fn absorb<T: Number>(plan: &Plan, stage: &mut Stage, moments: &mut Moments, buffers: &mut Buffers<T>) {
    if stage.rows == 0 {
        return;
    }
    let step = Step::new(moments.count, stage.rows as u64);
    let (source_hidden, target_hidden) = (plan.layout.source_hidden, plan.layout.target_hidden);
    buffers.sources.resize_with(plan.sources.len(), Centred::default);
    for (s, centred) in buffers.sources.iter_mut().enumerate() {
        centre(&stage.source[s], source_hidden, &moments.source_mean[s], centred);
        T::finish(centred, step);
        step.mean(&mut moments.source_mean[s], &centred.shift);
        moments.source_norms[s] += centred.norms;
    }
    let (sources, product) = (&buffers.sources, &mut buffers.product);
    for (input, gram) in plan.inputs.iter().zip(&mut moments.gram) {
        for (a, &left) in input.sources.iter().enumerate() {
            for (b, &right) in input.sources[..=a].iter().enumerate() {
                let at = (a * source_hidden, b * source_hidden);
                T::add_product(gram, at, &sources[left], &sources[right], a == b, step, product);
            }
        }
    }
    for t in 0..plan.targets.len() {
        let centred = &mut buffers.target;
        centre(&stage.target[t], target_hidden, &moments.target_mean[t], centred);
        T::finish(centred, step);
        for (pair, cross) in plan.pairs.iter().zip(&mut moments.cross) {
            if pair.target == t {
                for (a, &source) in plan.inputs[pair.input].sources.iter().enumerate() {
                    let at = (a * source_hidden, 0);
                    T::add_product(cross, at, &sources[source], centred, false, step, product);
                }
            }
        }
        step.squares(&mut moments.target_squares[t], &centred.squares, &centred.shift);
        step.mean(&mut moments.target_mean[t], &centred.shift);
        moments.target_norms[t] += centred.norms;
    }
    moments.count += stage.rows as u64;
    stage.clear();
}

/// Fills `out` with the rows less their mean, and with all sums of one layer. Two passes: mean, then deviations.
fn centre<T: Number>(states: &[f32], width: usize, before: &[f64], out: &mut Centred<T>) {
    let rows = states.len() / width;
    let chunk = CHUNK * width;
    // Partial sums in order, whatever thread made them: the same rows always give the same bits.
    let sums: Vec<(Vec<f64>, f64)> = states.par_chunks(chunk).map(|rows| sum(rows, width)).collect();
    let mut mean = vec![0.0; width];
    out.norms = 0.0;
    for (sum, norms) in sums {
        add_to(&mut mean, &sum);
        out.norms += norms;
    }
    mean.iter_mut().for_each(|mean| *mean /= rows as f64);

    out.width = width;
    out.values.resize(states.len(), T::default());
    let squares: Vec<Vec<f64>> = states
        .par_chunks(chunk)
        .zip(out.values.par_chunks_mut(chunk))
        .map(|(states, values)| subtract(states, &mean, values))
        .collect();
    out.squares.clear();
    out.squares.resize(width, 0.0);
    squares.iter().for_each(|part| add_to(&mut out.squares, part));
    out.shift = shift(before, &mean);
}

/// Sum of the rows, and of their norms.
fn sum(states: &[f32], width: usize) -> (Vec<f64>, f64) {
    let mut sum = vec![0.0; width];
    let mut norms = 0.0;
    for row in states.chunks_exact(width) {
        for (sum, &value) in sum.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
        norms += norm(row);
    }
    (sum, norms)
}

/// L2 norm of a row, in f64.
fn norm(row: &[f32]) -> f64 {
    // Eight sums side by side, which the compiler makes one vector of.
    let mut lanes = [0f64; 8];
    let (chunks, rest) = row.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

/// Writes the deviations; returns the sums of their squares.
fn subtract<T: Number>(states: &[f32], mean: &[f64], values: &mut [T]) -> Vec<f64> {
    let width = mean.len();
    let mut squares = vec![0.0; width];
    for (states, values) in states.chunks_exact(width).zip(values.chunks_exact_mut(width)) {
        for (((&state, mean), value), square) in states.iter().zip(mean).zip(values).zip(&mut squares) {
            let deviation = f64::from(state) - mean;
            *value = T::from_f64(deviation);
            *square += deviation * deviation;
        }
    }
    squares
}

fn add_to(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// `to (+)= left^T right`
fn multiply<T: Number>(to: MatMut<'_, T>, how: Accum, left: &Centred<T>, right: &Centred<T>, lower: bool, one: T) {
    fn view<T>(block: &Centred<T>) -> MatRef<'_, T> {
        MatRef::from_row_major_slice(&block.values, block.values.len() / block.width, block.width)
    }
    let (left, right) = (view(left).transpose(), view(right));
    let all = BlockStructure::Rectangular;
    if lower {
        let half = BlockStructure::TriangularLower;
        triangular::matmul(to, half, how, left, all, right, all, one, Par::rayon(0));
    } else {
        matmul(to, how, left, right, one, Par::rayon(0));
    }
}

impl Number for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }

    fn finish(block: &mut Centred<Self>, step: Step) {
        if step.weight > 0.0 {
            let root = step.weight.sqrt();
            block.values.extend(block.shift.iter().map(|shift| root * shift));
        }
    }

    fn add_product(
        to: &mut Matrix<f64>,
        (row, column): (usize, usize),
        left: &Centred<Self>,
        right: &Centred<Self>,
        lower: bool,
        _: Step,
        _: &mut Vec<Self>,
    ) {
        let part = to.view_mut().submatrix_mut(row, column, left.width, right.width);
        multiply(part, Accum::Add, left, right, lower, 1.0);
    }
}

impl Number for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn finish(_: &mut Centred<Self>, _: Step) {}

    fn add_product(
        to: &mut Matrix<f64>,
        (row, column): (usize, usize),
        left: &Centred<Self>,
        right: &Centred<Self>,
        lower: bool,
        step: Step,
        product: &mut Vec<Self>,
    ) {
        product.resize(left.width * right.width, 0.0);
        let part = MatMut::from_column_major_slice_mut(product.as_mut_slice(), left.width, right.width);
        multiply(part, Accum::Replace, left, right, lower, 1.0);
        let rows = to.rows();
        let columns = to.values_mut()[column * rows..].par_chunks_mut(rows);
        columns
            .zip(product.par_chunks(left.width))
            .enumerate()
            .for_each(|(column, (to, product))| {
                let start = if lower { column } else { 0 };
                let factor = step.weight * right.shift[column];
                let to = &mut to[row + start..];
                for ((to, &product), shift) in to.iter_mut().zip(&product[start..]).zip(&left.shift[start..]) {
                    *to += f64::from(product) + factor * shift;
                }
            });
    }
}
