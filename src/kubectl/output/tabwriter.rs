//! Go's `text/tabwriter`, as `kubectl describe` uses it: cells end with tabs, and a column is a block of consecutive lines
//! that have a cell in it.

/// Blanks between columns.
const PADDING: usize = 2;

/// Aligns the text. The last cell of a line (that without a tab behind it) belongs to no column.
pub fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    let mut widths = Vec::new();
    format(&lines, &mut widths, &mut out);
    out
}

fn format(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has_cell = |line: &Vec<&str>| column + 1 < line.len();
    let mut at = 0;
    while at < lines.len() {
        if !has_cell(&lines[at]) {
            write_line(&lines[at], widths, out);
            at += 1;
            continue;
        }
        let end = at + lines[at..].iter().take_while(|line| has_cell(line)).count();
        let width = lines[at..end].iter().map(|line| line[column].chars().count() + PADDING).max().unwrap_or(0);
        widths.push(width);
        format(&lines[at..end], widths, out);
        widths.pop();
        at = end;
    }
}

fn write_line(line: &[&str], widths: &[usize], out: &mut String) {
    for (index, cell) in line.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(index).filter(|_| index + 1 < line.len()) {
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_blocks_of_lines() {
        let text = "Name:\tx\nNamespace:\tdefault\nLabels:\ta=b\n\tc=d\nPorts:\n  A:\tone\n  Longer:\ttwo\n";
        let aligned = "Name:       x\nNamespace:  default\nLabels:     a=b\n            c=d\nPorts:\n  A:       one\n  Longer:  two\n";
        assert_eq!(align(text), aligned);
    }
}
