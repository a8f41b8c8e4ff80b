//! A disk for measurements that fails or turns slow on command: `cairn-faulty-disk MOUNTPOINT`, then lines on its standard input,
//! each answered with `ok`: `fail`, `slow MICROSECONDS`, `quick`. It ends, and is gone, with its input.

use cairn_tests::faulty_disk::FaultyDisk;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let Some(mount_point) = std::env::args().nth(1) else {
        let _ = writeln!(io::stderr(), "usage: cairn-faulty-disk MOUNTPOINT");
        return ExitCode::from(2);
    };
    let disk = FaultyDisk::mount(Path::new(&mount_point));
    let mut told = io::stdout();
    let mut tell = || writeln!(told, "ok").and_then(|()| told.flush());
    let mut said = tell();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("fail", _) => disk.faults().fail(),
            ("slow", micros) => disk.faults().slow_down(Duration::from_micros(micros.parse().unwrap_or(0))),
            _ => disk.faults().slow_down(Duration::ZERO),
        }
        said = said.and_then(|()| tell());
    }
    if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
