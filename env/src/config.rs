//! Configuration files of services: one TOML file, read once at the start, whose errors tell the way out.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use thiserror::Error;

/// Shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for collectors.
    Json,
}

/// Why a configuration cannot be used; shown to the user as it is.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error(
        "{file}: {detail}\nnext: compare with `{command} --print-config`, which lists every setting with its default"
    )]
    Syntax {
        /// What reads it, such as `cairn master`.
        command: &'static str,
        /// The file.
        file: String,
        /// Line, key and reason.
        detail: String,
    },
    /// A value outside its range.
    #[error("{file}: `{key}` {detail}\nnext: see `{command} --print-config` for its meaning and default")]
    Value {
        /// What reads it, such as `cairn master`.
        command: &'static str,
        /// The file.
        file: String,
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// Reads the text of a configuration file of `command`; `file` is named in errors.
///
/// # Errors
/// `Syntax`.
pub fn parse<T: DeserializeOwned>(command: &'static str, file: &Path, text: &str) -> Result<T, ConfigError> {
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        command,
        file: file.display().to_string(),
        detail: error.to_string(),
    };
    toml::from_str(text).map_err(syntax)
}
