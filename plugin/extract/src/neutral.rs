//! Measures the component of a model's stream along a direction on neutral text.

use std::sync::Arc;

use steermap_maps::{LayerVector, Spread};

use crate::capture::StreamCapture;
use crate::{ExtractError, Reader, Text};

/// Short English documents, written for this project.
pub const TEXT: &str = include_str!("neutral.txt");

/// The documents of [`TEXT`], each as one line.
pub fn documents() -> Vec<String> {
    let documents = TEXT.split("\n\n").map(|text| text.trim().replace('\n', " "));
    documents.filter(|text| !text.is_empty()).collect()
}

/// Mean and sum of squared deviations, updated number by number (Welford).
#[derive(Clone, Copy, Default)]
struct RunningMoments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl RunningMoments {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        let before = x - self.mean;
        self.mean += before / self.count;
        self.squares += before * (x - self.mean);
    }

    /// `None` for fewer than two numbers.
    fn spread(&self) -> Option<Spread> {
        (self.count > 1.0).then(|| Spread {
            mean: self.mean,
            std: (self.squares / (self.count - 1.0)).sqrt(),
        })
    }
}

/// Sets for each of `vectors` the spread of the stream's component along it, over all tokens of the [`documents`]
/// except the first of each, whose state has another magnitude in most models. Documents longer than the model's
/// context are cut.
///
/// # Errors
///
/// The engine's error.
pub async fn measure(reader: &impl Reader, vectors: &mut [LayerVector]) -> Result<(), ExtractError> {
    let capture = Arc::new(StreamCapture::new(vectors.iter().map(|vector| vector.layer).collect()));
    let directions: Vec<Vec<f32>> = vectors.iter().map(LayerVector::unit).collect();
    let mut moments = vec![RunningMoments::default(); vectors.len()];
    for document in documents() {
        let tokens = reader.tokenize(&Text::Plain(document)).await?;
        let tokens = &tokens[..tokens.len().min(reader.max_tokens())];
        let streams = reader.streams(&capture, &[tokens], &mut || ()).await?;
        for stream in streams {
            for ((states, direction), moments) in stream.iter().zip(&directions).zip(&mut moments) {
                for position in 1..states.len() {
                    let state = states.at(position).iter().zip(direction);
                    moments.add(state.map(|(h, v)| f64::from(*h) * f64::from(*v)).sum());
                }
            }
        }
    }
    for (vector, moments) in vectors.iter_mut().zip(moments) {
        vector.neutral = moments.spread();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_by_hand() {
        let of = |numbers: &[f64]| {
            let mut moments = RunningMoments::default();
            numbers.iter().for_each(|x| moments.add(*x));
            moments.spread()
        };
        assert_eq!(of(&[1.0, 3.0, 5.0]), Some(Spread { mean: 3.0, std: 2.0 }));
        assert_eq!(of(&[7.0]), None);
        assert!(documents().len() > 5 && documents().iter().all(|text| !text.contains('\n')));
    }
}
