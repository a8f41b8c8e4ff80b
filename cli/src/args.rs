//! The grammar of the command line. Names are fixed: scripts and users rely on them.

use crate::admin::drain::{DrainCommand, ServerArgument, UndrainCommand};
use crate::admin::policy::PolicyCommand;
use crate::admin::rebalance::RebalanceCommand;
use crate::admin::whatif::WhatIfCommand;
use clap::{Args, Parser, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

/// A distributed file system: replicated, checksummed, mounted in one command.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Options that stand before or after the subcommand.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Masters to contact, host:port separated by commas
    #[arg(long, global = true, env = "CAIRN_MASTERS", value_name = "HOST:PORT,…")]
    pub masters: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster of separate processes on this machine
    #[command(subcommand)]
    Dev(DevCommand),
    /// Run a master in the foreground
    Master(ServiceCommand),
    /// Run a chunk server in the foreground
    Chunkserver(ServiceCommand),
    /// Mount the file system
    Mount(MountCommand),
    /// Unmount, also a mount whose process has died
    Umount(UmountCommand),
    /// Look at the cluster and operate it
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Print shell completions
    Completions(CompletionsCommand),
    /// Write man pages into a directory
    #[command(name = "man-pages")]
    ManPages(ManPagesCommand),
    /// Verbs on the file system, without a mount.
    #[command(flatten)]
    File(FileCommand),
}

