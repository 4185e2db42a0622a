//! Settling locked messages, on the link or by `update-disposition`.

use lockstep_model::{
    ConnectionId, EntityId, LockToken, Now, OutgoingLinkId, PropertyOverlay, ReceiveMode, Refusal,
    SequenceNumber, Settlement, SubQueue, limits::OVERLAY_SIZE_BYTES_MAX,
};
use rustc_hash::FxHashSet;

use super::{
    Reply, SettleVia,
    defects::{Defect, is_present},
    links::LinkKind,
    message_locks::{Lock, LockKind, LockSlot},
    message_state::Place,
    namespace::{Namespace, Step},
};

impl Namespace {
    pub(super) fn settle(
        &mut self,
        step: &mut Step<'_>,
        via: SettleVia,
        tokens: &[LockToken],
        settlement: &Settlement,
        connection: ConnectionId,
    ) -> Reply {
        if let SettleVia::Management(entity) = via
            && let Err(refusal) = self.check_all(step.now, entity, tokens, settlement, connection)
        {
            return Reply::Refused(refusal);
        }
        let mut failures = Vec::new();
        let mut used = None;
        for (position, &token) in tokens.iter().enumerate() {
            let found = self.judge(step.now, via, token, connection);
            let judged = found.clone().and_then(|found| self.allow(settlement, found));
            if let (Ok((slot, _)), Err(_), SettleVia::Link(_)) = (&found, &judged, via)
                && let Some(lock) = self.locks.get_mut(*slot)
            {
                lock.settlement_refused = true;
            }
            match judged {
                Ok((slot, lock)) => {
                    used = Some(lock.queue);
                    self.carry_out(step, slot, &lock, settlement);
                }
                Err(refusal) => failures.push((u32::try_from(position).unwrap_or(u32::MAX), refusal)),
            }
        }
        if let Some(queue) = used {
            self.note_use(step.now.utc, queue);
        }
        Reply::Settled(failures)
    }

    /// Settlements on a link were refused elsewhere.
    pub(super) fn settlement_was_refused(&mut self, link: OutgoingLinkId, tokens: &[LockToken]) {
        for token in tokens {
            if let Some((slot, lock)) = self.locks.find(*token)
                && lock.link == link
                && let Some(lock) = self.locks.get_mut(slot)
            {
                lock.settlement_refused = true;
            }
        }
    }

    /// By management it is all or none.
    fn check_all(
        &self,
        now: Now,
        entity: EntityId,
        tokens: &[LockToken],
        settlement: &Settlement,
        connection: ConnectionId,
    ) -> Result<(), Refusal> {
        self.queue_of(entity)?;
        let mut seen = FxHashSet::default();
        for &token in tokens {
            let found = self.judge_by_management(now, entity, token, connection)?;
            self.allow(settlement, found)?;
            if !seen.insert(token) {
                // The first of the two will have used it up.
                return Err(Refusal::MessageLockLost);
            }
        }
        Ok(())
    }

    /// Does to a message what the settlement says.
    fn carry_out(&mut self, step: &mut Step<'_>, slot: LockSlot, lock: &Lock, settlement: &Settlement) {
        self.unlock(slot);
        let (queue_id, number) = (lock.queue, lock.sequence_number);
        if self.exceeds_header_size(settlement, lock) {
            if let Some(queue) = self.queues.get_mut(&queue_id) {
                queue.locked -= 1;
            }
            return self.dead_letter_oversize_header(step, queue_id, number);
        }
        match settlement {
            Settlement::Complete => {
                if let Some(queue) = self.queues.get_mut(&queue_id) {
                    queue.locked -= 1;
                }
                self.remove_message(step, queue_id, number);
            }
            Settlement::Abandon(properties) => self.abandon(step, lock, properties, None),
            Settlement::AbandonFor(properties, delay) => self.abandon(step, lock, properties, Some(*delay)),
            Settlement::DeadLetter(properties) => {
                if let Some(queue) = self.queues.get_mut(&queue_id) {
                    queue.locked -= 1;
                }
                self.move_to_dead_letter(step, queue_id, number, properties);
            }
            Settlement::Release if is_present(Defect::ReleaseIsCounted) => {
                self.fail_delivery(step, queue_id, number, None);
            }
            Settlement::Release => self.give_back(queue_id, number),
            Settlement::Defer(properties) => self.defer(step, queue_id, number, properties),
        }
    }

    /// Puts a message aside. It counts as a failed delivery, except in a sub-queue, and never
    /// leads to the dead-letter queue (semantics B-19, B-38, D-36).
    fn defer(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
        properties: &PropertyOverlay,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let counts = !queue.is_sub_queue();
        let Some(entry) = queue.messages.get_mut(sequence_number) else { return };
        entry.lay_over(properties);
        entry.delivery_count += u32::from(counts);
        entry.place = Place::Deferred;
        if !entry.is_deferred {
            entry.is_deferred = true;
            queue.deferred += 1;
            let record = entry.record(queue.message_sessions.id(entry.message_session));
            step.out.batch.put_message(queue_id, sequence_number, &record);
        }
        if entry.has_overlay_row() {
            step.out.batch.put_overlay(queue_id, sequence_number, &entry.overlay_record());
        }
        queue.locked -= 1;
    }

