//! A worker that does everything to files and directories of its own, and knows what must come of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::ledger::Ledger;
use crate::oracle::{FileId, difference};
use crate::ordeal::programs::unlike;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A file that stays open over several operations, so that what is written to it is not synced yet.
struct Held {
    id: FileId,
    file: File,
    appends: bool,
    /// When the first write that was not synced began.
    dirty_since: Option<Instant>,
}

/// The worker.
pub struct TreeWorker {
    top: PathBuf,
    random: SmallRng,
    /// What it knows.
    pub ledger: Ledger,
    held: Option<Held>,
    /// What was being written last, and since when it may not be synced.
    at_risk: Option<(FileId, Instant)>,
}

impl TreeWorker {
    /// Works below `top`, where all is as the ledger says.
    pub fn new(top: &Path, seed: u64, ledger: Ledger) -> Self {
        Self { top: top.to_owned(), random: SmallRng::seed_from_u64(seed), ledger, held: None, at_risk: None }
    }

    /// Syncs what it has open.
    ///
    /// # Errors
    /// The sync's.
    pub fn finish(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else { return Ok(()) };
        self.at_risk = held.dirty_since.map(|since| (held.id, since));
        self.ledger.sync("fsync", held.id, &held.file)
    }

    /// Lets go of what it has open.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// Since when bytes may have waited for a sync that has failed.
    pub fn at_risk_since(&self) -> Option<Instant> {
        self.at_risk.map(|(_, since)| since)
    }

    /// Bytes of the file that was written last are lost: it is left alone from now on. Another one that is open stays so, as
    /// closing it would hide what becomes of its own bytes.
    pub fn doubt(&mut self) {
        let Some((id, _)) = self.at_risk.take() else { return };
        if self.held.as_ref().is_some_and(|held| held.id == id) {
            self.let_go();
        }
        if let Some(contents) = self.ledger.tree.contents(id) {
            contents.doubt();
        }
    }

