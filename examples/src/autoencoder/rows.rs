//! States as rows.

use anyhow::{Result, ensure};
use steermap_maps::activations::{Activations, WindowEntry};

/// One in this many windows of text is held out from training.
const HELD_OUT: usize = 10;

/// States, one row each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateRows {
    /// Width of a row.
    pub width: usize,
    /// `[rows, width]`, row by row.
    pub values: Vec<f32>,
}

/// States to train on, and others of texts that training does not see.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSplit {
    /// States of nine in ten windows of text.
    pub train: StateRows,
    /// States of the other windows.
    pub held_out: StateRows,
}

impl StateRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        // Without rows the width may be 0.
        self.values.chunks_exact(self.width.max(1))
    }

    /// A row, `[width]`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        super::model::row(&self.values, self.width, index)
    }

    /// The mean row, summed in f64; zeros without rows.
    pub fn mean(&self) -> Vec<f32> {
        let mut sums = vec![0f64; self.width];
        for row in self.iter() {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let count = self.len().max(1) as f64;
        sums.iter().map(|sum| (sum / count) as f32).collect()
    }

    /// The sum of squared distances of the rows from their mean, in f64.
    pub fn variation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.iter().map(|row| squared_distance(row, &mean));
        squares.sum()
    }
}

impl TrainingSplit {
    /// Reads the states at `layer` of a folder of activations. The first position of each window is left out, as a fit
    /// does, since its state differs from all others in most models.
    ///
    /// # Errors
    ///
    /// If the folder has no states of the layer, states are not finite, a file cannot be read, or there are too few
    /// windows to hold any out.
    pub fn read(activations: &Activations, layer: usize) -> Result<Self> {
        let width = activations.index().header.model.hidden_size;
        let (windows, folder) = (activations.windows(), activations.folder().display());
        ensure!(
            windows.len() >= HELD_OUT,
            "{folder}: found {} windows of text, expected at least {HELD_OUT}",
            windows.len()
        );
        let states = |windows: &mut dyn Iterator<Item = &WindowEntry>| -> Result<StateRows> {
            let mut values = Vec::new();
            for window in windows {
                let states = activations.read(window, &[layer])?.states;
                values.extend(states.iter().flat_map(|states| states.iter().skip(width)));
            }
            Ok(StateRows { width, values })
        };
        let parts = |held_out: bool| {
            let numbered = windows.iter().enumerate();
            let part = numbered.filter(move |(number, _)| (number % HELD_OUT == HELD_OUT - 1) == held_out);
            part.map(|(_, window)| window)
        };
        Ok(Self {
            train: states(&mut parts(false))?,
            held_out: states(&mut parts(true))?,
        })
    }
}

/// `‖a - b‖²`, summed in f64.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let rows = StateRows {
            width: 2,
            values: vec![1.0, 2.0, 3.0, 6.0],
        };
        assert_eq!(
            (rows.len(), rows.row(1), &rows.mean()[..]),
            (2, &[3.0, 6.0][..], &[2.0, 4.0][..])
        );
        assert_eq!(rows.variation(), 10.0);
        let none = StateRows::default();
        assert_eq!((none.len(), none.iter().len(), none.variation()), (0, 0, 0.0));
    }
}
