//! Configuration: `lockstep.toml`, the emulator's `Config.json`, and the options of `serve`.
//!
//! [`load`] reads what it is told to, merges it, and returns a [`ResolvedConfig`] that is valid
//! throughout, or all problems at once, each with file, line and what to write instead.

mod emulator;
mod keys;
mod queue_properties;
mod raw;
mod resolve;
mod resolved;
mod secret;
mod section;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    env, fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use lockstep_model::Right;

pub use crate::{client_certificate::CertificateName, distinguished_name::DistinguishedName};
pub use keys::reference_markdown;
pub use resolved::{
    ClientCertificateConfig, LimitsConfig, ListenConfig, LogFormat, NamespaceConfig, OnConnectionLoss,
    PolicyConfig, QueueConfig, ResolvedConfig, TlsConfig,
};
pub use secret::Secret;
pub use section::Problem;
pub use tree::Origin;

use queue_properties::{PropertyValue, QueueProperty};
use raw::{RawConfig, RawNamespace};
use resolve::{KeyLookup, Resolver, beside};
use section::{Located, Report};

/// The AMQP port.
pub const AMQP_PORT: u16 = 5672;
/// The AMQPS port.
pub const AMQPS_PORT: u16 = 5671;
/// The port on which the emulator has its health check and administration.
pub const EMULATOR_HTTP_PORT: u16 = 5300;
/// The namespace that `--dev` has when no file names one, as in the emulator.
pub const DEV_NAMESPACE: &str = "sbemulatorns";
/// The sample queue with `requires_session` that comes with it.
pub const DEV_QUEUE: &str = "orders";
/// The policy that `--dev` adds to each namespace, as in the emulator.
pub const DEV_POLICY: &str = "RootManageSharedAccessKey";
/// Its key: a literal that everyone knows.
pub const DEV_KEY: &str = "SAS_KEY_VALUE";

