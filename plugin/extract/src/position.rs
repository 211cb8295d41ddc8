//! Which state represents a text.

use steermap_maps::TokenPosition;

use crate::capture::LayerStates;

/// The state that represents a text at one layer, `[hidden_size]`: that of the last token; the mean of all but the
/// first (of all, if there is only one); or that of the token at index `answer` (of the last, if the text is shorter).
/// There must be at least one state.
pub fn read(stream: &LayerStates, position: TokenPosition, answer: usize) -> Vec<f32> {
    let last = stream.len() - 1;
    match position {
        TokenPosition::Mean => {
            let positions = 1.min(last)..=last;
            let mut sums = vec![0f64; stream.at(last).len()];
            let count = positions.clone().count() as f64;
            for position in positions {
                for (sum, &x) in sums.iter_mut().zip(stream.at(position)) {
                    *sum += f64::from(x);
                }
            }
            sums.iter().map(|sum| (sum / count) as f32).collect()
        }
        TokenPosition::Answer => stream.at(answer.min(last)).to_vec(),
        _ => stream.at(last).to_vec(),
    }
}

/// The index of the first token in which two texts differ, which is that of their answers if they share all text
/// before. `None` if the tokens of one text are a prefix of the other's.
pub fn answer_tokens(a: &[u32], b: &[u32]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_mean_and_answer() {
        // The first token is left out of the mean.
        let stream = LayerStates::from_rows(2, vec![900.0, 900.0, 1.0, 2.0, 3.0, 4.0, 8.0, 12.0]);
        assert_eq!(read(&stream, TokenPosition::Last, 1), [8.0, 12.0]);
        assert_eq!(read(&stream, TokenPosition::Mean, 1), [4.0, 6.0]);
        assert_eq!(read(&stream, TokenPosition::Answer, 0), [900.0, 900.0]);
        assert_eq!(read(&stream, TokenPosition::Answer, 2), [3.0, 4.0]);
        assert_eq!(read(&stream, TokenPosition::Answer, 9), [8.0, 12.0]);
        let one = LayerStates::from_rows(2, vec![5.0, 7.0]);
        for position in [TokenPosition::Last, TokenPosition::Mean, TokenPosition::Answer] {
            assert_eq!(read(&one, position, 0), [5.0, 7.0]);
        }
    }

    #[test]
    fn answers_begin_where_the_texts_part() {
        assert_eq!(answer_tokens(&[1, 2, 3, 9], &[1, 2, 4, 9]), Some(2));
        assert_eq!(answer_tokens(&[7], &[8, 1]), Some(0));
        assert_eq!(answer_tokens(&[1, 2], &[1, 2, 3]), None);
        assert_eq!(answer_tokens(&[1, 2], &[1, 2]), None);
        assert_eq!(answer_tokens(&[], &[1]), None);
    }
}
