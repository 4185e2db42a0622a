//! Replies on `$management` nodes whose messages are in the store only: their bytes are read for
//! a few replies of a connection at a time. A client may ask for thousands of peeks at once, each
//! for as much as one may return.

use std::{collections::VecDeque, sync::Arc};

use lockstep_broker::core::{BodyRef, Reply};
use lockstep_model::{BodyId, PropertyOverlay, RequestId, limits};

use super::{
    BodyWaiter, Connection,
    requests::Pending,
    streams::{self, RowWaiter},
};

/// Bytes of stored messages that are read for a connection's replies at a time, unless one reply
/// alone has more.
const REPLY_READ_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Replies that wait for it; while there are as many, the connection's next requests wait, too.
const REPLIES_WAITING_MAX: usize = 64;

/// What is read for replies, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct ReplyReads {
    /// Bytes that are read, and what came of them.
    bytes: u64,
    /// In order. They hold no bytes of messages, only what is said of each.
    waiting: VecDeque<(RequestId, Reply)>,
    /// Bytes of that.
    waiting_bytes: u64,
}

impl ReplyReads {
    /// Bytes that are in memory for replies, or will be.
    pub(super) fn held_bytes(&self) -> usize {
        usize::try_from(self.bytes + self.waiting_bytes).unwrap_or(usize::MAX)
    }

    /// Whether more may be asked for.
    pub(super) fn takes_more(&self) -> bool {
        self.waiting.len() < REPLIES_WAITING_MAX
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.bytes == 0 || self.bytes + bytes <= REPLY_READ_BYTES_MAX
    }
}

impl Connection {
    /// Bytes of some messages in a reply are in the store only: they are read first, now or when
    /// those of the replies before it have been. Of a large message that is peeked only the first
    /// row, since its body is left out.
    pub(super) fn read_bodies(&mut self, request: RequestId, mut reply: Reply) {
        let bytes = bytes_to_read(&mut reply);
        if self.reply_reads.waiting.is_empty() && self.reply_reads.has_room(bytes) {
            return self.begin_read(request, reply, bytes);
        }
        // What is in memory is let go of, or thousands of replies would keep it there.
        for body in bodies(&mut reply) {
            if body.size_bytes as usize <= limits::LARGE_MESSAGE_SIZE_BYTES {
                body.bytes = None;
            }
        }
        self.reply_reads.waiting_bytes += bytes_told(&reply);
        self.reply_reads.waiting.push_back((request, reply));
    }

    fn begin_read(&mut self, request: RequestId, mut reply: Reply, bytes: u64) {
        let heads_are_enough = matches!(reply, Reply::Peeked(_));
        let missing: Vec<(BodyId, bool)> = bodies(&mut reply)
            .into_iter()
            .filter(|body| body.bytes.is_none())
            .map(|body| (body.id, heads_are_enough && streams::is_large(body)))
            .collect();
        let Some(Pending::Management(pending)) = self.requests.get_mut(request) else { return };
        pending.begin_read(reply, bytes);
        self.reply_reads.bytes += bytes;
        for (body, head_only) in missing {
            if head_only {
                self.ask_row(body, 0, RowWaiter::Request(request));
            } else {
                self.request_body(body, BodyWaiter::Request(request));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn replies_waiting(&self) -> usize {
        self.reply_reads.waiting.len()
    }

    /// All that was read for a reply is in its response: the next ones may be read.
    pub(super) fn end_read(&mut self, bytes: u64) {
        self.reply_reads.bytes = self.reply_reads.bytes.saturating_sub(bytes);
        while let Some((_, reply)) = self.reply_reads.waiting.front_mut() {
            let bytes = bytes_to_read(reply);
            if !self.reply_reads.has_room(bytes) {
                return;
            }
            if let Some((request, reply)) = self.reply_reads.waiting.pop_front() {
                self.reply_reads.waiting_bytes -= bytes_told(&reply);
                self.begin_read(request, reply, bytes);
            }
        }
    }
}

/// The bytes of the messages in a reply.
pub(super) fn bodies(reply: &mut Reply) -> Vec<&mut BodyRef> {
    match reply {
        Reply::Peeked(messages) => messages.iter_mut().map(|message| &mut message.body).collect(),
        Reply::Deferred(deliveries) => deliveries.iter_mut().map(|delivery| &mut delivery.body).collect(),
        _ => Vec::new(),
    }
}

/// Bytes of what a reply says of its messages.
fn bytes_told(reply: &Reply) -> u64 {
    let laid_over = |properties: &Option<Arc<PropertyOverlay>>| {
        properties.as_deref().map_or(0, PropertyOverlay::size_bytes)
    };
    let bytes: usize = match reply {
        Reply::Peeked(messages) => {
            messages.iter().map(|message| size_of_val(message) + laid_over(&message.properties)).sum()
        }
        Reply::Deferred(deliveries) => {
            deliveries.iter().map(|delivery| size_of_val(delivery) + laid_over(&delivery.properties)).sum()
        }
        _ => 0,
    };
    bytes as u64
}

/// Bytes of a reply's messages that are not in memory.
fn bytes_to_read(reply: &mut Reply) -> u64 {
    let heads_are_enough = matches!(reply, Reply::Peeked(_));
    let missing = bodies(reply).into_iter().filter(|body| body.bytes.is_none());
    let bytes = missing.map(|body| match u64::from(body.size_bytes) {
        size if heads_are_enough && streams::is_large(body) => size.min(limits::BODY_PART_SIZE_BYTES as u64),
        size => size,
    });
    bytes.sum()
}
