//! Which chunk servers had something wrong, and when: that says what errors a program may meet.
//!
//! The contract (`docs/SEMANTICS.md`): with the policy *wait* a program meets no error while the faults leave enough
//! replicas of what it has written and not synced. Of three replicas two are needed, so the loss of one server's unsynced
//! bytes is never seen; when two servers had something wrong since the first unsynced write, the next sync may say EIO. To a mount
//! that is cut off from its servers something is wrong with each of them: what it writes may have two replicas only.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a server does after its fault has ended (it comes back, its replicas are compared) may take so long.
const AFTERMATH: Duration = Duration::from_secs(5);
/// A mount that was cut off.
type MountNumber = usize;

/// Servers that may lose unsynced bytes without anybody noticing: replicas less the minimum.
const BORNE: usize = 1;

#[derive(Debug)]
struct Loss {
    server: u8,
    until: Option<Instant>,
}

/// All that was wrong so far.
#[derive(Debug, Default)]
pub struct Losses {
    all: Mutex<Vec<Loss>>,
    cuts: Mutex<Vec<(MountNumber, Option<Instant>)>>,
}

impl Losses {
    /// Something is wrong there from now on.
    pub fn begin(&self, server: u8) {
        self.locked().push(Loss { server, until: None });
    }

    /// Nothing is any more.
    pub fn end(&self, server: u8) {
        for loss in self.locked().iter_mut().filter(|loss| loss.server == server && loss.until.is_none()) {
            loss.until = Some(Instant::now());
        }
    }

    /// This mount does not reach its servers from now on.
    pub fn begin_cut(&self, mount: MountNumber) {
        self.cuts().push((mount, None));
    }

    /// It does again.
    pub fn end_cut(&self, mount: MountNumber) {
        for (_, until) in self.cuts().iter_mut().filter(|(cut, until)| *cut == mount && until.is_none()) {
            *until = Some(Instant::now());
        }
    }

    /// Whether bytes that were written through this mount since then, and not synced, may be lost.
    pub fn excuse(&self, mount: MountNumber, since: Instant) -> bool {
        let is_lately = |until: Option<Instant>| until.is_none_or(|until| until + AFTERMATH > since);
        let was_cut = self.cuts().iter().any(|(cut, until)| *cut == mount && is_lately(*until));
        let all = self.locked();
        let lately = all.iter().filter(|loss| is_lately(loss.until));
        let servers = lately.map(|loss| loss.server).collect::<BTreeSet<_>>().len();
        servers > if was_cut { 0 } else { BORNE }
    }

    fn cuts(&self) -> MutexGuard<'_, Vec<(MountNumber, Option<Instant>)>> {
        self.cuts.lock().expect("nobody panics meanwhile")
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Loss>> {
        self.all.lock().expect("nobody panics meanwhile")
    }
}
