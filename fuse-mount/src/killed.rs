//! Requests of programs that have been killed meanwhile.
//!
//! The transport answers no FUSE_INTERRUPT, so the kernel lets a program wait for its answer whatever signal comes, SIGKILL
//! included. What is pending for a thread stands in /proc, and a signal that ends a program becomes SIGKILL of each of its threads
//! at once. So a request that waits for long looks there now and then, and is given up for a thread that is to die, or that a signal
//! has ended and whose files are being closed: nobody sees the answer any more. A program that ends by itself is waited for.

use cairn_core::error::FsError;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

/// A request looks after so long for the first time, and then as often: nearly all are answered long before.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// SIGKILL in the masks of /proc/PID/status: bit number - 1.
const SIGKILL: u64 = 1 << 8;
/// PF_EXITING in the flags of /proc/PID/stat.
const EXITING: u64 = 4;
/// Where flags and exit code stand in /proc/PID/stat, counted from the state, which follows the name.
const FLAGS_AT: usize = 6;
const EXIT_CODE_AT: usize = 49;

/// Runs `operation` for the thread `pid`, unless that is killed while it waits.
///
/// # Errors
/// Those of the operation; `Unavailable` for one who does not hear it.
pub(crate) async fn unless_killed<T>(
    pid: u32,
    operation: impl Future<Output = Result<T, FsError>>,
) -> Result<T, FsError> {
    let mut operation = pin!(operation);
    let mut pause = pin!(None);
    poll_fn(|context| {
        if let Poll::Ready(outcome) = operation.as_mut().poll(context) {
            return Poll::Ready(outcome);
        }
        loop {
            if pause.is_none() {
                pause.set(Some(tokio::time::sleep(LOOK_PERIOD)));
            }
            let Some(present) = pause.as_mut().as_pin_mut() else { return Poll::Pending };
            ready!(present.poll(context));
            if is_killed(pid) {
                return Poll::Ready(Err(FsError::Unavailable("the program has been killed".to_owned())));
            }
            pause.set(None);
        }
    })
    .await
}

/// Whether a thread is about to die by a signal. Of one in another namespace (0), or gone, nothing is known.
fn is_killed(pid: u32) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    pid != 0 && (has_sigkill(&read("status")) || is_ended_by_signal(&read("stat")))
}

fn is_ended_by_signal(stat: &str) -> bool {
    // The name stands in parentheses and may contain any.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let field = |at: usize| rest.split_whitespace().nth(at).and_then(|text| text.parse::<u64>().ok());
    field(FLAGS_AT).is_some_and(|flags| flags & EXITING != 0)
        && field(EXIT_CODE_AT).is_some_and(|code| code & 0x7f != 0)
}

fn has_sigkill(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| {
        let (name, mask) = line.split_once(':')?;
        matches!(name, "SigPnd" | "ShdPnd").then(|| u64::from_str_radix(mask.trim(), 16).ok())?
    });
    masks.into_iter().any(|mask| mask & SIGKILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kill_signal_is_found_among_those_pending() {
        let status = |thread: &str, all: &str| {
            format!("Name:\tdd\nSigPnd:\t{thread}\nShdPnd:\t{all}\nSigBlk:\t0000000000000100\n")
        };
        assert!(!has_sigkill(&status("0000000000000000", "0000000000004002")), "others, and a blocked one");
        assert!(has_sigkill(&status("0000000000000100", "0000000000004000")));
        assert!(has_sigkill(&status("0000000000000000", "0000000000000100")));
        assert!(!has_sigkill("nonsense\nSigPnd:\tzz\n"));
    }

    #[test]
    fn whom_a_signal_has_ended_is_told_from_whoever_ends_by_itself() {
        let stat = |flags: u64, code: u64| {
            let between = "0 ".repeat(EXIT_CODE_AT - FLAGS_AT - 1);
            format!("7 (a) b) D 1 7 7 0 -1 {flags} {between}{code}\n")
        };
        assert!(is_ended_by_signal(&stat(0x40_0004, 15)));
        assert!(!is_ended_by_signal(&stat(0x40_0004, 256)), "exit(1)");
        assert!(!is_ended_by_signal(&stat(0x40_0000, 19)), "stopped");
        assert!(!is_ended_by_signal(""));
    }

    #[test]
    fn who_is_alive_is_served() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let slow = async {
                tokio::time::sleep(LOOK_PERIOD + LOOK_PERIOD / 2).await;
                Ok(7)
            };
            assert_eq!(unless_killed(std::process::id(), slow).await, Ok(7));
        });
    }
}
