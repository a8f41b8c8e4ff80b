//! Settings of a chunk server: one TOML file, every key with its unit, reason and default.

use crate::store::DiskConfig;
use cairn_core::address::host_port;
use cairn_core::chunk::scrub::Pace;
use cairn_core::cluster::Labels;
use cairn_core::limits::{SCRUB_MIB_PER_SECOND, SCRUB_PERIOD_DAYS};
use cairn_env::config::{self, ConfigError, LogFormat};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What reads it.
const COMMAND: &str = "cairn chunkserver";

/// Every setting of a chunk server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkServerConfig {
    /// `host:port` of every master.
    pub masters: Vec<String>,
    /// Where the data plane listens.
    pub listen: SocketAddr,
    /// `host:port` told to masters and clients; empty: the bound address.
    pub advertise: String,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    pub http_listen: SocketAddr,
    /// Where it stands and what it is ("rack=7", "host=a12", "media=ssd"): replicas are spread over racks, then hosts.
    pub labels: Vec<String>,
    /// The data directories.
    pub disks: Vec<DiskSetting>,
    /// Days in which every stored byte is verified once; 0: only by command.
    pub scrub_period_days: u32,
    /// Most mebibytes per second that each disk is scrubbed with; 0: as fast as it reads.
    pub scrub_mib_per_second: u32,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// One data directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSetting {
    /// The directory; made when absent.
    pub path: PathBuf,
    /// Most mebibytes that replicas may use; 0: what the file system has.
    #[serde(default)]
    pub capacity_mib: u64,
    /// Mebibytes of the file system left free.
    #[serde(default = "default_reserve_mib")]
    pub reserve_mib: u64,
}

const fn default_reserve_mib() -> u64 {
    256
}

