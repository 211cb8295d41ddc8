//! Text in columns.

use std::fmt;

/// A table of texts with a heading, indented by two.
pub(super) struct Grid<const N: usize> {
    /// How many columns are left-aligned; the others hold numbers and are right-aligned.
    left: usize,
    rows: Vec<[String; N]>,
}

impl<const N: usize> Grid<N> {
    pub(super) fn new(left: usize, heading: [&str; N]) -> Self {
        let rows = vec![heading.map(str::to_owned)];
        Self { left, rows }
    }

    pub(super) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }
}

impl<const N: usize> fmt::Display for Grid<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                line += &if column < self.left {
                    format!("  {cell:width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut grid = Grid::new(2, ["a", "b", "ccc"]);
        grid.row(["long".to_owned(), String::new(), "1".to_owned()]);
        grid.row(["x".to_owned(), "üü".to_owned(), "1234".to_owned()]);
        assert_eq!(
            grid.to_string(),
            "  a     b    ccc\n  long         1\n  x     üü  1234\n"
        );
    }
}
