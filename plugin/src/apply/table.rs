//! What a mix of programs does at a layer, as tensors with one line a kind.

use std::sync::Arc;

use candle_core::{D, DType, Result, Tensor};

use super::plan::{Index, Kind};
use crate::compile::{Program, Step};
use crate::spec::{Conflict, NormRule, Op};

/// Mixes whose tables are kept for each layer: a prompt's and a few batches', which take turns.
const KEPT: usize = 8;

/// The tables made last, by layer.
#[derive(Default)]
pub struct Tables {
    layers: Vec<Vec<Known>>,
}

/// A mix and its table; `None` if it does nothing there.
type Known = (Vec<Kind>, Option<Arc<Table>>);

impl Tables {
    /// The table of `kinds` at `layer`, for `stream`'s dtype and device; `None` if none of them acts there.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn get(&mut self, layer: usize, kinds: &[Kind], stream: &Tensor) -> Result<Option<Arc<Table>>> {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Vec::new);
        }
        let known = &mut self.layers[layer];
        if let Some(at) = known
            .iter()
            .position(|(of, table)| of.as_slice() == kinds && table.as_ref().is_none_or(|table| table.fits(stream)))
        {
            // The oldest make room first.
            let found = known.remove(at);
            let table = found.1.clone();
            known.push(found);
            return Ok(table);
        }
        let table = Table::new(layer, kinds, stream)?.map(Arc::new);
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push((kinds.to_vec(), table.clone()));
        Ok(table)
    }
}

/// What is done at one layer, step by step. Line 0 does nothing; line `1 + i` is what kind `i` does.
pub struct Table {
    rounds: Vec<Round>,
    /// `[kinds + 1, 1]`, f32: 1 where the norm is preserved.
    preserve: Option<Tensor>,
    dtype: DType,
}

/// One step of every kind.
enum Round {
    /// `h + offset`: `[kinds + 1, hidden]` in the stream's dtype.
    Add(Tensor),
    /// `h + (s - k (h . d)) d`: `d` is `[kinds + 1, hidden]`, `s` and `k` are `[kinds + 1, 1]`, all f32.
    Project { d: Tensor, s: Tensor, k: Tensor },
}

/// One step of one kind, before the kinds are put together.
enum Move {
    Add(Vec<f32>),
    Project { d: Vec<f32>, s: f32, k: f32 },
}

impl Table {
    fn new(layer: usize, kinds: &[Kind], stream: &Tensor) -> Result<Option<Self>> {
        let moves: Vec<Vec<Move>> = kinds.iter().map(|kind| moves(layer, kind)).collect();
        let count = moves.iter().map(Vec::len).max().unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        let hidden = stream.dim(D::Minus1)?;
        let device = stream.device();
        let preserves = |(kind, moves): (&Kind, &Vec<Move>)| {
            f32::from(!moves.is_empty() && kind.program.norm == NormRule::Preserve)
        };
        let preserve: Vec<f32> = std::iter::once(0.0)
            .chain(kinds.iter().zip(&moves).map(preserves))
            .collect();
        let rounds = (0..count).map(|number| {
            let now: Vec<Option<&Move>> = moves.iter().map(|moves| moves.get(number)).collect();
            let mut d = vec![0f32; (kinds.len() + 1) * hidden];
            let (mut s, mut k) = (vec![0f32; kinds.len() + 1], vec![0f32; kinds.len() + 1]);
            for (i, one) in now.iter().enumerate() {
                let line = &mut d[(i + 1) * hidden..(i + 2) * hidden];
                match one {
                    None => {}
                    Some(Move::Add(offset)) => {
                        line.copy_from_slice(checked(offset, hidden)?);
                        s[i + 1] = 1.0;
                    }
                    Some(Move::Project { d, s: set, k: take }) => {
                        line.copy_from_slice(checked(d, hidden)?);
                        (s[i + 1], k[i + 1]) = (*set, *take);
                    }
                }
            }
            let lines = kinds.len() + 1;
            let d = Tensor::from_vec(d, (lines, hidden), device)?;
            if now.iter().all(|one| !matches!(one, Some(Move::Project { .. }))) {
                return Ok(Round::Add(d.to_dtype(stream.dtype())?));
            }
            Ok(Round::Project {
                d,
                s: Tensor::from_vec(s, (lines, 1), device)?,
                k: Tensor::from_vec(k, (lines, 1), device)?,
            })
        });
        Ok(Some(Self {
            rounds: rounds.collect::<Result<_>>()?,
            preserve: match preserve.iter().any(|p| *p != 0.0) {
                true => Some(Tensor::from_vec(preserve, (kinds.len() + 1, 1), device)?),
                false => None,
            },
            dtype: stream.dtype(),
        }))
    }

