//! Settings of a master: one TOML file, every key with its unit, reason and default.

use crate::sequencer::{StateStore, Tuning};
use cairn_core::address::host_port;
use cairn_core::limits::{
    BACKUP_IMAGES_KEPT_MIN, JOURNAL_KEEP_BYTES, JOURNAL_KEEP_MIB_MIN, MASTERS_MAX, REPLICAS_MAX, SERVER_DEAD,
    SESSION_EXPIRY,
};
use cairn_env::config::{self, ConfigError, LogFormat};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What reads it.
const COMMAND: &str = "cairn master";

/// Every setting of a master.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MasterConfig {
    /// Directory of journal and state; made when absent.
    pub data_dir: PathBuf,
    /// Where the control plane (clients, chunk servers, administration) listens.
    pub listen: SocketAddr,
    /// `host:port` told to others; empty: the bound address.
    pub advertise: String,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    pub http_listen: SocketAddr,
    /// Number of this master in its group, from 1.
    pub node_id: u64,
    /// The masters of the group to be founded, each `id=host:port`; empty: this master alone.
    pub members: Vec<String>,
    /// Uuid of the cluster to found or to belong to; empty: a new one when the directory is new.
    pub cluster: String,
    /// Copies of each new chunk.
    pub default_replicas: u8,
    /// A session silent for so many milliseconds is ended.
    pub session_expiry_ms: u64,
    /// A chunk server silent for so many milliseconds is dead: its replicas are made anew.
    pub server_dead_ms: u64,
    /// Megabytes of rows kept in memory.
    pub cache_mib: u64,
    /// Mebibytes of journal kept for masters that lag behind.
    pub journal_keep_mib: u64,
    /// What keeps the state; no setting, but a choice of simulations.
    #[serde(skip)]
    pub store: StateStore,
    /// Where the metadata is backed up to, as a URL; empty: nowhere.
    pub backup: String,
    /// Images of the metadata that stay there, with the journal since the oldest of them; 0: all.
    pub backup_keep_images: u32,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

impl Default for MasterConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/cairn/master"),
            listen: SocketAddr::from(([127, 0, 0, 1], 9400)),
            advertise: String::new(),
            http_listen: SocketAddr::from(([127, 0, 0, 1], 9401)),
            node_id: 1,
            members: Vec::new(),
            cluster: String::new(),
            default_replicas: 3,
            session_expiry_ms: SESSION_EXPIRY.as_millis() as u64,
            server_dead_ms: SERVER_DEAD.as_millis() as u64,
            cache_mib: 128,
            journal_keep_mib: JOURNAL_KEEP_BYTES >> 20,
            store: StateStore::default(),
            backup: String::new(),
            backup_keep_images: 0,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

