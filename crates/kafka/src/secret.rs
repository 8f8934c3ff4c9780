//! A secret of the configuration: given as it is, or in a file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::ConfigError;

/// A string, or `{file: PATH}`. Never shown by `Debug`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secret {
    /// The secret itself.
    Inline(String),
    /// Where it stands.
    File(SecretFile),
}

/// A file whose content is a secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Read at start and for each new producer; line ends at its end are no part of the secret.
    pub file: PathBuf,
}

impl Secret {
    /// The secret. `field` names it in the error.
    pub(crate) fn read(&self, field: &'static str) -> Result<String, ConfigError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(SecretFile { file }) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(ConfigError::SecretFile { field, file: file.clone(), error: error.to_string() }),
            },
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[secret]"),
            Self::File(file) => file.fmt(f),
        }
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::Inline(secret.to_owned())
    }
}
