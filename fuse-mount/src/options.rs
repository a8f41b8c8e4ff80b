//! What the user asks of a mount: `-o` words and their meaning. An unknown word is refused, with the known ones named.

use cairn_client::{ConnectOptions, Unavailable};
use cairn_core::address::host_port;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// A mount to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// `host:port` of each master.
    pub masters: Vec<String>,
    /// The directory to mount on: it must exist and be empty.
    pub mount_point: PathBuf,
    /// The `-o` words.
    pub flags: MountFlags,
}

/// The `-o` words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// `ro`: refuse all changes.
    pub read_only: bool,
    /// `allow_other` / `noallow_other`: other users may enter. Not said: as root yes, else no.
    pub allow_other: Option<bool>,
    /// `suid`: honour set-user-id programs (root only; default no).
    pub suid: bool,
    /// `dev`: honour device nodes (root only; default no).
    pub dev: bool,
    /// `noexec`: run no programs.
    pub no_exec: bool,
    /// `sync`: every write waits for stable storage.
    pub sync: bool,
    /// `unavailable=wait|SECONDS`: how long a program waits for data whose servers are away. `None`: as the client does.
    pub unavailable: Option<Unavailable>,
    /// `timeout=SECONDS`: longest wait of a metadata operation. `None`: as the client does.
    pub timeout: Option<Duration>,
    /// `memory=MIB`: most file data held in memory. `None`: as the client does.
    pub memory_mib: Option<u32>,
    /// `read_ahead=KIB`: the kernel's read-ahead, when root. `None`: our default.
    pub read_ahead_kib: Option<u32>,
    /// `metrics=HOST:PORT|PORT|off`: where `/healthz`, `/readyz` and `/metrics` are served, as `host:port`. `None`: nowhere.
    pub metrics: Option<String>,
}

/// Why `-o` was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionError {
    /// A word that we do not know.
    #[error("mount option \"{0}\" is not known; known are: {KNOWN}")]
    Unknown(String),
    /// A known word with a value that makes no sense.
    #[error("mount option \"{option}\": {expected}")]
    BadValue {
        /// As written.
        option: String,
        /// What it takes.
        expected: String,
    },
}

const KNOWN: &str = "ro, rw, allow_other, noallow_other, suid, nosuid, dev, nodev, exec, noexec, noatime, sync, async, \
                     unavailable=wait|SECONDS, timeout=SECONDS, memory=MIB, read_ahead=KIB, \
                     metrics=HOST:PORT|PORT|off";

impl MountFlags {
    /// Reads comma-separated words, on top of what is set already; later words win. Words that mount(8) and fstab(5)
    /// keep for themselves (`defaults`, `_netdev`, `x-…`) are passed over.
    ///
    /// # Errors
    /// The first word that is unknown or has a bad value.
    pub fn parse(mut self, words: &str) -> Result<Self, OptionError> {
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            self.set(word)?;
        }
        Ok(self)
    }

    fn set(&mut self, word: &str) -> Result<(), OptionError> {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("ro", None) => self.read_only = true,
            ("rw", None) => self.read_only = false,
            ("allow_other", None) => self.allow_other = Some(true),
            ("noallow_other", None) => self.allow_other = Some(false),
            ("suid", None) => self.suid = true,
            ("nosuid", None) => self.suid = false,
            ("dev", None) => self.dev = true,
            ("nodev", None) => self.dev = false,
            ("exec", None) => self.no_exec = false,
            ("noexec", None) => self.no_exec = true,
            ("sync", None) => self.sync = true,
            ("async", None) => self.sync = false,
            ("unavailable", Some("wait")) => self.unavailable = Some(Unavailable::Wait),
            ("unavailable", Some(value)) => {
                self.unavailable = Some(Unavailable::Fail { after: seconds(word, value)? });
            }
            ("timeout", Some(value)) => self.timeout = Some(seconds(word, value)?),
            ("memory", Some(value)) => self.memory_mib = Some(number(word, value, 8, 1 << 20)?),
            ("read_ahead", Some(value)) => self.read_ahead_kib = Some(number(word, value, 0, 1 << 20)?),
            ("metrics", Some("off")) => self.metrics = None,
            ("metrics", Some(value)) => self.metrics = Some(listen_address(word, value)?),
            // Reading never changes the access time here, so these are no news.
            ("noatime" | "relatime" | "nodiratime" | "default_permissions", None) => {}
            ("defaults" | "_netdev" | "nofail" | "auto" | "noauto" | "user" | "nouser" | "users", None) => {}
            (other, _) if other.starts_with("x-") => {}
            _ => return Err(OptionError::Unknown(word.to_owned())),
        }
        Ok(())
    }

    /// What this means for the connection of a mount at `mount_point`.
    pub(crate) fn connect_options(&self, masters: Vec<String>, mount_point: &Path) -> ConnectOptions {
        let mut options = ConnectOptions {
            masters,
            cache_metadata: true,
            description: format!("mount {}, pid {}", mount_point.display(), std::process::id()),
            ..ConnectOptions::default()
        };
        options.unavailable = self.unavailable.unwrap_or(options.unavailable);
        options.operation_deadline = self.timeout.unwrap_or(options.operation_deadline);
        options.memory_budget_bytes =
            self.memory_mib.map_or(options.memory_budget_bytes, |mib| u64::from(mib) << 20);
        options
    }

    /// Whether other users may enter.
    pub fn others_may_enter(&self, is_root: bool) -> bool {
        self.allow_other.unwrap_or(is_root)
    }
}

