//! What happens to messages: sent, scheduled, looked at, settled, moved, expired.

use lockstep_model::{SizeLimit, limits::PEEK_SIZE_BYTES_MAX};

use super::*;

impl Message {
    pub(super) fn shown(&self, until: Option<Timestamp>) -> Shown {
        let state = match self.place {
            Place::Scheduled => MessageState::Scheduled,
            _ if self.is_deferred => MessageState::Deferred,
            _ => MessageState::Active,
        };
        Shown {
            number: self.number,
            count: self.count,
            state,
            enqueued_at: self.enqueued_at,
            time_to_live: self.time_to_live,
            size_bytes: self.body.len() as u32,
            properties: self.properties.clone(),
            until,
        }
    }

    /// As a receiver gets it: what was scheduled once says so.
    pub(super) fn received(&self, until: Option<Timestamp>) -> Shown {
        let mut shown = self.shown(until);
        if shown.state == MessageState::Active && self.was_scheduled {
            shown.state = MessageState::Scheduled;
        }
        shown
    }

    /// Whether its time to live is over; in a sub-queue it never is.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        let is_in_main = self.entity.sub_queue() == SubQueue::Main;
        is_in_main && self.time_to_live.is_some_and(|time| self.enqueued_at.plus(time) <= now)
    }

    pub(super) fn is_in_nobodys_hands(&self) -> bool {
        matches!(self.place, Place::New(_) | Place::Ready)
    }
}

impl Reference {
    pub(super) fn remove(&mut self, entity: EntityId, number: u64) -> Message {
        let at = self.messages.iter().position(|m| m.entity == entity && m.number == number);
        self.messages.remove(at.expect("is there"))
    }

    pub(super) fn enqueue(&mut self, enqueue: &Enqueue) -> Reply {
        let (now, commit) = (self.now.utc, self.commit);
        let held_bytes = self.size_bytes(enqueue.entity);
        let entity = self.entity(enqueue.entity);
        let description = entity.description.clone();
        let max_bytes = description.max_message_size_bytes;
        if enqueue.entity.sub_queue() != SubQueue::Main {
            return Reply::Refused(Refusal::SendToSubQueue);
        }
        if !description.status.allows_send() {
            return Reply::Refused(Refusal::EntityDisabled);
        }
        if held_bytes >= description.max_size_bytes {
            return Reply::Refused(Refusal::QuotaExceeded);
        }
        for message in &enqueue.messages {
            if entity.requires_session && message.message_session.is_none() {
                return Reply::Refused(Refusal::MessageSessionIdMissing);
            }
            if message.encoded.len() as u64 > max_bytes {
                return Reply::Refused(Refusal::TooLarge { limit: SizeLimit::Message, max_bytes });
            }
        }
        let total: u64 = enqueue.messages.iter().map(|message| message.encoded.len() as u64).sum();
        if enqueue.messages.len() > 1 && total > max_bytes {
            return Reply::Refused(Refusal::TooLarge { limit: SizeLimit::Batch, max_bytes });
        }
        let first = SequenceNumber(entity.last + 1);
        let mut duplicates = Vec::new();
        let mut stored = Vec::new();
        for (at, message) in enqueue.messages.iter().enumerate() {
            if let Some(key) = message.duplicate_key.filter(|_| description.requires_duplicate_detection) {
                let window = description.duplicate_detection_history_time_window;
                entity.duplicates.retain(|&(_, came)| came.plus(window) > now);
                if entity.duplicates.iter().any(|&(known, _)| known == key) {
                    duplicates.push(at as u32);
                    continue;
                }
                entity.duplicates.push((key, now));
            }
            entity.last += 1;
            let due = message.scheduled_at.filter(|&due| due > now);
            let lives = [message.time_to_live, description.default_message_time_to_live];
            stored.push(Message {
                entity: enqueue.entity,
                number: entity.last,
                session: message.message_session.clone(),
                body: message.encoded.clone(),
                enqueued_at: due.unwrap_or(now),
                time_to_live: lives.into_iter().flatten().min(),
                count: 0,
                properties: PropertyOverlay::new(),
                is_deferred: false,
                was_scheduled: due.is_some(),
                place: if due.is_some() { Place::Scheduled } else { Place::New(commit) },
            });
        }
        self.messages.extend(stored);
        Reply::Enqueued { first, duplicates }
    }

