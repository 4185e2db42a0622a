//! `lockstep.toml` as it was written: everything optional, nothing checked beyond the kinds of
//! values. [`super::resolved`] makes sense of it.

use std::{path::PathBuf, time::Duration};

use lockstep_model::Right;

use super::{
    keys,
    queue_properties::{self, QueueProperty},
    secret::Secret,
    section::{Located, Report, Section, suggestion},
    tree::{Node, Value},
};
use crate::{client_certificate::CertificateName, distinguished_name::DistinguishedName};

/// Everything a `lockstep.toml` may say.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    pub(super) data_dir: Option<Located<PathBuf>>,
    pub(super) listen: Vec<Located<String>>,
    pub(super) on_connection_loss: Option<Located<String>>,
    pub(super) log_format: Option<Located<String>>,
    pub(super) certificate_file: Option<Located<PathBuf>>,
    pub(super) key_file: Option<Located<PathBuf>>,
    pub(super) client_ca_file: Option<Located<PathBuf>>,
    pub(super) connections_count_max: Option<Located<u64>>,
    pub(super) idle_timeout: Option<Located<Duration>>,
    pub(super) unread_timeout: Option<Located<Duration>>,
    pub(super) link_idle_timeout: Option<Located<Duration>>,
    pub(super) connection_without_links_timeout: Option<Located<Duration>>,
    pub(super) memory_bytes_max: Option<Located<u64>>,
    pub(super) namespaces: Vec<RawNamespace>,
}

/// A namespace of either file.
#[derive(Debug)]
pub(super) struct RawNamespace {
    pub(super) name: Located<String>,
    pub(super) host_names: Vec<Located<String>>,
    pub(super) policies: Vec<RawPolicy>,
    pub(super) client_certificates: Vec<RawClientCertificate>,
    pub(super) queues: Vec<RawQueue>,
    pub(super) topics_left_out: Vec<Located<String>>,
}

/// A queue of either file.
#[derive(Debug)]
pub(super) struct RawQueue {
    pub(super) name: Located<String>,
    pub(super) properties: Vec<QueueProperty>,
    pub(super) policies: Vec<RawPolicy>,
    pub(super) client_certificates: Vec<RawClientCertificate>,
}

/// A shared access policy.
#[derive(Debug)]
pub(super) struct RawPolicy {
    pub(super) name: Located<String>,
    pub(super) primary_key: Option<Located<KeySource>>,
    pub(super) secondary_key: Option<Located<KeySource>>,
    pub(super) rights: Vec<Located<Right>>,
}

/// The rights of a client certificate.
#[derive(Debug)]
pub(super) struct RawClientCertificate {
    pub(super) name: Located<CertificateName>,
    pub(super) rights: Vec<Located<Right>>,
}

/// Where a key comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum KeySource {
    Literal(Secret),
    File(PathBuf),
    Environment(String),
}

/// Reads the tree of a `lockstep.toml`.
pub(super) fn read(root: &Node, report: &mut Report) -> RawConfig {
    let Some(section) = Section::open(root, &keys::ROOT, report) else { return RawConfig::default() };
    let mut config = RawConfig {
        data_dir: path(&section, "data_dir", report),
        listen: section.texts("listen", report),
        on_connection_loss: section.text("message_session_on_connection_loss", report),
        log_format: section.text("log_format", report),
        ..RawConfig::default()
    };
    if let Some(tls) = section.node("tls").and_then(|node| Section::open(node, &keys::TLS, report)) {
        config.certificate_file = path(&tls, "certificate_file", report);
        config.key_file = path(&tls, "key_file", report);
        config.client_ca_file = path(&tls, "client_ca", report);
        // The certificate may come from the command line.
        let authority_alone = config.client_ca_file.is_some()
            && ["certificate_file", "key_file"].iter().all(|key| tls.node(key).is_none());
        for (missing, name, other) in [
            (config.certificate_file.is_none(), "certificate_file", "key_file"),
            (config.key_file.is_none(), "key_file", "certificate_file"),
        ] {
            if missing && !authority_alone {
                report.problem(tls.line, format!("[tls] needs {name} besides {other}"));
            }
        }
    }
    if let Some(limits) = section.node("limits").and_then(|node| Section::open(node, &keys::LIMITS, report)) {
        config.connections_count_max = limits.count("connections_count_max", report);
        config.idle_timeout = limits.seconds("idle_timeout_s", report);
        config.unread_timeout = limits.seconds("unread_timeout_s", report);
        config.link_idle_timeout = limits.seconds("link_idle_timeout_s", report);
        config.connection_without_links_timeout =
            limits.seconds("connection_without_links_timeout_s", report);
        config.memory_bytes_max = limits.count("memory_bytes_max", report);
    }
    config.namespaces =
        section.nodes("namespace", report).iter().filter_map(|node| namespace(node, report)).collect();
    config
}

