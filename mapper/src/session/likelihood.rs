//! The likelihood of a token.

/// `-log softmax(logits)[token]`, in nats.
pub(crate) fn negative_log_likelihood(logits: &[f32], token: usize) -> f64 {
    let top = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
    sum.ln() - logits.get(token).map_or(f64::NEG_INFINITY, |&x| f64::from(x - top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_by_hand() {
        // softmax of ln 1, ln 2, ln 5: 1/8, 2/8, 5/8.
        let logits = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        assert!((negative_log_likelihood(&logits, 1) - 4f64.ln()).abs() < 1e-6);
        assert!((negative_log_likelihood(&logits, 2) - (8.0f64 / 5.0).ln()).abs() < 1e-6);
        let large = [1000.0f32, 0.0];
        assert!(negative_log_likelihood(&large, 0).abs() < 1e-6);
        assert!((negative_log_likelihood(&large, 1) - 1000.0).abs() < 1e-6);
        assert_eq!(negative_log_likelihood(&large, 7), f64::INFINITY);
    }
}