    pub(super) fn cancel(&mut self, entity: EntityId, numbers: &[SequenceNumber]) -> Reply {
        let is_scheduled = |number: &SequenceNumber| {
            let mut all = self.messages.iter();
            all.any(|m| m.entity == entity && m.number == number.0 && m.place == Place::Scheduled)
        };
        if !self.description(entity).status.allows_send() {
            return Reply::Refused(Refusal::EntityDisabled);
        }
        let different: BTreeSet<_> = numbers.iter().collect();
        if different.len() < numbers.len() || !numbers.iter().all(is_scheduled) {
            return Reply::Refused(Refusal::MessageNotFound);
        }
        for number in numbers {
            self.remove(entity, number.0);
        }
        Reply::Done
    }

    pub(super) fn delete(
        &mut self,
        entity: EntityId,
        count: u32,
        until: Timestamp,
        session: Option<&MessageSessionId>,
    ) -> Reply {
        if count == 0 {
            return Reply::Refused(Refusal::InvalidArgument("message-count must be between 1 and 4000"));
        }
        if !self.description(entity).status.allows_receive() {
            return Reply::Refused(Refusal::EntityDisabled);
        }
        let wanted = |m: &&Message| {
            m.entity == entity
                && m.is_in_nobodys_hands()
                && m.enqueued_at <= until
                && (session.is_none() || m.session.as_ref() == session)
        };
        let mut numbers: Vec<u64> = self.messages.iter().filter(wanted).map(|m| m.number).collect();
        numbers.sort_unstable();
        numbers.truncate(count as usize);
        for &number in &numbers {
            self.remove(entity, number);
        }
        Reply::Deleted(numbers.len() as u32)
    }

    pub(super) fn peek(
        &self,
        entity: EntityId,
        from: SequenceNumber,
        count: u32,
        session: Option<&MessageSessionId>,
    ) -> Said {
        let wanted = |m: &&Message| {
            m.entity == entity
                && m.number >= from.0
                && m.place != Place::Reserved
                && (session.is_none() || m.session.as_ref() == session)
        };
        let mut found: Vec<&Message> = self.messages.iter().filter(wanted).collect();
        found.sort_unstable_by_key(|message| message.number);
        let mut page = Vec::new();
        let mut bytes = 0;
        for message in found {
            bytes += message.body.len() as u64 + message.properties.size_bytes() as u64;
            if page.len() >= count as usize || (!page.is_empty() && bytes > PEEK_SIZE_BYTES_MAX) {
                break;
            }
            page.push(message.shown(None));
        }
        Said::Peeked(page)
    }

    pub(super) fn receive_deferred(&mut self, asked: &ReceiveBySequenceNumbers) -> Said {
        let refused = |refusal| Said::Other(Reply::Refused(refusal));
        let (entity, now) = (asked.entity, self.now);
        let requires_session = self.entities[&entity].requires_session;
        let mut holder = None;
        if requires_session {
            holder = asked.message_session.as_ref().and_then(|id| self.held_by(entity, id, asked.holder));
            if holder.is_none() {
                return refused(Refusal::MessageSessionLockLost);
            }
        }
        if !self.description(entity).status.allows_receive() {
            return refused(Refusal::EntityDisabled);
        }
        let mut expired = Vec::new();
        for (at, number) in asked.sequence_numbers.iter().enumerate() {
            let found = self.messages.iter().find(|m| m.entity == entity && m.number == number.0);
            let found = found.filter(|m| m.place == Place::Deferred);
            let found = found.filter(|m| !requires_session || m.session == asked.message_session);
            match found {
                Some(message) if !asked.sequence_numbers[..at].contains(number) => {
                    if message.has_expired(now.utc) {
                        expired.push(number.0);
                    }
                }
                _ => return refused(Refusal::MessageNotFound),
            }
        }
        if !expired.is_empty() {
            for number in expired {
                self.expire_message(entity, number);
            }
            return refused(Refusal::MessageNotFound);
        }
        let of_session = holder.map(|id| match &self.links[&id].kind {
            Kind::Holder { until, .. } => *until,
            other => panic!("not a holder: {other:?}"),
        });
        let mut shown = Vec::new();
        for &SequenceNumber(number) in &asked.sequence_numbers {
            if asked.mode == ReceiveMode::ReceiveAndDelete {
                shown.push(self.remove(entity, number).received(None));
                continue;
            }
            let own = (now.mono.plus(LOCK), now.utc.plus(LOCK));
            let ends = of_session.is_none().then_some(own);
            let link = holder.unwrap_or(OutgoingLinkId::NONE.0);
            self.locks.push(Locked { token: None, entity, number, link, ends, reserved: false });
            let message = self.message(entity, number);
            message.place = Place::Locked;
            shown.push(message.received(Some(of_session.unwrap_or(own.1))));
        }
        Said::Deferred(shown)
    }