    /// A name that may be anything or nothing, in a directory that is there.
    fn any_name(&mut self) -> String {
        let directory = format!("d{}", self.random.random_range(0..4));
        let name = format!("f{}", self.random.random_range(0..24));
        if self.ledger.tree.is_directory(&directory) { format!("{directory}/{name}") } else { name }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(1..=most)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Does one thing, whatever comes up.
    ///
    /// # Errors
    /// Of the operation.
    pub fn one(&mut self) -> io::Result<()> {
        self.at_risk = None;
        let (name, other) = (self.any_name(), self.any_name());
        let (path, target) = (self.top.join(&name), self.top.join(&other));
        let id = self.ledger.tree.file(&name);
        match (self.random.random_range(0..24), id) {
            (0..5, _) => self.create(&name, &path),
            (5..7, Some(id)) => self.append(id, &path),
            (7..13, _) if self.held.is_some() => self.write_held(),
            (7..13, Some(id)) => self.hold(id, &path),
            (13..15, Some(_)) if self.ledger.tree.is_free(&other) => {
                self.ledger.names("link", |tree| tree.link(&name, &other), || fs::hard_link(&path, &target))
            }
            (15..17, Some(_)) => {
                let what = if self.ledger.tree.is_free(&other) { "rename" } else { "rename over" };
                self.ledger.names(what, |tree| tree.rename(&name, &other), || fs::rename(&path, &target))
            }
            (17, Some(_)) => {
                self.ledger.names("unlink", |tree| tree.remove(&name), || fs::remove_file(&path))
            }
            (18..20, _) => self.directories(),
            (20.., Some(id)) => self.read(id, &path),
            _ => Ok(()),
        }
    }

    fn create(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let old = self.ledger.tree.file(name);
        if self.held.as_ref().is_some_and(|held| Some(held.id) == old) {
            // Cut off with bytes that wait for their sync it may say that these are lost.
            return self.write_held();
        }
        let mut file = self.ledger.names("create", |tree| tree.create(name), || File::create(path))?;
        let id = self.ledger.tree.file(name).unwrap();
        let bytes = self.bytes(40_000);
        self.at_risk = Some((id, Instant::now()));
        self.ledger.tree.contents(id).unwrap().write(0, &bytes);
        self.ledger.doing = "write";
        file.write_all(&bytes)?;
        self.ledger.sync("write and fsync", id, &file)
    }

    fn append(&mut self, id: FileId, path: &Path) -> io::Result<()> {
        if self.held.as_ref().is_some_and(|held| held.id == id) {
            // Whoever has the file open is told of its lost bytes, and not who opens it afterwards and syncs others.
            return self.write_held();
        }
        if self.is_doubtful(id) {
            return Ok(());
        }
        self.ledger.doing = "open to append";
        let mut file = OpenOptions::new().append(true).open(path)?;
        self.at_risk = Some((id, Instant::now()));
        self.append_to(id, &mut file)?;
        self.ledger.sync("append and fsync", id, &file)
    }

    /// What is read is what was written last, synced or not.
    fn read(&mut self, id: FileId, path: &Path) -> io::Result<()> {
        let Some(written) = self.ledger.tree.contents(id).and_then(|contents| contents.latest()) else {
            return Ok(());
        };
        self.ledger.doing = "read";
        if let Some(held) = self.held.as_ref().filter(|held| held.id == id) {
            self.at_risk = held.dirty_since.map(|since| (id, since));
        }
        let read = fs::read(path)?;
        if read != written {
            let again = fs::read(path)?;
            let (first, again) = (difference(&read, written), difference(&again, written));
            return Err(unlike(format!("{}: {first}; read again: {again}", path.display())));
        }
        self.ledger.acknowledge("read");
        Ok(())
    }

    fn append_to(&mut self, id: FileId, file: &mut File) -> io::Result<()> {
        let bytes = self.bytes(10_000);
        if let Some(contents) = self.ledger.tree.contents(id) {
            contents.write(contents.length(), &bytes);
        }
        self.ledger.doing = "append";
        file.write_all(&bytes)
    }

    fn is_doubtful(&mut self, id: FileId) -> bool {
        self.ledger.tree.contents(id).is_some_and(|contents| contents.is_doubtful())
    }

    fn hold(&mut self, id: FileId, path: &Path) -> io::Result<()> {
        if self.is_doubtful(id) {
            return Ok(());
        }
        let appends = self.random.random_range(0..3) == 0;
        self.ledger.doing = "open to write";
        let file = OpenOptions::new().write(true).append(appends).open(path)?;
        self.held = Some(Held { id, file, appends, dirty_since: None });
        Ok(())
    }

    /// Writes to the file that is held open; most writes are not synced at once. Let go, a file has been synced.
    fn write_held(&mut self) -> io::Result<()> {
        let mut held = self.held.take().unwrap();
        let since = *held.dirty_since.get_or_insert_with(Instant::now);
        self.at_risk = Some((held.id, since));
        let length = self.ledger.tree.contents(held.id).map_or(0, |contents| contents.length());
        if held.appends && length < 200_000 {
            self.append_to(held.id, &mut held.file)?;
        } else if !held.appends && length > 0 {
            let offset = self.random.random_range(0..length);
            let bytes = self.bytes(12_000.min(length - offset));
            self.ledger.tree.contents(held.id).unwrap().write(offset, &bytes);
            self.ledger.doing = "overwrite";
            held.file.write_all_at(&bytes, offset as u64)?;
        } else {
            return self.ledger.sync("fsync", held.id, &held.file);
        }
        let what = if held.appends { "appends, then fsync" } else { "overwrites, then fsync" };
        match self.random.random_range(0..10) {
            0 => self.ledger.sync(what, held.id, &held.file),
            fate => {
                if fate < 3 {
                    self.ledger.sync(what, held.id, &held.file)?;
                    held.dirty_since = None;
                }
                self.held = Some(held);
                Ok(())
            }
        }
    }

    fn directories(&mut self) -> io::Result<()> {
        // More than files are put in: some stay empty.
        let mut any = || format!("d{}", self.random.random_range(0..8));
        let (name, other) = (any(), any());
        let (path, target) = (self.top.join(&name), self.top.join(&other));
        let tree = &self.ledger.tree;
        if tree.is_free(&name) {
            self.ledger.names("mkdir", |tree| tree.make_directory(&name), || fs::create_dir(&path))
        } else if tree.is_empty(&name) {
            self.ledger.names("rmdir", |tree| tree.remove(&name), || fs::remove_dir(&path))
        } else if name != other && tree.is_empty(&other) {
            let act = || fs::rename(&path, &target);
            self.ledger.names("rename of a directory", |tree| tree.rename(&name, &other), act)
        } else {
            Ok(())
        }
    }
}
