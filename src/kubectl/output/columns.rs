//! Aligned columns, as Go's tabwriter makes them for kubectl.

/// Lays out rows of cells: a column is as wide as its widest cell and `padding` more, but at least `minimum`. Widths are
/// remembered, so that the rows of a watch stay in line with what stands above them.
#[derive(Debug)]
pub struct Columns {
    minimum: usize,
    padding: usize,
    widths: Vec<usize>,
}

impl Columns {
    /// As `kubectl get` does.
    pub fn new() -> Self {
        Self { minimum: 6, padding: 3, widths: Vec::new() }
    }

    /// As `kubectl describe` does.
    pub fn describe() -> Self {
        Self { minimum: 0, padding: 2, widths: Vec::new() }
    }

    /// The rows as text. The last cell of a row is not padded.
    pub fn render(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                if index + 1 == row.len() {
                    break;
                }
                let width = (cell.chars().count() + self.padding).max(self.minimum);
                match self.widths.get_mut(index) {
                    Some(known) => *known = (*known).max(width),
                    None => self.widths.push(width),
                }
            }
        }
        let mut text = String::new();
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if index + 1 < row.len() {
                    let width = self.widths.get(index).copied().unwrap_or_default();
                    text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn cells_are_aligned_and_widths_remembered() {
        let mut columns = Columns::new();
        let text = columns.render(&[row(&["NAME", "A", "AGE"]), row(&["nginx", "1/1", "5s"])]);
        assert_eq!(text, "NAME    A     AGE\nnginx   1/1   5s\n");
        assert_eq!(columns.render(&[row(&["x", "0", "1s"])]), "x       0     1s\n");
    }
}
