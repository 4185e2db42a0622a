//! Entities: how they come, change and go, and what they count.

use lockstep_model::{
    EntityDescription, EntityId, EntityName, InvalidDescription, OutgoingLinkId, QueueDescription, Refusal,
    SequenceNumber, SubQueue, Timestamp,
    limits::{ENTITIES_COUNT_MAX, ENTITIES_LISTED_MAX},
};
use lockstep_store::NamespaceRecord;

use super::{
    Effect, EntityChange, EntitySnapshot, Existence, Output, Reply,
    links::LinkKind,
    message_state::Place,
    namespace::{Namespace, SUB_QUEUES, Step, Unfinished},
    queue::{Queue, Settings},
    wall_clock::Due,
};

/// Why an entity cannot be defined as asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DefineError {
    /// A property differs from the existing entity's and cannot be changed (semantics A-10).
    #[error("{property} of {entity} cannot be changed: the existing entity has {existing}")]
    Immutable {
        /// The entity.
        entity: String,
        /// The property, in the spelling of `lockstep.toml`.
        property: &'static str,
        /// Its value in the existing entity.
        existing: String,
    },
    /// A property is outside its bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidDescription),
    /// The namespace has had [`EntityId::NUMBER_MAX`] entities.
    #[error("the namespace has had {} entities and can have no more", EntityId::NUMBER_MAX)]
    NumbersExhausted,
}

/// How much an entity holds; exact as soon as the reply to what changed it has left (semantics
/// B-96).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntityCounts {
    /// Messages; locked and deferred ones included, scheduled ones not.
    pub active: u64,
    /// Messages that were put aside.
    pub deferred: u64,
    /// Messages that wait for their time.
    pub scheduled: u64,
    /// Messages in the dead-letter queue.
    pub dead_letter: u64,
    /// Messages in the transfer dead-letter queue.
    pub transfer_dead_letter: u64,
    /// Messages out on peek-lock delivery.
    pub locked: u64,
    /// Bytes of all these messages and of message-session states.
    pub size_bytes: u64,
    /// Message sessions with messages or state.
    pub message_sessions: u64,
    /// Message sessions that a link holds.
    pub message_sessions_locked: u64,
    /// Accepts that wait for a message session.
    pub pending_accepts: u64,
    /// When it was last used; the start of the broker if it was not since.
    pub last_used: Timestamp,
    /// When its messages were last sent, received or looked at since the start of the broker.
    pub accessed_at: Option<Timestamp>,
}

impl Namespace {
    /// How much an entity holds; all zero if there is none.
    #[must_use]
    pub fn counts(&self, entity: EntityId) -> EntityCounts {
        let active = |sub_queue| self.queues.get(&entity.with_sub_queue(sub_queue)).map_or(0, Queue::active);
        let Some(main) = self.queues.get(&entity.with_sub_queue(SubQueue::Main)) else {
            return EntityCounts::default();
        };
        EntityCounts {
            active: main.active(),
            deferred: main.deferred,
            scheduled: main.scheduled.len() as u64,
            dead_letter: active(SubQueue::DeadLetter),
            transfer_dead_letter: active(SubQueue::TransferDeadLetter),
            locked: main.locked,
            size_bytes: self.entity_bytes(entity),
            message_sessions: main.message_sessions.listed(),
            message_sessions_locked: main.message_sessions.held(),
            pending_accepts: main.pending_accepts.len() as u64,
            last_used: main.last_used,
            accessed_at: main.accessed_at,
        }
    }

    fn snapshot(&self, id: EntityId) -> Option<EntitySnapshot> {
        let description = self.descriptions.get(&id)?.clone();
        Some(EntitySnapshot { id, description, counts: self.counts(id) })
    }

    pub(super) fn describe(&self, name: &EntityName) -> Reply {
        match self.by_name.get(name).and_then(|id| self.snapshot(*id)) {
            Some(snapshot) => Reply::Described(Box::new(snapshot)),
            None => Reply::Refused(Refusal::EntityNotFound),
        }
    }

