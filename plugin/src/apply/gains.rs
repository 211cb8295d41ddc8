//! The factors that schedules give to the steps of one forward pass.

use std::sync::{Arc, Mutex};

use candle_core::{Device, DeviceLocation, Result, Tensor};
use residual_hooks::Row;

use super::plan::StepLayout;
use super::sequence::SequenceState;
use crate::lock::lock;

/// By position of the stream, the factor of each step of its program.
pub struct Gains {
    /// By row and position: 0 if all factors are 1, else 1 + the index of the first factor in `values`.
    index: Vec<u32>,
    values: Vec<f32>,
    width: usize,
    /// Tensors of factors, made for rounds of layouts on devices.
    tensors: Mutex<Vec<RoundGains>>,
}

struct RoundGains {
    layout: Arc<StepLayout>,
    round: usize,
    device: DeviceLocation,
    tensor: Tensor,
}

impl Gains {
    /// The factors for `rows` in a stream of `width` positions; `None` if no program has a schedule.
    pub fn new(rows: &[Row], width: usize) -> Option<Self> {
        let scheduled = |row: &Row| SequenceState::of(row).is_some_and(SequenceState::is_scheduled);
        if !rows.iter().any(scheduled) {
            return None;
        }
        let mut gains = Self {
            index: vec![0; rows.len() * width],
            values: Vec::new(),
            width,
            tensors: Mutex::default(),
        };
        for (number, row) in rows.iter().enumerate().filter(|(_, row)| scheduled(row)) {
            let Some(state) = SequenceState::of(row) else { continue };
            let mut of_prompt = None;
            for offset in 0..row.tokens().min(width) {
                let position = row.start + offset;
                let known = of_prompt.filter(|_| position < row.prompt_len);
                let at = known.unwrap_or(gains.values.len() as u32 + 1);
                if known.is_none() {
                    gains.values.extend(state.gains(position, row.prompt_len));
                }
                // All tokens of a prompt have the same factors.
                if position < row.prompt_len {
                    of_prompt = Some(at);
                }
                gains.index[number * width + offset] = at;
            }
        }
        Some(gains)
    }

    /// The factors at a position of the stream, by step of its program; the slice may be longer. `None` if all are 1.
    pub fn at(&self, position: usize) -> Option<&[f32]> {
        let begin = self.index.get(position)?.checked_sub(1)?;
        self.values.get(begin as usize..)
    }

    /// The factor of each position's step in a round: `[rows, width, 1]`.
    ///
    /// # Errors
    ///
    /// Errors of candle.
    pub fn of_round(&self, layout: &Arc<StepLayout>, round: usize, device: &Device) -> Result<Tensor> {
        let is = |made: &&RoundGains| {
            Arc::ptr_eq(&made.layout, layout) && made.round == round && made.device == device.location()
        };
        if let Some(made) = lock(&self.tensors).iter().find(is) {
            return Ok(made.tensor.clone());
        }
        let gain = |position: usize| {
            let step = layout.step_of(position, round)?;
            self.at(position)?.get(step as usize).copied()
        };
        let values: Vec<f32> = (0..self.index.len())
            .map(|position| gain(position).unwrap_or(1.0))
            .collect();
        let rows = values.len() / self.width.max(1);
        let tensor = Tensor::from_vec(values, (rows, self.width, 1), device)?;
        lock(&self.tensors).push(RoundGains {
            layout: layout.clone(),
            round,
            device: device.location(),
            tensor: tensor.clone(),
        });
        Ok(tensor)
    }
}
