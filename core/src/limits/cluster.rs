//! What the leader does about chunk servers and their replicas, and what operators ask of it.

use super::SESSION_SLOTS;
use std::time::Duration;

/// A chunk server not connected for so long is called down; until then suspect, as after a restart of either side.
pub const SERVER_DOWN: Duration = Duration::from_secs(10);
/// A chunk server not heard of for so long is dead: its replicas are made anew elsewhere. Longer than a restart of it takes.
pub const SERVER_DEAD: Duration = Duration::from_secs(10);
/// A master that has not looked at its servers for so long was stopped itself: their silence until then says nothing.
pub const OBSERVER_PAUSE: Duration = Duration::from_secs(1);
/// A server that a client found dead gets no new chunks for so long: until its silence shows by itself.
pub const SERVER_DISTRUST: Duration = Duration::from_millis(1500);
/// Commands that one chunk server may have outstanding. A dying neighbour raises hundreds of chunks at once.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 4096;
/// Most replicas in the list of one digest range: several times its size, for a range filled since the digest.
pub const REPLICA_LIST_MAX: usize = 65_536;
/// How long survivors have to raise a version: those later are dropped from the set. It is one small sync on their disks;
/// together with [`PING_SILENCE`] and [`HOP_SILENCE`] it stays well below the second that a frozen server may cost.
pub const RAISE_PATIENCE: Duration = Duration::from_millis(300);
/// Leases asked back at a time; further conflicts wait for one of these to end.
pub const RECALLS_MAX: usize = 65_536;
/// A stream whose first message does not come in this time is closed.
pub const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Chunks read from the state at a time when an inventory is compared.
pub const INVENTORY_PAGE: usize = 4096;
/// Ranges of one inventory: 65,536 of 4096 replicas are more than one server stores, and fit one message.
pub const INVENTORY_RANGES_MAX: usize = 65_536;
/// Stray replicas remembered until their grace is over; further ones are noticed when these are gone.
pub const STRAYS_WATCHED_MAX: usize = 262_144;
/// Least pause between two looks of one periodic job at its rows.
pub const WORK_PAUSE: Duration = Duration::from_millis(20);
/// Work rows read at a time.
pub const WORK_PAGE: usize = 1024;
/// How long a reconciliation waits for a replica that cannot be reached before that one leaves the set.
pub const RECONCILE_WAIT: Duration = Duration::from_secs(3);
/// Rows counted for one figure of `admin status`; what is beyond shows as this number.
pub const ADMIN_COUNT_MAX: u64 = 1_000_000;
/// Placements in one page of `admin chunks`: some 200 bytes each.
pub const ADMIN_PLACEMENTS_PER_PAGE: usize = 2048;
/// Pages of `admin chunks` made ahead of their reader.
pub const ADMIN_PAGES_QUEUED: usize = 2;
/// Findings that one `admin fsck` keeps, of some 300 bytes each; the others are counted: whoever has so many has one cause.
pub const FINDINGS_MAX: usize = 10_000;
/// Findings in one message of `admin fsck`: far below the size of a message.
pub const ADMIN_FINDINGS_PER_PAGE: usize = 1000;
/// Chunks whose references `admin fsck` counts in one pass over the extents: about 64 MiB of memory.
pub const FSCK_CHUNKS_COUNTED: usize = 1 << 20;
/// Lists of replicas asked for at a time by one `admin chunks`.
pub const ADMIN_LISTS_IN_FLIGHT_MAX: usize = 64;
/// Longest path given by an operator (Linux PATH_MAX).
pub const PATH_BYTES_MAX: usize = 4096;
/// How often each kind of work is looked for when nothing has hinted at it.
pub const DELETIONS_PERIOD: Duration = Duration::from_millis(500);
/// As above; nothing waits for garbage.
pub const GARBAGE_PERIOD: Duration = Duration::from_millis(1000);
/// As above; twice within [`ORPHAN_INODE_GRACE`].
pub const ORPHANS_PERIOD: Duration = Duration::from_millis(1000);
/// As above; readers wait for a reconciliation.
pub const RECONCILE_PERIOD: Duration = Duration::from_millis(100);
/// How often silent sessions and late leases are looked for, at the rarest.
pub const SWEEP_PERIOD_MAX: Duration = Duration::from_millis(250);
/// How often the view of the chunk servers is made anew without a heartbeat: silence must show.
pub const VIEW_PERIOD: Duration = Duration::from_millis(100);
/// A chunk server that is told of a new leader has so long to note it durably.
pub const FENCE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a leader tries again to load its state.
pub const TAKE_OVER_PAUSE: Duration = Duration::from_millis(200);
/// Which rows a leader of this release may write.
pub const FEATURE_LEVEL: u32 = 1;
/// Longest pause between two attempts at one chunk; the first follow each other at [`RECONCILE_PERIOD`]. Programs wait for it,
/// and where servers come and go it must meet them while enough are there.
pub const RECONCILE_PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long servers have to raise the version of a chunk that is reconciled, in the end: at first [`RAISE_PATIENCE`].
pub const RECONCILE_RAISE_MAX: Duration = Duration::from_secs(4);
/// A version begun and not finished for so long was abandoned by its client: the master finishes it. Far above
/// [`RAISE_PATIENCE`].
pub const RAISE_ABANDONED: Duration = Duration::from_secs(5);
/// Sessions of one cluster.
pub const SESSIONS_MAX: usize = 65_536;
/// How long a deletion may take: it waits behind foreground I/O.
pub const DELETE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a reconciliation of one chunk may take: 64 MiB copied to every peer at 10 MB/s, with slack.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a list of replicas may take: it is read from memory.
pub const LIST_PATIENCE: Duration = Duration::from_secs(10);
/// Reconciliations under way at a time: each may copy a chunk between servers.
pub const RECONCILES_IN_FLIGHT_MAX: usize = 32;
/// Chunks known to be repaired, at 16 bytes each; more are found again when these are done.
pub const REPAIR_QUEUE_MAX: usize = 1 << 20;
/// Repairs that one server takes part in at a time, as source or target: two streams keep a disk busy, small chunks wait for
/// syncs most of the time.
pub const REPAIRS_PER_SERVER_MAX: usize = 8;
/// Repairs under way at a time.
pub const REPAIRS_IN_FLIGHT_MAX: usize = 512;
/// How often chunks to be repaired are looked for, unless work is known of.
pub const REPAIR_PERIOD: Duration = Duration::from_millis(500);
/// Longest pause after a pass that could repair nothing: it reads every chunk that waits.
pub const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Chunks passed over because those who could repair them are busy: beyond so many the rest waits as well.
pub const REPAIRS_ASIDE_MAX: usize = 64;
/// How long the copy of a whole chunk may take: 64 MiB at half a megabyte a second.
pub const REPAIR_COPY_PATIENCE: Duration = Duration::from_secs(120);
/// Deletions under way at a time on one server: enough for its disks, few beside what others want of them.
pub const DELETIONS_IN_FLIGHT_MAX: usize = 32;
/// Deletions that are done are noted together, by one entry of the journal.
pub const DELETIONS_AT_ONCE: usize = 128;
/// Such groups of one server in one pass over all: some seconds.
pub const DELETION_GROUPS_A_PASS: usize = 16;
/// Between such groups on one server that has room: space is given back later, and programs do not feel it.
pub const DELETIONS_PAUSE: Duration = Duration::from_millis(100);
/// An unlinked inode is reclaimed only when no session has declared it open for so long: an open may cross an unlink.
pub const ORPHAN_INODE_GRACE: Duration = Duration::from_secs(2);
/// Orphans remembered between two looks: the next are looked at when these are gone.
pub const ORPHANS_WATCHED_MAX: usize = 262_144;
/// Requests of one session in work: every slot's operation and as many queries again, eight times over.
pub const SESSION_REQUESTS_MAX: usize = SESSION_SLOTS as usize * 16;
/// Recalls and notices queued for one session; more are dropped, and sent again when the conflict recurs.
pub const SESSION_PUSHES_MAX: usize = 1024;
/// Inodes that one session may declare open (40 MiB of memory): several times the kernel's limit of one process.
pub const SESSION_OPEN_INODES_MAX: usize = 4 << 20;
/// Damaged or missing replicas remembered for `admin`; further ones are counted only.
pub const REPLICA_FAULTS_MAX: usize = 65_536;
/// Reports of corruption kept for `admin status`.
pub const CORRUPTION_REPORTS_MAX: usize = 32;
/// Disks of one chunk server.
pub const SERVER_DISKS_MAX: usize = 256;
/// Labels of a chunk server: rack, host, media and a dozen of the operator's own.
pub const LABELS_MAX: usize = 16;
/// Longest key or value of a label: a host's name.
pub const LABEL_BYTES_MAX: usize = 63;
/// Replicas of a server that a plan to empty it looks at one by one: a second's work; the rest is counted.
pub const DRAIN_REPLICAS_WEIGHED: u64 = 65_536;
/// What a chunk server gives to moving replicas, for estimates and as the bound where an operator names none: a quarter of
/// a hard disk.
pub const MOVE_BYTES_PER_SECOND: u64 = 32 << 20;
/// What one stream of copying that never pauses reaches on a disk of which nothing else is known, for estimates.
pub const COPY_STREAM_BYTES: u64 = 128 << 20;
/// What a replica that moves takes whatever its size, for estimates: three entries of the journal, a raise and two comparisons.
pub const MOVE_EACH: Duration = Duration::from_millis(12);
/// What a rebalancing without a limit is taken to move, for estimates.
pub const MOVE_BYTES_UNLIMITED: u64 = 4 * MOVE_BYTES_PER_SECOND;
/// How often it is looked whether replicas are to move, unless it is known of.
pub const REBALANCE_PERIOD: Duration = Duration::from_millis(500);
/// Moves that one server takes part in at a time: half of what a repair may, which is urgent.
pub const MOVES_PER_SERVER_MAX: usize = 4;
/// Moves under way at a time.
pub const MOVES_IN_FLIGHT_MAX: usize = 256;
/// Replicas passed over because those who could copy or take them are busy, before it is waited for one of them: each is a row read.
pub const MOVES_ASIDE_MAX: usize = 16;
/// Replicas that moved away are waited for so long, each, before the next round counts them in: a minute of a disk's deletions.
pub const LEFT_BEHIND_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a rebalancing of which all that is left is open for writing, or whose takers are slow: each reads what all
/// givers hold.
pub const HINDERED_MOVES_PAUSE: Duration = Duration::from_secs(5);
/// What has moved is journaled so often at the most: a new leader's figures lack so much.
pub const MOVES_TOLD_EVERY: Duration = Duration::from_secs(2);
/// So long after a deletion its server has told twice how full it is.
pub const MOVE_SETTLE: Duration = Duration::from_millis(700);
/// Replicas that moved away and whose deletion a round waits for: those of the last round or two.
pub const MOVES_REMEMBERED: usize = 65_536;
/// What a server copies in a second when something is to be made anew, for estimates: a hard disk that does other things too.
pub const REPAIR_BYTES_PER_SECOND: u64 = 64 << 20;
/// How long a chunk server has to note what its scrubbers are told: a small file on each disk, behind foreground I/O.
pub const SCRUB_COMMAND_PATIENCE: Duration = Duration::from_secs(5);
/// How often chunks are looked for of which all replicas are damaged; longer after an attempt that failed. Nothing hastens it:
/// nobody could read them before.
pub const SALVAGE_PERIOD: Duration = Duration::from_secs(1);
/// Longest pause after attempts that failed: each reads a replica as a whole.
pub const SALVAGE_PAUSE_MAX: Duration = Duration::from_secs(600);
/// Replicas that are mended at a time.
pub const SALVAGES_IN_FLIGHT_MAX: usize = 4;
/// Storage policies of one cluster: media, rooms and numbers of copies combined leave room. All are read at once, at 3 KiB the most
/// each, and a client holds chunks ready for each that it writes under.
pub const POLICIES_MAX: usize = 64;
/// Longest name of a storage policy.
pub const POLICY_NAME_BYTES_MAX: usize = 63;
/// Inodes that one entry gives another policy: some 200 bytes of rows each.
pub const POLICY_INODES_AT_ONCE: usize = 256;
/// Chunks that one entry brings in line with their policies, and rows that it may write for each: three of some 60 bytes.
pub const ALIGNED_AT_ONCE: usize = 256;
/// Entries of directories that one request to set a policy below a directory looks at: some 10 ms each thousand, so that it ends
/// far within its deadline; the operator's command asks again for the rest.
pub const POLICY_ENTRIES_AT_ONCE: usize = 4096;
/// Directories that such a request may leave to the next one; with more, it goes on by itself until there are fewer.
pub const POLICY_DIRECTORIES_OPEN_MAX: usize = 65_536;
/// How often the walk over all chunks takes a step, of one page, while no policy has changed: ten million chunks in an hour and a
/// half. While one has changed it goes on page by page.
pub const POLICY_WALK_PERIOD: Duration = Duration::from_millis(500);
/// It begins anew so long after its last beginning at the earliest: what it finds and nobody can do is found again.
pub const POLICY_WALK_LAP_MIN: Duration = Duration::from_secs(3);
/// Chunks in wrong places that the walk has found and repair has not looked at yet: some pages. The walk waits for it.
pub const MISPLACED_MAX: usize = 8192;
/// How often the leader looks after disks that are being emptied: as often as their servers look at what is left.
pub const DISK_DRAIN_PERIOD: Duration = Duration::from_secs(1);
/// What must leave a disk for another server, and has not changed, is looked at again after so long: there may be room meanwhile.
pub const DISK_DRAIN_AGAIN: Duration = Duration::from_secs(10);