    pub(super) fn list_queues(&self, skip: u32, top: u32) -> Reply {
        let (skip, top) = (skip as usize, top.min(ENTITIES_LISTED_MAX) as usize);
        let page = self.by_name.values().skip(skip).take(top);
        Reply::Listed(page.filter_map(|id| self.snapshot(*id)).collect())
    }

    /// Creates a queue, or brings the properties of the one of that name up to date. Links and
    /// locks are left alone; a changed lock duration holds for new and renewed locks.
    ///
    /// # Errors
    /// A property is out of bounds, or differs and cannot be changed; nothing is changed then.
    pub fn define_queue(
        &mut self,
        mut description: QueueDescription,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<EntityId, DefineError> {
        description.validate()?;
        (description.created_at, description.updated_at) = (now, now);
        let existing = self.by_name.get(&description.name).and_then(|id| self.descriptions.get_key_value(id));
        let id = match existing {
            Some((&id, existing)) => {
                check_immutable(existing, &description)?;
                // An entity keeps the spelling of its name.
                description.name = existing.name.clone();
                if existing.created_at != Timestamp::default() {
                    description.created_at = existing.created_at;
                    if existing.differences(&description).is_empty()
                        && existing.made_at_run_time == description.made_at_run_time
                    {
                        return Ok(id);
                    }
                }
                id
            }
            None => self.next_entity_id(out)?,
        };
        out.batch.put_entity(id, &EntityDescription::Queue(description.clone()));
        out.entities.push(EntityChange::Defined(id, Box::new(description.clone())));
        self.set_description(id, description);
        Ok(id)
    }

    fn next_entity_id(&mut self, out: &mut Output) -> Result<EntityId, DefineError> {
        let number = self.last_entity_number + 1;
        if number > EntityId::NUMBER_MAX {
            return Err(DefineError::NumbersExhausted);
        }
        self.last_entity_number = number;
        let record = NamespaceRecord { name: self.name.clone(), last_entity_number: number };
        out.batch.put_namespace(self.id, &record);
        Ok(EntityId::new(self.id, number))
    }

    pub(super) fn note_entity_number(&mut self, number: u32) {
        self.last_entity_number = self.last_entity_number.max(number);
    }

    pub(super) fn set_description(&mut self, id: EntityId, description: QueueDescription) {
        for sub_queue in SUB_QUEUES {
            let id = id.with_sub_queue(sub_queue);
            let settings = Settings::of(&description, sub_queue);
            self.queues.entry(id).or_insert_with(|| Queue::new(id, settings)).settings = settings;
        }
        self.by_name.insert(description.name.clone(), id);
        self.descriptions.insert(id, description);
    }

    /// A definition at run time: in force at once, also for links that are there.
    pub(super) fn define(
        &mut self,
        step: &mut Step<'_>,
        mut description: QueueDescription,
        existence: Existence,
    ) -> Reply {
        let existing = self.by_name.get(&description.name).and_then(|id| self.descriptions.get(id));
        let is_there = existing.is_some();
        description.made_at_run_time = existing.is_none_or(|existing| existing.made_at_run_time);
        match existence {
            Existence::New if is_there => return Reply::Refused(Refusal::EntityAlreadyExists),
            Existence::Existing if !is_there => return Reply::Refused(Refusal::EntityNotFound),
            Existence::New if self.descriptions.len() >= ENTITIES_COUNT_MAX => {
                return Reply::Refused(Refusal::QuotaExceeded);
            }
            _ => {}
        }
        match self.define_queue(description, step.now.utc, step.out) {
            Ok(id) => {
                self.note_use(step.now.utc, id);
                self.end_disabled_links(step, id);
                self.plan_idle(id);
                self.plan_states(step.now.utc, id);
                Reply::Defined(id)
            }
            Err(DefineError::Invalid(problem)) => Reply::Refused(Refusal::InvalidDescription(problem)),
            Err(DefineError::Immutable { property, .. }) => {
                Reply::Refused(Refusal::ImmutableProperty(property))
            }
            Err(DefineError::NumbersExhausted) => Reply::Refused(Refusal::QuotaExceeded),
        }
    }

    fn links_of(&self, entity: EntityId) -> Vec<OutgoingLinkId> {
        let main = |id: EntityId| id.with_sub_queue(SubQueue::Main);
        let of_entity = self.links.iter().filter(|(_, link)| main(link.queue) == main(entity));
        let mut links: Vec<_> = of_entity.map(|(&id, _)| id).collect();
        links.sort_unstable();
        links
    }

    /// Ends a link from the broker's side; nothing is counted.
    fn end_link(&mut self, step: &mut Step<'_>, id: OutgoingLinkId, cause: &Refusal) {
        let Some(link) = self.links.get(&id) else { return };
        let connection = link.connection;
        match &link.kind {
            LinkKind::Holder(hold) => {
                let is_there = !hold.is_lost;
                if is_there {
                    self.leave_reserved(id);
                }
                self.end_hold(step, id, false);
                if is_there {
                    // Its lock is lost, whatever the reason (semantics A-70).
                    let cause = Some(Refusal::MessageSessionLockLost);
                    step.fenced(connection, Effect::Detached { link: id, cause });
                }
            }
            LinkKind::Pending(_) => {
                self.remove_link(id);
                step.fenced(connection, Effect::AttachRefused { link: id, refusal: cause.clone() });
            }
            LinkKind::Plain { .. } | LinkKind::Browser(_) => {
                self.leave_reserved(id);
                self.remove_link(id);
                step.fenced(connection, Effect::Detached { link: id, cause: Some(cause.clone()) });
            }
        }
    }

    fn end_disabled_links(&mut self, step: &mut Step<'_>, entity: EntityId) {
        if self.queues.get(&entity).is_none_or(|queue| queue.settings.status.allows_receive()) {
            return;
        }
        for id in self.links_of(entity) {
            self.end_link(step, id, &Refusal::EntityDisabled);
        }
    }

    /// Deletes a queue and everything in it. Its rows go at once, by ranges; the bytes of its
    /// messages in bounded steps.
    pub(super) fn delete_queue(&mut self, step: &mut Step<'_>, entity: EntityId) -> Reply {
        let Some(description) = self.descriptions.get(&entity) else {
            return Reply::Refused(Refusal::EntityNotFound);
        };
        let name = description.name.clone();
        for id in self.links_of(entity) {
            self.end_link(step, id, &Refusal::EntityNotFound);
        }
        // Deliveries of lost holds that are still being counted: their locks go with the messages.
        let is_of_entity = |queue: EntityId| queue.with_sub_queue(SubQueue::Main) == entity;
        self.returning.retain(|_, returning| !is_of_entity(returning.queue));
        self.descriptions.remove(&entity);
        self.by_name.remove(&name);
        step.out.batch.delete_entity(entity);
        step.out.entities.push(EntityChange::Deleted(entity, name));
        for sub_queue in SUB_QUEUES {
            let id = entity.with_sub_queue(sub_queue);
            self.wall_clock.forget(id);
            self.stale_counters.retain(|&stale| stale != id);
            step.out.batch.delete_rows_of(id);
            step.out.batch.delete_counter(id);
            let Some(queue) = self.queues.remove(&id) else { continue };
            for (_, entry) in queue.messages.iter_from(SequenceNumber(0)) {
                if let Place::Locked(slot) = entry.place {
                    self.unlock(slot);
                }
                self.abandoned_bodies.push((entry.body, entry.size_bytes));
            }
        }
        self.delete_abandoned_bodies(step);
        Reply::Done
    }

    /// Deletes bytes of deleted entities, as many as the step may touch. What a crash leaves over
    /// is removed at the next start.
    pub(super) fn delete_abandoned_bodies(&mut self, step: &mut Step<'_>) {
        while let Some((body, size_bytes)) = self.abandoned_bodies.pop() {
            if !step.may_go_on() {
                self.abandoned_bodies.push((body, size_bytes));
                self.unfinished.insert(Unfinished::AbandonedBodies);
                return;
            }
            step.out.batch.delete_body(self.id, body, size_bytes);
            step.out.gone_bodies.push(body);
        }
    }

    /// Notes that messages of an entity, or of one of its sub-queues, were used.
    pub(super) fn note_access(&mut self, now: Timestamp, entity: EntityId) {
        if let Some(queue) = self.queues.get_mut(&entity.with_sub_queue(SubQueue::Main)) {
            queue.note_access(now);
        }
    }

    /// Notes that an entity, or one of its sub-queues, was used (semantics B-98).
    pub(super) fn note_use(&mut self, now: Timestamp, entity: EntityId) {
        if let Some(queue) = self.queues.get_mut(&entity.with_sub_queue(SubQueue::Main)) {
            queue.last_used = now;
        }
    }

    /// Sets when an entity may have been idle for too long.
    pub(super) fn plan_idle(&mut self, entity: EntityId) {
        if entity.sub_queue() != SubQueue::Main {
            return;
        }
        let idle = self
            .queues
            .get(&entity)
            .and_then(|queue| Some(queue.last_used.plus(queue.settings.auto_delete_on_idle?)));
        self.wall_clock.set(Due::Idle(entity), idle);
    }

    /// Deletes an entity that was idle for too long. Receivers that are attached, held message
    /// sessions, accepts that wait, locked and scheduled messages are use (semantics B-98, D-11);
    /// when one of them ends, that is use, too.
    pub(super) fn check_idle(&mut self, step: &mut Step<'_>, entity: EntityId) {
        let Some(queue) = self.queues.get(&entity) else { return };
        let Some(idle) = queue.settings.auto_delete_on_idle else {
            self.wall_clock.set(Due::Idle(entity), None);
            return;
        };
        let locked = |sub_queue| {
            self.queues.get(&entity.with_sub_queue(sub_queue)).is_some_and(|queue| queue.locked > 0)
        };
        let in_use = !queue.scheduled.is_empty()
            || SUB_QUEUES.into_iter().any(locked)
            || !self.links_of(entity).is_empty();
        if in_use {
            self.note_use(step.now.utc, entity);
        } else if queue.last_used.plus(idle) <= step.now.utc {
            tracing::info!(entity = ?entity, "a queue was idle for too long and is deleted");
            self.delete_queue(step, entity);
            return;
        }
        self.plan_idle(entity);
    }

    /// Forgets message-ids that are older than the window.
    pub(super) fn forget_duplicates(&mut self, step: &mut Step<'_>, entity: EntityId) {
        let Some(queue) = self.queues.get_mut(&entity) else { return };
        let window = queue.settings.duplicate_detection_window.unwrap_or_default();
        let next = queue.duplicates.forget(&mut step.out.batch, entity, step.now.utc, window);
        self.wall_clock.set(Due::ForgetDuplicates(entity), next);
    }
}

fn check_immutable(existing: &QueueDescription, wanted: &QueueDescription) -> Result<(), DefineError> {
    let properties = [
        ("requires_session", existing.requires_session, wanted.requires_session),
        (
            "requires_duplicate_detection",
            existing.requires_duplicate_detection,
            wanted.requires_duplicate_detection,
        ),
        ("enable_partitioning", existing.enable_partitioning, wanted.enable_partitioning),
    ];
    match properties.into_iter().find(|(_, existing, wanted)| existing != wanted) {
        None => Ok(()),
        Some((property, existing, _)) => Err(DefineError::Immutable {
            entity: wanted.name.to_string(),
            property,
            existing: existing.to_string(),
        }),
    }
}
