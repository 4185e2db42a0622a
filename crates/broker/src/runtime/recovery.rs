//! From rows to namespaces, and from definitions to rows.

use std::collections::BTreeMap;

use lockstep_model::{
    BodyId, CommitNumber, EntityDescription, EntityId, MessageSessionId, NamespaceId, QueueDescription,
    SequenceNumber, Timestamp,
};
use lockstep_store::{
    CounterRecord, DuplicateRecord, LoadVisitor, MessageOverlayRecord, MessageRecord, MessageSessionRecord,
    NamespaceRecord, Store,
};

use super::{BrokerError, NamespaceDefinition};
use crate::core::{CoreConfig, Namespace, Output};

/// Everything that a start finds and makes.
pub(crate) struct Recovered {
    pub(crate) namespaces: Vec<Namespace>,
    /// Everything up to here is durable.
    pub(crate) durable: CommitNumber,
    pub(crate) warnings: Vec<String>,
}

struct Loader {
    config: CoreConfig,
    namespaces: BTreeMap<NamespaceId, Namespace>,
}

impl Loader {
    fn of(&mut self, id: EntityId) -> Option<&mut Namespace> {
        self.namespaces.get_mut(&id.namespace())
    }
}

impl LoadVisitor for Loader {
    fn namespace(&mut self, id: NamespaceId, record: NamespaceRecord) {
        let mut namespace = Namespace::new(id, record.name.clone(), self.config);
        namespace.restore_record(record);
        self.namespaces.insert(id, namespace);
    }

    fn entity(&mut self, id: EntityId, description: EntityDescription) {
        if let Some(namespace) = self.of(id) {
            namespace.restore_entity(id, description);
        }
    }

    fn counter(&mut self, id: EntityId, record: CounterRecord) {
        if let Some(namespace) = self.of(id) {
            namespace.restore_counter(id, record);
        }
    }

    fn message_session(&mut self, id: EntityId, session: MessageSessionId, record: MessageSessionRecord) {
        if let Some(namespace) = self.of(id) {
            let size_bytes = record.state.len() as u64;
            namespace.restore_message_session(id, session, record.updated_at, size_bytes);
        }
    }

    fn message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageRecord) {
        if let Some(namespace) = self.of(id) {
            namespace.restore_message(id, sequence_number, record);
        }
    }

    fn overlay(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageOverlayRecord) {
        if let Some(namespace) = self.of(id) {
            namespace.restore_overlay(id, sequence_number, record);
        }
    }

    fn duplicate(&mut self, id: EntityId, record: DuplicateRecord) {
        if let Some(namespace) = self.of(id) {
            namespace.restore_duplicate(id, record);
        }
    }
}

/// Loads the store and brings its entities in line with `definitions`, durably.
pub(crate) fn recover(
    store: &dyn Store,
    config: CoreConfig,
    definitions: &[NamespaceDefinition],
    now: Timestamp,
) -> Result<Recovered, BrokerError> {
    let mut loader = Loader { config, namespaces: BTreeMap::new() };
    store.load(&mut loader)?;
    let mut namespaces = loader.namespaces;
    for namespace in namespaces.values_mut() {
        namespace.finish_restore(now);
    }
    let is_live = |id: NamespaceId, body: BodyId| namespaces.get(&id).is_some_and(|n| n.is_live_body(body));
    let orphans = store.remove_orphan_bodies(&is_live)?;
    if orphans > 0 {
        tracing::info!(orphans, "removed stored bodies that no message names");
    }
    let mut output = Output::default();
    let mut warnings = Vec::new();
    for definition in definitions {
        let namespace = find_or_create(&mut namespaces, config, &definition.name, &mut output);
        define(namespace, definition, now, &mut output, &mut warnings)?;
        namespace.plan_all(now);
    }
    for namespace in namespaces.values() {
        if !definitions.iter().any(|d| d.name.eq_ignore_ascii_case(namespace.name())) {
            warnings.push(format!(
                "namespace '{}' is in the data directory but not in the configuration: it is kept",
                namespace.name()
            ));
        }
    }
    let mut durable = store.recovered_commit();
    if !output.batch.is_empty() {
        durable = durable.next();
        store.write(durable, &output.batch)?;
        store.sync(durable)?;
    }
    // The first configured namespace is the one that a connection without a known host means.
    let mut ordered: Vec<Namespace> = Vec::new();
    for definition in definitions {
        let id =
            namespaces.values().find(|n| n.name().eq_ignore_ascii_case(&definition.name)).map(Namespace::id);
        ordered.extend(id.and_then(|id| namespaces.remove(&id)));
    }
    ordered.extend(namespaces.into_values());
    Ok(Recovered { namespaces: ordered, durable, warnings })
}

fn find_or_create<'a>(
    namespaces: &'a mut BTreeMap<NamespaceId, Namespace>,
    config: CoreConfig,
    name: &str,
    output: &mut Output,
) -> &'a mut Namespace {
    let known = namespaces.values().find(|n| n.name().eq_ignore_ascii_case(name)).map(Namespace::id);
    let id =
        known.unwrap_or_else(|| NamespaceId(namespaces.last_key_value().map_or(1, |(last, _)| last.0 + 1)));
    namespaces.entry(id).or_insert_with(|| {
        let namespace = Namespace::new(id, name.into(), config);
        output.batch.put_namespace(id, &NamespaceRecord { name: name.into(), last_entity_number: 0 });
        namespace
    })
}

fn define(
    namespace: &mut Namespace,
    definition: &NamespaceDefinition,
    now: Timestamp,
    output: &mut Output,
    warnings: &mut Vec<String>,
) -> Result<(), BrokerError> {
    for queue in &definition.queues {
        let stored = namespace.entities().find(|(_, stored)| stored.name == queue.name);
        let stored = stored.map(|(_, stored)| stored.clone());
        let mut wanted = queue.clone();
        if let Some(stored) = &stored {
            keep_what_files_do_not_say(&mut wanted, stored);
        }
        let changed = stored.map(|stored| wanted.differences(&stored)).unwrap_or_default();
        namespace.define_queue(wanted, now, output).map_err(|problem| BrokerError::Definition {
            namespace: definition.name.clone(),
            queue: queue.name.to_string(),
            problem: problem.to_string(),
        })?;
        if !changed.is_empty() {
            warnings.push(format!(
                "queue '{}' of namespace '{}' is stored with another {}: the configuration file wins",
                queue.name,
                definition.name,
                changed.join(", ")
            ));
        }
    }
    for (_, description) in namespace.entities() {
        let is_named = definition.queues.iter().any(|queue| queue.name == description.name);
        if !is_named && !description.made_at_run_time {
            warnings.push(format!(
                "queue '{}' of namespace '{}' is in the data directory but not in the configuration: it and its \
                 messages are kept",
                description.name, definition.name
            ));
        }
    }
    Ok(())
}

/// Properties that only the administration plane sets; a file has no words for them.
fn keep_what_files_do_not_say(wanted: &mut QueueDescription, stored: &QueueDescription) {
    wanted.enable_batched_operations = stored.enable_batched_operations;
    wanted.enable_express = stored.enable_express;
    wanted.support_ordering = stored.support_ordering;
    wanted.authorization_rules.clone_from(&stored.authorization_rules);
}
