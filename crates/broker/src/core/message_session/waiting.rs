//! Accepts that wait for any message session (semantics ).

use std::time::Duration;

use lockstep_model::{EntityId, MonoTime, OutgoingLinkId, Refusal};

use super::MessageSessionSlot;
use crate::core::{
    Attach, Effect, LinkIdentity,
    deadlines::Deadline,
    defects::{Defect, is_present},
    links::LinkKind,
    namespace::{Changed, Namespace, Step},
};

/// What a waiting accept is remembered by.
#[derive(Debug)]
pub(in crate::core) struct PendingAccept {
    /// Its place in line.
    pub(in crate::core) turn: u64,
    /// When it stops waiting.
    pub(in crate::core) deadline: MonoTime,
    pub(in crate::core) identity: LinkIdentity,
    /// Whether its credit is drained once it has got a message session.
    pub(in crate::core) drain: bool,
}

impl Namespace {
    /// Takes the message session that waited longest, or gets in line. What the same client held
    /// before its connection broke is free now: this attach takes the place of that link
    /// (semantics A-68).
    pub(in crate::core) fn accept_next_session(
        &mut self,
        step: &mut Step<'_>,
        attach: &Attach,
        wait: Duration,
    ) {
        for displaced in self.lost_holds.find(attach.entity, &attach.identity) {
            self.end_hold(step, displaced, true);
        }
        let turn = self.next_turn();
        let deadline = step.now.mono.plus(wait);
        let pending = PendingAccept { turn, deadline, identity: attach.identity.clone(), drain: false };
        self.add_link(attach, LinkKind::Pending(Box::new(pending)));
        self.deadlines.insert(deadline, Deadline::Accept(attach.link));
        let Some(queue) = self.queues.get_mut(&attach.entity) else { return };
        queue.pending_accepts.insert(turn, attach.link);
        if let Some(slot) = queue.message_sessions.first_eligible() {
            self.mark(Changed::MessageSession(attach.entity, slot));
        }
    }

    /// One message session changed: serves its holder, or makes it eligible.
    pub(in crate::core) fn serve_session(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        slot: MessageSessionSlot,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let Some(session) = queue.message_sessions.get(slot) else { return };
        if let Some(holder) = session.holder {
            self.dispatch_to_holder(step, holder);
            if !is_present(Defect::TwoHolders) {
                return;
            }
        }
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        queue.message_sessions.refresh(slot, queue.durable_through, &queue.messages);
        queue.message_sessions.tidy_up(slot);
    }

    /// Gives eligible message sessions to accepts, first come first served.
    pub(in crate::core) fn serve_pending_accepts(&mut self, step: &mut Step<'_>, queue_id: EntityId) {
        loop {
            let Some(queue) = self.queues.get(&queue_id) else { return };
            let Some((_, &winner)) = queue.pending_accepts.first_key_value() else { return };
            let Some(slot) = queue.message_sessions.first_eligible() else { return };
            // Whoever accepts looks at the time to live: what has expired is nobody's to take
            // (semantics A-108).
            let is_swept = self.sweep_session(step, queue_id, slot);
            let Some(queue) = self.queues.get_mut(&queue_id) else { return };
            queue.message_sessions.refresh(slot, queue.durable_through, &queue.messages);
            if queue.message_sessions.first_eligible() != Some(slot) {
                continue;
            }
            if !is_swept {
                return;
            }
            self.grant_pending(step, winner, queue_id, slot);
        }
    }

    fn grant_pending(
        &mut self,
        step: &mut Step<'_>,
        winner: OutgoingLinkId,
        queue_id: EntityId,
        slot: MessageSessionSlot,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        queue.pending_accepts.pop_first();
        let Some(link) = self.links.get(&winner) else { return };
        let LinkKind::Pending(pending) = &link.kind else { return };
        self.deadlines.remove(pending.deadline, Deadline::Accept(winner));
        let identity = pending.identity.clone();
        if pending.drain {
            self.drains.push(winner);
        }
        self.start_hold(step, winner, slot, identity);
        self.dispatch_to_holder(step, winner);
    }

    /// Nothing came within the wait.
    pub(in crate::core) fn accept_timed_out(&mut self, step: &mut Step<'_>, id: OutgoingLinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let LinkKind::Pending(pending) = &link.kind else { return };
        if pending.deadline > step.now.mono {
            return;
        }
        if let Some(link) = self.remove_link(id) {
            self.note_use(step.now.utc, link.queue);
            let refusal = Refusal::AcceptTimedOut;
            step.fenced(link.connection, Effect::AttachRefused { link: id, refusal });
        }
    }
}