fn namespace(node: &Node, report: &mut Report) -> Option<RawNamespace> {
    let section = Section::open(node, &keys::NAMESPACE, report)?;
    let queues = section.nodes("queue", report).iter().filter_map(|node| queue(node, report)).collect();
    let policies = policies(&section, &keys::NAMESPACE_POLICY, report);
    let client_certificates = client_certificates(&section, &keys::NAMESPACE_CLIENT_CERTIFICATE, report);
    let mut topics_left_out = Vec::new();
    for node in section.nodes("topic", report) {
        let name = match &node.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == "name"),
            _ => None,
        };
        match name.map(|entry| &entry.node.value) {
            Some(Value::Text(name)) => topics_left_out.push(topic_left_out(name, node.line, report)),
            _ => report.problem(node.line, "[[namespace.topic]] needs a name"),
        }
    }
    let host_names = section.texts("host_names", report);
    let name = required_name(&section, "name", report)?;
    Some(RawNamespace { name, host_names, policies, client_certificates, queues, topics_left_out })
}

/// Warns that a topic is left out.
pub(super) fn topic_left_out(name: &str, line: u32, report: &mut Report) -> Located<String> {
    report.warning(
        line,
        format!("topic \"{name}\" is left out: topics and subscriptions come in a later version"),
    );
    Located { value: name.to_owned(), origin: report.origin(line) }
}

fn queue(node: &Node, report: &mut Report) -> Option<RawQueue> {
    let section = Section::open(node, &keys::QUEUE, report)?;
    let name = required_name(&section, "name", report);
    let properties = queue_properties::read(&section, keys::Format::Toml, report);
    let policies = policies(&section, &keys::QUEUE_POLICY, report);
    let client_certificates = client_certificates(&section, &keys::QUEUE_CLIENT_CERTIFICATE, report);
    let name = name?;
    let mut later = Later { queue: &name.value, report };
    for target in ["forward_to", "forward_dead_lettered_messages_to"] {
        let asked = section.text(target, later.report).filter(|target| !target.value.is_empty());
        later.left_out(asked.as_ref(), target);
    }
    Some(RawQueue { name, properties, policies, client_certificates })
}

/// Gives the one warning for each property that a later version brings.
pub(super) struct Later<'a> {
    pub(super) queue: &'a str,
    pub(super) report: &'a mut Report,
}

impl Later<'_> {
    pub(super) fn left_out<T>(&mut self, asked: Option<&Located<T>>, key: &str) {
        if let Some(asked) = asked {
            self.report.warning(
                asked.origin.line,
                format!("{key} of queue \"{}\" is left out: it comes in a later version", self.queue),
            );
        }
    }
}

fn policies(section: &Section<'_>, table: &'static keys::Table, report: &mut Report) -> Vec<RawPolicy> {
    let nodes = section.nodes("policy", report);
    nodes.iter().filter_map(|node| policy(node, table, report)).collect()
}

fn policy(node: &Node, table: &'static keys::Table, report: &mut Report) -> Option<RawPolicy> {
    let section = Section::open(node, table, report)?;
    let primary = ["primary_key", "primary_key_file", "primary_key_env"];
    let secondary = ["secondary_key", "secondary_key_file", "secondary_key_env"];
    let primary_key = key_source(&section, primary, report);
    let secondary_key = key_source(&section, secondary, report);
    let rights = rights(&section, report);
    let name = required_name(&section, "name", report)?;
    if primary.iter().all(|key| section.node(key).is_none()) {
        report.problem(
            name.origin.line,
            format!(
                "policy \"{}\" has no key; write primary_key, primary_key_file or primary_key_env",
                name.value
            ),
        );
    }
    Some(RawPolicy { name, primary_key, secondary_key, rights })
}

