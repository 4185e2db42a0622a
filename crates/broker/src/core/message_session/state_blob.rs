//! The state of a message session: opaque bytes of the user, durable, last write wins (semantics
//!

use bytes::Bytes;
use lockstep_model::{
    CommitNumber, EntityId, MessageSessionId, Refusal, SizeLimit, Timestamp,
    limits::MESSAGE_SESSIONS_LISTED_MAX,
};
use lockstep_store::MessageSessionRecord;

use super::MessageSessionSlot;
use crate::core::{
    HolderClaim, Reply, StateValue,
    defects::{Defect, is_present},
    namespace::{Namespace, Step, Uncommitted},
};

/// What is known of a state; its bytes are in the store.
#[derive(Debug)]
pub(in crate::core) struct StateBlob {
    pub(in crate::core) updated_at: Timestamp,
    pub(in crate::core) size_bytes: u64,
    /// When it was last set or got a message; not stored: a start of the broker is a use, too.
    pub(in crate::core) last_used: Timestamp,
    /// When its time to live is looked at next, if it has one.
    pub(in crate::core) look_at: Option<Timestamp>,
    /// The bytes as long as their write may not be durable: until then the store does not serve
    /// them.
    pub(in crate::core) uncommitted: Option<(CommitNumber, Bytes)>,
}

impl StateBlob {
    /// An empty one.
    pub(in crate::core) const fn new(updated_at: Timestamp) -> Self {
        Self { updated_at, size_bytes: 0, last_used: updated_at, look_at: None, uncommitted: None }
    }
}

impl Namespace {
    pub(in crate::core) fn get_state(
        &self,
        step: &Step<'_>,
        entity: EntityId,
        session: &MessageSessionId,
        holder: HolderClaim,
    ) -> Reply {
        let Some(queue) = self.queues.get(&entity) else { return Reply::Refused(Refusal::EntityNotFound) };
        let held = self.held_session(step.now, entity, session, holder);
        if let Err(refusal) = held
            && !self.browses(entity, session, holder)
        {
            return Reply::Refused(refusal);
        }
        let sessions = &queue.message_sessions;
        let state = sessions.find(session).and_then(|slot| sessions.get(slot)?.state.as_ref());
        Reply::MessageSessionState(match state.map(|state| &state.uncommitted) {
            None => StateValue::Absent,
            Some(Some((_, bytes))) => StateValue::Inline(bytes.clone()),
            Some(None) => StateValue::Stored,
        })
    }

    pub(in crate::core) fn set_state(
        &mut self,
        step: &mut Step<'_>,
        entity: EntityId,
        session: &MessageSessionId,
        state: Option<Bytes>,
        holder: HolderClaim,
    ) -> Reply {
        let slot = match self.held_session(step.now, entity, session, holder) {
            Ok(slot) => slot,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let held_bytes = self.entity_bytes(entity);
        let Some(queue) = self.queues.get_mut(&entity) else {
            return Reply::Refused(Refusal::EntityNotFound);
        };
        let max_bytes = queue.settings.max_message_size_bytes;
        let Some(bytes) = state else {
            if queue.message_sessions.get(slot).is_some_and(|held| held.state.is_some()) {
                if !is_present(Defect::RemovedStateReturns) {
                    step.out.batch.delete_message_session(entity, session);
                }
                queue.message_sessions.set_state(slot, None);
            }
            return Reply::Done;
        };
        if bytes.len() as u64 > max_bytes {
            return Reply::Refused(Refusal::TooLarge { limit: SizeLimit::MessageSessionState, max_bytes });
        }
        let size_bytes = bytes.len() as u64;
        let held_before = queue.message_sessions.get(slot).and_then(|held| held.state.as_ref());
        let grows_by = size_bytes.saturating_sub(held_before.map_or(0, |state| state.size_bytes));
        if grows_by > 0 && held_bytes + grows_by > queue.settings.max_size_bytes {
            return Reply::Refused(Refusal::QuotaExceeded);
        }
        let record = MessageSessionRecord { updated_at: step.now.utc, state: bytes.clone() };
        step.out.batch.put_message_session(entity, session, &record);
        let uncommitted =
            Some((step.commit, bytes)).filter(|_| !is_present(Defect::StateIsServedBeforeItsCommit));
        let now = step.now.utc;
        let blob = StateBlob { size_bytes, uncommitted, ..StateBlob::new(now) };
        queue.message_sessions.set_state(slot, Some(blob));
        self.age_state(now, entity, slot);
        self.await_commit(step, Uncommitted::State { queue: entity, slot });
        Reply::Done
    }

    /// A write of the state is durable: the store serves it from now on.
    pub(in crate::core) fn state_is_durable(
        &mut self,
        entity: EntityId,
        slot: MessageSessionSlot,
        durable: CommitNumber,
    ) {
        // The slot may belong to another message session by now; its own commit number tells.
        if let Some(queue) = self.queues.get_mut(&entity)
            && let Some(session) = queue.message_sessions.get_mut(slot)
            && let Some(state) = &mut session.state
            && state.uncommitted.as_ref().is_some_and(|(commit, _)| *commit <= durable)
        {
            state.uncommitted = None;
        }
    }

    /// Lists message sessions by id (semantics ).
    pub(in crate::core) fn list_sessions(
        &self,
        entity: EntityId,
        state_updated_after: Option<Timestamp>,
        skip: u32,
        top: u32,
    ) -> Reply {
        let Some(queue) = self.queues.get(&entity) else { return Reply::Refused(Refusal::EntityNotFound) };
        if !queue.settings.requires_session {
            return Reply::MessageSessions(Vec::new());
        }
        let sessions = &queue.message_sessions;
        let top = top.min(MESSAGE_SESSIONS_LISTED_MAX) as usize;
        let skip = skip as usize;
        let Some(cutoff) = state_updated_after else {
            return Reply::MessageSessions(sessions.listed_ids(skip).take(top).cloned().collect());
        };
        let changed_since = |id: &&MessageSessionId| {
            let state = sessions.find(id).and_then(|slot| sessions.get(slot)?.state.as_ref());
            state.is_some_and(|state| state.updated_at > cutoff)
        };
        let ids = sessions.listed_ids(0).filter(changed_since).skip(skip).take(top);
        Reply::MessageSessions(ids.cloned().collect())
    }
}