    fn fits(&self, stream: &Tensor) -> bool {
        let device = match self.rounds.first() {
            Some(Round::Add(tensor)) | Some(Round::Project { d: tensor, .. }) => tensor.device(),
            None => return false,
        };
        self.dtype == stream.dtype() && device.same_device(stream.device())
    }

    /// Steers `stream`, `[rows, width, hidden]`.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn apply(&self, stream: &Tensor, index: &Index, shape: (usize, usize, usize)) -> Result<Tensor> {
        let mut out = stream.clone();
        for round in &self.rounds {
            out = match round {
                // Where all rounds are such, nothing leaves the stream's dtype.
                Round::Add(offsets) => {
                    let offsets = gather(offsets, index, shape)?;
                    out.broadcast_add(&offsets.to_dtype(out.dtype())?)?
                }
                Round::Project { d, s, k } => {
                    let out = out.to_dtype(DType::F32)?;
                    let d = gather(d, index, shape)?;
                    let component = out.broadcast_mul(&d)?.sum_keepdim(D::Minus1)?;
                    let taken = component.broadcast_mul(&gather(k, index, shape)?)?;
                    let factor = gather(s, index, shape)?.broadcast_sub(&taken)?;
                    (&out + factor.broadcast_mul(&d)?)?
                }
            };
        }
        if let Some(preserve) = &self.preserve {
            let (before, after) = (stream.to_dtype(DType::F32)?, out.to_dtype(DType::F32)?);
            let norm = |x: &Tensor| x.sqr()?.sum_keepdim(D::Minus1)?.sqrt();
            // A state without length has no direction to be made longer.
            let ratio = (norm(&before)? / norm(&after)?.maximum(f32::MIN_POSITIVE)?)?;
            let factor = (gather(preserve, index, shape)?.broadcast_mul(&(ratio - 1.0)?)? + 1.0)?;
            out = after.broadcast_mul(&factor)?;
        }
        out.to_dtype(stream.dtype())
    }
}

fn checked(values: &[f32], hidden: usize) -> Result<&[f32]> {
    match values.len() == hidden {
        true => Ok(values),
        false => candle_core::bail!("a direction of {} values for a stream of {hidden}", values.len()),
    }
}

/// The lines of `table`, `[kinds + 1, n]`, that the positions want: `[rows or 1, width or 1, n]`.
fn gather(table: &Tensor, index: &Index, (rows, width, _): (usize, usize, usize)) -> Result<Tensor> {
    let n = table.dim(1)?;
    match index {
        Index::Same => table.narrow(0, 1, 1)?.reshape((1, 1, n)),
        Index::Rows(index) => table.index_select(index, 0)?.reshape((rows, 1, n)),
        Index::Positions(index) => table.index_select(index, 0)?.reshape((rows, width, n)),
    }
}

/// What a kind does at `layer`, in order; offsets that follow each other are added up.
fn moves(layer: usize, kind: &Kind) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for step in acting_steps(&kind.program, kind.steps) {
        let Some(here) = step.layers.get(&layer) else { continue };
        match (step.op, moves.last_mut()) {
            (Op::Add, Some(Move::Add(sum))) => {
                for (sum, x) in sum.iter_mut().zip(&here.direction) {
                    *sum += x;
                }
            }
            (Op::Add, _) => moves.push(Move::Add(here.direction.clone())),
            (Op::Ablate, _) => moves.push(Move::Project {
                d: here.direction.clone(),
                s: 0.0,
                k: here.scale,
            }),
            (Op::Set, _) => moves.push(Move::Project {
                d: here.direction.clone(),
                s: here.scale,
                k: 1.0,
            }),
        }
        if kind.program.conflict == Conflict::First {
            break;
        }
    }
    moves
}

fn acting_steps(program: &Program, steps: u32) -> impl Iterator<Item = &Step> {
    let numbered = program.steps.iter().enumerate();
    numbered.filter_map(move |(number, step)| (steps & (1 << number) != 0).then_some(step))
}
