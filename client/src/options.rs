//! What may be chosen when connecting.

use std::time::Duration;

/// What to do while too few chunk servers are reachable for some data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Wait until they come back. A process that reads or writes such data hangs meanwhile, as on a local disk.
    Wait,
    /// Fail with [`cairn_core::error::FsError::Unavailable`] after so long.
    Fail {
        /// Counted from the start of the read, write or sync.
        after: Duration,
    },
}

/// Choices of one connection. `Default` fits a mount on an ordinary machine.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Masters, `host:port` each; any subset of the group that holds one live member is enough.
    pub masters: Vec<String>,
    /// Shown to operators: "mount /mnt/x on host, pid 7".
    pub description: String,
    /// Most bytes of file data in memory: accepted writes that are not yet acknowledged, and read-ahead.
    pub memory_budget_bytes: u64,
    /// Policy for data whose servers are away.
    pub unavailable: Unavailable,
    /// Keep names and attributes under leases of the master, so that what is known need not be asked. Only for a caller
    /// that checks permissions itself, as the kernel does above a mount.
    pub cache_metadata: bool,
    /// Longest search for a leader when connecting.
    pub connect_deadline: Duration,
    /// Longest wait of a metadata operation, over all retries and fail-overs. Then `TimedOut`.
    pub operation_deadline: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            masters: Vec::new(),
            description: String::from("cairn client"),
            // Sixteen files written at full window (8 MiB each) and as much read-ahead again.
            memory_budget_bytes: 256 << 20,
            // Longer than any fail-over or server restart, shorter than a user's patience.
            unavailable: Unavailable::Fail { after: Duration::from_secs(60) },
            cache_metadata: false,
            // A cluster that is just starting answers within seconds; somebody waits at a prompt.
            connect_deadline: Duration::from_secs(10),
            // As above: a restart of every master fits.
            operation_deadline: Duration::from_secs(60),
        }
    }
}

impl ConnectOptions {
    /// Options for a comma-separated list of masters, everything else by default.
    pub fn new(masters: &str) -> Self {
        let masters =
            masters.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        Self { masters, ..Self::default() }
    }
}
