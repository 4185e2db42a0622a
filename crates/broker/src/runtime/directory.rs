//! Which entities there are, for connections: a snapshot that needs no turn of the owner thread,
//! and who is to be told when an entity changes.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lockstep_model::{ConnectionId, EntityId, EntityName, NamespaceId, QueueDescription};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::core::{EntityChange, Namespace};

/// An entity as a connection sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityInfo {
    /// Its main store.
    pub id: EntityId,
    /// Its properties.
    pub description: QueueDescription,
}

#[derive(Debug)]
struct Entry {
    info: Arc<EntityInfo>,
    watchers: FxHashSet<ConnectionId>,
}

impl Entry {
    fn new(id: EntityId, description: QueueDescription) -> Self {
        Self { info: Arc::new(EntityInfo { id, description }), watchers: FxHashSet::default() }
    }
}

type Entries = FxHashMap<EntityName, Entry>;

/// The entities of one namespace.
#[derive(Debug)]
pub(crate) struct Directory {
    namespace: NamespaceId,
    name: Box<str>,
    entities: RwLock<Entries>,
}

impl Directory {
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let entities = namespace
            .entities()
            .map(|(id, description)| (description.name.clone(), Entry::new(id, description.clone())))
            .collect();
        Self { namespace: namespace.id(), name: namespace.name().into(), entities: RwLock::new(entities) }
    }

    pub(crate) fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entities.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entities.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lookup(&self, name: &EntityName) -> Option<Arc<EntityInfo>> {
        self.read().get(name).map(|entry| entry.info.clone())
    }

    /// The same, and from now on the connection is told of every change of the entity. Nothing
    /// can happen in between that it is not told of.
    pub(crate) fn watch(&self, name: &EntityName, connection: ConnectionId) -> Option<Arc<EntityInfo>> {
        let mut entities = self.write();
        let entry = entities.get_mut(name)?;
        entry.watchers.insert(connection);
        Some(entry.info.clone())
    }

    pub(crate) fn unwatch(&self, name: &EntityName, connection: ConnectionId) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.watchers.remove(&connection);
        }
    }

    /// Follows the namespace. Returns which entity it is about and who is to be told.
    pub(crate) fn follow(&self, change: EntityChange) -> (EntityId, EntityName, Vec<ConnectionId>) {
        let mut entities = self.write();
        match change {
            EntityChange::Defined(id, description) => {
                let name = description.name.clone();
                let entry =
                    entities.entry(name.clone()).or_insert_with(|| Entry::new(id, (*description).clone()));
                entry.info = Arc::new(EntityInfo { id, description: *description });
                (id, name, entry.watchers.iter().copied().collect())
            }
            EntityChange::Deleted(id, name) => {
                let watchers = entities.remove(&name).map(|entry| entry.watchers);
                (id, name, watchers.into_iter().flatten().collect())
            }
        }
    }
}
