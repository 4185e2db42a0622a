//! Command line of `lockstep`. Every option of `serve` is also an environment variable.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use lockstep_server::{
    StartOptions,
    config::{LoadOptions, LogFormat},
};

use crate::bench::BenchArgs;

/// An AMQP 1.0 broker that Azure Service Bus clients can use unchanged.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker in the foreground
    Serve(Box<ServeArgs>),
    /// Measure a running broker
    Bench(Box<BenchArgs>),
}

/// Options of `lockstep serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (docs/configuration.md)
    #[arg(long, env = "LOCKSTEP_CONFIG", value_name = "lockstep.toml")]
    config: Option<PathBuf>,
    /// Entities in the format of Microsoft's emulator; may stand beside --config
    #[arg(long, env = "LOCKSTEP_EMULATOR_CONFIG", value_name = "Config.json")]
    emulator_config: Option<PathBuf>,
    /// What the emulator's file leaves out takes the emulator's defaults, not Azure's
    #[arg(long, env = "LOCKSTEP_EMULATOR_DEFAULTS", value_parser = BoolishValueParser::new())]
    emulator_defaults: bool,
    /// Directory that holds everything durable
    #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on for every protocol, such as 127.0.0.1:5672; may be repeated, and
    /// replaces the defaults
    #[arg(long, env = "LOCKSTEP_LISTEN", value_name = "ADDR", value_delimiter = ',')]
    listen: Vec<String>,
    /// Certificate chain, PEM; the server's own certificate first
    #[arg(long, env = "LOCKSTEP_CERT", value_name = "PEM", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "LOCKSTEP_KEY", value_name = "PEM", requires = "cert")]
    key: Option<PathBuf>,
    /// Authorities of client certificates, PEM; with it clients may authenticate by certificate
    #[arg(long, env = "LOCKSTEP_CLIENT_CA", value_name = "PEM")]
    client_ca: Option<PathBuf>,
    /// For development: the emulator's well-known credential, a self-made certificate, ports
    /// 5672, 5671 and 5300, a sample queue; on loopback only
    #[arg(long, env = "LOCKSTEP_DEV", value_parser = BoolishValueParser::new())]
    dev: bool,
    /// Let --dev listen on all addresses, although everyone knows its credential
    #[arg(long, env = "LOCKSTEP_DEV_ALLOW_REMOTE", value_parser = BoolishValueParser::new())]
    dev_allow_remote: bool,
    /// Form of the log lines on standard error; the filter is LOCKSTEP_LOG
    #[arg(long, env = "LOCKSTEP_LOG_FORMAT", value_enum)]
    log_format: Option<LogFormatArg>,
    /// Start although the data directory has lost acknowledged writes (docs/storage.md)
    #[arg(long, env = "LOCKSTEP_ACCEPT_LOSS", value_parser = BoolishValueParser::new())]
    accept_loss: bool,
}

/// Form of the log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum LogFormatArg {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl ServeArgs {
    /// What configuration is loaded by.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            config: self.config.clone(),
            emulator_config: self.emulator_config.clone(),
            emulator_defaults: self.emulator_defaults,
            data_dir: self.data_dir.clone(),
            listen: self.listen.clone(),
            certificate_file: self.cert.clone(),
            key_file: self.key.clone(),
            client_ca_file: self.client_ca.clone(),
            dev: self.dev,
            dev_allow_remote: self.dev_allow_remote,
            log_format: self.log_format.map(|format| match format {
                LogFormatArg::Text => LogFormat::Text,
                LogFormatArg::Json => LogFormat::Json,
            }),
        }
    }

    /// What the start is told besides.
    pub(crate) fn start_options(&self) -> StartOptions {
        StartOptions { accept_loss: self.accept_loss }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_option_of_serve_is_an_environment_variable() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        for option in serve.get_arguments() {
            let Some(long) = option.get_long() else { continue };
            let expected = format!("LOCKSTEP_{}", long.to_uppercase().replace('-', "_"));
            let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(variable, Some(expected), "--{long}");
        }
        cli.debug_assert();
    }

    #[test]
    fn listeners_may_be_repeated_or_separated_by_commas() {
        let cli =
            Cli::try_parse_from(["lockstep", "serve", "--listen", "a:1,b:2", "--listen", "c:3"]).unwrap();
        let Command::Serve(serve) = cli.command else { panic!("not serve: {:?}", cli.command) };
        assert_eq!(serve.load_options().listen, ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn a_certificate_needs_its_key() {
        assert!(Cli::try_parse_from(["lockstep", "serve", "--cert", "c.pem"]).is_err());
    }
}
