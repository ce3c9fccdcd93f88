//! Columns for a terminal: as wide as what is in them, the last one cut where the terminal ends.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A cut column is never narrower: words that can't be read help nobody.
const LEAST_COLUMNS: usize = 16;

/// As wide as stdout's terminal is; `None`: it goes to a file or another program, which gets everything.
pub(crate) fn terminal_columns() -> Option<usize> {
    let columns = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    std::io::stdout().is_terminal().then(columns).flatten()
}

/// Rows of cells under their titles. `columns`: no line is longer, if the last column can still be read.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let all = || std::iter::once(&titles).chain(rows);
    let width = |index| all().map(|row| row.get(index).map_or(0, |cell: &String| cell.width())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let before: usize = widths.iter().take(widths.len().saturating_sub(1)).map(|width| width + 2).sum();
    let left = columns.map_or(usize::MAX, |columns| columns.saturating_sub(before).max(LEAST_COLUMNS));
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let printable = crate::cli::report::printable(cell);
            if index + 1 == widths.len() {
                line.push_str(&cut(&printable, left));
            } else {
                line.push_str(&printable);
                line.extend(std::iter::repeat_n(' ', widths[index] + 2 - cell.width().min(widths[index])));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// At most so many columns; an ellipsis says that there is more.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |char: &char| {
        let width = char.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["#1", "ready", "a title that is rather long"], ["#20", "ready", "日本語の題名はとても長い"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        for columns in 28..60 {
            let text = table(&["", "state", "title"], &rows(), Some(columns));
            for line in text.lines() {
                assert!(line.width() <= columns, "{columns}: {line:?}");
            }
        }
        let narrow = table(&["", "state", "title"], &rows(), Some(28));
        assert_eq!(narrow, "     state  title\n#1   ready  a title that is…\n#20  ready  日本語の題名は…\n");
    }

    #[test]
    fn another_program_gets_everything() {
        let text = table(&["", "state", "title"], &rows(), None);
        assert!(text.contains("rather long\n") && text.contains("とても長い\n"), "{text}");
    }
}