    /// Puts the message of a lock back; with `counted` as a failed delivery.
    pub(super) fn put_back(&mut self, lock: &Locked, counted: bool) {
        let commit = self.commit;
        let max = self.description(lock.entity).max_delivery_count;
        let message = self.message(lock.entity, lock.number);
        message.place = match message.place {
            Place::Reserved => Place::Awaiting(commit),
            _ if message.is_deferred => Place::Deferred,
            _ => Place::Ready,
        };
        if counted && lock.entity.sub_queue() == SubQueue::Main {
            message.count += 1;
            if message.count >= max && !message.is_deferred {
                let description = format!("Message could not be consumed after {max} delivery attempts.");
                let reason = because("MaxDeliveryCountExceeded", &description);
                self.move_to_dead_letter(lock.entity, lock.number, &reason);
            }
        }
    }

    fn move_to_dead_letter(&mut self, entity: EntityId, number: u64, properties: &PropertyOverlay) {
        let commit = self.commit;
        let message = self.message(entity, number);
        message.entity = dead_letter(entity);
        message.place = Place::Awaiting(commit);
        message.is_deferred = false;
        message.properties.merge(properties);
    }

    pub(super) fn expire_message(&mut self, entity: EntityId, number: u64) {
        if self.description(entity).dead_lettering_on_message_expiration {
            let reason = because("TTLExpiredException", "The message expired and was dead lettered.");
            self.move_to_dead_letter(entity, number, &reason);
        } else {
            self.remove(entity, number);
        }
    }

    pub(super) fn committed(&mut self, commit: CommitNumber) {
        self.durable = self.durable.max(commit);
        for message in &mut self.messages {
            if let Place::New(awaited) | Place::Awaiting(awaited) = message.place
                && awaited <= commit
            {
                message.place = Place::Ready;
            }
        }
    }

    fn judge(&self, via: SettleVia, token: LockToken, connection: u64) -> Result<Locked, Refusal> {
        let lock = self.locks.iter().find(|lock| lock.token == Some(token));
        let (by_link, entity) = match via {
            SettleVia::Link(link) => {
                let link = self.links.get(&link.0);
                if link.is_some_and(|link| link.mode == ReceiveMode::ReceiveAndDelete) {
                    return Err(Refusal::NotAllowedInMode);
                }
                (true, link.map(|link| link.entity))
            }
            SettleVia::Management(entity) => (false, Some(entity)),
        };
        if let Some(lock) = lock.filter(|lock| entity.is_none_or(|entity| entity == lock.entity)) {
            return match lock.ends {
                _ if lock.reserved => Err(Refusal::MessageLockLost),
                Some((deadline, _)) if deadline > self.now.mono => Ok(lock.clone()),
                Some(_) => Err(Refusal::MessageLockLost),
                None if self.is_live_holder(lock.link) && self.links[&lock.link].connection == connection => {
                    Ok(lock.clone())
                }
                None => Err(Refusal::MessageSessionLockLost),
            };
        }
        let hold_is_gone = match (via, entity) {
            (SettleVia::Link(link), _) => match self.links.get(&link.0).map(|link| &link.kind) {
                Some(Kind::Plain) => false,
                Some(Kind::Holder { deadline, .. }) => *deadline <= self.now.mono,
                Some(Kind::Pending { .. } | Kind::Browser(_)) => true,
                None => self.ended_links.contains(&link.0),
            },
            (SettleVia::Management(_), Some(entity)) => {
                let holds = |(&id, link): (&u64, &Receiver)| {
                    link.entity == entity && link.connection == connection && self.is_live_holder(id)
                };
                self.entities[&entity].requires_session && !self.links.iter().any(holds)
            }
            (SettleVia::Management(_), None) => false,
        };
        let sessionful = by_link || entity.is_some_and(|entity| self.entities[&entity].requires_session);
        if hold_is_gone || (sessionful && self.ended_tokens.contains(&token)) {
            Err(Refusal::MessageSessionLockLost)
        } else {
            Err(Refusal::MessageLockLost)
        }
    }

