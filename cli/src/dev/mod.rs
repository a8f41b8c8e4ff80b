//! `cairn dev`: a whole cluster of separate processes on this machine, in one directory.
//!
//! The same binary, formats and protocols as anywhere else; only the configuration files are written for the user.
//!
//! ```text
//! ROOT/cluster.json            what the cluster consists of (see layout.rs)
//! ROOT/master-1/               config.toml, data/, log, pid
//! ROOT/chunkserver-1/          config.toml, disk-1/ (and more with --disks), log, pid
//! ROOT/mount/                  log, pid
//! ROOT/mnt                     the mount point, unless another was named
//! ```

mod down;
mod layout;
mod ports;
mod process;
mod ps;
mod ready;
mod up;

use crate::args::{DevCommand, Global};
use crate::error::CliError;
use layout::Layout;

/// Runs one `dev` command.
pub(crate) fn run(global: &Global, command: DevCommand) -> Result<(), CliError> {
    match command {
        DevCommand::Up(options) => up::up(global, &options),
        DevCommand::Ps(options) => ps::ps(&Layout::load(&options.root)?, global.json),
        DevCommand::Start(named) => {
            let layout = Layout::load(&named.root)?;
            up::start(&layout, &layout.member(&named.name)?)
        }
        DevCommand::Stop(named) => {
            let layout = Layout::load(&named.root)?;
            down::stop(&layout, &layout.member(&named.name)?)
        }
        DevCommand::Kill(named) => {
            let layout = Layout::load(&named.root)?;
            down::kill(&layout, &layout.member(&named.name)?)
        }
        DevCommand::Down(options) => down::down(&options),
    }
}
