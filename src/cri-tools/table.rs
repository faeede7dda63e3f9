//! Tables as cri-tools prints them: columns at least 20 wide, 3 apart, the last as long as it is.

/// Lines of cells; the first is the head.
#[derive(Default)]
pub struct Table(Vec<Vec<String>>);

const LEAST: usize = 20;
const APART: usize = 3;

impl Table {
    /// A table with these names of columns.
    pub fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|name| (*name).to_owned()).collect()])
    }

    /// One more line.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count() + APART).max().unwrap_or(0).max(LEAST)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            for (index, cell) in row.iter().enumerate() {
                if index + 1 == row.len() {
                    writeln!(f, "{cell}")?;
                } else {
                    write!(f, "{cell:<width$}", width = widths[index])?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["CONTAINER", "IMAGE", "NAME"]);
        table.row(vec!["0123456789012".into(), "docker.io/library/busybox:latest".into(), "main".into()]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "CONTAINER           IMAGE                              NAME");
        assert_eq!(lines[1], "0123456789012       docker.io/library/busybox:latest   main");
    }
}
