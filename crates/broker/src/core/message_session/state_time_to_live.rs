//! States of message sessions that nobody uses any more go by themselves, where the entity gives
//! them a time to live (semantics F-1). Off by default, as in Service Bus, which keeps them for ever.
//!
//! The time begins anew when the state is set, when a message comes, and with each start of the
//! broker. While the message session is held or has messages, scheduled ones too, its state stays.

use std::collections::BTreeSet;

use lockstep_model::{EntityId, Timestamp};

use super::{MessageSessionSlot, MessageSessions};
use crate::core::{
    namespace::{Namespace, Step},
    wall_clock::Due,
};

impl MessageSessions {
    /// Sets when a state is looked at.
    fn look_at(&mut self, slot: MessageSessionSlot, at: Timestamp) {
        let Some(state) = self.slots.get_mut(slot.key()).and_then(|session| session.state.as_mut()) else {
            return;
        };
        if let Some(before) = state.look_at.replace(at) {
            self.aging.remove(&(before, slot));
        }
        self.aging.insert((at, slot));
    }

    /// A message came.
    pub(in crate::core) fn note_use(&mut self, slot: MessageSessionSlot, now: Timestamp) {
        if let Some(state) = self.slots.get_mut(slot.key()).and_then(|session| session.state.as_mut()) {
            state.last_used = now;
        }
    }
}

impl Namespace {
    /// A state was set.
    pub(super) fn age_state(&mut self, now: Timestamp, entity: EntityId, slot: MessageSessionSlot) {
        let Some(queue) = self.queues.get_mut(&entity) else { return };
        if let Some(time_to_live) = queue.settings.message_session_state_time_to_live {
            let at = now.plus(time_to_live);
            queue.message_sessions.look_at(slot, at);
            self.wall_clock.set_no_later(Due::ForgetStates(entity), at);
        }
    }

    /// The entity is new, or its time to live may have changed: `now` is a use of every state.
    pub(in crate::core) fn plan_states(&mut self, now: Timestamp, entity: EntityId) {
        let Some(queue) = self.queues.get_mut(&entity) else { return };
        let time_to_live = queue.settings.message_session_state_time_to_live;
        let sessions = &mut queue.message_sessions;
        sessions.aging = BTreeSet::new();
        for (key, session) in &mut sessions.slots {
            let Some(state) = &mut session.state else { continue };
            state.last_used = now;
            state.look_at = time_to_live.map(|time_to_live| now.plus(time_to_live));
            sessions.aging.extend(state.look_at.map(|at| (at, MessageSessionSlot::of(key))));
        }
        self.plan_next_look(entity);
    }

    fn plan_next_look(&mut self, entity: EntityId) {
        let first = self.queues.get(&entity).and_then(|queue| queue.message_sessions.aging.first());
        self.wall_clock.set(Due::ForgetStates(entity), first.map(|&(at, _)| at));
    }

    /// Removes the states whose time is over, as many as the step may touch.
    pub(in crate::core) fn forget_states(&mut self, step: &mut Step<'_>, entity: EntityId) {
        while let Some(queue) = self.queues.get_mut(&entity) {
            let sessions = &mut queue.message_sessions;
            let Some(time_to_live) = queue.settings.message_session_state_time_to_live else {
                sessions.aging.clear();
                break;
            };
            let Some(&(at, slot)) = sessions.aging.first() else { break };
            if at > step.now.utc || !step.may_go_on() {
                break;
            }
            let Some(session) = sessions.get(slot) else { break };
            let Some(state) = &session.state else { break };
            let in_use =
                session.holder.is_some() || !session.messages.is_empty() || session.scheduled.is_some();
            let over_at = if in_use { step.now.utc } else { state.last_used }.plus(time_to_live);
            if over_at > step.now.utc {
                sessions.look_at(slot, over_at);
                continue;
            }
            tracing::debug!(?entity, message_session = %session.id.as_str(), "a state has outlived its time");
            step.out.batch.delete_message_session(entity, &session.id);
            sessions.set_state(slot, None);
        }
        self.plan_next_look(entity);
    }
}
