//! Programs for measurements, without an interpreter whose own pauses would be measured: three reads of 16 KiB past the kernel's
//! cache to one write of 16 KiB with fsync, by sixteen threads.
//!
//! `cairn-bench-load DIRECTORY FILE...`, files to read and a directory to write in; then lines on its standard input:
//!
//! * `closed SECONDS`: each thread without a pause; answered with operations per second
//! * `open RATE`: from now on so many a second, each at its appointed time whatever became of the one before; answered with `ok`
//! * `end FILE`: no more; answered with the number of errors, and FILE has a line for each operation: when it was due (seconds of
//!   the monotonic clock), how much later it was done, what it was (`read`, `write`, or `error` and why)

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const THREADS: u64 = 16;
const BLOCK: u64 = 16 << 10;
/// Blocks of a file that is written.
const WRITTEN: u64 = 256;
const SEED: u64 = 7;

struct Sample {
    due: f64,
    took: f64,
    kind: String,
}

/// When operations are due, by exponential gaps; without a rate, at once.
struct Timetable {
    rate: Option<f64>,
    next: Mutex<(f64, SmallRng)>,
    stop: AtomicBool,
}

impl Timetable {
    fn new(rate: Option<f64>) -> Arc<Self> {
        let next = Mutex::new((monotonic(), SmallRng::seed_from_u64(SEED)));
        Arc::new(Self { rate, next, stop: AtomicBool::new(false) })
    }

    fn take(&self) -> Option<f64> {
        let Some(rate) = self.rate else { return (!self.stop.load(Ordering::Relaxed)).then(monotonic) };
        let due = {
            let mut next = self.next.lock().expect("no thread panics with it");
            next.0 -= (1.0 - next.1.random::<f64>()).ln() / rate;
            next.0
        };
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match due - monotonic() {
                left if left <= 0.0 => return Some(due),
                left => std::thread::sleep(Duration::from_secs_f64(left.min(0.1))),
            }
        }
    }
}

fn monotonic() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

struct Program {
    read: Arc<Vec<(File, u64)>>,
    written: File,
    chance: SmallRng,
    block: Vec<u8>,
}

impl Program {
    fn operation(&mut self) -> (&'static str, io::Result<()>) {
        if self.chance.random_range(0..4) == 0 {
            let at = self.chance.random_range(0..WRITTEN) * BLOCK;
            return (
                "write",
                self.written.write_all_at(&self.block, at).and_then(|()| self.written.sync_all()),
            );
        }
        let (file, size) = &self.read[self.chance.random_range(0..self.read.len())];
        let at = self.chance.random_range(0..size / BLOCK) * BLOCK;
        ("read", file.read_exact_at(&mut self.block, at))
    }

    fn run(mut self, timetable: &Timetable) -> Vec<Sample> {
        let mut samples = Vec::new();
        while let Some(due) = timetable.take() {
            let (kind, done) = self.operation();
            let kind = done.map_or_else(|error| format!("error {error}"), |()| kind.to_owned());
            samples.push(Sample { due, took: monotonic() - due, kind });
        }
        samples
    }
}

struct Running {
    timetable: Arc<Timetable>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

fn start(directory: &Path, read: &Arc<Vec<(File, u64)>>, rate: Option<f64>) -> io::Result<Running> {
    fs::create_dir_all(directory)?;
    let timetable = Timetable::new(rate);
    let thread = |number: u64| {
        let path = directory.join(number.to_string());
        let written = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let (read, chance) = (Arc::clone(read), SmallRng::seed_from_u64(SEED + number));
        let mut block = vec![0; BLOCK as usize];
        rand::Rng::fill_bytes(&mut SmallRng::seed_from_u64(number), &mut block);
        let (program, timetable) = (Program { read, written, chance, block }, Arc::clone(&timetable));
        Ok(std::thread::spawn(move || program.run(&timetable)))
    };
    let threads = (0..THREADS).map(thread).collect::<io::Result<_>>()?;
    Ok(Running { timetable, threads })
}

impl Running {
    fn end(self) -> Vec<Sample> {
        self.timetable.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    }
}

fn write_samples(path: &str, samples: &[Sample]) -> io::Result<usize> {
    let mut out = io::BufWriter::new(File::create(path)?);
    for Sample { due, took, kind } in samples {
        writeln!(out, "{due:.6} {took:.6} {kind}")?;
    }
    out.flush()?;
    Ok(samples.iter().filter(|sample| sample.kind.starts_with("error")).count())
}

fn serve(directory: &Path, files: &[String]) -> io::Result<()> {
    let direct = OFlags::DIRECT.bits().cast_signed();
    let open = |path: &String| {
        let file = OpenOptions::new().read(true).custom_flags(direct).open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let read = Arc::new(files.iter().map(open).collect::<io::Result<Vec<_>>>()?);
    let mut running = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let wrong = || io::Error::other(format!("cannot do {line:?}"));
        let (what, with) = line.split_once(' ').ok_or_else(wrong)?;
        let answer = match what {
            "closed" => {
                let seconds: f64 = with.parse().map_err(io::Error::other)?;
                let running = start(directory, &read, None)?;
                std::thread::sleep(Duration::from_secs_f64(seconds));
                (running.end().len() as f64 / seconds).to_string()
            }
            "open" => {
                running = Some(start(directory, &read, Some(with.parse().map_err(io::Error::other)?))?);
                "ok".to_owned()
            }
            "end" => write_samples(with, &running.take().ok_or_else(wrong)?.end())?.to_string(),
            _ => return Err(wrong()),
        };
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((directory, files)) = arguments.split_first() else {
        // The exit status says it too, should nobody listen.
        let _ = writeln!(io::stderr(), "usage: cairn-bench-load DIRECTORY FILE...");
        return ExitCode::from(2);
    };
    match serve(Path::new(directory), files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As above.
            let _ = writeln!(io::stderr(), "cairn-bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}
