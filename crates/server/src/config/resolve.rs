//! Merges the namespaces of both files and checks them: duplicates, bounds, keys.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use lockstep_model::{EntityName, QueueDescription, Right};

use super::{
    queue_properties,
    raw::{KeySource, RawClientCertificate, RawNamespace, RawPolicy, RawQueue},
    resolved::{ClientCertificateConfig, NamespaceConfig, PolicyConfig, QueueConfig},
    secret::Secret,
    section::{Located, Problem},
    tree::Origin,
};

/// Characters of a namespace's name.
const NAMESPACE_NAME_CHARS_MAX: usize = 260;

/// Where keys are looked up that do not stand in the file.
pub(super) struct KeyLookup<'a> {
    /// Reads an environment variable.
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Builds the namespaces out of what the files say, in their order.
pub(super) struct Resolver<'a> {
    keys: KeyLookup<'a>,
    namespaces: Vec<(NamespaceConfig, Seen)>,
    /// Host names in use: the namespace, by position, and where.
    host_names: HashMap<String, (usize, Origin)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Where the parts of one namespace were seen first, by their keys of comparison.
#[derive(Default)]
struct Seen {
    /// Each place the namespace stands in.
    places: Vec<Origin>,
    entities: HashMap<String, Origin>,
    /// By entity key ("" for the namespace) and policy name.
    policies: HashMap<(String, String), Origin>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(keys: KeyLookup<'a>) -> Self {
        let (problems, warnings) = (Vec::new(), Vec::new());
        Self { keys, namespaces: Vec::new(), host_names: HashMap::new(), problems, warnings }
    }

    fn problem(&mut self, origin: &Origin, text: impl Into<String>) {
        self.problems.push(Problem { origin: origin.clone(), text: text.into() });
    }

    /// Adds a namespace of a file. One that another file has named as well becomes one with it.
    pub(super) fn add(&mut self, raw: RawNamespace) {
        if let Err(text) = check_namespace_name(&raw.name.value) {
            self.problem(&raw.name.origin, text);
            return;
        }
        let Some(at) = self.namespace(&raw.name) else { return };
        for host_name in &raw.host_names {
            self.add_host_name(at, host_name);
        }
        for topic in &raw.topics_left_out {
            if self.entity_is_new(at, &topic.value, &topic.origin).is_some() {
                self.namespaces[at].0.topics_left_out.push(topic.value.clone());
            }
        }
        for policy in &raw.policies {
            self.add_policy(at, None, policy);
        }
        for certificate in &raw.client_certificates {
            self.add_client_certificate(at, None, certificate);
        }
        for queue in &raw.queues {
            self.add_queue(at, queue);
        }
    }

    /// The position of the namespace of that name; `None`, with a problem, if its file has it
    /// twice.
    fn namespace(&mut self, name: &Located<String>) -> Option<usize> {
        let same = |(namespace, _): &(NamespaceConfig, Seen)| {
            namespace.name.to_lowercase() == name.value.to_lowercase()
        };
        let Some(at) = self.namespaces.iter().position(same) else {
            let namespace = NamespaceConfig {
                name: name.value.clone(),
                host_names: Vec::new(),
                policies: Vec::new(),
                client_certificates: Vec::new(),
                queues: Vec::new(),
                topics_left_out: Vec::new(),
            };
            let seen = Seen { places: vec![name.origin.clone()], ..Seen::default() };
            self.namespaces.push((namespace, seen));
            let at = self.namespaces.len() - 1;
            self.claim_host_name(at, name);
            return Some(at);
        };
        let places = &mut self.namespaces[at].1.places;
        let first = places.iter().find(|place| place.file == name.origin.file).cloned();
        places.push(name.origin.clone());
        match first {
            Some(first) => {
                let text = format!("namespace \"{}\" stands twice, first in {first}", name.value);
                self.problem(&name.origin, text);
                None
            }
            None => Some(at),
        }
    }

