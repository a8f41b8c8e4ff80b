//! Which chunk servers had something wrong, and when: that says what errors a program may meet.
//!
//! The contract (`docs/SEMANTICS.md`): with the policy *wait* a program meets no error while the faults leave enough
//! replicas of what it has written and not synced. Of three replicas two are needed, so the loss of one server's unsynced
//! bytes is never seen; when two servers had something wrong since the first unsynced write, the next sync may say EIO.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a server does after its fault has ended (it comes back, its replicas are compared) may take so long.
const AFTERMATH: Duration = Duration::from_secs(5);
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

    /// Whether bytes that were written since then, and not synced, may be lost.
    pub fn excuse(&self, since: Instant) -> bool {
        let all = self.locked();
        let lately = all.iter().filter(|loss| loss.until.is_none_or(|until| until + AFTERMATH > since));
        lately.map(|loss| loss.server).collect::<BTreeSet<_>>().len() > BORNE
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Loss>> {
        self.all.lock().expect("nobody panics meanwhile")
    }
}