impl MasterConfig {
    /// Reads the text of a configuration file; `file` is named in errors.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = config::parse(COMMAND, file, text)?;
        config.check(&file.display().to_string())?;
        Ok(config)
    }

    /// The uuid of setting `cluster`, or `None` when empty.
    ///
    /// # Errors
    /// `Value` when it is no uuid.
    pub fn cluster_id(&self) -> Result<Option<cairn_core::ids::ClusterId>, ConfigError> {
        if self.cluster.is_empty() {
            return Ok(None);
        }
        let uuid = uuid::Uuid::parse_str(&self.cluster).map_err(|_| ConfigError::Value {
            command: COMMAND,
            file: "configuration".to_owned(),
            key: "cluster",
            detail: format!("is \"{}\", which is no uuid", self.cluster),
        })?;
        Ok(Some(cairn_core::ids::ClusterId(uuid)))
    }

    /// `host:port` told to others, when `bound` is what was bound.
    pub(crate) fn reached_at(&self, bound: &str) -> String {
        if self.advertise.is_empty() { bound.to_owned() } else { self.advertise.clone() }
    }

    /// Raft id and `host:port` of each master of the group to be founded; `bound` is where this one listens.
    ///
    /// # Errors
    /// `Value` when `members` makes no sense.
    pub(crate) fn group(&self, bound: &str) -> Result<Vec<(u64, String)>, ConfigError> {
        if self.members.is_empty() {
            return Ok(vec![(self.node_id, self.reached_at(bound))]);
        }
        let bad = |detail: String| ConfigError::Value {
            command: COMMAND,
            file: "configuration".to_owned(),
            key: "members",
            detail,
        };
        let member = |text: &String| {
            let (id, address) =
                text.split_once('=').ok_or_else(|| bad(format!("has \"{text}\", not id=host:port")))?;
            let id = id.trim().parse().ok().filter(|id| *id > 0);
            let id = id.ok_or_else(|| bad(format!("has \"{text}\", whose id is no number from 1")))?;
            let address = address.trim();
            match host_port(address) {
                Some(_) => Ok((id, address.to_owned())),
                None => Err(bad(format!("has \"{text}\", whose address is not host:port"))),
            }
        };
        let group: Vec<(u64, String)> = self.members.iter().map(member).collect::<Result<_, _>>()?;
        let ids: BTreeSet<u64> = group.iter().map(|(id, _)| *id).collect();
        if ids.len() < group.len() || group.len() > MASTERS_MAX {
            return Err(bad(format!("must name at most {MASTERS_MAX} masters, each with an id of its own")));
        }
        if !ids.contains(&self.node_id) {
            return Err(bad(format!("does not name this master, node_id {}", self.node_id)));
        }
        if group.len() > 1 && self.cluster.is_empty() {
            return Err(ConfigError::Value {
                command: COMMAND,
                file: "configuration".to_owned(),
                key: "cluster",
                detail: "must be set, to the same uuid in the configuration of every master of the group"
                    .to_owned(),
            });
        }
        Ok(group)
    }

    /// Sizes of journal and checkpoints. A master that is alone keeps no journal for others.
    pub(crate) fn tuning(&self) -> Tuning {
        let default = Tuning::default();
        let keep_bytes = self.journal_keep_mib << 20;
        let segment_bytes = default.segment_bytes.min(keep_bytes);
        let has_others = self.members.len() > 1;
        Tuning {
            segment_bytes,
            keep_bytes: if has_others { keep_bytes } else { default.keep_bytes.min(keep_bytes) },
            checkpoint_bytes: default.checkpoint_bytes.min(keep_bytes),
        }
    }

    /// How long a session may be silent.
    pub fn session_expiry(&self) -> Duration {
        Duration::from_millis(self.session_expiry_ms)
    }

    /// How long a chunk server may be silent before its replicas are made anew.
    pub fn server_dead(&self) -> Duration {
        Duration::from_millis(self.server_dead_ms)
    }

    fn check(&self, file: &str) -> Result<(), ConfigError> {
        let bad = |key, detail: String| {
            Err(ConfigError::Value { command: COMMAND, file: file.to_owned(), key, detail })
        };
        if self.default_replicas == 0 || usize::from(self.default_replicas) > REPLICAS_MAX {
            return bad(
                "default_replicas",
                format!("must be 1 to {REPLICAS_MAX}, is {}", self.default_replicas),
            );
        }
        if !self.advertise.is_empty() && host_port(&self.advertise).is_none() {
            return bad("advertise", format!("is \"{}\", which is not host:port", self.advertise));
        }
        if self.node_id == 0 {
            return bad("node_id", "must be at least 1".to_owned());
        }
        if self.session_expiry_ms < 500 {
            return bad("session_expiry_ms", format!("must be at least 500, is {}", self.session_expiry_ms));
        }
        if self.server_dead_ms < 2000 {
            return bad("server_dead_ms", format!("must be at least 2000, is {}", self.server_dead_ms));
        }
        if self.cache_mib < 8 {
            return bad("cache_mib", format!("must be at least 8, is {}", self.cache_mib));
        }
        if self.journal_keep_mib < JOURNAL_KEEP_MIB_MIN {
            return bad(
                "journal_keep_mib",
                format!("must be at least {JOURNAL_KEEP_MIB_MIN}, is {}", self.journal_keep_mib),
            );
        }
        let is_place = ["file:///", "s3://"].iter().any(|scheme| self.backup.starts_with(scheme));
        if !self.backup.is_empty() && !is_place {
            return bad(
                "backup",
                format!("must be file:///directory or s3://bucket/prefix, is \"{}\"", self.backup),
            );
        }
        if (1..BACKUP_IMAGES_KEPT_MIN).contains(&self.backup_keep_images) {
            return bad(
                "backup_keep_images",
                format!("must be 0, for all, or at least {BACKUP_IMAGES_KEPT_MIN}: one alone may be damaged"),
            );
        }
        if self.data_dir.as_os_str().is_empty() {
            return bad("data_dir", "must name a directory".to_owned());
        }
        self.group("").and(self.cluster_id()).map(drop)
    }
}

