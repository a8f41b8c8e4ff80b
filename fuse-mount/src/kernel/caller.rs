//! Whether the thread that asked for something still wants it: what /proc tells of its signals.
//!
//! A fatal signal becomes SIGKILL, pending for each thread of the program. One that leaves a core dump does not as long as
//! the thread waits in the kernel; it stays pending as it is. So does any other in a thread that is on its way out already
//! and closes its files.

/// `proc_pid_status(5)`, as far as signals go: bit 0 is signal 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signals {
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
    is_traced: bool,
}

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

const SIGKILL: u64 = bit(9);
/// SIGCHLD, SIGCONT, SIGURG and SIGWINCH end nobody; SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU hold programs up.
const HARMLESS: u64 = bit(17) | bit(18) | bit(23) | bit(28) | bit(19) | bit(20) | bit(21) | bit(22);

/// Whether this thread, which waits in the kernel, will end as soon as it need not wait.
pub(super) fn is_dying(thread: u32) -> bool {
    // Thread 0 is none that is seen from here. One that waits is there; if it cannot be asked, it is left alone.
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"));
    status.is_ok_and(|status| parse(&status).are_fatal())
}

/// Whether this thread closes its files because a signal has ended its program. One that has left a core dump is not pending
/// any more, so that the kernel tells of no interrupt.
///
/// Of a program that closes its files as part of execve(2) `stat` cannot be read before that ends, hence not before we have answered: one
/// that has its memory still is not asked.
pub(super) fn has_been_killed(thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"));
    if status.map_or(true, |status| has_memory(&status)) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{thread}/stat"));
    stat.is_ok_and(|stat| ends_by_signal(&stat).unwrap_or_default())
}

/// An ending program gives its memory back before it closes its files; what is said of memory goes with it.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

/// `proc_pid_stat(5)`: the name, in parentheses, may contain anything; fields are counted from the state (3) behind it.
fn ends_by_signal(stat: &str) -> Option<bool> {
    const PF_EXITING: u64 = 0x4;
    const FLAGS: usize = 9 - 3;
    const EXIT_CODE: usize = 52 - 3;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let flags: u64 = fields.get(FLAGS)?.parse().ok()?;
    let code: i64 = fields.get(EXIT_CODE)?.parse().ok()?;
    Some(flags & PF_EXITING != 0 && code & 0x7f != 0)
}

impl Signals {
    fn are_fatal(self) -> bool {
        if self.pending & SIGKILL != 0 {
            return true;
        }
        // A debugger may keep a signal from the program.
        let handled = self.blocked | self.ignored | self.caught | HARMLESS;
        !self.is_traced && self.pending & !handled != 0
    }
}

/// What cannot be read counts as no signal.
fn parse(status: &str) -> Signals {
    let mut signals = Signals::default();
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let mask = || u64::from_str_radix(value.trim(), 16).unwrap_or_default();
        match key {
            "SigPnd" | "ShdPnd" => signals.pending |= mask(),
            "SigBlk" => signals.blocked = mask(),
            "SigIgn" => signals.ignored = mask(),
            "SigCgt" => signals.caught = mask(),
            "TracerPid" => signals.is_traced = value.trim() != "0",
            _ => {}
        }
    }
    signals
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nState:\tD (disk sleep)\nTracerPid:\t0\nSigQ:\t1/95844\nSigPnd:\t0000000000000100\n\
        ShdPnd:\t0000000000014000\nSigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000002\n";

    #[test]
    fn a_status_is_read() {
        let signals = parse(STATUS);
        assert_eq!((signals.pending, signals.blocked), (0x1_4100, 0x1_0000));
        assert_eq!((signals.ignored, signals.caught, signals.is_traced), (0x1000, 2, false));
        assert!(signals.are_fatal());
        assert_eq!(parse("nonsense\nSigPnd: zz\n"), Signals::default());
    }

    #[test]
    fn only_what_ends_a_program_is_fatal() {
        let with = |signal| Signals { pending: bit(signal), ..Signals::default() };
        // SIGHUP, SIGINT, SIGQUIT, SIGSEGV, SIGALRM, SIGTERM and the first realtime signal.
        for signal in [1, 2, 3, 11, 14, 15, 34] {
            assert!(with(signal).are_fatal(), "{signal}");
            assert!(!Signals { caught: bit(signal), ..with(signal) }.are_fatal(), "{signal} caught");
            assert!(!Signals { ignored: bit(signal), ..with(signal) }.are_fatal(), "{signal} ignored");
            assert!(!Signals { blocked: bit(signal), ..with(signal) }.are_fatal(), "{signal} blocked");
            assert!(!Signals { is_traced: true, ..with(signal) }.are_fatal(), "{signal} under a debugger");
        }
        for signal in [17, 18, 19, 20, 21, 22, 23, 28] {
            assert!(!with(signal).are_fatal(), "{signal}");
        }
        assert!(Signals { blocked: u64::MAX, is_traced: true, ..with(9) }.are_fatal());
    }

    #[test]
    fn those_who_live_or_are_not_there_are_left_alone() {
        assert!(!is_dying(std::process::id()));
        assert!(!is_dying(0));
        assert!(!is_dying(u32::MAX));
        assert!(!has_been_killed(std::process::id()) && !has_been_killed(0));
    }

    #[test]
    fn whoever_has_memory_has_not_ended() {
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(has_memory(&own) && !has_memory(STATUS));
    }

    #[test]
    fn the_end_of_a_program_tells_of_its_reason() {
        let stat = |flags: u32, code: u32| {
            let rest = "0 ".repeat(42);
            format!("77 (a) b (c) D 1 2 3 4 5 {flags} {rest}{code}\n")
        };
        assert_eq!(ends_by_signal(&stat(0x40_0104, 3 | 0x80)), Some(true));
        assert_eq!(ends_by_signal(&stat(0x40_0104, 9)), Some(true));
        assert_eq!(ends_by_signal(&stat(0x40_0104, 3 << 8)), Some(false), "by itself");
        assert_eq!(ends_by_signal(&stat(0x40_0100, 19)), Some(false), "it has only stopped");
        assert_eq!(ends_by_signal("77 (a) D 1"), None);
    }
}