/// `cairn master`, `cairn chunkserver`
#[derive(Debug, Args)]
pub struct ServiceCommand {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    pub config: Option<PathBuf>,
    /// Print every setting with its meaning and default, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// `cairn mount`
#[derive(Clone, Debug, Args)]
pub struct MountCommand {
    /// Masters, host:port separated by commas
    pub masters: String,
    /// Directory to mount on
    pub mountpoint: PathBuf,
    /// Mount options, separated by commas (see docs/OPERATIONS.md)
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Stay in the foreground; the mount ends with the process
    #[arg(long)]
    pub foreground: bool,
    /// Append the log to this file when in the background (default: none is kept)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

/// `cairn umount`
#[derive(Debug, Args)]
pub struct UmountCommand {
    /// Where it is mounted
    pub mountpoint: PathBuf,
    /// Detach at once, even when in use
    #[arg(long)]
    pub lazy: bool,
}

/// `cairn dev …`
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Make a cluster, or start what is not running of an existing one; returns when the mount is writable
    Up(DevUp),
    /// List the processes: name, role, pid, address, state
    Ps(DevRoot),
    /// Start one process
    Start(DevNamed),
    /// Stop one process in order (SIGTERM)
    Stop(DevNamed),
    /// Kill one process (SIGKILL)
    Kill(DevNamed),
    /// Stop everything
    Down(DevDown),
}

/// The directory of a development cluster.
#[derive(Clone, Debug, Args)]
pub struct DevRoot {
    /// Directory of the cluster
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
}

/// `cairn dev up`
#[derive(Clone, Debug, Args)]
pub struct DevUp {
    /// Directory of the cluster
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Where to mount [default: ROOT/mnt]
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
    /// Masters [default: 3]
    // A text, because clap hands the value of the global option of the same name down to this one (see `master_count`).
    #[arg(long, value_name = "N")]
    pub masters: Option<String>,
    /// Chunk servers [default: 3]
    #[arg(long, value_name = "N")]
    pub chunkservers: Option<u32>,
    /// Replicas of each chunk [default: 3]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u8>,
    /// Data directories of each chunk server, as if each were a disk [default: 1]
    #[arg(long, value_name = "N")]
    pub disks: Option<u32>,
    /// Loopback address at which everything listens [default: 127.0.0.1]
    // A cluster with an address of its own never meets another's ports, not even while one of its servers is down.
    #[arg(long, value_name = "A")]
    pub address: Option<IpAddr>,
    /// Use consecutive ports from here [default: free ones]
    #[arg(long, value_name = "P")]
    pub base_port: Option<u16>,
    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Stay until interrupted, then stop everything
    #[arg(long)]
    pub foreground: bool,
}

impl DevUp {
    /// The number given with `--masters`. Addresses in `CAIRN_MASTERS` are another cluster's and mean nothing here.
    ///
    /// # Errors
    /// The text, when it is neither.
    pub fn master_count(&self) -> Result<Option<u32>, &str> {
        let Some(text) = self.masters.as_deref() else {
            return Ok(None);
        };
        let from_environment = std::env::var("CAIRN_MASTERS").is_ok_and(|addresses| addresses == text);
        match text.parse() {
            Ok(count) => Ok(Some(count)),
            Err(_) if from_environment => Ok(None),
            Err(_) => Err(text),
        }
    }
}

/// One process of a development cluster.
#[derive(Clone, Debug, Args)]
pub struct DevNamed {
    /// As in `dev ps`: master-1, chunkserver-2, mount
    pub name: String,
    /// Directory of the cluster
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
}

/// `cairn dev down`
#[derive(Clone, Debug, Args)]
pub struct DevDown {
    /// Directory of the cluster
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Remove the directory as well
    #[arg(long)]
    pub purge: bool,
}

/// `cairn admin …`
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Health of the cluster in one screen
    Status(WatchOption),
    /// The masters and who leads
    Masters(MastersCommand),
    /// Images of the metadata, what can be restored, and restoring it
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Chunk servers with their disks
    Servers(ServersCommand),
    /// Even out how full the chunk servers are
    #[command(subcommand)]
    Rebalance(RebalanceCommand),
    /// What would become of the data if something happened
    #[command(subcommand)]
    Whatif(WhatIfCommand),
    /// Empty a chunk server or a disk of one, so that it can be taken away with nothing at risk
    Drain(DrainCommand),
    /// Let a chunk server or disk that is being emptied serve again as before
    Undrain(UndrainCommand),
    /// Where the chunks of a file, or of all files below a directory, are
    Chunks(PathArgument),
    /// Check the metadata: of the leader, or offline in the data directory of a stopped master; exit status 1 with findings
    Fsck(FsckCommand),
    /// The journal of a stopped master
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Verification of what lies on the disks of chunk servers: where it stands, begin it now, pause it
    Scrub(ScrubCommand),
    /// What has happened lately, with reasons: servers, disks, leaders, repairs, damage, backup, clients
    Events(EventsCommand),
    /// Operations that took long lately, and where their time went
    Slow(SlowCommand),
    /// Use by server, growth, and when the cluster will be full
    Capacity,
    /// What operations on a file wait for, on whom, since when, and what happens next
    Why(PathArgument),
    /// Storage policies: how many copies of files there are to be, and on which chunk servers
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// `cairn admin scrub`
#[derive(Debug, Args)]
pub struct ScrubCommand {
    /// What to do; `status` unless told
    #[command(subcommand)]
    pub action: Option<ScrubAction>,
    /// Only this chunk server, by its number
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub server: Option<u32>,
    /// Show it again each second, until interrupted
    #[arg(long, global = true)]
    pub watch: bool,
}

/// `cairn admin scrub …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ScrubAction {
    /// Show each disk: progress, speed, estimated end, age of the oldest unverified byte, damage found
    Status,
    /// Verify everything from the beginning, now
    Start {
        /// Most mebibytes per second of each disk; 0: as fast as it reads, whatever else is under way [default: the
        /// server's scrub_mib_per_second]
        #[arg(long, value_name = "MIB_PER_SECOND")]
        limit: Option<u64>,
    },
    /// Stop until `resume`, also across restarts
    Pause,
    /// Go on where it was paused
    Resume,
}

/// `cairn admin events`
#[derive(Debug, Args)]
pub struct EventsCommand {
    /// Nothing before this: a span such as 90s, 10m, 2h, 3d, or a moment such as 2026-11-21T19:30:00Z
    #[arg(long, value_name = "T", value_parser = crate::moment::since)]
    pub since: Option<crate::moment::Since>,
    /// Print new events as they come, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Show the latest again and again
    #[command(flatten)]
    pub watch: WatchOption,
}

/// `cairn admin slow`
#[derive(Debug, Args)]
pub struct SlowCommand {
    /// Nothing that ended before this: a span such as 90s, 10m, 2h, 3d, or a moment such as 2026-11-21T19:30:00Z
    #[arg(long, value_name = "T", value_parser = crate::moment::since)]
    pub since: Option<crate::moment::Since>,
}

