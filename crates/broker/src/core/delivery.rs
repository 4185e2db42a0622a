//! Handing messages to receivers, and taking back what did not reach them.

use lockstep_model::{EntityId, LockToken, OutgoingLinkId, PropertyOverlay, ReceiveMode, SequenceNumber};

use super::{
    Delivery, Effect,
    deadlines::Deadline,
    defects::{Defect, is_present},
    links::LinkKind,
    message_locks::{Lock, LockKind},
    message_state::{Expiry, Place},
    namespace::{Changed, Namespace, Step, Uncommitted, Unfinished},
};

impl Namespace {
    /// Serves plain receivers: links in the order in which their credit came; one that was served
    /// goes to the end of the line, so that a large credit does not starve the others (semantics
    /// B-15).
    pub(super) fn dispatch_to_receivers(&mut self, step: &mut Step<'_>, queue_id: EntityId) {
        loop {
            let Some(queue) = self.queues.get_mut(&queue_id) else { return };
            let Some((&turn, &link_id)) = queue.turns.first_key_value() else { return };
            let Some(next) = queue.next_available() else { return };
            if !step.may_go_on() {
                self.unfinished.insert(Unfinished::Queue(queue_id));
                return;
            }
            queue.take(next);
            if !queue.is_sub_queue()
                && queue.messages.get(next).is_some_and(|entry| entry.expiry.has_come(step.now.utc))
                && !is_present(Defect::ExpiredIsDelivered)
            {
                queue.stop_expiring(next);
                self.expire_message(step, queue_id, next);
                continue;
            }
            queue.turns.remove(&turn);
            self.deliver(step, link_id, next);
            let turn = self.next_turn();
            let Some(link) = self.links.get_mut(&link_id) else { continue };
            let stays = link.has_credit();
            link.kind = LinkKind::Plain { turn: stays.then_some(turn) };
            if stays && let Some(queue) = self.queues.get_mut(&queue_id) {
                queue.turns.insert(turn, link_id);
            }
        }
    }

    /// Serves the holder of a message session, in the order of sequence numbers.
    pub(super) fn dispatch_to_holder(&mut self, step: &mut Step<'_>, link_id: OutgoingLinkId) {
        loop {
            let Some(link) = self.links.get(&link_id) else { return };
            let LinkKind::Holder(hold) = &link.kind else { return };
            if self.is_over(step.now, link, hold) || hold.is_lost || !link.has_credit() {
                return;
            }
            if hold.deadline <= step.now.mono {
                // What is handed out tells until when it is locked.
                self.extend_hold(step.now, link_id);
                continue;
            }
            let (queue_id, slot) = (link.queue, hold.slot);
            if self.queues.get_mut(&queue_id).is_some_and(|queue| queue.is_blocked(slot)) {
                return;
            }
            if !self.sweep_session(step, queue_id, slot) {
                return;
            }
            let Some(queue) = self.queues.get_mut(&queue_id) else { return };
            let durable_through = queue.durable_through;
            let Some(session) = queue.message_sessions.get_mut(slot) else { return };
            let Some(next) = session.next_available(durable_through, &queue.messages) else { return };
            if !step.may_go_on() {
                self.unfinished.insert(Unfinished::Holder(link_id));
                return;
            }
            session.take(next);
            self.deliver(step, link_id, next);
        }
    }

