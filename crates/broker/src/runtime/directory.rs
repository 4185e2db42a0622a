//! Which entities there are, for connections: a snapshot that needs no turn of the owner thread.

use std::sync::{PoisonError, RwLock};

use lockstep_model::{EntityId, EntityName, NamespaceId, QueueDescription};
use rustc_hash::FxHashMap;

use crate::core::Namespace;

/// An entity as a connection sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityInfo {
    /// Its main store.
    pub id: EntityId,
    /// Its properties.
    pub description: QueueDescription,
}

/// The entities of one namespace.
#[derive(Debug)]
pub(crate) struct Directory {
    namespace: NamespaceId,
    name: Box<str>,
    entities: RwLock<FxHashMap<EntityName, EntityInfo>>,
}

impl Directory {
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let entities = namespace
            .entities()
            .map(|(id, description)| {
                (description.name.clone(), EntityInfo { id, description: description.clone() })
            })
            .collect();
        Self { namespace: namespace.id(), name: namespace.name().into(), entities: RwLock::new(entities) }
    }

    pub(crate) fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn lookup(&self, name: &EntityName) -> Option<EntityInfo> {
        self.entities.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
