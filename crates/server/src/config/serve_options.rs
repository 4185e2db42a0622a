//! What the command line hands to [`crate::serve`].

use std::{net::SocketAddr, path::PathBuf};

use super::ResolvedConfig;

/// Everything `serve` needs.
pub struct ServeOptions {
    /// The configuration, complete and valid.
    pub config: ResolvedConfig,
    /// Called once, when clients can connect: prints the connection strings.
    pub announce: Box<dyn FnOnce(&Started) + Send>,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a broker that has started tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The bound addresses, with the ports that the system chose, in the order of the
    /// configuration.
    pub addresses: Vec<SocketAddr>,
    /// The certificate of the self-made authority, for clients to trust; only with `--dev`.
    pub dev_ca_file: Option<PathBuf>,
}