    /// Makes a delivery of a message that was just taken.
    fn deliver(&mut self, step: &mut Step<'_>, link_id: OutgoingLinkId, sequence_number: SequenceNumber) {
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let Some(queue) = self.queues.get_mut(&link.queue) else { return };
        let Some(entry) = queue.messages.get_mut(sequence_number) else { return };
        let expires = entry.expiry != Expiry::NEVER;
        let position = u32::try_from(link.in_flight.len()).unwrap_or(u32::MAX);
        let (kind, locked_until) = match (link.mode, &link.kind) {
            (ReceiveMode::ReceiveAndDelete, _) => (LockKind::Reserved { position }, None),
            (ReceiveMode::PeekLock, LinkKind::Holder(hold)) => {
                (LockKind::MessageSession { position }, Some(hold.locked_until))
            }
            (ReceiveMode::PeekLock, _) => {
                let deadline = step.now.mono.plus(queue.settings.lock_duration);
                let locked_until = step.now.utc.plus(queue.settings.lock_duration);
                (LockKind::Message { deadline, locked_until }, Some(locked_until))
            }
        };
        let token = step.ids.lock_token();
        let slot = self.locks.insert(Lock {
            token,
            queue: queue.id,
            sequence_number,
            link: link_id,
            kind,
            settlement_refused: false,
        });
        entry.place = Place::Locked(slot);
        link.delivered += 1;
        let delivery = Delivery::of(link_id, token, sequence_number, locked_until, entry);
        let effect = Effect::Deliver(delivery);
        let connection = link.connection;
        match kind {
            LockKind::Message { deadline, .. } | LockKind::HeldBack { deadline } => {
                queue.locked += 1;
                self.deadlines.insert(deadline, Deadline::MessageLock(slot));
                step.immediate(connection, effect);
            }
            LockKind::MessageSession { .. } => {
                queue.locked += 1;
                link.in_flight.push(slot);
                step.immediate(connection, effect);
            }
            LockKind::Reserved { .. } => {
                // At most once: the rows are gone for good before the message is on the wire. The
                // body stays until it is, so that the rows can be written again.
                queue.reserved += 1;
                link.in_flight.push(slot);
                step.out.batch.delete_message(queue.id, sequence_number);
                if entry.has_overlay_row() {
                    step.out.batch.delete_overlay(queue.id, sequence_number);
                }
                step.fenced(connection, effect);
            }
        }
        if expires {
            queue.stop_expiring(sequence_number);
        }
    }

    /// Takes back what a connection did not put on the wire; nothing is counted.
    pub(super) fn return_deliveries(
        &mut self,
        step: &mut Step<'_>,
        link: OutgoingLinkId,
        tokens: &[LockToken],
    ) {
        for &token in tokens {
            let Some((slot, lock)) = self.locks.find(token) else { continue };
            if lock.link != link {
                continue;
            }
            self.unlock(slot);
            match lock.kind {
                LockKind::Reserved { .. } => {
                    self.reserved_is_answered(&lock);
                    self.restore_rows(step, lock.queue, lock.sequence_number);
                }
                LockKind::Message { .. } | LockKind::MessageSession { .. } | LockKind::HeldBack { .. } => {
                    self.give_back(lock.queue, lock.sequence_number);
                }
            }
        }
    }

    /// Receive-and-delete deliveries reached the wire: the bodies go too.
    pub(super) fn deliveries_sent(
        &mut self,
        step: &mut Step<'_>,
        link: OutgoingLinkId,
        tokens: &[LockToken],
    ) {
        for &token in tokens {
            let Some((slot, lock)) = self.locks.find(token) else { continue };
            if lock.link != link || !matches!(lock.kind, LockKind::Reserved { .. }) {
                continue;
            }
            self.unlock(slot);
            self.reserved_is_answered(&lock);
            let Some(queue) = self.queues.get_mut(&lock.queue) else { continue };
            queue.reserved -= 1;
            if let Some(entry) = queue.remove(lock.sequence_number) {
                step.out.batch.delete_body(self.id, entry.body, entry.size_bytes);
                step.out.gone_bodies.push(entry.body);
            }
        }
    }

    /// Removes a message that is in no receiver's hands and no longer in line, for good.
    pub(super) fn remove_message(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let Some(entry) = queue.remove(sequence_number) else { return };
        step.out.batch.delete_message(queue_id, sequence_number);
        if entry.has_overlay_row() {
            step.out.batch.delete_overlay(queue_id, sequence_number);
        }
        step.out.batch.delete_body(self.id, entry.body, entry.size_bytes);
        step.out.gone_bodies.push(entry.body);
    }

