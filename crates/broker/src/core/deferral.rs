//! Deferred messages: put aside by a receiver, found by their sequence numbers only (semantics
//! B-44 to B-46).

use lockstep_model::{
    ConnectionId, EntityId, MessageSessionId, OutgoingLinkId, ReceiveMode, Refusal, RequestId,
    SequenceNumber, SizeLimit,
    limits::{DEFERRED_RECEIVE_SIZE_BYTES_MAX, SEQUENCE_NUMBERS_PER_REQUEST_MAX},
};
use rustc_hash::FxHashSet;

use super::{
    Delivery, HolderClaim, ReceiveBySequenceNumbers, Reply,
    deadlines::Deadline,
    links::LinkKind,
    message_locks::{Lock, LockKind},
    message_state::Place,
    namespace::{Namespace, Step},
};

impl Namespace {
    /// Locks (or removes) deferred messages and returns them in the order asked, all or none
    /// (semantics A-125).
    pub(super) fn receive_by_sequence_numbers(
        &mut self,
        step: &mut Step<'_>,
        asked: &ReceiveBySequenceNumbers,
    ) -> Reply {
        let holder =
            match self.deferred_holder(step, asked.entity, asked.message_session.as_ref(), asked.holder) {
                Ok(holder) => holder,
                Err(refusal) => return Reply::Refused(refusal),
            };
        if let Err(refusal) = self.check_deferred(step, asked) {
            return Reply::Refused(refusal);
        }
        let mut messages = Vec::with_capacity(asked.sequence_numbers.len());
        for &number in &asked.sequence_numbers {
            messages.extend(match asked.mode {
                ReceiveMode::PeekLock => self.lock_deferred(step, asked.entity, number, holder),
                ReceiveMode::ReceiveAndDelete => self.take_deferred(step, asked, number),
            });
        }
        Reply::Deferred(messages)
    }

    /// On an entity with message sessions the caller must hold the one it asks about; its link's
    /// hold then is the lock of the messages. Elsewhere each message has its own lock.
    fn deferred_holder(
        &self,
        step: &Step<'_>,
        entity: EntityId,
        session: Option<&MessageSessionId>,
        claim: HolderClaim,
    ) -> Result<Option<OutgoingLinkId>, Refusal> {
        if !self.queue_of(entity)?.settings.requires_session {
            return Ok(None);
        }
        let session = session.ok_or(Refusal::MessageSessionLockLost)?;
        self.held_session(step.now, entity, session, claim)?;
        Ok(self.holder_of(entity, session))
    }

    fn check_deferred(
        &mut self,
        step: &mut Step<'_>,
        asked: &ReceiveBySequenceNumbers,
    ) -> Result<(), Refusal> {
        let queue = self.queue_of(asked.entity)?;
        if !queue.settings.status.allows_receive() {
            return Err(Refusal::EntityDisabled);
        }
        if asked.sequence_numbers.len() > SEQUENCE_NUMBERS_PER_REQUEST_MAX {
            return Err(Refusal::InvalidArgument("sequence-numbers"));
        }
        let wanted = asked.message_session.as_ref().filter(|_| queue.settings.requires_session);
        let (mut seen, mut expired, mut size_bytes) = (FxHashSet::default(), Vec::new(), 0_u64);
        for &number in &asked.sequence_numbers {
            let entry = queue.messages.get(number).filter(|entry| entry.place == Place::Deferred);
            let entry = entry.ok_or(Refusal::MessageNotFound)?;
            let session = queue.message_sessions.id(entry.message_session);
            if !seen.insert(number) || wanted.is_some_and(|wanted| session.as_ref() != Some(wanted)) {
                return Err(Refusal::MessageNotFound);
            }
            size_bytes += u64::from(entry.size_bytes);
            if !queue.is_sub_queue() && entry.expiry.has_come(step.now.utc) {
                expired.push(number);
            }
        }
        if asked.sequence_numbers.len() > 1 && size_bytes > DEFERRED_RECEIVE_SIZE_BYTES_MAX {
            let max_bytes = DEFERRED_RECEIVE_SIZE_BYTES_MAX;
            return Err(Refusal::TooLarge { limit: SizeLimit::Answer, max_bytes });
        }
        if expired.is_empty() {
            return Ok(());
        }
        // Asking for it is what makes it expire (semantics B-46, D-12).
        for number in expired {
            self.expire_message(step, asked.entity, number);
        }
        Err(Refusal::MessageNotFound)
    }

    fn lock_deferred(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
        holder: Option<OutgoingLinkId>,
    ) -> Option<Delivery> {
        let queue = self.queues.get_mut(&queue_id)?;
        let entry = queue.messages.get_mut(sequence_number)?;
        let held = holder.and_then(|id| Some((id, self.links.get_mut(&id)?)));
        let (link, kind, locked_until) = match held {
            Some((id, link)) => {
                let LinkKind::Holder(hold) = &link.kind else { return None };
                let position = u32::try_from(link.in_flight.len()).unwrap_or(u32::MAX);
                (id, LockKind::MessageSession { position }, hold.locked_until)
            }
            None => {
                let deadline = step.now.mono.plus(queue.settings.lock_duration);
                let locked_until = step.now.utc.plus(queue.settings.lock_duration);
                (OutgoingLinkId::NONE, LockKind::Message { deadline, locked_until }, locked_until)
            }
        };
        let token = step.ids.lock_token();
        let slot = self.locks.insert(Lock {
            token,
            queue: queue_id,
            sequence_number,
            link,
            kind,
            settlement_refused: false,
        });
        entry.place = Place::Locked(slot);
        queue.locked += 1;
        let delivery = Delivery::of(link, token, sequence_number, Some(locked_until), entry);
        match kind {
            LockKind::Message { deadline, .. } | LockKind::HeldBack { deadline } => {
                self.deadlines.insert(deadline, Deadline::MessageLock(slot));
            }
            LockKind::MessageSession { .. } | LockKind::Reserved { .. } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.in_flight.push(slot);
                }
            }
        }
        Some(delivery)
    }

    /// Removes a deferred message before it is handed out. Its bytes stay until the connection has
    /// read them, or is gone.
    fn take_deferred(
        &mut self,
        step: &mut Step<'_>,
        asked: &ReceiveBySequenceNumbers,
        sequence_number: SequenceNumber,
    ) -> Option<Delivery> {
        let queue = self.queues.get_mut(&asked.entity)?;
        let entry = queue.remove(sequence_number)?;
        step.out.batch.delete_message(asked.entity, sequence_number);
        if entry.has_overlay_row() {
            step.out.batch.delete_overlay(asked.entity, sequence_number);
        }
        self.bodies_to_read.entry(asked.holder.connection).or_default().push((
            asked.request,
            entry.body,
            entry.size_bytes,
        ));
        let token = step.ids.lock_token();
        Some(Delivery::of(OutgoingLinkId::NONE, token, sequence_number, None, &entry))
    }

    /// The connection has read what [`Namespace::take_deferred`] left for a request of it, or is
    /// gone and will read nothing more.
    pub(super) fn bodies_were_read(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        request: Option<RequestId>,
    ) {
        let Some(waiting) = self.bodies_to_read.remove(&connection) else { return };
        let (read, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(of, ..)| request.is_none_or(|request| request == *of));
        for (_, body, size_bytes) in read {
            step.out.batch.delete_body(self.id, body, size_bytes);
            step.out.gone_bodies.push(body);
        }
        if !others.is_empty() {
            self.bodies_to_read.insert(connection, others);
        }
    }
}
