//! Signals to programs that wait for us.
//!
//! The kernel tells once of the first signal that reaches a waiting program (FUSE_INTERRUPT), fatal or not, and lets the
//! program go only when it has its answer. A signal that is not fatal must not disturb an operation on a file: nowhere does
//! read(2) of a file end because a timer rings. So whoever was signalled is watched, and only a program that is dying gets an
//! answer at once, EINTR, which nobody will see. This has a thread of its own: looking into /proc may take its time.

use super::caller::{has_been_killed, is_dying};
use super::reply::{Port, answer};
use super::request::Unique;
use rustix::io::Errno;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A program that was signalled is looked at so often at first.
const TICK: Duration = Duration::from_millis(20);
/// Looks at that pace; afterwards only every [`CALM`]th tick.
const EAGER_LOOKS: u32 = 50;
const CALM: u32 = 5;
/// A close that takes so long is looked at without an interrupt: the kernel closes the files of a program that has left a core
/// dump, and tells us nothing.
const CLOSES_EVERY: Duration = Duration::from_millis(400);

/// FUSE_INTERRUPT: `of` is the request whose program was signalled, `own` that of the message itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupt {
    pub(crate) own: Unique,
    pub(crate) of: Unique,
}

/// Takes note of interrupts. The watch ends with the last clone.
#[derive(Clone)]
pub(crate) struct Interrupts {
    sender: Sender<Interrupt>,
}

impl Interrupts {
    /// Starts the watch over the requests of these ports, which are all of a session.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn watch(ports: Vec<Port>) -> io::Result<Self> {
        let (sender, told) = channel();
        let watch = Watch { ports, is_dying, has_been_killed, watched: Vec::new(), old_closes: Vec::new() };
        thread::Builder::new().name("fuse-interrupts".to_owned()).spawn(move || watch.run(&told))?;
        Ok(Self { sender })
    }

    /// Never waits.
    pub(crate) fn notice(&self, interrupt: Interrupt) {
        // The watch ends after us.
        let _ = self.sender.send(interrupt);
    }
}

struct Watch {
    ports: Vec<Port>,
    is_dying: fn(u32) -> bool,
    has_been_killed: fn(u32) -> bool,
    /// Closes that were under way when they were looked at last.
    old_closes: Vec<Unique>,
    /// As many as there are programs that wait, at most: the kernel tells of each once.
    watched: Vec<Watched>,
}

struct Watched {
    interrupt: Interrupt,
    looks: u32,
    /// The request has been seen under way.
    is_known: bool,
}

impl Watch {
    fn run(mut self, told: &Receiver<Interrupt>) {
        let mut closes_seen = Instant::now();
        loop {
            let patience = if self.watched.is_empty() { CLOSES_EVERY } else { TICK };
            match told.recv_timeout(patience) {
                Ok(interrupt) => self.note(interrupt),
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if closes_seen.elapsed() >= CLOSES_EVERY {
                self.look_at_closes();
                closes_seen = Instant::now();
            }
        }
    }

    fn look_at_closes(&mut self) {
        let Some(first) = self.ports.first() else { return };
        let closes = first.underway.closes();
        for (close, caller) in &closes {
            if self.old_closes.contains(close) && (self.has_been_killed)(*caller) {
                self.give_up(*close);
            }
        }
        self.old_closes = closes.into_iter().map(|(close, _)| close).collect();
    }

    /// Looks at once.
    fn note(&mut self, interrupt: Interrupt) {
        let mut one = Watched { interrupt, looks: 0, is_known: false };
        if self.look(&mut one) {
            self.watched.push(one);
        }
    }

    fn tick(&mut self) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain_mut(|one| self.look(one));
        self.watched = watched;
    }

    /// Whether to go on looking.
    fn look(&self, one: &mut Watched) -> bool {
        one.looks = one.looks.saturating_add(1);
        if one.looks > EAGER_LOOKS && !one.looks.is_multiple_of(CALM) {
            return true;
        }
        let Interrupt { own, of } = one.interrupt;
        let Some(first) = self.ports.first() else { return false };
        match first.underway.caller(of) {
            Some(caller) if (self.is_dying)(caller) => {
                self.give_up(of);
                false
            }
            Some(_) => {
                one.is_known = true;
                true
            }
            // It was answered.
            None if one.is_known => false,
            // It was answered, or the thread that has read it has not got further yet.
            None if one.looks < EAGER_LOOKS => true,
            None => {
                self.ask_again(own);
                false
            }
        }
    }

