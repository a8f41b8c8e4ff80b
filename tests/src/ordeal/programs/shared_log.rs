//! A file that programs on all mounts append to: nothing is lost, nothing is there twice, nothing overlaps.

use super::{Acknowledged, Program};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const NAME: &str = "shared-log";
/// Divides a block: a record is lost as a whole.
const RECORD_BYTES: usize = 64;

/// One of the programs.
pub struct SharedLogProgram {
    number: u8,
    path: PathBuf,
    next: u64,
    acknowledged: BTreeSet<u64>,
    appending_since: Option<Instant>,
}

fn record(number: u8, sequence: u64) -> Vec<u8> {
    let text = format!("{number:03} {sequence:012} ");
    let mut bytes = text.repeat(RECORD_BYTES.div_ceil(text.len())).into_bytes();
    bytes.truncate(RECORD_BYTES - 1);
    bytes.push(b'\n');
    bytes
}

fn parse(bytes: &[u8]) -> Option<(u8, u64)> {
    let text = std::str::from_utf8(bytes.get(..16)?).ok()?;
    let (number, sequence) = text.split_once(' ')?;
    let (number, sequence) = (number.parse().ok()?, sequence.parse().ok()?);
    (record(number, sequence) == bytes).then_some((number, sequence))
}

impl SharedLogProgram {
    /// The one with this number.
    pub fn new(mount: &Path, number: u8) -> Self {
        let path = mount.join(NAME);
        Self { number, path, next: 0, acknowledged: BTreeSet::new(), appending_since: None }
    }

    /// Its own records in what was read.
    fn own(&self, log: &[u8]) -> Result<BTreeSet<u64>, String> {
        let mut found = BTreeSet::new();
        for (at, bytes) in log.chunks(RECORD_BYTES).enumerate() {
            match parse(bytes) {
                Some((number, sequence)) if number == self.number => {
                    if found.last().is_some_and(|last| *last >= sequence) {
                        return Err(format!("record {sequence} of {number} is there twice or out of order"));
                    }
                    found.insert(sequence);
                }
                Some(_) => {}
                // An append that was never synced may leave a hole.
                None if bytes.iter().all(|byte| *byte == 0) => {}
                None => return Err(format!("record {at} holds other bytes: {bytes:?}")),
            }
        }
        match self.acknowledged.difference(&found).next() {
            Some(lost) => Err(format!("record {lost} of {} was acknowledged and is not there", self.number)),
            None => Ok(found),
        }
    }
}

impl Program for SharedLogProgram {
    fn name(&self) -> String {
        format!("{NAME}-{}", self.number)
    }

    fn step(&mut self) -> io::Result<()> {
        let sequence = self.next;
        self.next += 1;
        self.appending_since = None;
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.appending_since = Some(Instant::now());
        file.write_all(&record(self.number, sequence))?;
        file.sync_all()?;
        self.acknowledged.insert(sequence);
        Ok(())
    }

    fn doing(&self) -> &'static str {
        if self.appending_since.is_some() { "append and fsync" } else { "open to append" }
    }

    fn at_risk_since(&self) -> Option<Instant> {
        self.appending_since
    }

    fn doubt(&mut self) {}

    fn let_go(&mut self) {}

    fn recover(&mut self) -> Result<(), String> {
        match fs::read(&self.path) {
            Ok(log) => self.own(&log).map(drop).map_err(|wrong| panic!("{NAME}: {wrong}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.acknowledged.is_empty() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn verify(&mut self, mount: &Path) -> Result<(), String> {
        let log = fs::read(mount.join(NAME)).map_err(|error| format!("{NAME}: {error}"))?;
        self.own(&log).map(drop)
    }

    fn acknowledged(&self) -> Acknowledged {
        Acknowledged::from([("append by several mounts", self.acknowledged.len() as u64)])
    }
}