    fn add_host_name(&mut self, at: usize, host_name: &Located<String>) {
        let text = host_name.value.trim_end_matches('.');
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
        let has_port = text.matches(':').count() == 1;
        if text.is_empty() || !text.chars().all(valid) || has_port {
            let text = format!(
                "\"{}\" is no host name; write it without scheme and port, such as \"sbtest.example.com\"",
                host_name.value
            );
            return self.problem(&host_name.origin, text);
        }
        let host_name = Located { value: text.to_lowercase(), origin: host_name.origin.clone() };
        if self.claim_host_name(at, &host_name) {
            self.namespaces[at].0.host_names.push(host_name.value);
        }
    }

    /// Whether the host name is new; a problem if another namespace has it.
    fn claim_host_name(&mut self, at: usize, host_name: &Located<String>) -> bool {
        let key = host_name.value.to_lowercase();
        match self.host_names.get(&key) {
            None => {
                self.host_names.insert(key, (at, host_name.origin.clone()));
                true
            }
            Some((other, _)) if *other == at => false,
            Some((other, first)) => {
                let text = format!(
                    "host name \"{}\" already means namespace \"{}\", by {first}",
                    host_name.value, self.namespaces[*other].0.name
                );
                self.problem(&host_name.origin, text);
                false
            }
        }
    }

