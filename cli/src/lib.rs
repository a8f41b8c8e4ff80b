//! The command line: arguments in, one call into the crate that does the work, a table or JSON out.
//!
//! Exit status: 0 ok, 1 failed, 2 usage. An error names the component, the address and what to do next.

mod admin;
pub mod args;
mod connect;
mod dev;
mod error;
mod files;
mod logging;
mod moment;
mod mounting;
mod output;
mod services;

use args::{Cli, Command};
use clap::Parser;
use error::CliError;
use std::process::ExitCode;

/// Parses the process's arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let global = cli.global;
    match cli.command {
        Command::Master(command) => services::master(&command),
        Command::Chunkserver(command) => services::chunkserver(&command),
        Command::Mount(command) => mounting::mount(&command),
        Command::Umount(command) => mounting::umount(&command),
        Command::Dev(command) => dev::run(&global, command),
        Command::Admin(command) => admin::run(&global, command),
        Command::Completions(command) => output::completions(command.shell),
        Command::ManPages(command) => output::man_pages(&command.directory),
        Command::File(command) => files::run(&global, command),
    }
}
