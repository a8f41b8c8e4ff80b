//! A process of a simulated machine: all its tasks, whoever has spawned them, in a runtime of its own with a clock of its own. A
//! stopped process (SIGSTOP) makes no step while its kernel and everybody else go on; when it goes on, its clock has jumped.

use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, RngSeed, Runtime, UnhandledPanic};
use tokio::task::{JoinHandle, LocalSet};

/// Timers count whole milliseconds.
const NANOS_PER_MS: u64 = 1_000_000;

/// A running process.
pub(crate) struct Process {
    runtime: Runtime,
    local: LocalSet,
    main: JoinHandle<()>,
    /// Time of its own clock that has passed and that it has not seen.
    owed_nanos: u64,
    is_stopped: bool,
    missed: Duration,
}

impl Process {
    /// Starts one; `main` begins at the first step.
    pub(crate) fn start(seed: u64, main: impl Future<Output = ()> + 'static) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&bytes))
            // A panic of any task fails the run.
            .unhandled_panic(UnhandledPanic::ShutdownRuntime)
            .build()
            .unwrap();
        // To the next whole millisecond, on which all timers stand.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        let mut local = LocalSet::new();
        local.unhandled_panic(UnhandledPanic::ShutdownRuntime);
        let main = {
            let _within = runtime.enter();
            local.spawn_local(main)
        };
        Self { runtime, local, main, owed_nanos: 0, is_stopped: false, missed: Duration::ZERO }
    }

    /// Lets time pass: `span` on a perfect clock, on this machine's clock as much faster as `speed_ppm` says.
    pub(crate) fn step(&mut self, span: Duration, speed_ppm: i64) {
        let nanos = span.as_nanos() as i64;
        self.owed_nanos += (nanos + nanos * speed_ppm / 1_000_000) as u64;
        let now = Duration::from_millis(self.owed_nanos / NANOS_PER_MS);
        self.owed_nanos %= NANOS_PER_MS;
        if self.is_stopped {
            self.missed += now;
            return;
        }
        let missed = std::mem::take(&mut self.missed);
        let (runtime, local) = (&self.runtime, &self.local);
        runtime.block_on(local.run_until(async {
            if missed > Duration::ZERO {
                // All at once, before anything is done: no timer has been seen to fire meanwhile.
                tokio::time::advance(missed).await;
            }
            tokio::time::sleep(now).await;
        }));
    }

    /// SIGSTOP, or SIGCONT.
    pub(crate) fn stop(&mut self, stop: bool) {
        self.is_stopped = stop;
    }

    /// Whether its main function has returned.
    pub(crate) fn has_ended(&self) -> bool {
        self.main.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const TICK: Duration = Duration::from_millis(2);

    /// When a task of the process, not the first one, was woken, by the process's own clock.
    fn ticker() -> (Process, Arc<Mutex<Vec<u64>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let process = Process::start(1, async move {
            let start = tokio::time::Instant::now();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    notes.lock().unwrap().push(start.elapsed().as_millis() as u64);
                }
            });
        });
        (process, seen)
    }

    #[test]
    fn a_stopped_process_does_nothing_and_then_finds_that_time_has_passed() {
        let (mut process, seen) = ticker();
        (0..11).for_each(|_| process.step(TICK, 0));
        assert_eq!(*seen.lock().unwrap(), [10, 20]);
        process.stop(true);
        (0..500).for_each(|_| process.step(TICK, 0));
        assert_eq!(*seen.lock().unwrap(), [10, 20]);
        process.stop(false);
        (0..8).for_each(|_| process.step(TICK, 0));
        let seen = seen.lock().unwrap();
        assert!(seen[2] >= 1022 && seen[3] == seen[2] + 10, "{seen:?}");
    }

    #[test]
    fn a_clock_runs_at_its_own_speed() {
        let (mut process, seen) = ticker();
        (0..5000).for_each(|_| process.step(TICK, 40_000));
        assert!((1039..=1040).contains(&seen.lock().unwrap().len()));
        let (mut process, seen) = ticker();
        (0..5000).for_each(|_| process.step(TICK, -40_000));
        assert!(process.has_ended());
        assert!((959..=960).contains(&seen.lock().unwrap().len()));
    }
}