/// `--watch`
#[derive(Clone, Copy, Debug, Args)]
pub struct WatchOption {
    /// Show it again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub watch: Option<u64>,
}

/// `cairn admin fsck`
#[derive(Debug, Args)]
pub struct FsckCommand {
    /// Data directory of a stopped master; without it the leader checks its own state while it works
    #[arg(value_name = "DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `cairn admin journal …`
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Print what stands in it, verifying all of it; exit status 1 when it is damaged. --json prints one object a line
    Dump(JournalDump),
}

/// `cairn admin journal dump`
#[derive(Debug, Args)]
pub struct JournalDump {
    /// Data directory of a stopped master
    #[arg(value_name = "DATA_DIR")]
    pub data_dir: PathBuf,
    /// First entry to print
    #[arg(long, value_name = "N")]
    pub from: Option<u64>,
    /// Last entry to print
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// Print the rows that each entry writes
    #[arg(long)]
    pub rows: bool,
}

/// `cairn admin backup …`
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make an image of the metadata now; returns when it is complete
    Create,
    /// Show the images, and up to which moment each can be restored
    List {
        /// file:///directory or s3://bucket/prefix [default: what the leader ships to]
        #[arg(value_name = "URL")]
        destination: Option<String>,
    },
    /// Read everything and compare checksums and hashes; each image is opened in a temporary directory
    Verify {
        /// file:///directory or s3://bucket/prefix [default: what the leader ships to]
        #[arg(value_name = "URL")]
        destination: Option<String>,
        /// Only what a restore to the last moment needs
        #[arg(long)]
        latest: bool,
    },
    /// Make the data directory of a master that is alone, as the metadata was at a moment
    Restore(RestoreCommand),
}

/// `cairn admin backup restore`
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// file:///directory or s3://bucket/prefix
    #[arg(value_name = "URL")]
    pub destination: String,
    /// Directory to make, absent or empty
    #[arg(long, value_name = "DATA_DIR")]
    pub to: PathBuf,
    /// The moment, such as 2026-11-21T19:30:00Z [default: the last one]
    #[arg(long, value_name = "RFC3339", value_parser = crate::moment::parse, conflicts_with = "index")]
    pub at: Option<cairn_core::time::Timestamp>,
    /// The journal entry
    #[arg(long, value_name = "N")]
    pub index: Option<u64>,
    /// The history [default: the newest one]
    #[arg(long, value_name = "N")]
    pub history: Option<u64>,
    /// The cluster, when the destination holds several
    #[arg(long, value_name = "UUID")]
    pub cluster: Option<String>,
    /// `node_id` of the master that will start with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub id: u64,
    /// Where that master will be reached [default: where the one of this number was]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// The chunk servers, and what can be done with them.
#[derive(Debug, Args)]
pub struct ServersCommand {
    /// Show it again and again
    #[command(flatten)]
    pub watch: WatchOption,
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub action: Option<ServersAction>,
}

/// What can be done with the chunk servers.
#[derive(Debug, Subcommand)]
pub enum ServersAction {
    /// Take one off the record that is empty and stopped
    Remove(ServerArgument),
}

/// The masters, and what can be done with them.
#[derive(Debug, Args)]
pub struct MastersCommand {
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub action: Option<MastersAction>,
}

/// What can be done with the masters.
#[derive(Debug, Subcommand)]
pub enum MastersAction {
    /// Make a place for another master; start it then, with its own configuration, and it is filled and votes
    Add {
        /// Its number and where it will be reached
        #[arg(value_name = "ID=HOST:PORT", value_parser = place)]
        master: (u64, String),
    },
    /// Give the place of a lost master to another node; start it then with an empty data directory
    Replace {
        /// Its number, as listed
        id: u64,
        /// Where the new one will be reached; without it where the old one was
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
    },
    /// Take a master out of the group
    Remove {
        /// Its number, as listed
        id: u64,
    },
    /// Let another master lead; applications notice nothing
    TransferLeader {
        /// Its number, as listed; without it whichever has most of the journal
        id: Option<u64>,
    },
}