    /// A message in a dead-letter queue cannot be dead-lettered again; it stays locked (semantics
    /// B-38, G-43). Neither can more properties be laid over a message than its rows may hold: where
    /// it would go to the dead-letter queue for that, it may be settled.
    fn allow(&self, settlement: &Settlement, found: (LockSlot, Lock)) -> Result<(LockSlot, Lock), Refusal> {
        let lock = &found.1;
        if matches!(settlement, Settlement::DeadLetter(_)) && lock.queue.sub_queue() != SubQueue::Main {
            return Err(Refusal::AlreadyDeadLettered);
        }
        if self.is_oversize(settlement, lock) && !self.exceeds_header_size(settlement, lock) {
            return Err(Refusal::InvalidArgument(
                "the properties that settlements lay over a message may not exceed 64 KiB together",
            ));
        }
        Ok(found)
    }

    /// Whether a settlement lays more properties over its message than fit there.
    fn is_oversize(&self, settlement: &Settlement, lock: &Lock) -> bool {
        let (Settlement::Abandon(properties)
        | Settlement::AbandonFor(properties, _)
        | Settlement::Defer(properties)
        | Settlement::DeadLetter(properties)) = settlement
        else {
            return false;
        };
        if properties.is_empty() {
            return false;
        }
        let entry = self.queues.get(&lock.queue).and_then(|queue| queue.messages.get(lock.sequence_number));
        let laid_before = entry.and_then(|entry| entry.overlay.as_deref());
        let size_bytes = laid_before
            .map_or_else(|| properties.size_bytes(), |before| before.merged_size_bytes(properties));
        size_bytes > OVERLAY_SIZE_BYTES_MAX
    }

    /// Whether a message cannot stay in its queue with the properties that it is to keep (semantics
    /// B-35). One that is dead-lettered anyhow, or in a sub-queue, is refused instead.
    fn exceeds_header_size(&self, settlement: &Settlement, lock: &Lock) -> bool {
        !matches!(settlement, Settlement::DeadLetter(_))
            && lock.queue.sub_queue() == SubQueue::Main
            && self.is_oversize(settlement, lock)
    }

    /// Whether a token stands for a live lock that may be settled this way (semantics B-24 to
    /// B-26, A-58, D-29).
    fn judge(
        &self,
        now: Now,
        via: SettleVia,
        token: LockToken,
        connection: ConnectionId,
    ) -> Result<(LockSlot, Lock), Refusal> {
        let link_id = match via {
            SettleVia::Management(entity) => return self.judge_by_management(now, entity, token, connection),
            SettleVia::Link(link_id) => link_id,
        };
        let link = self.links.get(&link_id);
        if link.is_some_and(|link| link.mode == ReceiveMode::ReceiveAndDelete) {
            return Err(Refusal::NotAllowedInMode);
        }
        // A link that is gone says nothing; the token alone is enough (semantics G-35).
        let found =
            self.locks.find(token).filter(|(_, lock)| link.is_none_or(|link| link.queue == lock.queue));
        if let Some((slot, lock)) = found {
            return self.judge_lock(now, slot, lock, connection);
        }
        let hold_is_gone = match link.map(|link| &link.kind) {
            Some(LinkKind::Plain { .. }) => false,
            Some(LinkKind::Holder(hold)) => link.is_some_and(|link| self.is_over(now, link, hold)),
            Some(LinkKind::Pending(_) | LinkKind::Browser(_)) => true,
            None => self.ended_holds.has_link(link_id),
        };
        if hold_is_gone || self.ended_holds.has_token(token) {
            Err(Refusal::MessageSessionLockLost)
        } else {
            Err(Refusal::MessageLockLost)
        }
    }

    /// The same for a token named in a management request on `entity`.
    pub(super) fn judge_by_management(
        &self,
        now: Now,
        entity: EntityId,
        token: LockToken,
        connection: ConnectionId,
    ) -> Result<(LockSlot, Lock), Refusal> {
        if let Some((slot, lock)) = self.locks.find(token).filter(|(_, lock)| lock.queue == entity) {
            return self.judge_lock(now, slot, lock, connection);
        }
        let needs_hold = self.queue_of(entity)?.settings.requires_session;
        if needs_hold && (self.ended_holds.has_token(token) || !self.holds_any(now, entity, connection)) {
            Err(Refusal::MessageSessionLockLost)
        } else {
            Err(Refusal::MessageLockLost)
        }
    }

    fn judge_lock(
        &self,
        now: Now,
        slot: LockSlot,
        lock: Lock,
        connection: ConnectionId,
    ) -> Result<(LockSlot, Lock), Refusal> {
        match lock.kind {
            LockKind::Message { deadline, .. }
                if deadline > now.mono
                    || self.is_renewed(&lock)
                    || is_present(Defect::ExpiredLockSettles) =>
            {
                Ok((slot, lock))
            }
            LockKind::Message { .. } | LockKind::Reserved { .. } | LockKind::HeldBack { .. } => {
                Err(Refusal::MessageLockLost)
            }
            LockKind::MessageSession { .. } => {
                let holds =
                    self.live_hold(now, lock.link).is_some_and(|(link, _)| link.connection == connection);
                if holds { Ok((slot, lock)) } else { Err(Refusal::MessageSessionLockLost) }
            }
        }
    }
}
