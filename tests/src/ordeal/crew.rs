//! The threads of the programs, and what is seen of them from outside.

use super::losses::Losses;
use super::programs::{Acknowledged, Program};
use super::stage::Life;
use rustix::io::Errno;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two steps of a program: some of the machine is left to what is tested.
const REST: Duration = Duration::from_millis(8);
/// Until a dead mount is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// What a thread shows of its progress. Milliseconds count from the beginning.
#[derive(Default)]
struct Pulse {
    steps: AtomicU64,
    excused: AtomicU64,
    last_ms: AtomicU64,
    longest_ms: AtomicU64,
    longest_ended_ms: AtomicU64,
    /// Its mount is dead, and nothing is expected of it.
    is_away: AtomicBool,
}

impl Pulse {
    fn beat(&self, begun: Instant, counts: bool) {
        let now = begun.elapsed().as_millis() as u64;
        let gap = now - self.last_ms.swap(now, Ordering::SeqCst).min(now);
        if counts && gap > self.longest_ms.fetch_max(gap, Ordering::SeqCst) {
            self.longest_ended_ms.store(now, Ordering::SeqCst);
        }
        self.steps.fetch_add(1, Ordering::SeqCst);
    }
}

struct Worker {
    name: String,
    mount: usize,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<Box<dyn Program>>>,
}

/// All programs at work.
pub struct Crew {
    begun: Instant,
    stop: Arc<AtomicBool>,
    losses: Arc<Losses>,
    workers: Vec<Worker>,
}

/// The longest time in which a program on some mount got nothing done, while that mount lived.
#[derive(Clone, Debug)]
pub struct Stall {
    /// Number of the mount.
    pub mount: usize,
    /// Who waited.
    pub program: String,
    /// How long.
    pub lasted: Duration,
    /// When it ended, since the beginning.
    pub ended: Duration,
}

impl Crew {
    /// Nobody yet.
    pub fn new(losses: Arc<Losses>) -> Self {
        Self { begun: Instant::now(), stop: Arc::default(), losses, workers: Vec::new() }
    }

    /// Begins with one more. It works on this mount; `lives` are of all the mounts that it uses.
    pub fn start(&mut self, program: Box<dyn Program>, mount: usize, lives: Vec<Life>) {
        let (name, pulse) = (program.name(), Arc::new(Pulse::default()));
        pulse.last_ms.store(self.begun.elapsed().as_millis() as u64, Ordering::SeqCst);
        let thread = At {
            begun: self.begun,
            stop: self.stop.clone(),
            losses: self.losses.clone(),
            pulse: pulse.clone(),
            mount,
            lives,
        };
        let thread = Some(std::thread::spawn(move || thread.work(program)));
        self.workers.push(Worker { name, mount, pulse, thread });
    }

    /// Who has failed.
    pub fn failed(&self) -> Option<&str> {
        let ended = |worker: &&Worker| worker.thread.as_ref().is_some_and(JoinHandle::is_finished);
        self.workers.iter().find(ended).map(|worker| worker.name.as_str())
    }

    /// Who has got nothing done for so long, although its mount is there.
    pub fn stuck(&self, patience: Duration) -> Vec<String> {
        let now = self.begun.elapsed().as_millis() as u64;
        let since = |worker: &Worker| now.saturating_sub(worker.pulse.last_ms.load(Ordering::SeqCst));
        let stuck = self.workers.iter().filter(|worker| {
            !worker.pulse.is_away.load(Ordering::SeqCst) && u128::from(since(worker)) > patience.as_millis()
        });
        stuck.map(|worker| format!("{} for {:.1} s", worker.name, since(worker) as f64 / 1000.0)).collect()
    }

