//! What the user sees: tables, JSON, errors, completions. The one room that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is this room's purpose")]

use crate::args::Cli;
use crate::error::CliError;
use clap::CommandFactory;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Columns of the screens that everything reads well on.
pub(crate) const WIDTH: usize = 80;

/// One line (or a few) of text.
pub(crate) fn line(text: &str) {
    bytes_line(text.as_bytes());
}

/// Bytes that need not be UTF-8 (names), and a newline. A closed pipe ends the process quietly, as tools do.
pub(crate) fn bytes_line(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.write_all(b"\n"));
    exit_on_closed_pipe(written);
}

/// Raw bytes.
pub(crate) fn raw(bytes: &[u8]) {
    exit_on_closed_pipe(io::stdout().lock().write_all(bytes));
}

fn exit_on_closed_pipe(written: io::Result<()>) {
    if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Empties the screen, if somebody looks at one.
pub(crate) fn clear_screen() {
    if io::stdout().is_terminal() {
        raw(b"\x1b[H\x1b[2J");
    }
}

/// `text` in lines of at most [`WIDTH`] characters, broken between words; `head` stands before the first, spaces before the others.
pub(crate) fn wrapped(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let room = WIDTH.saturating_sub(indent).max(20);
    let (mut lines, mut used) = (String::from(head), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            used = 0;
        }
        if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
}

/// The end of a text that is longer than `room`.
pub(crate) fn tail(text: &str, room: usize) -> String {
    let count = text.chars().count();
    match count <= room {
        true => text.to_owned(),
        false => std::iter::once('…').chain(text.chars().skip(count - room + 1)).collect(),
    }
}

/// A value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Failed(error.to_string()))?;
    line(&text);
    Ok(())
}

/// A value as JSON in one line, for what is too much to be one value.
pub(crate) fn json_line(value: &impl Serialize) {
    // Maps with text keys, numbers and texts always serialize.
    line(&serde_json::to_string(value).unwrap_or_default());
}

/// An error, to standard error.
pub(crate) fn error(error: &CliError) {
    eprintln!("cairn: {error}");
}

/// Something the user should know, to standard error.
pub(crate) fn warning(text: &str) {
    eprintln!("cairn: warning: {text}");
}

/// Whether somebody watches.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Left-aligned columns, as wide as their widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            line(cells.join("  ").trim_end());
        }
    }
}

/// `1536` → `1.5 KiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `90000` → `1 min 30 s`.
pub(crate) fn human_time(millis: u64) -> String {
    match millis.div_ceil(1000) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut io::stdout());
    Ok(())
}

pub(crate) fn man_pages(directory: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(directory).map_err(CliError::host(directory.display().to_string()))?;
    clap_mangen::generate_to(Cli::command(), directory)
        .map_err(CliError::host(directory.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_between_words() {
        let text = wrapped("head  ", &"seven77 ".repeat(20));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().skip(1).all(|line| line.starts_with("      seven77")), "{text}");
        assert_eq!(wrapped("x ", "short text"), "x short text");
        assert_eq!((tail("/short", 9).as_str(), tail("/a/long/path", 6).as_str()), ("/short", "…/path"));
    }
}
