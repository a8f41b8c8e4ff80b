//! What a long-lived process asks of the kernel's scheduler.

use std::io;
use std::time::Duration;

/// Has the calling thread, and those that it starts from now on, run in short slices (sched_setattr(2), Linux 6.12): whoever wakes
/// with a shorter slice than that of the running thread takes its core at once, instead of when that one's slice ends. For
/// threads that work for microseconds at a time and sleep. Older kernels accept the request and do nothing.
///
/// # Errors
/// The kernel refuses it, as where the process runs under another policy than the usual one.
#[allow(unsafe_code, reason = "rustix does not have this system call")]
pub fn run_in_short_slices(slice: Duration) -> io::Result<()> {
    let mut attributes = libc::sched_attr {
        size: 0,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let size = size_of_val(&attributes) as libc::c_uint;
    // SAFETY: the kernel writes at most `size` bytes at the address of `attributes`, which lives to the end of the call.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    attributes.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: the kernel reads `attributes`, which lives to the end of the call and says its own size.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
