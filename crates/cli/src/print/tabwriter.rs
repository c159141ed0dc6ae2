//! Elastic tab stops: cells that end in a tab are padded to the widest of their column, where a column reaches over
//! consecutive lines that have one. It is what kubectl's `describe` pages are laid out with (Go's `text/tabwriter`).

const PADDING: usize = 2;

/// Replaces every tab of `text` by blanks.
pub(crate) fn expand(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines
        .iter()
        .map(|cells| vec![0; cells.len().saturating_sub(1)])
        .collect();
    size_columns(&lines, &mut widths, 0, 0, lines.len());
    let mut expanded = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        let start = expanded.len();
        for (column, cell) in cells.iter().enumerate() {
            expanded.push_str(cell);
            if let Some(width) = widths.get(column) {
                expanded.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        expanded.truncate(start + expanded[start..].trim_end().len());
        expanded.push('\n');
    }
    expanded
}

/// Finds the blocks of lines that have a terminated cell in `column` and gives each block its width, then the columns
/// to the right within each block.
fn size_columns(lines: &[Vec<&str>], widths: &mut [Vec<usize>], column: usize, from: usize, to: usize) {
    let mut start = from;
    while start < to {
        let has_cell = |line: usize| lines[line].len() > column + 1;
        if !has_cell(start) {
            start += 1;
            continue;
        }
        let end = (start..to).find(|line| !has_cell(*line)).unwrap_or(to);
        let widest = (start..end)
            .map(|line| lines[line][column].chars().count())
            .max()
            .unwrap_or(0);
        for width in &mut widths[start..end] {
            width[column] = widest + PADDING;
        }
        size_columns(lines, widths, column + 1, start, end);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn blocks_are_aligned_apart() {
        expect![[r#"
            Name:       web
            Namespace:  default
            Containers:
              a:
                Image:  x
                ID:
            Type        Reason  Age
            N           S       1s
        "#]]
        .assert_eq(&super::expand(
            "Name:\tweb\nNamespace:\tdefault\nContainers:\n  a:\n    Image:\tx\n    ID:\t\nType\tReason\tAge\nN\tS\t1s\n",
        ));
    }
}
