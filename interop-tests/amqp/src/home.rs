//! The directory made by `lib/make_config.py`.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use crate::{Failed, Outcome};

/// Full host name of the namespace that the scenarios use.
pub const HOST: &str = "sbtest.servicebus.windows.net";

/// Configuration and keys of a run.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    keys: BTreeMap<String, String>,
    /// Removes a directory that this run made for itself.
    _own: Option<tempfile::TempDir>,
}

impl Home {
    /// The directory named by `LOCKSTEP_INTEROP_HOME`, or a new one.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn find() -> Outcome<Self> {
        let (directory, own) = match std::env::var_os("LOCKSTEP_INTEROP_HOME") {
            Some(directory) => (PathBuf::from(directory), None),
            None => {
                let own = tempfile::tempdir()?;
                let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../lib/make_config.py");
                let made = Command::new("python3").arg(library).arg(own.path()).status()?;
                if !made.success() {
                    return Err(Failed::new("lib/make_config.py failed"));
                }
                (own.path().to_path_buf(), Some(own))
            }
        };
        let text = std::fs::read_to_string(directory.join("policies.json"))?;
        let keys = serde_json::from_str(&text)
            .map_err(|error| Failed::new(format!("policies.json cannot be read: {error}")))?;
        Ok(Self { directory, keys, _own: own })
    }

    /// One that was made before.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find_in(directory: &std::path::Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(directory.join("policies.json"))?;
        let keys = serde_json::from_str(&text)
            .map_err(|error| Failed::new(format!("policies.json cannot be read: {error}")))?;
        Ok(Self { directory: directory.to_owned(), keys, _own: None })
    }

    /// The same with more in its configuration file.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn with(&self, configuration: &str) -> Outcome<Self> {
        let own = tempfile::tempdir()?;
        let text = std::fs::read_to_string(self.configuration())?;
        std::fs::write(own.path().join("lockstep.toml"), text + configuration)?;
        std::fs::copy(self.directory.join("policies.json"), own.path().join("policies.json"))?;
        std::fs::create_dir(own.path().join("certs"))?;
        for file in std::fs::read_dir(self.directory.join("certs"))? {
            let file = file?;
            std::fs::copy(file.path(), own.path().join("certs").join(file.file_name()))?;
        }
        let home = Self::find_in(own.path())?;
        Ok(Self { _own: Some(own), ..home })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// The configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("lockstep.toml")
    }

    /// The key of a policy.
    ///
    /// # Panics
    /// When there is no such policy.
    #[must_use]
    pub fn key(&self, policy: &str) -> &str {
        self.keys.get(policy).map_or_else(|| panic!("no policy {policy} in policies.json"), String::as_str)
    }

    /// A token of a policy for a resource, that runs out at `expiry_unix_s`.
    #[must_use]
    pub fn token(&self, policy: &str, resource: &str, expiry_unix_s: i64) -> String {
        lockstep_protocol::sas_token::mint(resource, policy, self.key(policy), expiry_unix_s)
    }
}
