//! Numbering, log and injected faults of a simulated disk.

use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Makes a file or a directory.
    Create,
    /// Removes a name.
    Remove,
    /// Renames; the path is the new one.
    Rename,
    /// Writes or allocates.
    Write,
    /// Sets the length, which stands in `offset`.
    SetLength,
    /// Syncs a file.
    Sync,
    /// Syncs a directory.
    SyncDir,
    /// The end of the log.
    End,
}

/// One operation that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Position in the disk's life, from 1.
    pub number: u64,
    /// What.
    pub kind: OperationKind,
    /// Where; of an open file, the path by which it was opened.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Operation {
    pub(super) fn none() -> Self {
        Self { number: 0, kind: OperationKind::End, path: PathBuf::new(), offset: 0, length: 0 }
    }
}

struct Fault {
    kind: OperationKind,
    path_part: String,
    /// Fires at 1.
    countdown: u64,
    error: Errno,
}

#[derive(Default)]
pub(super) struct Control {
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) log: Option<Vec<Operation>>,
    pub(super) crash_after: Option<u64>,
    faults: Vec<Fault>,
}

impl Control {
    pub(super) fn powered(&self) -> io::Result<()> {
        match self.crash_after {
            Some(last) if self.operations >= last => {
                Err(io::Error::other("the simulated machine has lost power"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin(
        &mut self,
        kind: OperationKind,
        path: &Path,
        offset: u64,
        length: u64,
    ) -> io::Result<Operation> {
        self.powered()?;
        self.operations += 1;
        if matches!(kind, OperationKind::Sync | OperationKind::SyncDir) {
            self.syncs += 1;
        }
        let operation = Operation { number: self.operations, kind, path: path.to_owned(), offset, length };
        if let Some(log) = &mut self.log {
            log.push(operation.clone());
        }
        Ok(operation)
    }

    pub(super) fn fail(&mut self, kind: OperationKind, path_part: &str, nth: u64, error: Errno) {
        self.faults.push(Fault { kind, path_part: path_part.to_owned(), countdown: nth.max(1), error });
    }

    /// Counts the operation against the injected faults; the one that has come due fires once.
    pub(super) fn fault(&mut self, operation: &Operation) -> io::Result<()> {
        let path = operation.path.to_string_lossy();
        let mut due = None;
        for (index, fault) in self.faults.iter_mut().enumerate() {
            if fault.kind == operation.kind && path.contains(&fault.path_part) {
                fault.countdown -= 1;
                if fault.countdown == 0 && due.is_none() {
                    due = Some(index);
                }
                fault.countdown = fault.countdown.max(1);
            }
        }
        match due {
            Some(index) => Err(self.faults.swap_remove(index).error.into()),
            None => Ok(()),
        }
    }
}