fn client_certificates(
    section: &Section<'_>,
    table: &'static keys::Table,
    report: &mut Report,
) -> Vec<RawClientCertificate> {
    let nodes = section.nodes("client_certificate", report);
    nodes.iter().filter_map(|node| client_certificate(node, table, report)).collect()
}

fn client_certificate(
    node: &Node,
    table: &'static keys::Table,
    report: &mut Report,
) -> Option<RawClientCertificate> {
    let section = Section::open(node, table, report)?;
    let rights = rights(&section, report);
    let name = match (section.text("subject", report), section.text("san", report)) {
        (Some(subject), None) => match DistinguishedName::parse(&subject.value) {
            Ok(name) => Located { value: CertificateName::Subject(name), origin: subject.origin },
            Err(problem) => {
                let text = format!(
                    "subject must be a distinguished name such as \"CN=worker,O=Acme\"; it {problem}"
                );
                report.problem(subject.origin.line, text);
                return None;
            }
        },
        (None, Some(san)) if !san.value.is_empty() => {
            Located { value: CertificateName::AlternativeName(san.value), origin: san.origin }
        }
        _ => {
            report.problem(section.line, format!("{} needs either subject or san", section.title()));
            return None;
        }
    };
    Some(RawClientCertificate { name, rights })
}

/// The rights of a policy or certificate; none at all is a problem.
fn rights(section: &Section<'_>, report: &mut Report) -> Vec<Located<Right>> {
    let mut rights = Vec::new();
    for text in section.texts("rights", report) {
        if let Some(value) = right(&text.value) {
            rights.push(Located { value, origin: text.origin });
        } else {
            let hint = suggestion(&text.value, ["Send", "Listen", "Manage"].into_iter()).map_or_else(
                || "use Send, Listen, Manage".to_owned(),
                |name| format!("did you mean \"{name}\"?"),
            );
            report.problem(text.origin.line, format!("unknown right \"{}\"; {hint}", text.value));
        }
    }
    if section.node("rights").is_none_or(|node| matches!(&node.value, Value::List(items) if items.is_empty()))
    {
        let line = section.line_of("rights");
        report.problem(
            line,
            format!("{} needs rights, such as rights = [\"Send\", \"Listen\"]", section.title()),
        );
    }
    rights
}

/// Takes a right by its name, as Azure spells it.
fn right(name: &str) -> Option<Right> {
    match name {
        "Send" => Some(Right::Send),
        "Listen" => Some(Right::Listen),
        "Manage" => Some(Right::Manage),
        _ => None,
    }
}

/// The one of the three forms of a key that is given; more than one is a problem.
fn key_source(
    section: &Section<'_>,
    [literal, file, environment]: [&'static str; 3],
    report: &mut Report,
) -> Option<Located<KeySource>> {
    let texts =
        [section.text(literal, report), section.text(file, report), section.text(environment, report)];
    let given = texts.iter().flatten().count();
    if given > 1 {
        report.problem(
            section.line_of(literal).max(section.line_of(environment)),
            format!("{literal}, {file} and {environment} exclude each other; keep one of them"),
        );
        return None;
    }
    let [as_literal, as_file, as_environment] = texts;
    let with = |text: Located<String>, source: fn(String) -> KeySource| Located {
        value: source(text.value),
        origin: text.origin,
    };
    as_literal
        .map(|text| with(text, |text| KeySource::Literal(Secret::new(&text))))
        .or_else(|| as_file.map(|text| with(text, |text| KeySource::File(text.into()))))
        .or_else(|| as_environment.map(|text| with(text, KeySource::Environment)))
}

fn path(section: &Section<'_>, name: &'static str, report: &mut Report) -> Option<Located<PathBuf>> {
    let text = section.text(name, report)?;
    if text.value.is_empty() {
        report.problem(text.origin.line, format!("{name} is empty"));
        return None;
    }
    Some(Located { value: text.value.into(), origin: text.origin })
}

/// A key that its table cannot do without.
pub(super) fn required_name(
    section: &Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Option<Located<String>> {
    if section.node(key).is_none() {
        report.problem(section.line, format!("{} needs \"{key}\"", section.title()));
        return None;
    }
    let name = section.text(key, report)?;
    if name.value.is_empty() {
        report.problem(name.origin.line, format!("{key} is empty"));
        return None;
    }
    Some(name)
}
