//! What goes out with a delivery: its tag, and what the broker says before the message.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use lockstep_amqp::OutgoingDelivery;
use lockstep_broker::core::Delivery;
use lockstep_model::{LockToken, MessageState, ReceiveMode, Refusal};
use lockstep_protocol::{delivery_tag, message_mapping};

/// Bytes of one piece of memory for what is said before messages.
const PREFIXES_BYTES: usize = 32 * 1024;
/// The same for delivery-tags. One that is settled late keeps the whole piece.
const TAGS_BYTES: usize = 512;

thread_local! {
    /// Where a thread writes what it says before messages: memory is taken once for many of them.
    /// Each piece lives until it is framed.
    static PREFIXES: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(PREFIXES_BYTES));
    /// The same for delivery-tags, which live until they are settled.
    static TAGS: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// The delivery-tag of a lock token.
fn tag(token: LockToken) -> Bytes {
    TAGS.with_borrow_mut(|tags| {
        if tags.capacity() < delivery_tag::DELIVERY_TAG_BYTES {
            // It would not grow by more than a tag by itself.
            *tags = BytesMut::with_capacity(TAGS_BYTES);
        }
        tags.extend_from_slice(&delivery_tag::from_lock_token(token));
        tags.split().freeze()
    })
}

/// What the broker says around a delivery.
pub(super) fn facts(delivery: &Delivery, mode: ReceiveMode) -> message_mapping::DeliveryFacts<'_> {
    message_mapping::DeliveryFacts {
        sequence_number: delivery.sequence_number,
        enqueued_at: delivery.enqueued_at,
        locked_until: delivery.locked_until,
        delivery_count: delivery.delivery_count,
        lock_token: (mode == ReceiveMode::PeekLock).then_some(delivery.token),
        // An ordinary message says nothing of its state (semantics B-54).
        state: Some(delivery.state).filter(|state| *state != MessageState::Active),
        time_to_live: delivery.time_to_live,
        properties: delivery.properties.as_deref(),
    }
}

/// The transfer of one delivery, without its payload.
pub(super) fn envelope(delivery: &Delivery, mode: ReceiveMode) -> OutgoingDelivery {
    OutgoingDelivery {
        tag: tag(delivery.token),
        message_format: 0,
        settled: mode == ReceiveMode::ReceiveAndDelete,
        prefix: Bytes::new(),
        rest: Bytes::new(),
    }
}

/// The transfer of one delivery.
pub(super) fn outgoing(delivery: &Delivery, mode: ReceiveMode) -> Result<OutgoingDelivery, Refusal> {
    let bytes = delivery.body.bytes.as_ref().ok_or(Refusal::Unreadable)?;
    let message = PREFIXES
        .with_borrow_mut(|prefixes| message_mapping::outgoing(bytes, &facts(delivery, mode), prefixes))?;
    Ok(OutgoingDelivery { prefix: message.prefix, rest: message.rest, ..envelope(delivery, mode) })
}