/// What the command line and the environment say.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--emulator-config`.
    pub emulator_config: Option<PathBuf>,
    /// `--emulator-defaults`: what the emulator's file leaves out takes the emulator's defaults.
    pub emulator_defaults: bool,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--listen`, each.
    pub listen: Vec<String>,
    /// `--cert`.
    pub certificate_file: Option<PathBuf>,
    /// `--key`.
    pub key_file: Option<PathBuf>,
    /// `--client-ca`.
    pub client_ca_file: Option<PathBuf>,
    /// `--dev`.
    pub dev: bool,
    /// `--dev-allow-remote`.
    pub dev_allow_remote: bool,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
}

/// Every problem of a configuration, sorted by place. Nothing was started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid")?;
        for problem in &self.problems {
            write!(f, "\n  {}: {}", problem.origin, problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads and checks the whole configuration.
///
/// # Errors
/// All problems found, each with file, line and what to write instead.
pub fn load(options: &LoadOptions) -> Result<ResolvedConfig, ConfigError> {
    load_with(options, &|name| env::var(name).ok())
}

/// [`load`] with the environment as an argument.
fn load_with(
    options: &LoadOptions,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<ResolvedConfig, ConfigError> {
    let mut files = Files::default();
    let raw = files.read_toml(options.config.as_deref());
    let emulator_namespaces =
        files.read_emulator(options.emulator_config.as_deref(), options.emulator_defaults);
    let Files { mut problems, mut warnings } = files;

    let mut resolver = Resolver::new(KeyLookup { environment });
    let (settings, namespaces) = split(raw);
    for namespace in namespaces.into_iter().chain(emulator_namespaces) {
        resolver.add(namespace);
    }
    // Problems in a file may have hidden its namespaces: do not complain twice.
    if resolver.is_empty() && problems.is_empty() && resolver.problems.is_empty() {
        if options.dev {
            resolver.add(dev_namespace());
        } else {
            problems.push(no_namespace(options));
        }
    }
    if options.dev {
        resolver.add_well_known_policy(&dev_policy());
    } else {
        resolver.warn_of_missing_policies();
    }
    let (namespaces, more_problems, more_warnings) = resolver.finish();
    problems.extend(more_problems);
    warnings.extend(more_warnings);

    let mut settings = Settings { options, raw: settings, problems, warnings };
    let resolved = settings.resolve(namespaces, environment);
    if settings.problems.is_empty() {
        return Ok(resolved);
    }
    settings.problems.sort();
    Err(ConfigError { problems: settings.problems })
}

/// Takes the namespaces out of the settings.
fn split(mut raw: RawConfig) -> (RawConfig, Vec<RawNamespace>) {
    let namespaces = std::mem::take(&mut raw.namespaces);
    (raw, namespaces)
}

fn no_namespace(options: &LoadOptions) -> Problem {
    let origin = match (&options.config, &options.emulator_config) {
        (Some(file), _) | (None, Some(file)) => Origin { file: file.as_path().into(), line: 1 },
        (None, None) => Origin::option("lockstep serve"),
    };
    let text = match origin.line {
        0 => {
            "no configuration: give --config lockstep.toml or --emulator-config Config.json, or --dev for a \
              sample"
        }
        _ => "no namespace is configured; add [[namespace]] with a name, or use --dev for a sample",
    };
    Problem { origin, text: text.to_owned() }
}

fn dev_policy() -> PolicyConfig {
    PolicyConfig {
        name: DEV_POLICY.to_owned(),
        primary_key: Secret::new(DEV_KEY),
        secondary_key: None,
        rights: vec![Right::Send, Right::Listen, Right::Manage],
        scope: None,
    }
}

fn dev_namespace() -> RawNamespace {
    let origin = Origin::option("--dev");
    let named = |name: &str| Located { value: name.to_owned(), origin: origin.clone() };
    let queue = raw::RawQueue {
        name: named(DEV_QUEUE),
        properties: vec![QueueProperty {
            name: "requires_session",
            spelling: "requires_session",
            origin: origin.clone(),
            value: PropertyValue::Flag(true),
        }],
        policies: Vec::new(),
        client_certificates: Vec::new(),
    };
    RawNamespace {
        name: named(DEV_NAMESPACE),
        host_names: Vec::new(),
        policies: Vec::new(),
        client_certificates: Vec::new(),
        queues: vec![queue],
        topics_left_out: Vec::new(),
    }
}

/// What reading the files brought to light.
#[derive(Default)]
struct Files {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Files {
    fn read_toml(&mut self, file: Option<&Path>) -> RawConfig {
        self.read(file, tree::from_toml, raw::read).unwrap_or_default()
    }

    fn read_emulator(&mut self, file: Option<&Path>, emulator_defaults: bool) -> Vec<RawNamespace> {
        if file.is_none() && emulator_defaults {
            let origin = Origin::option("--emulator-defaults");
            let text = "has no effect without --emulator-config".to_owned();
            self.warnings.push(Problem { origin, text });
        }
        self.read(file, tree::from_jsonc, |root, report| emulator::read(root, emulator_defaults, report))
            .unwrap_or_default()
    }

    fn read<T>(
        &mut self,
        file: Option<&Path>,
        parse: fn(&str) -> Result<tree::Node, tree::SyntaxError>,
        interpret: impl FnOnce(&tree::Node, &mut Report) -> T,
    ) -> Option<T> {
        let file = file?;
        let mut report = Report::new(file);
        let result = match fs::read_to_string(file) {
            Err(error) => {
                report.problem(0, format!("cannot read the file: {error}"));
                None
            }
            Ok(text) => match parse(&text) {
                Err(error) => {
                    report.problem(error.line, error.text);
                    None
                }
                Ok(root) => Some(interpret(&root, &mut report)),
            },
        };
        self.problems.append(&mut report.problems);
        self.warnings.append(&mut report.warnings);
        result
    }
}

/// Everything but the namespaces.
struct Settings<'a> {
    options: &'a LoadOptions,
    raw: RawConfig,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Settings<'_> {
    fn problem(&mut self, origin: &Origin, text: impl Into<String>) {
        self.problems.push(Problem { origin: origin.clone(), text: text.into() });
    }

    fn resolve(
        &mut self,
        namespaces: Vec<NamespaceConfig>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> ResolvedConfig {
        let tls = self.tls();
        let client_ca_file = self.client_ca(tls.is_some(), &namespaces);
        let listen = self.listen(tls.is_some());
        let (data_dir, data_dir_is_default) = self.data_dir(environment);
        let on_loss_default =
            if self.options.dev { OnConnectionLoss::Release } else { OnConnectionLoss::Hold };
        let on_loss = self.raw.on_connection_loss.take();
        let on_loss = self.choice(
            "message_session_on_connection_loss",
            on_loss,
            &[("hold", OnConnectionLoss::Hold), ("release", OnConnectionLoss::Release)],
        );
        let log_format = self.raw.log_format.take();
        let log_format =
            self.choice("log_format", log_format, &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        let limits = self.limits();
        self.warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
        let warnings = self.warnings.iter().map(|warning| format!("{}: {}", warning.origin, warning.text));
        ResolvedConfig {
            namespaces,
            warnings: warnings.collect(),
            data_dir,
            data_dir_is_default,
            listen,
            tls,
            client_ca_file,
            message_session_on_connection_loss: on_loss.unwrap_or(on_loss_default),
            limits,
            log_format: self.options.log_format.or(log_format).unwrap_or(LogFormat::Text),
            dev: self.options.dev,
        }
    }

    fn tls(&mut self) -> Option<TlsConfig> {
        let options = self.options;
        match (&options.certificate_file, &options.key_file) {
            (Some(certificate), Some(key)) => {
                return Some(TlsConfig::Files {
                    certificate_file: certificate.clone(),
                    key_file: key.clone(),
                });
            }
            (Some(_), None) => self.problem(&Origin::option("--cert"), "needs --key beside it"),
            (None, Some(_)) => self.problem(&Origin::option("--key"), "needs --cert beside it"),
            (None, None) => {}
        }
        match (&self.raw.certificate_file, &self.raw.key_file) {
            (Some(certificate), Some(key)) => Some(TlsConfig::Files {
                certificate_file: beside(&certificate.origin.file, &certificate.value),
                key_file: beside(&key.origin.file, &key.value),
            }),
            _ => options.dev.then_some(TlsConfig::SelfMade),
        }
    }

    fn client_ca(&mut self, tls: bool, namespaces: &[NamespaceConfig]) -> Option<PathBuf> {
        let of_file = self.raw.client_ca_file.take();
        let (file, origin) = match (&self.options.client_ca_file, of_file) {
            (Some(file), _) => (file.clone(), Origin::option("--client-ca")),
            (None, Some(file)) => (beside(&file.origin.file, &file.value), file.origin),
            (None, None) => {
                if let Some(unused) = namespaces.iter().find(|config| !config.client_certificates.is_empty())
                {
                    let text = format!(
                        "namespace \"{}\" gives rights to client certificates, but none are asked for; add \
                         client_ca to [tls], or give --client-ca",
                        unused.name
                    );
                    let origin = match &self.options.config {
                        Some(file) => Origin { file: file.as_path().into(), line: 1 },
                        None => Origin::option("--config"),
                    };
                    self.warnings.push(Problem { origin, text });
                }
                return None;
            }
        };
        if !tls {
            let text = "client certificates need TLS: give the server a certificate and its key as well";
            self.problem(&origin, text);
        }
        Some(file)
    }

    fn listen(&mut self, tls: bool) -> Vec<ListenConfig> {
        let from_options: Vec<_> = self
            .options
            .listen
            .iter()
            .map(|text| Located { value: text.clone(), origin: Origin::option("--listen") })
            .collect();
        let texts = if from_options.is_empty() { std::mem::take(&mut self.raw.listen) } else { from_options };
        if texts.is_empty() {
            return default_listen(tls, self.options.dev, self.options.dev_allow_remote);
        }
        let mut listen = Vec::with_capacity(texts.len());
        for text in texts {
            match parse_address(&text.value) {
                Ok(address) => {
                    if self.options.dev && !self.options.dev_allow_remote && !address.ip().is_loopback() {
                        self.problem(
                            &text.origin,
                            format!(
                                "{address} can be reached from elsewhere, and --dev has a key that everyone \
                                 knows; listen on 127.0.0.1, or add --dev-allow-remote"
                            ),
                        );
                    }
                    listen.push(ListenConfig { address, optional: false });
                }
                Err(problem) => self.problem(&text.origin, problem),
            }
        }
        listen
    }

    fn data_dir(&self, environment: &dyn Fn(&str) -> Option<String>) -> (PathBuf, bool) {
        if let Some(directory) = &self.options.data_dir {
            return (directory.clone(), false);
        }
        if let Some(directory) = &self.raw.data_dir {
            return (beside(&directory.origin.file, &directory.value), false);
        }
        (default_data_dir(rustix::process::geteuid().is_root(), environment), true)
    }

    fn choice<T: Copy>(
        &mut self,
        key: &str,
        text: Option<Located<String>>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = text?;
        let found = choices.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.problem(
                &text.origin,
                format!("{key} must be {}, not \"{}\"", names.join(" or "), text.value),
            );
        }
        found
    }

    fn limits(&mut self) -> LimitsConfig {
        /// Bounds of `connections_count_max`.
        const CONNECTIONS_COUNT: std::ops::RangeInclusive<u64> = 1..=1_000_000;
        /// Bounds of `idle_timeout_s`; .NET clients refuse less than 5 s (wire.md 1.3).
        const IDLE_TIMEOUT_S: std::ops::RangeInclusive<f64> = 10.0..=3_600.0;
        let mut limits = LimitsConfig::default();
        if let Some(count) = self.raw.connections_count_max.take() {
            match usize::try_from(count.value) {
                Ok(value) if CONNECTIONS_COUNT.contains(&count.value) => {
                    limits.connections_count_max = value;
                }
                _ => {
                    let text =
                        format!("connections_count_max must be between 1 and 1000000, not {}", count.value);
                    self.problem(&count.origin, text);
                }
            }
        }
        if let Some(timeout) = self.raw.idle_timeout.take() {
            let seconds = timeout.value.as_secs_f64();
            if IDLE_TIMEOUT_S.contains(&seconds) {
                limits.idle_timeout = timeout.value;
            } else {
                let text = format!("idle_timeout_s must be between 10 and 3600 seconds, not {seconds}");
                self.problem(&timeout.origin, text);
            }
        }
        limits.link_idle_timeout = self.idle_time(self.raw.link_idle_timeout.clone(), "link_idle_timeout_s");
        limits.connection_without_links_timeout = self.idle_time(
            self.raw.connection_without_links_timeout.clone(),
            "connection_without_links_timeout_s",
        );
        self.memory_limits(&mut limits);
        limits
    }

    fn idle_time(
        &mut self,
        given: Option<Located<std::time::Duration>>,
        key: &str,
    ) -> Option<std::time::Duration> {
        /// Bounds of the times after which what is idle is given up.
        const IDLE_TIME_S: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;
        let given = given?;
        let seconds = given.value.as_secs_f64();
        if IDLE_TIME_S.contains(&seconds) {
            return Some(given.value);
        }
        self.problem(&given.origin, format!("{key} must be between 1 and 86400 seconds, not {seconds}"));
        None
    }

    fn memory_limits(&mut self, limits: &mut LimitsConfig) {
        /// Bounds of `unread_timeout_s`.
        const UNREAD_TIMEOUT_S: std::ops::RangeInclusive<f64> = 1.0..=3_600.0;
        /// Least of `memory_bytes_max`.
        const MEMORY_BYTES_MIN: u64 = 16 << 20;
        if let Some(timeout) = self.raw.unread_timeout.take() {
            let seconds = timeout.value.as_secs_f64();
            if UNREAD_TIMEOUT_S.contains(&seconds) {
                limits.unread_timeout = timeout.value;
            } else {
                let text = format!("unread_timeout_s must be between 1 and 3600 seconds, not {seconds}");
                self.problem(&timeout.origin, text);
            }
        }
        if let Some(bytes) = self.raw.memory_bytes_max.take() {
            if bytes.value >= MEMORY_BYTES_MIN {
                limits.memory_bytes_max = bytes.value;
            } else {
                let text =
                    format!("memory_bytes_max must be at least {MEMORY_BYTES_MIN}, not {}", bytes.value);
                self.problem(&bytes.origin, text);
            }
        }
    }
}

/// `address:port`; `localhost` and a bare port are understood, too.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    match port.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        Err(_) => Err(format!(
            "\"{text}\" is no address to listen on; write an IP address and a port, such as \"127.0.0.1:5672\" \
             or \"[::]:5671\""
        )),
    }
}

fn default_listen(tls: bool, dev: bool, dev_allow_remote: bool) -> Vec<ListenConfig> {
    let required =
        |ip: Ipv4Addr, port| ListenConfig { address: SocketAddr::new(ip.into(), port), optional: false };
    let twin =
        |ip: Ipv6Addr, port| ListenConfig { address: SocketAddr::new(ip.into(), port), optional: true };
    if dev {
        let (v4, v6) = if dev_allow_remote {
            (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
        } else {
            (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
        };
        let ports = [AMQP_PORT, AMQPS_PORT, EMULATOR_HTTP_PORT];
        return ports.into_iter().flat_map(|port| [required(v4, port), twin(v6, port)]).collect();
    }
    let mut listen = vec![required(Ipv4Addr::LOCALHOST, AMQP_PORT), twin(Ipv6Addr::LOCALHOST, AMQP_PORT)];
    if tls {
        listen.push(required(Ipv4Addr::UNSPECIFIED, AMQPS_PORT));
        listen.push(twin(Ipv6Addr::UNSPECIFIED, AMQPS_PORT));
    }
    listen
}

/// Where data goes when nobody says: the system's place for root, else the user's.
fn default_data_dir(root: bool, environment: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/lockstep");
    }
    let absolute = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match (absolute("XDG_DATA_HOME"), absolute("HOME")) {
        (Some(data), _) => data.join("lockstep"),
        (None, Some(home)) => home.join(".local/share/lockstep"),
        (None, None) => PathBuf::from("lockstep-data"),
    }
}
