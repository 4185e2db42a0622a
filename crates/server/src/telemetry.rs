//! Log lines, on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogFormat;

/// The environment variable with a filter such as `info,lockstep_server=debug`.
pub const FILTER_VARIABLE: &str = "LOCKSTEP_LOG";
/// What is logged without it.
const FILTER_DEFAULT: &str = "info";

/// Starts logging for the process.
///
/// # Errors
/// When the filter is not valid, with the filter in the text, or when logging was started before.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = if text.is_empty() { FILTER_DEFAULT } else { &text };
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        anyhow::anyhow!(
            "{FILTER_VARIABLE}=\"{filter}\" is no filter ({error}); write for example \
             \"info,lockstep_server=debug\""
        )
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
            registry.with(lines).try_init()?;
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(stderr)).try_init()?;
        }
    }
    Ok(())
}