    /// A locked message is available again, at its old position, nothing counted.
    pub(super) fn give_back(&mut self, queue_id: EntityId, sequence_number: SequenceNumber) {
        if let Some(queue) = self.queues.get_mut(&queue_id) {
            queue.locked -= 1;
        }
        self.put_in_line(queue_id, sequence_number);
    }

    /// A message that nobody has is available, at its old position.
    pub(super) fn put_in_line(&mut self, queue_id: EntityId, sequence_number: SequenceNumber) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        queue.make_available(sequence_number);
        self.mark_message(queue_id, sequence_number);
        self.plan_sweep_no_later(queue_id);
    }

    /// A delivery failed: it is counted, the properties are laid over the message, and it is
    /// available again or, after too many failures, in the dead-letter queue (semantics B-18,
    /// B-28, B-29). In a sub-queue nothing is ever counted (B-38).
    ///
    /// The message redelivers at once: its overlay row need not be durable first.
    pub(super) fn fail_delivery(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
        properties: Option<&PropertyOverlay>,
    ) {
        if self.count_failure(step, queue_id, sequence_number, properties) {
            self.give_back(queue_id, sequence_number);
        }
    }

    /// Counts a failed delivery. Returns whether the message stays in its queue; it is still locked
    /// then.
    pub(super) fn count_failure(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
        properties: Option<&PropertyOverlay>,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return false };
        let counts = !queue.is_sub_queue();
        let max = queue.settings.max_delivery_count;
        let Some(entry) = queue.messages.get_mut(sequence_number) else { return false };
        let properties = properties.filter(|properties| !properties.is_empty());
        if let Some(newer) = properties {
            entry.lay_over(newer);
        }
        if counts {
            entry.delivery_count += 1;
            // What was put aside stays there (semantics A-126, D-36).
            let allowed = max + u32::from(is_present(Defect::OneDeliveryTooMany));
            if entry.delivery_count >= allowed && !entry.is_deferred {
                queue.locked -= 1;
                self.dead_letter_exhausted(step, queue_id, sequence_number, max);
                return false;
            }
        }
        if counts || properties.is_some() {
            step.out.batch.put_overlay(queue_id, sequence_number, &entry.overlay_record());
        }
        true
    }

    /// Takes a receive-and-delete back: the rows are written again, the message is available
    /// when they are durable.
    pub(super) fn restore_rows(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        queue.reserved -= 1;
        queue.hold_back(sequence_number);
        let Some(entry) = queue.messages.get_mut(sequence_number) else { return };
        entry.place = Place::Awaiting;
        let record = entry.record(queue.message_sessions.id(entry.message_session));
        if !is_present(Defect::TakenBackIsNotWritten) {
            step.out.batch.put_message(queue_id, sequence_number, &record);
        }
        if entry.has_overlay_row() {
            step.out.batch.put_overlay(queue_id, sequence_number, &entry.overlay_record());
        }
        self.await_commit(step, Uncommitted::Row { queue: queue_id, sequence_number });
    }

    /// The row of a moved or restored message is durable.
    pub(super) fn row_is_durable(&mut self, queue_id: EntityId, sequence_number: SequenceNumber) {
        let Some(queue) = self.queues.get(&queue_id) else { return };
        if queue.messages.get(sequence_number).is_some_and(|entry| entry.place == Place::Awaiting) {
            self.put_in_line(queue_id, sequence_number);
        }
    }

    /// Notes that a message became available.
    fn mark_message(&mut self, queue_id: EntityId, sequence_number: SequenceNumber) {
        let Some(queue) = self.queues.get(&queue_id) else { return };
        let slot = queue.messages.get(sequence_number).and_then(|entry| entry.message_session);
        self.mark(match slot {
            Some(slot) if queue.settings.requires_session => Changed::MessageSession(queue_id, slot),
            _ => Changed::Queue(queue_id),
        });
    }
}
