//! A sender's message that is too large to be in memory as a whole.

use bytes::{Bytes, BytesMut};
use lockstep_amqp::message::{BodyScanner, scan_head};
use lockstep_model::{IncomingMessage, MessageSessionId, Refusal, SizeLimit, limits};

use super::{
    incoming::{IncomingContext, MESSAGE_FORMAT_SINGLE, UNKNOWN_FORMAT, examine},
    malformed,
};
use crate::names::MESSAGE_FORMAT_BATCH;

/// A message that arrives in parts, and the rows that are made of them: like
/// [`incoming`](fn@super::incoming) it gives the message a message-id if it has none, so the rows
/// need not be cut where the parts are.
///
/// Delivery-annotations behind the body are left out: they are for the broker, and the broker
/// has no use for them.
#[derive(Debug)]
pub struct LargeMessage {
    scanner: BodyScanner,
    /// Bytes before the body, generated ones too.
    head_bytes: u64,
    /// What stands before the body; without the bytes.
    facts: IncomingMessage,
    /// Bytes given out in rows.
    given_bytes: u64,
    /// Bytes not given out yet; less than a row between two calls, but for a few.
    kept: BytesMut,
}

impl LargeMessage {
    /// Looks at the sections before the body, which have to be in the first part, and takes it in.
    /// Full rows are appended to `rows`.
    ///
    /// # Errors
    /// As [`incoming`](fn@super::incoming); `TooLarge` for a batch, whatever its size, and
    /// `InvalidArgument` for more than [`limits::LARGE_MESSAGE_HEAD_SIZE_BYTES_MAX`] before the body.
    pub fn begin(
        first_part: Bytes,
        message_format: u32,
        context: IncomingContext,
        new_message_id: &mut dyn FnMut() -> [u8; 16],
        rows: &mut Vec<Bytes>,
    ) -> Result<Self, Refusal> {
        match message_format {
            MESSAGE_FORMAT_SINGLE => {}
            MESSAGE_FORMAT_BATCH => {
                let max_bytes = limits::BATCH_SIZE_BYTES_MAX;
                return Err(Refusal::TooLarge { limit: SizeLimit::Batch, max_bytes });
            }
            _ => return Err(UNKNOWN_FORMAT),
        }
        let head = scan_head(&first_part).map_err(malformed)?;
        if head.body.start > limits::LARGE_MESSAGE_HEAD_SIZE_BYTES_MAX {
            return Err(Refusal::InvalidArgument(
                "header, annotations and properties of a message over 1 MiB may not exceed 256 KiB together",
            ));
        }
        let mut facts = examine(first_part, &head, context, new_message_id)?;
        let first_part = std::mem::take(&mut facts.encoded);
        let head_bytes = head.body.start + facts.generated_bytes as usize;
        let mut large = Self {
            scanner: BodyScanner::new(),
            head_bytes: head_bytes as u64,
            facts,
            given_bytes: 0,
            kept: BytesMut::new(),
        };
        large.scanner.push(&first_part[head_bytes..]).map_err(malformed)?;
        large.keep(first_part, rows);
        Ok(large)
    }

    /// `group-id`, if it was sent.
    #[must_use]
    pub const fn message_session(&self) -> Option<&MessageSessionId> {
        self.facts.message_session.as_ref()
    }

    /// Bytes that wait until they fill a row.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Takes the next part in. Full rows are appended to `rows`.
    ///
    /// # Errors
    /// `Malformed`; the message is of no use any more then.
    pub fn push(&mut self, part: Bytes, rows: &mut Vec<Bytes>) -> Result<(), Refusal> {
        self.scanner.push(&part).map_err(malformed)?;
        self.keep(part, rows);
        Ok(())
    }

    /// The message is whole: what is known of it, with its last row, which is never full and
    /// perhaps empty, as `encoded`.
    ///
    /// # Errors
    /// `Malformed` if it is not.
    pub fn finish(self) -> Result<IncomingMessage, Refusal> {
        self.scanner.finish().map_err(malformed)?;
        let Self { kept, facts, .. } = self;
        Ok(IncomingMessage { encoded: kept.freeze(), ..facts })
    }