    pub(super) fn settle(
        &mut self,
        via: SettleVia,
        tokens: &[LockToken],
        settlement: &Settlement,
        connection: u64,
    ) -> Reply {
        let allow = |lock: Locked| match settlement {
            Settlement::DeadLetter(_) if lock.entity.sub_queue() != SubQueue::Main => {
                Err(Refusal::AlreadyDeadLettered)
            }
            _ => Ok(lock),
        };
        if matches!(via, SettleVia::Management(_)) {
            for (at, &token) in tokens.iter().enumerate() {
                let judged = self.judge(via, token, connection).and_then(allow);
                let twice = tokens[..at].contains(&token);
                if let Some(refusal) = judged.err().or(twice.then_some(Refusal::MessageLockLost)) {
                    return Reply::Refused(refusal);
                }
            }
        }
        let mut failures = Vec::new();
        for (at, &token) in tokens.iter().enumerate() {
            match self.judge(via, token, connection).and_then(allow) {
                Err(refusal) => failures.push((at as u32, refusal)),
                Ok(lock) => self.carry_out(&lock, settlement),
            }
        }
        Reply::Settled(failures)
    }

    fn carry_out(&mut self, lock: &Locked, settlement: &Settlement) {
        self.take_lock(|other| other.token == lock.token);
        match settlement {
            Settlement::Complete => drop(self.remove(lock.entity, lock.number)),
            Settlement::Release => self.put_back(lock, false),
            Settlement::Abandon(properties) => {
                self.message(lock.entity, lock.number).properties.merge(properties);
                self.put_back(lock, true);
            }
            Settlement::DeadLetter(properties) => {
                self.move_to_dead_letter(lock.entity, lock.number, properties);
            }
            Settlement::AbandonFor(..) => unreachable!("delays have tests of their own"),
            Settlement::Defer(properties) => {
                let message = self.message(lock.entity, lock.number);
                message.properties.merge(properties);
                message.count += u32::from(lock.entity.sub_queue() == SubQueue::Main);
                message.is_deferred = true;
                message.place = Place::Deferred;
            }
        }
    }

    pub(super) fn renew(&mut self, entity: EntityId, tokens: &[LockToken], connection: u64) -> Reply {
        for &token in tokens {
            if let Err(refusal) = self.judge(SettleVia::Management(entity), token, connection) {
                return Reply::Refused(refusal);
            }
        }
        let ends = (self.now.mono.plus(LOCK), self.now.utc.plus(LOCK));
        let mut answers = Vec::new();
        for &token in tokens {
            let lock = self.locks.iter_mut().find(|lock| lock.token == Some(token)).expect("judged");
            answers.push(match (&mut lock.ends, &self.links.get(&lock.link).map(|link| &link.kind)) {
                (Some(old), _) => {
                    *old = (old.0.max(ends.0), old.1.max(ends.1));
                    old.1
                }
                (None, Some(Kind::Holder { until, .. })) => *until,
                other => panic!("judged: {other:?}"),
            });
        }
        Reply::Renewed(answers)
    }
}

/// Why a message is in a dead-letter queue, as properties laid over it.
fn because(reason: &str, description: &str) -> PropertyOverlay {
    let mut properties = PropertyOverlay::new();
    properties.set("DeadLetterReason", lockstep_model::PropertyValue::Text(reason.into()));
    properties.set("DeadLetterErrorDescription", lockstep_model::PropertyValue::Text(description.into()));
    properties
}