impl Default for ChunkServerConfig {
    fn default() -> Self {
        Self {
            masters: vec!["127.0.0.1:9400".to_owned()],
            listen: SocketAddr::from(([127, 0, 0, 1], 9410)),
            advertise: String::new(),
            http_listen: SocketAddr::from(([127, 0, 0, 1], 9411)),
            labels: Vec::new(),
            disks: vec![DiskSetting {
                path: PathBuf::from("/var/lib/cairn/chunkserver"),
                capacity_mib: 0,
                reserve_mib: default_reserve_mib(),
            }],
            scrub_period_days: SCRUB_PERIOD_DAYS,
            scrub_mib_per_second: SCRUB_MIB_PER_SECOND,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

impl ChunkServerConfig {
    /// Reads the text of a configuration file; `file` is named in errors.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = config::parse(COMMAND, file, text)?;
        config.check(&file.display().to_string())?;
        Ok(config)
    }

    /// The data directories as the store takes them.
    pub fn disk_configs(&self) -> Vec<DiskConfig> {
        self.disks
            .iter()
            .map(|disk| DiskConfig {
                path: disk.path.clone(),
                capacity_bytes: (disk.capacity_mib > 0).then(|| disk.capacity_mib.saturating_mul(MIB)),
                reserve_bytes: disk.reserve_mib.saturating_mul(MIB),
            })
            .collect()
    }

    /// Where it stands and what it is: none if they cannot be read, which [`Self::parse`] refuses.
    pub fn labels(&self) -> Labels {
        Labels::parse(&self.labels).unwrap_or_default()
    }

    /// How fast the disks are scrubbed.
    pub fn scrub_pace(&self) -> Pace {
        Pace {
            period: DAY * self.scrub_period_days,
            limit: u64::from(self.scrub_mib_per_second).saturating_mul(MIB),
        }
    }

    fn check(&self, file: &str) -> Result<(), ConfigError> {
        let bad = |key, detail: String| {
            Err(ConfigError::Value { command: COMMAND, file: file.to_owned(), key, detail })
        };
        if self.masters.is_empty() {
            return bad("masters", "must name at least one master as host:port".to_owned());
        }
        for (key, addresses) in
            [("masters", &self.masters[..]), ("advertise", std::slice::from_ref(&self.advertise))]
        {
            for address in addresses.iter().filter(|address| !(key == "advertise" && address.is_empty())) {
                if host_port(address).is_none() {
                    return bad(key, format!("has \"{address}\", which is not host:port"));
                }
            }
        }
        if self.advertise.is_empty() && self.listen.ip().is_unspecified() {
            return bad("advertise", format!("must be set when listen is {}", self.listen));
        }
        if let Err(error) = Labels::parse(&self.labels) {
            return bad("labels", error.to_string());
        }
        if self.disks.is_empty() {
            return bad("disks", "must name at least one data directory".to_owned());
        }
        for (index, disk) in self.disks.iter().enumerate() {
            if disk.path.as_os_str().is_empty() {
                return bad("disks", "has an entry whose path is empty".to_owned());
            }
            if self.disks[..index].iter().any(|other| other.path == disk.path) {
                return bad("disks", format!("names {} twice", disk.path.display()));
            }
        }
        Ok(())
    }
}

/// What `cairn chunkserver --print-config` prints: a file that parses to the defaults.
pub const PRINT_CONFIG: &str = r#"# Cairn chunk server. Every setting with its default; an unknown key is an error.

# host:port of every master's control plane (`listen` in their configuration).
masters = ["127.0.0.1:9400"]

# Data plane for clients and other chunk servers. Port 0: any free port.
listen = "127.0.0.1:9410"

# host:port told to masters and clients; needed when `listen` is 0.0.0.0 or [::]. Empty: the bound address.
advertise = ""

# /healthz, /readyz and /metrics over HTTP. Port 0: any free port.
http_listen = "127.0.0.1:9411"

# Where this server stands, e.g. ["rack=7"]; reserved for placement.
labels = []

# Every stored byte is read from its disk and verified once in so many days, as idle time allows; 0: only by
# `cairn admin scrub start`.
scrub_period_days = 14

# Most mebibytes per second of that on each disk; 0: as fast as it reads. 50 verify 55 TiB in 14 days.
scrub_mib_per_second = 50

# What is logged, as RUST_LOG writes it: "info", "warn,cairn_chunkserver=debug", ...
log = "info"

# "text" for people or "json" for collectors.
log_format = "text"

# Data directories, one [[disks]] for each disk; made when absent. Each fails, fills up and is counted on its own.
[[disks]]
path = "/var/lib/cairn/chunkserver"
# Most mebibytes that replicas may use here; 0: what the file system has.
capacity_mib = 0
# Mebibytes of the file system left free, so that deletes and recovery always have room.
reserve_mib = 256
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ChunkServerConfig, ConfigError> {
        ChunkServerConfig::parse(Path::new("c.toml"), text)
    }

    #[test]
    fn the_printed_configuration_is_the_default() {
        assert_eq!(parse(PRINT_CONFIG).unwrap(), ChunkServerConfig::default());
        assert_eq!(parse("").unwrap(), ChunkServerConfig::default());
    }

    #[test]
    fn a_typo_names_file_key_and_way_out() {
        for text in ["lisen = \"127.0.0.1:1\"", "[[disks]]\npath = \"/x\"\ncapacty_mib = 3"] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains("c.toml") && message.contains("--print-config"), "{message}");
        }
        assert!(parse("lisen = \"127.0.0.1:1\"").unwrap_err().to_string().contains("lisen"));
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for (key, text) in [
            ("masters", "masters = []"),
            ("masters", "masters = [\"nohost\"]"),
            ("advertise", "advertise = \"x:70000\""),
            ("advertise", "listen = \"0.0.0.0:9410\""),
            ("disks", "disks = []"),
            ("disks", "[[disks]]\npath = \"/a\"\n[[disks]]\npath = \"/a\""),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(&format!("`{key}`")), "{text}: {message}");
        }
    }

    #[test]
    fn sizes_are_in_mebibytes() {
        let config = parse("[[disks]]\npath = \"/a\"\ncapacity_mib = 3\nreserve_mib = 1").unwrap();
        let disk = &config.disk_configs()[0];
        assert_eq!((disk.capacity_bytes, disk.reserve_bytes), (Some(3 << 20), 1 << 20));
    }
}
