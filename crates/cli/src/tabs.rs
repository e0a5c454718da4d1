//! Text in columns, as Go's `tabwriter` aligns it: a cell ends with a tab, and the cells of a column that follow each
//! other without a gap share one width.

/// How the columns of a text are aligned.
#[derive(Clone, Copy, Debug)]
pub struct Tabs {
    pub min_width: usize,
    pub padding: usize,
}

/// Tables of `get`.
pub const TABLE: Tabs = Tabs { min_width: 6, padding: 3 };
/// Descriptions.
pub const DESCRIBE: Tabs = Tabs { min_width: 0, padding: 2 };

impl Tabs {
    pub fn align(self, text: &str) -> String {
        let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
        let mut widths: Vec<Vec<usize>> = lines.iter().map(|line| vec![0; line.len().saturating_sub(1)]).collect();
        self.measure(&lines, &mut widths, 0, 0, lines.len());
        let mut out = String::with_capacity(text.len() * 2);
        for (at, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
            if at > 0 {
                out.push('\n');
            }
            for (at, cell) in cells.iter().enumerate() {
                out.push_str(cell);
                if let Some(width) = widths.get(at) {
                    let used = cell.chars().count();
                    out.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
                }
            }
        }
        out
    }

    /// Sets the width of a column for every run of lines that have it, then does the same for the next one in each run.
    fn measure(self, lines: &[Vec<&str>], widths: &mut [Vec<usize>], column: usize, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            if column + 1 >= lines[at].len() {
                at += 1;
                continue;
            }
            let begin = at;
            while at < to && column + 1 < lines[at].len() {
                at += 1;
            }
            let longest = lines[begin..at].iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            let width = (longest + self.padding).max(self.min_width);
            for line in &mut widths[begin..at] {
                line[column] = width;
            }
            self.measure(lines, widths, column + 1, begin, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_over_neighbouring_lines() {
        let rows = [
            (TABLE, "NAME\tAGE\nlonger-name\t1s\n", "NAME          AGE\nlonger-name   1s\n"),
            (DESCRIBE, "A:\tb\nLonger:\tc\nplain\nX:\ty\n", "A:       b\nLonger:  c\nplain\nX:  y\n"),
            (DESCRIBE, "a\tb\tc\nlong\td\n", "a     b  c\nlong  d\n"),
        ];
        for (tabs, text, expected) in rows {
            assert_eq!(tabs.align(text), expected);
        }
    }
}
