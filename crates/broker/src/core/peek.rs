//! Looking at messages without taking them (semantics, B-53).

use lockstep_model::{
    EntityId, MessageSessionId, Refusal, SequenceNumber,
    limits::{PEEK_MESSAGES_MAX, PEEK_SIZE_BYTES_MAX},
};

use super::{
    BodyRef, PeekedMessage, Reply,
    message_locks::{LockKind, LockTable},
    message_state::{MessageEntry, Place},
    namespace::Namespace,
};

impl Namespace {
    /// Messages from `from` on: available, locked, deferred, scheduled, and not yet durable (the fence keeps the
    /// reply until they are). Costs what it returns, not what the queue holds.
    pub(super) fn peek(
        &mut self,
        entity: EntityId,
        from: SequenceNumber,
        count: u32,
        session: Option<&MessageSessionId>,
    ) -> Reply {
        let Some(queue) = self.queues.get_mut(&entity) else {
            return Reply::Refused(Refusal::EntityNotFound);
        };
        let mut page =
            Page { messages: Vec::new(), count: count.min(PEEK_MESSAGES_MAX) as usize, size_bytes: 0 };
        match session {
            None => {
                for (number, entry) in queue.messages.iter_from(from) {
                    if !page.take(&self.locks, number, entry) {
                        break;
                    }
                }
            }
            Some(id) => {
                let sessions = &mut queue.message_sessions;
                if let Some(session) = sessions.find(id).and_then(|slot| sessions.get_mut(slot)) {
                    let scheduled =
                        session.scheduled.iter().flat_map(|numbers| numbers.range(from..)).copied();
                    let active = session.messages.iter_from(from, &queue.messages);
                    for number in ascending(active, scheduled) {
                        let Some(entry) = queue.messages.get(number) else { continue };
                        if !page.take(&self.locks, number, entry) {
                            break;
                        }
                    }
                }
            }
        }
        Reply::Peeked(page.messages)
    }
}

/// Two ascending sequences as one.
fn ascending(
    first: impl Iterator<Item = SequenceNumber>,
    second: impl Iterator<Item = SequenceNumber>,
) -> impl Iterator<Item = SequenceNumber> {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    std::iter::from_fn(move || match (first.peek(), second.peek()) {
        (Some(a), Some(b)) if b < a => second.next(),
        (Some(_), _) => first.next(),
        (None, _) => second.next(),
    })
}

struct Page {
    messages: Vec<PeekedMessage>,
    count: usize,
    size_bytes: u64,
}

impl Page {
    /// Takes a message in; `false` if the page is full.
    fn take(&mut self, locks: &LockTable, sequence_number: SequenceNumber, entry: &MessageEntry) -> bool {
        if self.messages.len() >= self.count {
            return false;
        }
        if let Place::Locked(slot) = entry.place
            && locks.get(slot).is_some_and(|lock| matches!(lock.kind, LockKind::Reserved { .. }))
        {
            // Its row is deleted; the receiver has it.
            return true;
        }
        let overlay_bytes = entry.overlay.as_ref().map_or(0, |overlay| overlay.size_bytes() as u64);
        self.size_bytes += u64::from(entry.size_bytes) + overlay_bytes;
        if !self.messages.is_empty() && self.size_bytes > PEEK_SIZE_BYTES_MAX {
            return false;
        }
        self.messages.push(PeekedMessage {
            sequence_number,
            enqueued_at: entry.enqueued_at,
            delivery_count: entry.delivery_count,
            state: entry.state(),
            time_to_live: entry.time_to_live(),
            body: BodyRef { id: entry.body, size_bytes: entry.size_bytes, bytes: None },
            properties: entry.overlay.clone(),
        });
        true
    }
}
