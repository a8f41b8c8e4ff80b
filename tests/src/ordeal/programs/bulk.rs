//! Larger files that are overwritten in place, appended to, and read at random from where they are stored.

use super::{Acknowledged, Program, unlike};
use crate::ledger::Ledger;
use crate::oracle::{FileId, Found, difference};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::fs::{Advice, OFlags, fadvise};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A file that has grown to this is made anew.
const FILE_BYTES_MAX: usize = 12 << 20;
const FILES: u64 = 2;
const WRITE_BYTES_MAX: usize = 512 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// The program.
pub struct BulkProgram {
    name: String,
    top: PathBuf,
    random: SmallRng,
    ledger: Ledger,
    open: Option<Open>,
    at_risk: Option<(FileId, Instant)>,
}

struct Open {
    id: FileId,
    file: File,
    dirty_since: Option<Instant>,
}

impl BulkProgram {
    /// Works in a new directory of this name.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(mount: &Path, name: &str, seed: u64) -> io::Result<Self> {
        let top = mount.join(name);
        std::fs::create_dir(&top)?;
        let (random, ledger) = (SmallRng::seed_from_u64(seed), Ledger::default());
        Ok(Self { name: name.to_owned(), top, random, ledger, open: None, at_risk: None })
    }

    fn open(&mut self) -> io::Result<()> {
        let name = format!("big{}", self.random.random_range(0..FILES));
        let path = self.top.join(&name);
        let known = self.ledger.tree.file(&name);
        let goes_on = known.filter(|id| {
            let contents = self.ledger.tree.contents(*id);
            contents.is_some_and(|contents| !contents.is_doubtful() && contents.length() < FILE_BYTES_MAX)
        });
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (id, file) = match goes_on {
            Some(id) => {
                self.ledger.doing = "open";
                (id, options.open(&path)?)
            }
            None => {
                options.create(true).truncate(true);
                let file = self.ledger.names("create", |tree| tree.create(&name), || options.open(&path))?;
                (self.ledger.tree.file(&name).unwrap_or_else(|| panic!("{name} was just made")), file)
            }
        };
        self.open = Some(Open { id, file, dirty_since: None });
        Ok(())
    }

    fn write(&mut self, open: &mut Open) -> io::Result<()> {
        let Some(contents) = self.ledger.tree.contents(open.id) else { return Ok(()) };
        let length = contents.length();
        let appends = length < (1 << 20) || self.random.random_range(0..3) == 0;
        let offset = if appends { length } else { self.random.random_range(0..length) };
        let mut bytes = vec![0; self.random.random_range(1..=WRITE_BYTES_MAX)];
        self.random.fill_bytes(&mut bytes);
        contents.write(offset, &bytes);
        let since = *open.dirty_since.get_or_insert_with(Instant::now);
        self.at_risk = Some((open.id, since));
        self.ledger.doing = "large write";
        open.file.write_all_at(&bytes, offset as u64)?;
        self.ledger.acknowledge("large write");
        Ok(())
    }

    fn read(&mut self, open: &Open) -> io::Result<()> {
        let Some(written) = self.ledger.tree.contents(open.id).and_then(|contents| contents.latest()) else {
            return Ok(());
        };
        if written.is_empty() {
            return Ok(());
        }
        let offset = self.random.random_range(0..written.len());
        let length = self.random.random_range(1..=READ_BYTES_MAX).min(written.len() - offset);
        self.ledger.doing = "large read";
        self.at_risk = open.dirty_since.map(|since| (open.id, since));
        // What the kernel keeps is dropped, so that chunk servers are asked.
        fadvise(&open.file, 0, None, Advice::DontNeed)?;
        let mut bytes = vec![0; length];
        open.file.read_exact_at(&mut bytes, offset as u64)?;
        if bytes != written[offset..offset + length] {
            let expected = &written[offset..offset + length];
            let found = difference(&bytes, expected);
            let again = read_again(&self.top, &open.file, offset, expected)?;
            return Err(unlike(format!("{} at {offset}: {found}; {again}", self.name)));
        }
        self.ledger.acknowledge("large read");
        Ok(())
    }

    fn sync(&mut self, open: &mut Open) -> io::Result<()> {
        self.at_risk = open.dirty_since.map(|since| (open.id, since));
        self.ledger.sync("large writes, then fsync", open.id, &open.file)?;
        open.dirty_since = None;
        Ok(())
    }
}

/// What other ways of reading the same bytes show, for whoever is to find out why they are not as expected.
fn read_again(top: &Path, file: &File, offset: usize, expected: &[u8]) -> io::Result<String> {
    let mut bytes = vec![0; expected.len()];
    fadvise(file, 0, None, Advice::DontNeed)?;
    file.read_exact_at(&mut bytes, offset as u64)?;
    let again = difference(&bytes, expected);
    let mut past_the_kernel = format!("{} is no name of it", top.display());
    for number in 0..FILES {
        let path = top.join(format!("big{number}"));
        let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(&path)?;
        if direct.metadata()?.ino() == file.metadata()?.ino() {
            direct.read_exact_at(&mut bytes, offset as u64)?;
            past_the_kernel = difference(&bytes, expected);
        }
    }
    Ok(format!("again: {again}; past the kernel's cache: {past_the_kernel}"))
}

impl Program for BulkProgram {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn step(&mut self) -> io::Result<()> {
        self.at_risk = None;
        let Some(mut open) = self.open.take() else { return self.open() };
        match self.random.random_range(0..10) {
            0..4 => self.write(&mut open)?,
            4..7 => self.read(&open)?,
            7..9 => self.sync(&mut open)?,
            _ => {
                // Closing syncs as well, but its error cannot be seen from here.
                return self.sync(&mut open);
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn doing(&self) -> &'static str {
        self.ledger.doing
    }

    fn at_risk_since(&self) -> Option<Instant> {
        self.at_risk.map(|(_, since)| since)
    }

    fn doubt(&mut self) {
        self.open = None;
        if let Some(contents) = self.at_risk.take().and_then(|(id, _)| self.ledger.tree.contents(id)) {
            contents.doubt();
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.at_risk = None;
        self.open.take().map_or(Ok(()), |mut open| self.sync(&mut open))
    }

    fn let_go(&mut self) {
        self.open = None;
    }

    fn recover(&mut self) -> Result<(), String> {
        let found = Found::below(&self.top)?;
        self.ledger.check_and_doubt(&self.top, &found);
        Ok(())
    }

    fn verify(&mut self, mount: &Path) -> Result<(), String> {
        let found = Found::below(&mount.join(&self.name))?;
        self.ledger.tree.check(&found)
    }

    fn acknowledged(&self) -> Acknowledged {
        self.ledger.acknowledged.clone()
    }
}