    /// Makes rows of what is kept and `part`, as far as it is clear that it belongs to the message.
    fn keep(&mut self, mut part: Bytes, rows: &mut Vec<Bytes>) {
        const ROW: usize = limits::BODY_PART_SIZE_BYTES;
        let clear = self.head_bytes + self.scanner.body_bytes() - self.given_bytes;
        let mut clear = usize::try_from(clear).unwrap_or(usize::MAX);
        if self.kept.is_empty() && part.len() == ROW && clear >= ROW {
            // As it came, not copied.
            self.given_bytes += ROW as u64;
            rows.push(part);
            return;
        }
        loop {
            let fits = part.split_to(part.len().min(ROW.saturating_sub(self.kept.len())));
            self.kept.extend_from_slice(&fits);
            if self.kept.len() < ROW || clear < ROW {
                break;
            }
            let row = self.kept.split_to(ROW).freeze();
            let mut kept = BytesMut::with_capacity(ROW);
            kept.extend_from_slice(&self.kept);
            self.kept = kept;
            self.given_bytes += ROW as u64;
            clear -= ROW;
            rows.push(row);
        }
        self.kept.extend_from_slice(&part);
        if self.scanner.has_trailer() {
            self.kept.truncate(clear);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use lockstep_amqp::message::scan;

    use super::*;
    use crate::message_mapping::incoming;

    const ROW: usize = limits::BODY_PART_SIZE_BYTES;
    const TRAILER: &[u8] = &[0x00, 0x53, 0x71, 0xc1, 1, 0];

    fn id() -> [u8; 16] {
        [0xab; 16]
    }

    /// A message with a message-id of the given bytes before and in its one data section.
    const CONTEXT: IncomingContext = IncomingContext {
        duplicates: crate::message_mapping::DuplicateDetection::Off,
        now: lockstep_model::Timestamp::from_unix_millis(0),
    };

    fn message(with_id: bool, body_bytes: usize) -> Bytes {
        let mut message = BytesMut::new();
        if with_id {
            message.put_slice(&[0x00, 0x53, 0x73, 0xc0, 4, 1, 0xa1, 1, b'm']);
        }
        message.put_slice(&[0x00, 0x53, 0x75, 0xb0]);
        message.put_u32(body_bytes as u32);
        message.extend((0..body_bytes).map(|at| (at / 7) as u8));
        message.freeze()
    }

    fn in_parts(message: &Bytes) -> Result<(Vec<Bytes>, IncomingMessage), Refusal> {
        let mut rows = Vec::new();
        let mut parts = message.chunks(ROW).map(Bytes::copy_from_slice);
        let mut large = LargeMessage::begin(parts.next().expect("one"), 0, CONTEXT, &mut id, &mut rows)?;
        for part in parts {
            large.push(part, &mut rows)?;
        }
        let last = large.finish()?;
        assert!(rows.iter().all(|row| row.len() == ROW) && last.encoded.len() < ROW);
        Ok((rows, last))
    }

    fn joined((rows, last): (Vec<Bytes>, IncomingMessage)) -> Bytes {
        Bytes::from([rows.concat(), last.encoded.to_vec()].concat())
    }

    #[test]
    fn what_is_stored_in_parts_is_what_would_be_stored_whole() {
        for with_id in [true, false] {
            // Around the places where a row ends.
            for bytes in [2 * ROW, 2 * ROW - 17, 2 * ROW - 8, 2 * ROW - 60, ROW + 100_000, 3 * ROW + 5] {
                let message = message(with_id, bytes);
                let whole = incoming(message.clone(), 0, CONTEXT, &mut id).expect("a message").remove(0);
                let (rows, last) = in_parts(&message).expect("a message");
                assert_eq!(last.generated_bytes, whole.generated_bytes);
                assert!(joined((rows, last)) == whole.encoded, "{with_id} {bytes}");
            }
        }
    }

    #[test]
    fn parts_that_need_no_change_are_not_copied() {
        let first = message(true, 3 * ROW).slice(..ROW);
        let mut rows = Vec::new();
        LargeMessage::begin(first.clone(), 0, CONTEXT, &mut id, &mut rows).expect("a message");
        assert_eq!(rows[0].as_ptr(), first.as_ptr());
    }

    #[test]
    fn delivery_annotations_behind_the_body_are_left_out_wherever_a_part_ends() {
        for missing in 0..=TRAILER.len() + 1 {
            let body = message(true, 2 * ROW - 17 - missing);
            let sent = Bytes::from([&body[..], TRAILER].concat());
            assert!(joined(in_parts(&sent).expect("a message")) == body, "{missing}");
        }
    }

    #[test]
    fn a_message_that_ends_too_early_or_goes_on_is_refused() {
        let whole = message(true, 2 * ROW);
        assert!(matches!(in_parts(&whole.slice(..whole.len() - 1)), Err(Refusal::Malformed(_))));
        let longer = Bytes::from([&whole[..], &[0x00, 0x53, 0x73, 0x45]].concat());
        assert!(matches!(in_parts(&longer), Err(Refusal::Malformed(_))));
        assert!(scan(&longer).is_err());
    }

    #[test]
    fn a_batch_and_an_unknown_format_are_refused() {
        let first = message(true, 3 * ROW).slice(..ROW);
        let begin = |format| LargeMessage::begin(first.clone(), format, CONTEXT, &mut id, &mut Vec::new());
        let too_large = begin(MESSAGE_FORMAT_BATCH).expect_err("a batch");
        assert!(matches!(too_large, Refusal::TooLarge { limit: SizeLimit::Batch, .. }));
        assert_eq!(begin(7).expect_err("no format"), UNKNOWN_FORMAT);
    }

    #[test]
    fn the_sections_before_the_body_have_a_bound() {
        let mut message = BytesMut::new();
        let value = limits::LARGE_MESSAGE_HEAD_SIZE_BYTES_MAX;
        message.put_slice(&[0x00, 0x53, 0x74, 0xd1]);
        message.put_u32((4 + 3 + 5 + value) as u32);
        message.put_u32(2);
        message.put_slice(&[0xa1, 1, b'k', 0xb1]);
        message.put_u32(value as u32);
        message.put_bytes(b'v', value);
        message.put_slice(&[0x00, 0x53, 0x75, 0xb0, 1, 0, 0, 0]);
        message.put_bytes(0, ROW);
        let first = message.freeze().slice(..ROW);
        let refused = LargeMessage::begin(first, 0, CONTEXT, &mut id, &mut Vec::new()).expect_err("too much");
        assert!(matches!(refused, Refusal::InvalidArgument(_)));
    }
}
