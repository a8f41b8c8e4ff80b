//! Registers that are written through one mount and read through another, all the time: no read goes back in time.
//!
//! A register holds a number that only grows, and one thread writes it. A read that begins after a write was acknowledged
//! returns that number or a later one, never less than an earlier read did, and never one that nobody has begun to write.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two operations of a thread: most of the machine is left to what is tested.
const PAUSE: Duration = Duration::from_millis(2);

/// What keeps the number.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The bytes of a file, which stays open for writing.
    Bytes,
    /// How long a file is.
    Length,
    /// Where a symbolic link leads; each write renames a new one over it.
    Name,
}

/// What is known of a register.
#[derive(Default)]
struct Known {
    begun: AtomicU64,
    acknowledged: AtomicU64,
    seen: AtomicU64,
    reads: AtomicU64,
    stop: AtomicBool,
}

/// Writers and readers of several registers.
pub struct History {
    registers: Vec<(Kind, Arc<Known>)>,
    threads: Vec<JoinHandle<()>>,
}

impl History {
    /// A register of each kind, written through the first and read through the second mount, and others the other way round.
    pub fn start(mounts: &[PathBuf]) -> Self {
        let mut history = Self { registers: Vec::new(), threads: Vec::new() };
        for (writer, reader) in [(0, 1), (1, 0)] {
            for kind in [Kind::Bytes, Kind::Length, Kind::Name] {
                let name = format!("register-{kind:?}-{writer}");
                let (written, read) = (mounts[writer].join(&name), mounts[reader].join(&name));
                let known = Arc::new(Known::default());
                let first = Writer::new(kind, &written);
                let (theirs, ours) = (known.clone(), known.clone());
                history.threads.push(std::thread::spawn(move || first.run(&theirs)));
                history.threads.push(std::thread::spawn(move || read_all(kind, &read, &ours)));
                history.registers.push((kind, known));
            }
        }
        history
    }

    /// Fails when one of its threads has.
    pub fn check(&self) {
        assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a reader or writer has failed");
    }

    /// Waits until every register has been written, and that has been read, after this moment.
    pub fn wait_for_all(&self) {
        for (kind, known) in &self.registers {
            let next = known.begun.load(Ordering::SeqCst) + 1;
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            while known.seen.load(Ordering::SeqCst) < next {
                self.check();
                assert!(std::time::Instant::now() < deadline, "a register ({kind:?}) is stuck");
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Ends it. Returns how many writes and reads that were.
    pub fn finish(self) -> (u64, u64) {
        self.registers.iter().for_each(|(_, known)| known.stop.store(true, Ordering::SeqCst));
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let sum = |of: fn(&Known) -> &AtomicU64| {
            self.registers.iter().map(|(_, known)| of(known).load(Ordering::SeqCst)).sum()
        };
        (sum(|known| &known.acknowledged), sum(|known| &known.reads))
    }
}

struct Writer {
    kind: Kind,
    path: PathBuf,
    file: Option<File>,
}

impl Writer {
    /// Leaves the register with 0 in it.
    fn new(kind: Kind, path: &Path) -> Self {
        let mut writer = Self { kind, path: path.to_owned(), file: None };
        match kind {
            Kind::Bytes | Kind::Length => writer.file = Some(File::create(path).unwrap()),
            Kind::Name => {}
        }
        if !matches!(kind, Kind::Length) {
            writer.write(0);
        }
        writer
    }

    fn write(&self, number: u64) {
        match (self.kind, &self.file) {
            (Kind::Bytes, Some(file)) => {
                file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                file.sync_all().unwrap();
            }
            (Kind::Length, Some(file)) => file.set_len(number).unwrap(),
            _ => {
                let new = self.path.with_extension("new");
                symlink(number.to_string(), &new).unwrap();
                fs::rename(&new, &self.path).unwrap();
            }
        }
    }

    fn run(self, known: &Known) {
        for number in 1.. {
            if known.stop.load(Ordering::SeqCst) {
                break;
            }
            known.begun.store(number, Ordering::SeqCst);
            self.write(number);
            known.acknowledged.store(number, Ordering::SeqCst);
            std::thread::sleep(PAUSE);
        }
    }
}

fn read(kind: Kind, path: &Path) -> u64 {
    match kind {
        Kind::Bytes => u64::from_le_bytes(fs::read(path).unwrap().try_into().unwrap()),
        Kind::Length => fs::metadata(path).unwrap().len(),
        Kind::Name => fs::read_link(path).unwrap().to_str().unwrap().parse().unwrap(),
    }
}

fn read_all(kind: Kind, path: &Path, known: &Known) {
    while !known.stop.load(Ordering::SeqCst) {
        let acknowledged = known.acknowledged.load(Ordering::SeqCst);
        let seen = known.seen.load(Ordering::SeqCst);
        let number = read(kind, path);
        let begun = known.begun.load(Ordering::SeqCst);
        let what = path.display();
        assert!(number >= acknowledged, "{what}: {number} read after {acknowledged} was acknowledged");
        assert!(number >= seen, "{what}: {number} read after {seen} was read");
        assert!(number <= begun, "{what}: {number} read, {begun} was the last begun");
        known.seen.store(number, Ordering::SeqCst);
        known.reads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(PAUSE);
    }
}
