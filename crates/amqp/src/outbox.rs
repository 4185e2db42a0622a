//! Bytes on their way out: small pieces are copied behind each other so that one write carries
//! many frames, large payloads are chained without a copy.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    codec,
    types::{Performative, Transfer},
};

/// Payload pieces up to this size are copied, larger ones chained, in bytes. (Measured: copying
/// wins up to about here.)
const COPY_BYTES_MAX: usize = 2_048;

/// Bytes that are framed ahead of the transport. What else is to be sent waits as whole
/// deliveries, so that links can take turns.
pub(crate) const FRAMED_BYTES_AIM: usize = 256 << 10;

/// Room that a transfer's first guess leaves for its own fields, in bytes.
const TRANSFER_FIELDS_GUESS: usize = codec::TRANSFER_OVERHEAD_BYTES;

/// Capacity that the coalescing buffer gives back when it is empty, in bytes.
const IDLE_CAPACITY_BYTES_MAX: usize = 16 << 10;

/// The bytes to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chain: VecDeque<Bytes>,
    chained_bytes: usize,
    tail: BytesMut,
    /// Client role: frames that must wait until open was written.
    deferred: Option<BytesMut>,
}

impl Outbox {
    /// Bytes framed and not yet written.
    pub(crate) fn len(&self) -> usize {
        self.chained_bytes + self.tail.len()
    }

    /// Keeps frames back until [`Self::stop_deferring`].
    pub(crate) fn defer(&mut self) {
        self.deferred = Some(BytesMut::new());
    }

    pub(crate) fn stop_deferring(&mut self) {
        if let Some(deferred) = self.deferred.take() {
            self.tail.extend_from_slice(&deferred);
        }
    }

    /// For what is not held back: headers, SASL frames, open, close.
    pub(crate) fn direct(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends an AMQP frame.
    pub(crate) fn frame(&mut self, channel: u16, performative: &Performative) {
        let buffer = self.deferred.as_mut().unwrap_or(&mut self.tail);
        codec::encode_frame(buffer, channel, performative);
    }

    /// Appends one transfer frame with as much of `payload` as fits into `frame_size_max`, and
    /// takes that off `payload`. Sets `more` to whether something is left, or is to come (`open`).
    /// Returns the frame's size.
    pub(crate) fn transfer(
        &mut self,
        channel: u16,
        transfer: &mut Transfer,
        payload: &mut [Bytes; 2],
        frame_size_max: usize,
        open: bool,
    ) -> usize {
        let length = payload[0].len() + payload[1].len();
        transfer.more = open || length + TRANSFER_FIELDS_GUESS > frame_size_max;
        let start = self.tail.len();
        codec::encode_transfer(&mut self.tail, channel, transfer, &[]);
        // A transfer that asks for more room than the frame has cannot be; one byte at least
        // keeps things moving.
        let room = frame_size_max.saturating_sub(self.tail.len() - start).max(1);
        let more = open || length > room;
        if more != transfer.more {
            transfer.more = more;
            self.tail.truncate(start);
            codec::encode_transfer(&mut self.tail, channel, transfer, &[]);
        }
        let taken = length.min(room);
        let frame_size = self.tail.len() - start + taken;
        if let Some(size_field) = self.tail.get_mut(start..start + 4) {
            size_field.copy_from_slice(&(frame_size as u32).to_be_bytes());
        }
        let mut left = taken;
        for piece in payload {
            let count = left.min(piece.len());
            if count > 0 {
                let part = piece.split_to(count);
                self.append(part);
            }
            left -= count;
        }
        frame_size
    }

    fn append(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let copied = self.tail.split().freeze();
            self.chained_bytes += copied.len();
            self.chain.push_back(copied);
        }
        self.chained_bytes += bytes.len();
        self.chain.push_back(bytes);
    }

    /// The first contiguous piece.
    pub(crate) fn first(&self) -> &[u8] {
        self.chain.front().map_or(&self.tail[..], |bytes| &bytes[..])
    }

    /// All pieces, as many as fit into `out`; returns how many.
    pub(crate) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.chain.iter().map(|bytes| &bytes[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (slot, piece) in out.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Takes `count` written bytes off.
    pub(crate) fn written(&mut self, mut count: usize) {
        while count > 0 {
            let Some(front) = self.chain.front_mut() else { break };
            let part = count.min(front.len());
            front.advance(part);
            count -= part;
            self.chained_bytes -= part;
            if front.is_empty() {
                self.chain.pop_front();
            }
        }
        let part = count.min(self.tail.len());
        self.tail.advance(part);
        if self.tail.is_empty() {
            if self.tail.capacity() > IDLE_CAPACITY_BYTES_MAX {
                self.tail = BytesMut::new();
            } else {
                self.tail.clear();
            }
        }
    }
}