/// `ID=HOST:PORT`.
fn place(text: &str) -> Result<(u64, String), String> {
    let (id, address) = text.split_once('=').ok_or("not ID=HOST:PORT")?;
    Ok((id.parse().map_err(|_| format!("\"{id}\" is no number"))?, address.to_owned()))
}

/// A path in the file system.
#[derive(Clone, Debug, Args)]
pub struct PathArgument {
    /// Absolute path in the file system
    pub path: String,
}

/// Shells with completions.
#[derive(Debug, Args)]
pub struct CompletionsCommand {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `cairn man-pages`
#[derive(Debug, Args)]
pub struct ManPagesCommand {
    /// Directory to write into
    pub directory: PathBuf,
}

/// File verbs.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// List a directory
    Ls {
        /// Directories or files [default: /]
        paths: Vec<String>,
        /// One line each with mode, links, owner, size and time
        #[arg(short, long)]
        long: bool,
        /// Also names that begin with a dot
        #[arg(short, long)]
        all: bool,
        /// Sub-directories as well
        #[arg(short = 'R', long)]
        recursive: bool,
    },
    /// Show everything about files
    Stat {
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Show a directory as a tree
    Tree {
        /// The directory
        #[arg(default_value = "/")]
        path: String,
        /// How many levels at the most
        #[arg(short = 'L', long)]
        level: Option<usize>,
    },
    /// Make directories
    Mkdir {
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
        /// Parents as well; no error when it exists
        #[arg(short, long)]
        parents: bool,
        /// Permission bits, octal
        #[arg(short, long, default_value = "755", value_parser = octal)]
        mode: u32,
    },
    /// Copy local files or directories in
    Put {
        /// Local sources, then the target in the file system
        #[arg(required = true, num_args = 2..)]
        paths: Vec<String>,
        /// Directories with all below them
        #[arg(short, long)]
        recursive: bool,
    },
    /// Copy files or directories out
    Get {
        /// Sources in the file system, then the local target
        #[arg(required = true, num_args = 2..)]
        paths: Vec<String>,
        /// Directories with all below them
        #[arg(short, long)]
        recursive: bool,
    },
    /// Print files
    Cat {
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Copy within the file system
    Cp {
        /// Sources, then the target
        #[arg(required = true, num_args = 2..)]
        paths: Vec<String>,
        /// Directories with all below them
        #[arg(short, long)]
        recursive: bool,
    },
    /// Rename or move
    Mv {
        /// Sources, then the target
        #[arg(required = true, num_args = 2..)]
        paths: Vec<String>,
        /// Never replace an existing target
        #[arg(short, long)]
        no_clobber: bool,
    },
    /// Remove
    Rm {
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
        /// Directories with all below them
        #[arg(short, long)]
        recursive: bool,
        /// No error when it does not exist
        #[arg(short, long)]
        force: bool,
    },
    /// Remove empty directories
    Rmdir {
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Space used by files and directories
    Du {
        /// The paths [default: /]
        paths: Vec<String>,
        /// Only a total for each
        #[arg(short, long)]
        summarize: bool,
    },
    /// Space and inodes of the whole file system
    Df,
    /// Change permission bits
    Chmod {
        /// Octal (644) or symbolic (u+x,go-w)
        mode: String,
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
        /// All below directories as well
        #[arg(short = 'R', long)]
        recursive: bool,
    },
    /// Change owner and group (numbers)
    Chown {
        /// UID, UID:GID or :GID
        owner: String,
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
        /// All below directories as well
        #[arg(short = 'R', long)]
        recursive: bool,
    },
    /// Make a link
    Ln {
        /// What it points to
        target: String,
        /// The new name
        link: String,
        /// A symbolic link
        #[arg(short, long)]
        symbolic: bool,
    },
    /// Make empty files, or set their times to now
    Touch {
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Cut or extend files
    Truncate {
        /// New length in bytes
        #[arg(short, long)]
        size: u64,
        /// The paths
        #[arg(required = true)]
        paths: Vec<String>,
    },
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("{text} is no octal mode between 0 and 7777")),
    }
}
