//! Progress of long copies, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// Bytes copied so far, shown when somebody watches.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `total` bytes are to be copied.
    pub(super) fn new(total: u64) -> Self {
        if !crate::output::is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(total);
        let style = "{bar:30} {bytes:>11} of {total_bytes}  {bytes_per_sec:>12}  {eta:>4}  {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    pub(super) fn more(&self, total: u64) {
        self.bar.inc_length(total);
    }

    pub(super) fn file(&self, name: &str) {
        self.bar.set_message(name.to_owned());
    }

    pub(super) fn copied(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