fn number(word: &str, value: &str, least: u32, most: u32) -> Result<u32, OptionError> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| OptionError::BadValue {
        option: word.to_owned(),
        expected: format!("it takes a number from {least} to {most}"),
    })
}

/// A port alone is one of this host's own, for whoever asks from there.
fn listen_address(word: &str, value: &str) -> Result<String, OptionError> {
    let is_port = value.bytes().all(|byte| byte.is_ascii_digit());
    let address = if is_port { format!("127.0.0.1:{value}") } else { value.to_owned() };
    if host_port(&address).is_some() {
        return Ok(address);
    }
    Err(OptionError::BadValue {
        option: word.to_owned(),
        expected: "it takes HOST:PORT, a PORT from 1 to 65535 (of 127.0.0.1), or off".to_owned(),
    })
}

fn seconds(word: &str, value: &str) -> Result<Duration, OptionError> {
    Ok(Duration::from_secs(number(word, value, 1, 86_400)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<MountFlags, OptionError> {
        MountFlags::default().parse(words)
    }

    #[test]
    fn words_set_what_they_say_and_later_ones_win() {
        let flags = parse("ro,allow_other,memory=64,unavailable=5,rw, sync ,read_ahead=4096").unwrap();
        assert_eq!(
            flags,
            MountFlags {
                allow_other: Some(true),
                memory_mib: Some(64),
                unavailable: Some(Unavailable::Fail { after: Duration::from_secs(5) }),
                sync: true,
                read_ahead_kib: Some(4096),
                ..MountFlags::default()
            }
        );
    }

    #[test]
    fn what_belongs_to_fstab_is_passed_over() {
        assert_eq!(
            parse("defaults,_netdev,nofail,noatime,x-systemd.automount,,").unwrap(),
            MountFlags::default()
        );
    }

    #[test]
    fn an_unknown_word_is_refused_by_name() {
        let error = parse("rw,flock").unwrap_err();
        assert_eq!(error, OptionError::Unknown("flock".into()));
        assert!(
            error.to_string().contains("\"flock\"") && error.to_string().contains("timeout=SECONDS"),
            "{error}"
        );
        assert!(matches!(parse("ro=1"), Err(OptionError::Unknown(_))));
        assert!(matches!(parse("timeout"), Err(OptionError::Unknown(_))));
    }

    #[test]
    fn values_are_checked() {
        for words in ["memory=0", "memory=two", "unavailable=maybe", "timeout=0", "read_ahead=-1"] {
            assert!(matches!(parse(words), Err(OptionError::BadValue { .. })), "{words}");
        }
        for words in ["metrics=", "metrics=0", "metrics=70000", "metrics=host", "metrics=::1:9", "metrics=on"]
        {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn metrics_of_a_port_alone_are_for_this_host() {
        for (words, address) in [
            ("metrics=9500", Some("127.0.0.1:9500")),
            ("metrics=node-1.example:9500", Some("node-1.example:9500")),
            ("metrics=[::]:9500", Some("[::]:9500")),
            ("metrics=9500,metrics=off", None),
            ("rw", None),
        ] {
            assert_eq!(parse(words).unwrap().metrics.as_deref(), address, "{words}");
        }
    }

    #[test]
    fn what_is_not_said_stays_as_the_client_has_it() {
        let flags = parse("unavailable=wait,timeout=7").unwrap();
        let options = flags.connect_options(vec!["m:1".into()], Path::new("/mnt/x"));
        assert_eq!(options.unavailable, Unavailable::Wait);
        assert_eq!(options.operation_deadline, Duration::from_secs(7));
        assert_eq!(options.memory_budget_bytes, ConnectOptions::default().memory_budget_bytes);
        assert!(options.description.starts_with("mount /mnt/x, pid "));
    }

    #[test]
    fn root_lets_others_in_unless_told_not_to() {
        assert!(parse("").unwrap().others_may_enter(true));
        assert!(!parse("").unwrap().others_may_enter(false));
        assert!(!parse("noallow_other").unwrap().others_may_enter(true));
        assert!(parse("allow_other").unwrap().others_may_enter(false));
    }
}
