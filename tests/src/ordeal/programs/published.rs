//! Files that are written and closed on one mount, and read at once on another.

use super::{Acknowledged, Program};
use crate::corpus::bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const NAMES: u32 = 10;
const BYTES_MAX: usize = 300_000;

/// What a name stands for: contents are made from a number and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edition {
    seed: u64,
    length: usize,
}

impl Edition {
    fn bytes(self) -> Vec<u8> {
        bytes(self.seed, self.length)
    }
}

/// The program.
pub struct PublishedProgram {
    name: String,
    written: PathBuf,
    read: PathBuf,
    random: SmallRng,
    current: BTreeMap<u32, Edition>,
    /// What was being put in the place of what it is to replace.
    under_way: Option<(u32, Edition)>,
    written_since: Option<Instant>,
    doing: &'static str,
    acknowledged: Acknowledged,
}

impl PublishedProgram {
    /// Writes in a new directory of this name on one mount, and reads it on the other.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(writer: &Path, reader: &Path, name: &str, seed: u64) -> io::Result<Self> {
        let (written, read) = (writer.join(name), reader.join(name));
        fs::create_dir(&written)?;
        Ok(Self {
            name: name.to_owned(),
            written,
            read,
            random: SmallRng::seed_from_u64(seed),
            current: BTreeMap::new(),
            under_way: None,
            written_since: None,
            doing: "nothing",
            acknowledged: Acknowledged::new(),
        })
    }

    /// As everybody does who wants a file to be whole or not there: a name of its own, fsync, rename.
    fn publish(&mut self, number: u32, edition: Edition) -> io::Result<()> {
        let (draft, name) = (self.written.join("draft"), self.written.join(number.to_string()));
        self.under_way = Some((number, edition));
        self.doing = "create";
        let mut file = File::create(&draft)?;
        self.doing = "write and fsync";
        self.written_since = Some(Instant::now());
        file.write_all(&edition.bytes())?;
        file.sync_all()?;
        self.written_since = None;
        drop(file);
        self.doing = "rename";
        fs::rename(&draft, &name)?;
        self.under_way = None;
        self.current.insert(number, edition);
        *self.acknowledged.entry("write, fsync and rename").or_default() += 1;
        Ok(())
    }

    fn read(&mut self, number: u32) -> io::Result<()> {
        let Some(edition) = self.current.get(&number) else { return Ok(()) };
        let path = self.read.join(number.to_string());
        self.doing = "read on another mount";
        let read = fs::read(&path)?;
        assert!(read == edition.bytes(), "{}: not what was published last", path.display());
        *self.acknowledged.entry("read on another mount").or_default() += 1;
        Ok(())
    }

    /// What each name stands for below `top`, if that may be so.
    fn look(&self, top: &Path) -> Result<BTreeMap<u32, Edition>, String> {
        let mut found = BTreeMap::new();
        for number in 0..NAMES {
            let path = top.join(number.to_string());
            let now = match fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(format!("{}: {error}", path.display())),
            };
            let old = self.current.get(&number).copied();
            let new = self.under_way.filter(|(other, _)| *other == number).map(|(_, edition)| edition);
            let is = |edition: &Option<Edition>| edition.map(Edition::bytes) == now;
            let is_new = new.is_some() && is(&new);
            assert!(
                is_new || is(&old),
                "{}: neither what was published last nor what was under way",
                path.display()
            );
            if let Some(edition) = if is_new { new } else { old } {
                found.insert(number, edition);
            }
        }
        Ok(found)
    }
}

impl Program for PublishedProgram {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn step(&mut self) -> io::Result<()> {
        self.written_since = None;
        let number = self.random.random_range(0..NAMES);
        let edition = Edition { seed: self.random.random(), length: self.random.random_range(1..=BYTES_MAX) };
        self.publish(number, edition)?;
        self.read(number)?;
        let other = self.random.random_range(0..NAMES);
        self.read(other)
    }

    fn doing(&self) -> &'static str {
        self.doing
    }

    fn at_risk_since(&self) -> Option<Instant> {
        self.written_since
    }

    /// The draft is thrown away by the next one.
    fn doubt(&mut self) {
        self.under_way = None;
    }

    fn let_go(&mut self) {}

    fn recover(&mut self) -> Result<(), String> {
        self.current = self.look(&self.written)?;
        self.under_way = None;
        Ok(())
    }

    fn verify(&mut self, mount: &Path) -> Result<(), String> {
        self.look(&mount.join(&self.name)).map(drop)
    }

    fn acknowledged(&self) -> Acknowledged {
        self.acknowledged.clone()
    }
}
