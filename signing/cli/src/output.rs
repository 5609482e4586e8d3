//! What the program says: results on stdout, for people or as JSON; errors on stderr.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// Where results go and in which form.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a machine reads: no progress bars then.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows the result of a command.
    pub(crate) fn show<T: Serialize>(&self, result: &T, for_people: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let mut text = if self.json { serde_json::to_string_pretty(result)? } else { for_people(result) };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        match io::stdout().lock().write_all(text.as_bytes()) {
            // `switchback ... | head` is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    /// Shows why a command failed.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let message = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let shown = || message.lines().map(plain).collect::<Vec<_>>().join("\n");
        let hint = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map(Failure::hint);
        let text = if self.json {
            json!({"error": {"message": message, "hint": hint}}).to_string()
        } else {
            hint.map_or_else(|| format!("error: {}", shown()), |hint| format!("error: {}\n hint: {hint}", shown()))
        };
        // Nothing can be done when even stderr is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Text of others as a terminal may have it: what would move the cursor, hide or reorder what stands beside it is written as an escape.
/// A release's name or a role's comes from a file that somebody else wrote, and a keyholder signs what the terminal shows.
pub(crate) fn plain(text: &str) -> String {
    let hides = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(letter, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if hides(letter) { plain.extend(letter.escape_unicode()) } else { plain.push(letter) }
    }
    plain
}

/// Lays out rows in columns, separated by two spaces.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let lines = || std::iter::once(&header).chain(&rows);
    let width = |column: usize| lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in lines() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lays out names and values, one pair a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$}  {}", plain(value));
        text
    })
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".into(), "1".into()], vec!["long".into(), "2".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME  N\na     1\nlong  2\n");
        assert_eq!(pairs(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
    }

    #[test]
    fn what_others_wrote_cannot_move_hide_or_reorder_what_a_terminal_shows() {
        for (text, shown) in [
            ("vla-2 2.0.0 (ultra), für Österreich", "vla-2 2.0.0 (ultra), für Österreich"),
            ("a\u{1b}[2K\rchange  nothing\n", r"a\u{1b}[2K\u{d}change  nothing\u{a}"),
            ("eu\u{202e}nc\u{200b}\u{2066}\u{e0041}\u{9b}2J", r"eu\u{202e}nc\u{200b}\u{2066}\u{e0041}\u{9b}2J"),
        ] {
            assert_eq!(plain(text), shown);
            assert_eq!(pairs(&[("a", text.into())]), format!("a  {shown}\n"));
            assert_eq!(table(&["A"], &[vec![text.into()]]), format!("A\n{shown}\n"));
        }
    }

    #[test]
    fn bytes_are_rounded_to_a_tenth() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (u64::MAX, "16777216.0 TiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