    /// How much each has done.
    pub fn steps(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.pulse.steps.load(Ordering::SeqCst)).collect()
    }

    /// Errors that were to be expected.
    pub fn excused(&self) -> u64 {
        self.workers.iter().map(|worker| worker.pulse.excused.load(Ordering::SeqCst)).sum()
    }

    /// The longest one of each mount.
    pub fn stalls(&self) -> Vec<Stall> {
        let mut longest: Vec<Stall> = Vec::new();
        let millis = |number: &AtomicU64| Duration::from_millis(number.load(Ordering::SeqCst));
        for worker in &self.workers {
            let stall = Stall {
                mount: worker.mount,
                program: worker.name.clone(),
                lasted: millis(&worker.pulse.longest_ms),
                ended: millis(&worker.pulse.longest_ended_ms),
            };
            match longest.iter_mut().find(|other| other.mount == stall.mount) {
                Some(other) if other.lasted < stall.lasted => *other = stall,
                Some(_) => {}
                None => longest.push(stall),
            }
        }
        longest
    }

    /// Nobody begins anything more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits for all. Whoever has panicked is named.
    ///
    /// # Errors
    /// Names of those who have failed.
    pub fn join(&mut self) -> Result<Vec<Box<dyn Program>>, String> {
        let (mut programs, mut failed) = (Vec::new(), Vec::new());
        for worker in &mut self.workers {
            match worker.thread.take().map(JoinHandle::join) {
                Some(Ok(program)) => programs.push(program),
                Some(Err(_)) => failed.push(worker.name.clone()),
                None => {}
            }
        }
        if failed.is_empty() { Ok(programs) } else { Err(failed.join(", ")) }
    }
}

/// What they have done, in all.
pub fn acknowledged(programs: &[Box<dyn Program>]) -> Acknowledged {
    let mut all = Acknowledged::new();
    for program in programs {
        program.acknowledged().into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
    }
    all
}

/// Holds what a fresh mount shows against what everybody knows. Returns what is wrong.
pub fn verify(programs: &mut [Box<dyn Program>], mount: &Path) -> Vec<String> {
    let checked = programs.iter_mut().map(|program| (program.name(), program.verify(mount)));
    checked.filter_map(|(name, outcome)| Some(format!("{name}: {}", outcome.err()?))).collect()
}

/// What a thread works with.
struct At {
    begun: Instant,
    stop: Arc<AtomicBool>,
    losses: Arc<Losses>,
    pulse: Arc<Pulse>,
    mount: usize,
    lives: Vec<Life>,
}

impl At {
    fn lives(&self) -> Vec<u64> {
        self.lives.iter().map(|life| life.load(Ordering::SeqCst)).collect()
    }

    fn work(self, mut program: Box<dyn Program>) -> Box<dyn Program> {
        let mut lives = self.lives();
        while !self.stop.load(Ordering::SeqCst) {
            let now = self.lives();
            if now != lives {
                program.let_go();
                if !self.come_back(program.as_mut(), &now) {
                    continue;
                }
                lives = now;
            }
            let outcome = program.step();
            self.take(program.as_mut(), &lives, outcome);
            std::thread::sleep(REST);
        }
        let outcome = program.finish();
        self.take(program.as_mut(), &lives, outcome);
        program
    }

    fn take(&self, program: &mut dyn Program, lives: &[u64], outcome: std::io::Result<()>) {
        match outcome {
            Ok(()) => self.pulse.beat(self.begun, true),
            // Its mount was killed: what that means is found out when it is back.
            Err(_) if self.lives() != lives => {}
            Err(error) => self.judge(program, &error),
        }
    }

    /// Waits until its mounts live, and looks at what they show.
    fn come_back(&self, program: &mut dyn Program, now: &[u64]) -> bool {
        if now.iter().any(|life| life % 2 == 1) {
            self.pulse.is_away.store(true, Ordering::SeqCst);
            std::thread::sleep(LOOK);
            return false;
        }
        // What the dead mount held is waited for, as nobody can know that it is dead.
        self.pulse.beat(self.begun, false);
        self.pulse.is_away.store(false, Ordering::SeqCst);
        match program.recover() {
            Ok(()) => {
                self.pulse.beat(self.begun, false);
                true
            }
            Err(_) if self.lives() != now => false,
            Err(wrong) => panic!("{}: after its mount was killed: {wrong}", program.name()),
        }
    }

    /// An error: either it is one that may be, or everything ends here.
    fn judge(&self, program: &mut dyn Program, error: &std::io::Error) {
        let since = program.at_risk_since();
        let is_of_lost_bytes = error.raw_os_error() == Some(Errno::IO.raw_os_error())
            || error.kind() == std::io::ErrorKind::InvalidData;
        let is_excused = is_of_lost_bytes && since.is_some_and(|since| self.losses.excuse(self.mount, since));
        let at = self.begun.elapsed().as_secs_f64();
        let risk = since.map(|since| since.elapsed());
        assert!(
            is_excused,
            "{}, {}: {error} at {at:.1} s, bytes at risk for {risk:?}",
            program.name(),
            program.doing()
        );
        self.pulse.excused.fetch_add(1, Ordering::SeqCst);
        program.doubt();
        self.pulse.beat(self.begun, true);
    }
}
