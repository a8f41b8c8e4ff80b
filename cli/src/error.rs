//! What a command can end in. `Display` is what the user reads: component, address, next step.

use cairn_core::error::FsError;
use std::path::PathBuf;
use thiserror::Error;

/// A failed command.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// No master could be reached or would have us.
    #[error("{0}")]
    Connect(String),
    /// A file operation was refused.
    #[error("{path}: {source}")]
    File { path: String, source: FsError },
    /// The operating system refused something here.
    #[error("{what}: {source}")]
    Host { what: String, source: std::io::Error },
    /// A service ended with an error; its text says what and where.
    #[error("{0}")]
    Service(String),
    /// A process of the development cluster does not come up.
    #[error("{name} is not ready after {seconds} s: {detail}; its log is {log}", log = log.display())]
    NotReady { name: String, seconds: u64, detail: String, log: PathBuf },
    /// A name that is no process of this cluster.
    #[error("no process named {name} in this cluster; there are: {known}")]
    NoSuchProcess { name: String, known: String },
    /// The root holds no development cluster.
    #[error("{root} holds no cluster; make one with: cairn dev up --root {root}", root = .0.display())]
    NoCluster(PathBuf),
    /// A master refused an administrative call.
    #[error("master {address}: {message}")]
    Admin { address: String, message: String },
    /// Anything else, said in full.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    pub(crate) fn exit_status(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }

    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host { what, source }
    }
}