    /// The name of an entity that this namespace does not have yet.
    fn entity_is_new(&mut self, at: usize, name: &str, origin: &Origin) -> Option<EntityName> {
        let parsed = match EntityName::new(name) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.problem(origin, format!("\"{name}\" is no entity name: {error}"));
                return None;
            }
        };
        if let Some(first) = self.namespaces[at].1.entities.get(parsed.key()) {
            let text = format!(
                "entity \"{name}\" stands twice in namespace \"{}\", first in {first} (letter case does not count)",
                self.namespaces[at].0.name
            );
            self.problem(origin, text);
            return None;
        }
        self.namespaces[at].1.entities.insert(parsed.key().to_owned(), origin.clone());
        Some(parsed)
    }

    fn add_queue(&mut self, at: usize, raw: &RawQueue) {
        let Some(name) = self.entity_is_new(at, &raw.name.value, &raw.name.origin) else { return };
        let mut description = QueueDescription::new(name.clone());
        for property in &raw.properties {
            if let Err(problem) = queue_properties::apply(&mut description, property) {
                self.problem(&property.origin, format!("{} {problem}", property.spelling));
            }
        }
        if let Err(invalid) = description.validate() {
            let (origin, spelling) = raw.place_of(invalid.property);
            self.problem(&origin, format!("{spelling} {}", invalid.problem));
        }
        for policy in &raw.policies {
            self.add_policy(at, Some(&name), policy);
        }
        for certificate in &raw.client_certificates {
            self.add_client_certificate(at, Some(&name), certificate);
        }
        let origin = raw.name.origin.clone();
        let requires_session_origin = raw.place_of("requires_session").0;
        self.namespaces[at].0.queues.push(QueueConfig { description, origin, requires_session_origin });
    }

    fn add_client_certificate(&mut self, at: usize, scope: Option<&EntityName>, raw: &RawClientCertificate) {
        let certificate = ClientCertificateConfig {
            name: raw.name.value.clone(),
            rights: with_implied(raw.rights.iter().map(|right| right.value)),
            scope: scope.cloned(),
        };
        let certificates = &mut self.namespaces[at].0.client_certificates;
        if certificates.iter().any(|other| other.name == certificate.name && other.scope == certificate.scope)
        {
            return self.problem(&raw.name.origin, "this client certificate stands twice");
        }
        certificates.push(certificate);
    }

    fn add_policy(&mut self, at: usize, scope: Option<&EntityName>, raw: &RawPolicy) {
        let key = (scope.map_or("", EntityName::key).to_owned(), raw.name.value.to_lowercase());
        if let Some(first) = self.namespaces[at].1.policies.get(&key) {
            let text = format!("policy \"{}\" stands twice, first in {first}", raw.name.value);
            return self.problem(&raw.name.origin, text);
        }
        self.namespaces[at].1.policies.insert(key, raw.name.origin.clone());
        let secondary_key = raw.secondary_key.as_ref().and_then(|source| self.key(source));
        let Some(primary_key) = raw.primary_key.as_ref().and_then(|source| self.key(source)) else { return };
        let rights = with_implied(raw.rights.iter().map(|right| right.value));
        self.namespaces[at].0.policies.push(PolicyConfig {
            name: raw.name.value.clone(),
            primary_key,
            secondary_key,
            rights,
            scope: scope.cloned(),
        });
    }

    /// Fetches a key; `None`, with a problem, if there is none.
    fn key(&mut self, source: &Located<KeySource>) -> Option<Secret> {
        let (key, place) = match &source.value {
            KeySource::Literal(key) => (Ok(key.expose().to_owned()), "the key".to_owned()),
            KeySource::File(path) => {
                let path = beside(&source.origin.file, path);
                let text = fs::read_to_string(&path)
                    .map(|text| text.trim().to_owned())
                    .map_err(|error| format!("cannot read the key file {}: {error}", path.display()));
                (text, format!("the key file {}", path.display()))
            }
            KeySource::Environment(name) => {
                let text = (self.keys.environment)(name)
                    .ok_or_else(|| format!("the environment variable {name} is not set"));
                (text, format!("the environment variable {name}"))
            }
        };
        match key {
            Ok(key) if key.is_empty() => {
                self.problem(&source.origin, format!("{place} is empty"));
                None
            }
            Ok(key) => Some(Secret::new(&key)),
            Err(text) => {
                self.problem(&source.origin, text);
                None
            }
        }
    }

    /// The namespaces, with a warning for each that nobody can use.
    pub(super) fn finish(self) -> (Vec<NamespaceConfig>, Vec<Problem>, Vec<Problem>) {
        let namespaces = self.namespaces.into_iter().map(|(namespace, _)| namespace).collect();
        (namespaces, self.problems, self.warnings)
    }

    /// Adds a policy that no file has, unless one of its name is there.
    pub(super) fn add_well_known_policy(&mut self, policy: &PolicyConfig) {
        for (namespace, _) in &mut self.namespaces {
            let has =
                |other: &PolicyConfig| other.scope.is_none() && other.name.eq_ignore_ascii_case(&policy.name);
            if !namespace.policies.iter().any(has) {
                namespace.policies.push(policy.clone());
            }
        }
    }

    /// Whether no file named a namespace.
    pub(super) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Warns of namespaces to which nobody can authenticate.
    pub(super) fn warn_of_missing_policies(&mut self) {
        for (namespace, seen) in &self.namespaces {
            if namespace.policies.is_empty()
                && namespace.client_certificates.is_empty()
                && let Some(origin) = seen.places.first()
            {
                let text = format!(
                    "namespace \"{}\" has no policy, so nobody can connect to it; add [[namespace.policy]] to \
                     lockstep.toml, or use --dev for the emulator's well-known key",
                    namespace.name
                );
                self.warnings.push(Problem { origin: origin.clone(), text });
            }
        }
    }
}

impl RawQueue {
    /// Where a property of the description stands, and how this file spells it.
    fn place_of(&self, property: &'static str) -> (Origin, &'static str) {
        match self.properties.iter().find(|set| set.name == property) {
            Some(set) => (set.origin.clone(), set.spelling),
            None => (self.name.origin.clone(), property),
        }
    }
}

/// Sorted, without repetition; `Manage` brings the other two, as in Azure.
fn with_implied(rights: impl Iterator<Item = Right>) -> Vec<Right> {
    let mut rights: Vec<Right> = rights.collect();
    if rights.contains(&Right::Manage) {
        rights.extend([Right::Send, Right::Listen]);
    }
    rights.sort();
    rights.dedup();
    rights
}

fn check_namespace_name(name: &str) -> Result<(), String> {
    let valid = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.chars().all(valid) && name.chars().count() <= NAMESPACE_NAME_CHARS_MAX {
        return Ok(());
    }
    Err(format!(
        "\"{name}\" is no namespace name: use letters, digits, '-', '.' and '_', at most {NAMESPACE_NAME_CHARS_MAX}"
    ))
}

/// A path as a file means it: relative to the directory of that file.
pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) => directory.join(path),
        None => path.to_owned(),
    }
}
