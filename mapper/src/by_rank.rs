//! The table of quality by rank that `mapper fit` prints after a low-rank fit.

use std::collections::BTreeSet;

use steermap_fit::RankQuality;

/// A pair's row of the table. It is kept after the pair's map has been written and dropped.
pub struct PairByRank {
    /// The pair, as `14->11`.
    pub layers: String,
    /// The chosen rank.
    pub rank: usize,
    /// R² on test rows at several ranks, that one among them, ascending.
    pub by_rank: Vec<RankQuality>,
}

/// One line per pair: the chosen rank and its R², then R² at ranks 1, 2, 4, 8 and so on, and of the whole map. Empty
/// without pairs, or for pairs without qualities. Lines stay within 120 columns up to rank 4096.
pub fn table(pairs: &[PairByRank]) -> String {
    let whole = |pair: &PairByRank| pair.by_rank.last().map(|of| of.rank);
    // The same columns for all pairs; the chosen ranks are in a separate column.
    let ranks: BTreeSet<usize> = pairs
        .iter()
        .flat_map(|pair| {
            pair.by_rank
                .iter()
                .map(|of| of.rank)
                .filter(|&rank| Some(rank) != whole(pair))
        })
        .filter(|rank| rank.is_power_of_two())
        .collect();
    let at = |pair: &PairByRank, rank: usize| {
        let of = pair.by_rank.iter().find(|of| of.rank == rank);
        of.map_or_else(|| "-".to_owned(), |of| score(of.r2))
    };
    let mut lines = vec![
        ["layers", "rank", "R2"]
            .map(str::to_owned)
            .into_iter()
            .chain(ranks.iter().map(usize::to_string))
            .chain(["whole".to_owned()])
            .collect::<Vec<_>>(),
    ];
    for pair in pairs {
        let Some(whole) = whole(pair) else { continue };
        let mut line = vec![pair.layers.clone(), pair.rank.to_string(), at(pair, pair.rank)];
        line.extend(ranks.iter().map(|&rank| at(pair, rank)));
        line.push(at(pair, whole));
        lines.push(line);
    }
    if lines.len() == 1 {
        return String::new();
    }
    let columns = lines[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = "R2 on held-out text by rank: the chosen rank, ranks 1, 2, 4, .., and the whole map\n\n".to_owned();
    for line in lines {
        let mut row = format!("  {:<width$} ", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            row += &format!(" {cell:>width$}");
        }
        text += row.trim_end();
        text.push('\n');
    }
    text
}

/// Three decimals, or scientific notation for large values.
fn score(r2: f64) -> String {
    if r2.abs() < 100.0 {
        format!("{r2:.3}")
    } else {
        format!("{r2:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(layers: &str, rank: usize, by_rank: &[(usize, f64)]) -> PairByRank {
        PairByRank {
            layers: layers.to_owned(),
            rank,
            by_rank: by_rank.iter().map(|&(rank, r2)| RankQuality { rank, r2 }).collect(),
        }
    }

    #[test]
    fn one_line_a_pair() {
        let pairs = [
            pair(
                "14->11",
                3,
                &[(1, 0.41235), (2, 0.6), (3, 0.70049), (4, 0.7012), (6, 0.7013)],
            ),
            pair("13+14->11", 8, &[(1, -2.0), (2, 0.6), (4, 0.7), (8, 0.8)]),
            pair("2->2", 1, &[(1, -12345.0)]),
        ];
        let expected = "\
R2 on held-out text by rank: the chosen rank, ranks 1, 2, 4, .., and the whole map

  layers     rank     R2      1     2     4  whole
  14->11        3  0.700  0.412 0.600 0.701  0.701
  13+14->11     8  0.800 -2.000 0.600 0.700  0.800
  2->2          1 -1.2e4 -1.2e4     -     - -1.2e4
";
        assert_eq!(table(&pairs), expected);
        assert_eq!(table(&[]), "");
        assert_eq!(table(&[pair("1->1", 4, &[])]), "");
    }

    #[test]
    fn wide_streams_fit_on_a_line() {
        let ranks: Vec<(usize, f64)> = (0..=12).map(|power| (1 << power, -0.5)).chain([(8192, 0.5)]).collect();
        let text = table(&[pair("31->79", 100, &ranks)]);
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
}
