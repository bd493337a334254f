//! Columns of text for people, aligned by spaces.

use std::fmt;

/// Rows under headings. A heading that starts with `>` aligns its column to the right.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub(crate) fn new(headings: [&'static str; N]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row at the bottom.
    /// Adds a row. What would move the cursor is replaced: some cells hold what others wrote.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| cell.replace(char::is_control, "\u{fffd}")));
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading(self.headings[column]).chars().count()]).max().unwrap_or(0)
    }

    fn line<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize],
        cells: impl Iterator<Item = &'a str>,
    ) -> fmt::Result {
        let mut line = String::new();
        for (column, (cell, width)) in cells.zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let (before, after) = match self.headings[column].starts_with('>') {
                true => (pad.as_str(), ""),
                false => ("", pad.as_str()),
            };
            line.push_str(if column == 0 { "" } else { "  " });
            line.extend([before, cell, after]);
        }
        writeln!(f, "{}", line.trim_end())
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..N).map(|column| self.width(column)).collect();
        self.line(f, &widths, self.headings.iter().map(|text| heading(text)))?;
        self.rows.iter().try_for_each(|row| self.line(f, &widths, row.iter().map(String::as_str)))
    }
}

fn heading(text: &'static str) -> &'static str {
    text.strip_prefix('>').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_without_spaces() {
        let mut table = Table::new(["NAME", ">BYTES", "NOTE"]);
        table.row(["zażółć".to_owned(), "5".to_owned(), String::new()]);
        table.row(["b".to_owned(), "123456".to_owned(), "x".to_owned()]);
        assert_eq!(table.to_string(), "NAME     BYTES  NOTE\nzażółć       5\nb       123456  x\n");
    }
}
