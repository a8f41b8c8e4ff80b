//! Everything that is done to small files and directories, in a directory of its own.

use super::{Acknowledged, Program};
use crate::ledger::Ledger;
use crate::oracle::Found;
use crate::tree_worker::TreeWorker;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The program.
pub struct TreeProgram {
    name: String,
    top: PathBuf,
    worker: TreeWorker,
}

impl TreeProgram {
    /// Works in a new directory of this name.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(mount: &Path, name: &str, seed: u64) -> io::Result<Self> {
        let top = mount.join(name);
        std::fs::create_dir(&top)?;
        Ok(Self { name: name.to_owned(), worker: TreeWorker::new(&top, seed, Ledger::default()), top })
    }
}

impl Program for TreeProgram {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn step(&mut self) -> io::Result<()> {
        self.worker.one()
    }

    fn doing(&self) -> &'static str {
        self.worker.ledger.doing
    }

    fn at_risk_since(&self) -> Option<Instant> {
        self.worker.at_risk_since()
    }

    fn doubt(&mut self) {
        self.worker.doubt();
    }

    fn finish(&mut self) -> io::Result<()> {
        self.worker.finish()
    }

    fn let_go(&mut self) {
        self.worker.let_go();
    }

    fn recover(&mut self) -> Result<(), String> {
        let found = Found::below(&self.top)?;
        self.worker.ledger.check_and_doubt(&self.top, &found);
        Ok(())
    }

    fn verify(&mut self, mount: &Path) -> Result<(), String> {
        let found = Found::below(&mount.join(&self.name))?;
        self.worker.ledger.tree.check(&found)
    }

    fn acknowledged(&self) -> Acknowledged {
        self.worker.ledger.acknowledged.clone()
    }
}
