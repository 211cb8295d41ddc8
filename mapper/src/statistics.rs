//! Small statistics over states.

/// Number of parts that pairs are split into for cross-validation, where there are as many.
const FOLDS: usize = 5;

/// A mean that grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// One value more.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean; 0 of nothing.
    pub fn value(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

/// Mean of `positive[i] - negative[i]`, summed in f64. All rows have the same length; one row at least.
pub fn mean_difference(positive: &[&[f32]], negative: &[&[f32]]) -> Vec<f32> {
    let mut sums = vec![0f64; positive.first().map_or(0, |row| row.len())];
    for (p, n) in positive.iter().zip(negative) {
        for (sum, (&p, &n)) in sums.iter_mut().zip(p.iter().zip(*n)) {
            *sum += f64::from(p) - f64::from(n);
        }
    }
    sums.iter().map(|sum| (sum / positive.len() as f64) as f32).collect()
}

/// Area under the ROC curve: the probability that a positive scores above a negative, ties counted half (the
/// Mann-Whitney U statistic over the number of couples). `None` without couples.
pub fn auroc(positive: &[f64], negative: &[f64]) -> Option<f64> {
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    let mut scores: Vec<(f64, bool)> = positive
        .iter()
        .map(|&s| (s, true))
        .chain(negative.iter().map(|&s| (s, false)))
        .collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The rank sum of the positives, tied scores sharing their mean rank.
    let mut rank_sum = 0.0;
    let mut start = 0;
    while start < scores.len() {
        let ties = scores[start..]
            .iter()
            .take_while(|s| s.0 == scores[start].0)
            .count()
            .max(1);
        let positives = scores[start..start + ties].iter().filter(|s| s.1).count();
        rank_sum += positives as f64 * (start as f64 + (ties as f64 + 1.0) / 2.0);
        start += ties;
    }
    let (p, n) = (positive.len() as f64, negative.len() as f64);
    Some((rank_sum - p * (p + 1.0) / 2.0) / (p * n))
}

/// How well the mean difference separates pairs that it was not made from: the pairs are split into five folds
/// (pair `i` into fold `i % 5`), each fold is scored by its projection onto the mean difference of the others, and the
/// folds' areas under the ROC curve are averaged, weighted by their size. `None` for fewer than two pairs.
pub fn held_out_auroc(positive: &[&[f32]], negative: &[&[f32]]) -> Option<f64> {
    let count = positive.len();
    let folds = FOLDS.min(count);
    if folds < 2 {
        return None;
    }
    let mut weighted = 0.0;
    for fold in 0..folds {
        let part = |rows: &[&[f32]], inside: bool| -> Vec<Vec<f32>> {
            let chosen = (0..count).filter(|i| (i % folds == fold) == inside);
            chosen.map(|i| rows[i].to_vec()).collect()
        };
        let (p, n) = (part(positive, false), part(negative, false));
        let direction = mean_difference(&rows(&p), &rows(&n));
        let score = |rows: Vec<Vec<f32>>| -> Vec<f64> { rows.iter().map(|row| dot(row, &direction)).collect() };
        let (p, n) = (score(part(positive, true)), score(part(negative, true)));
        weighted += auroc(&p, &n)? * p.len() as f64;
    }
    Some(weighted / count as f64)
}

fn rows(owned: &[Vec<f32>]) -> Vec<&[f32]> {
    owned.iter().map(Vec::as_slice).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_difference_by_hand() {
        let (p, n) = ([[3.0f32, 1.0], [5.0, 1.0]], [[1.0f32, 1.0], [1.0, 3.0]]);
        assert_eq!(mean_difference(&[&p[0], &p[1]], &[&n[0], &n[1]]), [3.0, -1.0]);
    }

    #[test]
    fn auroc_counts_couples_and_half_of_ties() {
        assert_eq!(auroc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auroc(&[0.0, 1.0], &[2.0, 3.0]), Some(0.0));
        assert_eq!(auroc(&[1.0, 1.0], &[1.0, 1.0]), Some(0.5));
        // Couples by hand: 0.8>0.5, 0.8>0.3, 0.8>0.8 half, 0.4<0.5, 0.4>0.3, 0.4<0.8: 3.5 of 6.
        assert!((auroc(&[0.8, 0.4], &[0.5, 0.3, 0.8]).unwrap() - 3.5 / 6.0).abs() < 1e-12);
        assert_eq!(auroc(&[], &[1.0]), None);
    }

    #[test]
    fn auroc_equals_the_count_of_all_couples() {
        // A small linear congruential generator: fixed numbers, many ties.
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((state >> 33) % 20) as f64
        };
        let (p, n): (Vec<f64>, Vec<f64>) = ((0..40).map(|_| next()).collect(), (0..33).map(|_| next()).collect());
        let mut couples = 0.0;
        for a in &p {
            for b in &n {
                couples += if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
            }
        }
        assert!((auroc(&p, &n).unwrap() - couples / (40.0 * 33.0)).abs() < 1e-12);
    }

    #[test]
    fn held_out_pairs_are_separated_only_by_what_generalises() {
        // A shared shift along the first axis separates; noise of its own in each pair does not.
        let row = |i: usize, sign: f32, shared: f32| {
            let mut row = vec![0f32; 12];
            row[0] = sign * shared;
            row[1 + i] = sign;
            row
        };
        let states = |sign: f32, shared: f32| (0..10).map(|i| row(i, sign, shared)).collect::<Vec<_>>();
        let value = |shared: f32| {
            let (p, n) = (states(1.0, shared), states(-1.0, shared));
            held_out_auroc(&rows(&p), &rows(&n)).unwrap()
        };
        assert_eq!(value(1.0), 1.0);
        assert_eq!(value(0.0), 0.5);
        assert_eq!(held_out_auroc(&[&[1.0]], &[&[0.0]]), None);
    }
}