/// What `cairn master --print-config` prints: a file that parses to the defaults.
pub const PRINT_CONFIG: &str = r#"# Cairn master. Every setting with its default; an unknown key is an error.

# Directory of journal and state; made when absent. Put it on a disk whose fdatasync is fast.
data_dir = "/var/lib/cairn/master"

# Control plane for clients, chunk servers and administration. Port 0: any free port.
listen = "127.0.0.1:9400"

# host:port told to others when they cannot reach the address above as it is written; empty: the bound address.
advertise = ""

# /healthz, /readyz and /metrics over HTTP. Port 0: any free port.
http_listen = "127.0.0.1:9401"

# Number of this master in its group, from 1; never changes for a data directory.
node_id = 1

# The masters of the group, this one included, each "id=host:port" of its control plane: an odd number, three as a rule. Read
# when the group is founded, which takes all of them; the same list stands in the configuration of each. Empty: this
# master alone.
members = []

# Uuid of the cluster to found or to belong to. Empty: a new one is drawn when data_dir is new; a group of several masters
# needs one that is the same in the configuration of each (`uuidgen` prints one).
cluster = ""

# Copies of each new chunk, on as many servers: 1 to 8. Two survive one loss, three survive two.
default_replicas = 3

# A client silent for so many milliseconds is ended: its write leases are taken and what it had not
# committed is dropped. At least 500; shorter than a failover loses sessions.
session_expiry_ms = 15000

# A chunk server silent for so many milliseconds is dead: what it held is copied from the other replicas to other servers.
# At least 2000; shorter than a restart takes copies for nothing.
server_dead_ms = 10000

# Mebibytes of rows kept in memory beside the operating system's page cache: at least 8.
cache_mib = 128

# Mebibytes of journal kept for masters that were away: at least 16. One that lacks more is filled with a copy of the state.
journal_keep_mib = 1024

# Where the leader backs the metadata up to, without a pause: "file:///directory" (which must exist, and stand on other disks than
# the masters'), or "s3://bucket/prefix" with the endpoint, region and keys of the environment (AWS_ENDPOINT, AWS_REGION,
# AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). The same in the configuration of each master. Empty: nowhere.
backup = ""

# Images of the metadata that stay there, with the journal since the oldest of them, so that any moment since can be restored. What
# only older ones need is removed after each new image, when this many are found whole; at least 2. There is an image a day, and
# one for each 8 GiB of journal. 0: nothing is ever removed.
backup_keep_images = 0

# What is logged, as RUST_LOG writes it: "info", "warn,cairn_master=debug", ...
log = "info"

# "text" for people or "json" for collectors.
log_format = "text"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MasterConfig, ConfigError> {
        MasterConfig::parse(Path::new("m.toml"), text)
    }

    #[test]
    fn the_printed_configuration_is_the_default() {
        assert_eq!(parse(PRINT_CONFIG).unwrap(), MasterConfig::default());
        assert_eq!(parse("").unwrap(), MasterConfig::default());
    }

    #[test]
    fn a_typo_names_file_key_and_way_out() {
        let message = parse("lisen = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(
            message.contains("m.toml") && message.contains("lisen") && message.contains("--print-config"),
            "{message}"
        );
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for text in [
            "default_replicas = 0",
            "default_replicas = 9",
            "node_id = 0",
            "session_expiry_ms = 1",
            "server_dead_ms = 1999",
            "cluster = \"x\"",
            "members = [\"1=127.0.0.1:1\", \"1=127.0.0.1:2\"]",
            "members = [\"2=127.0.0.1:1\"]",
            "members = [\"127.0.0.1:1\"]",
            "members = [\"1=nowhere\"]",
            "members = [\"1=::1:9400\"]",
            "advertise = \"host:0\"",
            "backup = \"/somewhere\"",
            "backup = \"file://relative\"",
            "backup_keep_images = 1",
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(text.split(' ').next().unwrap()), "{message}");
        }
    }
}
