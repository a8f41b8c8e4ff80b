//! Programs that work on mounts and know what must come of everything they do.

pub mod bulk;
pub mod published;
pub mod shared_log;
pub mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Instant;

/// How often what was acknowledged.
pub type Acknowledged = BTreeMap<&'static str, u64>;

/// What a program reads is not what it wrote last. That may only be with bytes that were never synced and are lost: a sync
/// will say so (`docs/SEMANTICS.md`).
pub fn unlike(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A program.
pub trait Program: Send {
    /// What it is, for reports.
    fn name(&self) -> String;

    /// One thing that it does. What is not as it must be is a panic.
    ///
    /// # Errors
    /// Of a system call.
    fn step(&mut self) -> io::Result<()>;

    /// The last thing that it began, for reports.
    fn doing(&self) -> &'static str;

    /// Since when the bytes that the last call was about had waited for their sync, if they had.
    fn at_risk_since(&self) -> Option<Instant>;

    /// These bytes are lost, which may be.
    fn doubt(&mut self);

    /// Syncs what it has open: closing it would hide what becomes of its bytes.
    ///
    /// # Errors
    /// The sync's.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Closes what it has open.
    fn let_go(&mut self);

    /// A mount of it was killed and is there again: holds what is found against what was acknowledged, and goes on from there.
    ///
    /// # Errors
    /// What could not be read.
    fn recover(&mut self) -> Result<(), String>;

    /// Holds what another mount shows against what was acknowledged.
    ///
    /// # Errors
    /// What is not as it must be.
    fn verify(&mut self, mount: &Path) -> Result<(), String>;

    /// What it has done.
    fn acknowledged(&self) -> Acknowledged;
}
