//! What a development cluster consists of, and where its files are. Stands in `ROOT/cluster.json`.

use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const FILE: &str = "cluster.json";
const FORMAT: u32 = 1;
/// Where a cluster listens unless told otherwise.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    format: u32,
    #[serde(skip)]
    pub(super) root: PathBuf,
    /// Where all its services listen.
    #[serde(default = "loopback")]
    pub(super) address: IpAddr,
    /// Uuid of the cluster; absent in one that was made before masters formed groups, and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<uuid::Uuid>,
    /// Replicas of a chunk.
    pub(super) replicas: u8,
    /// Data directories of each chunk server.
    #[serde(default = "one_disk")]
    pub(super) disks: u32,
    /// Where it is mounted, absolute.
    pub(super) mount: PathBuf,
    /// Options of the mount.
    pub(super) mount_options: Vec<String>,
    /// Members in start order.
    pub(super) members: Vec<Member>,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Master,
    Chunkserver,
    Mount,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// `master-1`, `chunkserver-2`, `mount`
    pub(super) name: String,
    pub(super) role: Role,
    /// Control plane of a master, data plane of a chunk server; 0 for the mount.
    pub(super) port: u16,
    /// `/healthz`, `/readyz`, `/metrics`; 0 for the mount of a cluster that was made before mounts had them.
    pub(super) http_port: u16,
}

fn loopback() -> IpAddr {
    LOOPBACK
}

const fn one_disk() -> u32 {
    1
}

impl Layout {
    /// A cluster that does not exist yet. `ports` must hold two for each master and chunk server, and one for the mount.
    pub(super) fn new(
        root: &Path,
        cluster: uuid::Uuid,
        address: IpAddr,
        (masters, chunkservers, replicas): (u32, u32, u8),
        mount: PathBuf,
        mount_options: Vec<String>,
        ports: &[u16],
    ) -> Self {
        let mut pairs = ports.chunks_exact(2);
        let names = (1..=masters)
            .map(|n| (format!("master-{n}"), Role::Master))
            .chain((1..=chunkservers).map(|n| (format!("chunkserver-{n}"), Role::Chunkserver)));
        let mut members: Vec<Member> = names
            .zip(&mut pairs)
            .map(|((name, role), pair)| Member { name, role, port: pair[0], http_port: pair[1] })
            .collect();
        let http_port = pairs.remainder().first().copied().unwrap_or_default();
        members.push(Member { name: "mount".into(), role: Role::Mount, port: 0, http_port });
        let cluster = Some(cluster);
        Self {
            format: FORMAT,
            root: root.to_owned(),
            cluster,
            address,
            replicas,
            disks: one_disk(),
            mount,
            mount_options,
            members,
        }
    }

    /// More chunk servers: one for each two of `ports`.
    pub(super) fn add_chunkservers(&mut self, ports: &[u16]) {
        let known = self.of_role(Role::Chunkserver).count();
        let more = ports.chunks_exact(2).zip(known + 1..).map(|(pair, number)| Member {
            name: format!("chunkserver-{number}"),
            role: Role::Chunkserver,
            port: pair[0],
            http_port: pair[1],
        });
        let behind = self.members.iter().position(|member| member.role == Role::Mount);
        let at = behind.unwrap_or(self.members.len());
        self.members.splice(at..at, more);
    }

    pub(super) fn exists(root: &Path) -> bool {
        root.join(FILE).exists()
    }

    pub(super) fn load(root: &Path) -> Result<Self, CliError> {
        let root = std::path::absolute(root).map_err(CliError::host(root.display().to_string()))?;
        let file = root.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CliError::NoCluster(root));
            }
            Err(source) => return Err(CliError::Host { what: file.display().to_string(), source }),
        };
        let mut layout: Self = serde_json::from_str(&text).map_err(|error| {
            CliError::Failed(format!("{} is damaged or of another release: {error}", file.display()))
        })?;
        if layout.format != FORMAT {
            return Err(CliError::Failed(format!(
                "{} has format {}, this release reads {FORMAT}: use the release that made it",
                file.display(),
                layout.format
            )));
        }
        layout.root = root;
        Ok(layout)
    }

    pub(super) fn save(&self) -> Result<(), CliError> {
        let file = self.root.join(FILE);
        let temporary = self.root.join("cluster.json.new");
        let text = serde_json::to_string_pretty(self).map_err(|error| CliError::Failed(error.to_string()))?;
        std::fs::write(&temporary, text + "\n").map_err(CliError::host(temporary.display().to_string()))?;
        std::fs::rename(&temporary, &file).map_err(CliError::host(file.display().to_string()))
    }

    pub(super) fn member(&self, name: &str) -> Result<Member, CliError> {
        self.members.iter().find(|member| member.name == name).cloned().ok_or_else(|| {
            CliError::NoSuchProcess {
                name: name.to_owned(),
                known: self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", "),
            }
        })
    }

    pub(super) fn of_role(&self, role: Role) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role)
    }

    /// `host:port,…` of all masters.
    pub(super) fn masters(&self) -> String {
        self.of_role(Role::Master).map(|master| self.address(master)).collect::<Vec<_>>().join(",")
    }

    /// `host:port` of a service.
    pub(super) fn address(&self, member: &Member) -> String {
        SocketAddr::new(self.address, member.port).to_string()
    }

    /// `host:port` of a service's health pages.
    pub(super) fn http_address(&self, member: &Member) -> String {
        SocketAddr::new(self.address, member.http_port).to_string()
    }

    /// The `-o` words of a mount; those that the user has chosen win, being the last.
    pub(super) fn mount_words(&self, member: &Member) -> Vec<String> {
        let metrics = (member.http_port > 0).then(|| format!("metrics={}", self.http_address(member)));
        metrics.into_iter().chain(self.mount_options.iter().cloned()).collect()
    }

    /// Where a member serves its health pages and metrics, if anywhere.
    pub(super) fn pages(&self, member: &Member) -> Option<String> {
        match member.role {
            Role::Master | Role::Chunkserver => Some(self.http_address(member)),
            Role::Mount => {
                let words = self.mount_words(member).join(",");
                cairn_fuse::MountFlags::default().parse(&words).ok()?.metrics
            }
        }
    }

    pub(super) fn directory(&self, member: &Member) -> PathBuf {
        self.root.join(&member.name)
    }

    pub(super) fn config(&self, member: &Member) -> PathBuf {
        self.directory(member).join("config.toml")
    }

    pub(super) fn log(&self, member: &Member) -> PathBuf {
        self.directory(member).join("log")
    }

    pub(super) fn data_dirs(&self, member: &Member) -> Vec<PathBuf> {
        match member.role {
            Role::Master => vec![self.directory(member).join("data")],
            Role::Chunkserver => {
                (1..=self.disks).map(|disk| self.directory(member).join(format!("disk-{disk}"))).collect()
            }
            Role::Mount => Vec::new(),
        }
    }
}