    fn give_up(&self, of: Unique) {
        let Some(first) = self.ports.first() else { return };
        let Some(given_up) = first.underway.give_up(of) else { return };
        tracing::debug!(unique = of.0, "its program is dying: given up");
        if let Some(port) = self.ports.get(given_up.channel) {
            answer(&port.channel, of, Errno::INTR.raw_os_error(), &[]);
        }
        given_up.tell();
    }

    /// The kernel repeats an interrupt that is answered so, if its request is still without an answer; it knows that only
    /// at the channel that the request came from. Once a second or so, hence no storm.
    fn ask_again(&self, own: Unique) {
        for port in &self.ports {
            if answer(&port.channel, own, Errno::AGAIN.raw_os_error(), &[]) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::channel::Channel;
    use crate::kernel::underway::Underway;
    use std::io::{PipeReader, Read};
    use std::sync::Arc;

    const DYING: u32 = 13;

    fn watch() -> (Watch, Vec<PipeReader>) {
        let underway = Arc::new(Underway::default());
        let (readers, ports) = (0..2)
            .map(|number| {
                let (reader, writer) = io::pipe().unwrap();
                let channel = Arc::new(Channel::new(writer.into()));
                (reader, Port { channel, number, underway: underway.clone() })
            })
            .unzip();
        let is_dying = |caller| caller == DYING;
        let watch =
            Watch { ports, is_dying, has_been_killed: is_dying, watched: Vec::new(), old_closes: Vec::new() };
        (watch, readers)
    }

    /// Error and unique of the one answer.
    #[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
    fn answered(watch: Watch, reader: &mut PipeReader) -> Option<(i32, u64)> {
        drop(watch);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        if bytes.is_empty() {
            return None;
        }
        assert_eq!(bytes.len(), 16);
        let error = i32::from_ne_bytes(bytes[4..8].try_into().unwrap());
        Some((error, u64::from_ne_bytes(bytes[8..].try_into().unwrap())))
    }

    fn interrupt(of: u64) -> Interrupt {
        Interrupt { own: Unique(of | 1), of: Unique(of) }
    }

    #[test]
    fn the_request_of_a_dying_program_is_answered_where_it_came_from() {
        let (mut watch, mut readers) = watch();
        watch.ports[0].underway.begin(Unique(6), DYING, 1, false);
        watch.note(interrupt(6));
        assert!(watch.watched.is_empty() && !watch.ports[0].underway.end(Unique(6)));
        assert_eq!(answered(watch, &mut readers[1]), Some((-4, 6)));
    }

    #[test]
    fn a_signal_that_kills_nobody_changes_nothing() {
        let (mut watch, mut readers) = watch();
        watch.ports[0].underway.begin(Unique(6), 7, 0, false);
        watch.note(interrupt(6));
        for _ in 0..3 * EAGER_LOOKS {
            watch.tick();
        }
        assert_eq!(watch.watched.len(), 1, "it may be killed later");
        assert!(watch.ports[0].underway.end(Unique(6)));
        for _ in 0..CALM {
            watch.tick();
        }
        assert!(watch.watched.is_empty());
        assert_eq!(answered(watch, &mut readers[0]), None);
    }

    #[test]
    fn a_request_that_has_not_come_yet_is_waited_for() {
        let (mut watch, mut readers) = watch();
        watch.note(interrupt(6));
        watch.tick();
        assert_eq!(watch.watched.len(), 1);
        watch.ports[0].underway.begin(Unique(6), DYING, 0, false);
        watch.tick();
        assert_eq!(answered(watch, &mut readers[0]), Some((-4, 6)));
    }

    #[test]
    fn a_long_close_of_a_killed_program_needs_no_interrupt() {
        let (mut watch, mut readers) = watch();
        watch.ports[0].underway.begin(Unique(6), DYING, 0, true);
        watch.ports[0].underway.begin(Unique(8), 7, 0, true);
        watch.ports[0].underway.begin(Unique(10), DYING, 0, false);
        watch.look_at_closes();
        assert_eq!(watch.ports[0].underway.closes().len(), 2, "not yet long");
        watch.look_at_closes();
        assert_eq!(watch.ports[0].underway.closes(), [(Unique(8), 7)]);
        assert_eq!(answered(watch, &mut readers[0]), Some((-4, 6)));
    }

    #[test]
    fn the_kernel_is_asked_to_repeat_what_is_not_understood() {
        let (mut watch, mut readers) = watch();
        watch.note(interrupt(6));
        for _ in 0..EAGER_LOOKS {
            watch.tick();
        }
        assert!(watch.watched.is_empty());
        assert_eq!(answered(watch, &mut readers[0]), Some((-11, 7)));
    }
}
