//! Where log lines go: standard error, as text or JSON. `CAIRN_LOG` overrides the configured filter.

use crate::error::CliError;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber; `filter` in the syntax of `RUST_LOG` (`info,cairn_master=debug`).
pub(crate) fn init(filter: &str, json: bool) -> Result<(), CliError> {
    let text = std::env::var("CAIRN_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        CliError::Usage(format!("log filter \"{text}\": {error}; example: info,cairn_master=debug"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().init()
    } else {
        builder.with_ansi(false).init()
    }
    Ok(())
}
