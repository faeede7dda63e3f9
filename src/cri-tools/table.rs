//! Tables as cri-tools and ctr print them; the last column is as long as it is.

/// Lines of cells; the first is the head.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Of a column, at least.
    width: usize,
    /// Between columns.
    apart: usize,
}

impl Table {
    /// A table of cri-tools with these names of columns.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![words(head)], width: 20, apart: 3 }
    }

    /// A table of containerd's ctr: columns as wide as what is in them, with a space between.
    pub fn close(head: &[&str]) -> Self {
        Self { rows: vec![words(head)], width: 1, apart: 1 }
    }

    /// One more line.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

fn words(head: &[&str]) -> Vec<String> {
    head.iter().map(|name| (*name).to_owned()).collect()
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count() + self.apart).max().unwrap_or(0).max(self.width)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
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
        let mut close = Table::close(&["REF", "TYPE"]);
        close.row(vec!["a/b:c".into(), "x".into()]);
        assert_eq!(close.to_string(), "REF   TYPE\na/b:c x\n");
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "CONTAINER           IMAGE                              NAME");
        assert_eq!(lines[1], "0123456789012       docker.io/library/busybox:latest   main");
    }
}
