//! What the generator writes into a message's body to recognise it: who sent it, which one it is,
//! and when.

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::{
    OutgoingDelivery,
    message::{self, Header, Properties, section},
    types::Value,
};

const MAGIC: &[u8; 8] = b"LSbench1";

/// Size of a stamp, in bytes, and so of the smallest body.
pub(super) const STAMP_BYTES: usize = 36;

/// The first bytes of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Names the run.
    pub(super) run: u64,
    /// What order is kept in: the sender, or the message session.
    pub(super) stream: u32,
    /// Counts from 0 within the stream.
    pub(super) sequence: u64,
    /// When it was sent (or should have been), in the run's nanoseconds.
    pub(super) sent_ns: u64,
}

impl Stamp {
    fn write(&self, out: &mut BytesMut) {
        out.put_slice(MAGIC);
        out.put_u64(self.run);
        out.put_u32(self.stream);
        out.put_u64(self.sequence);
        out.put_u64(self.sent_ns);
    }

    fn read(body: &[u8]) -> Option<Self> {
        let rest = body.strip_prefix(MAGIC.as_slice())?;
        let (run, rest) = rest.split_first_chunk::<8>()?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (sent_ns, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            run: u64::from_be_bytes(*run),
            stream: u32::from_be_bytes(*stream),
            sequence: u64::from_be_bytes(*sequence),
            sent_ns: u64::from_be_bytes(*sent_ns),
        })
    }

    /// Reads the stamp of a received message; `None` if something else sent it.
    ///
    /// # Errors
    /// When the bytes are no message.
    pub(super) fn of_message(payload: &[u8]) -> Result<Option<Self>> {
        let sections = message::scan(payload).context("the broker sent bytes that are no message")?;
        let Some(body) = payload.get(sections.body) else { bail!("a section lies outside of its message") };
        let content = match body {
            [0x00, 0x53, section::DATA, 0xa0, _, content @ ..] => content,
            [0x00, 0x53, section::DATA, 0xb0, _, _, _, _, content @ ..] => content,
            _ => return Ok(None),
        };
        Ok(Self::read(content))
    }
}

/// Makes messages of one body size.
#[derive(Clone, Debug)]
pub(super) struct MessageMaker {
    header: Bytes,
    filler: Bytes,
}

impl MessageMaker {
    /// For bodies of `size` bytes, or of a stamp if that is more, with what the header says about
    /// durability.
    pub(super) fn new(size: usize, durable: bool) -> Self {
        let mut header = BytesMut::new();
        message::encode_header(&mut header, &Header { durable: Some(durable), ..Header::default() });
        let filler =
            (0..size.saturating_sub(STAMP_BYTES)).map(|index| (index % 251) as u8).collect::<Vec<_>>();
        Self { header: header.freeze(), filler: filler.into() }
    }

    /// A message: header, properties (message-id, group-id if given), one data section.
    pub(super) fn delivery(&self, stamp: &Stamp, group_id: Option<&str>) -> OutgoingDelivery {
        let mut prefix = BytesMut::with_capacity(192);
        prefix.put_slice(&self.header);
        let message_id = format!("{:016x}-{:x}-{:x}", stamp.run, stamp.stream, stamp.sequence);
        let properties = Properties {
            message_id: Some(Value::String(message_id.into())),
            group_id: group_id.map(Into::into),
            ..Properties::default()
        };
        message::encode_properties(&mut prefix, &properties);
        prefix.put_slice(&[0x00, 0x53, section::DATA, 0xb0]);
        prefix.put_u32((STAMP_BYTES + self.filler.len()) as u32);
        stamp.write(&mut prefix);
        OutgoingDelivery {
            tag: Bytes::copy_from_slice(&stamp.sequence.to_be_bytes()),
            message_format: 0,
            settled: false,
            prefix: prefix.freeze(),
            rest: self.filler.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_stamp_and_its_size() {
        let stamp = Stamp { run: 7, stream: 3, sequence: u64::MAX, sent_ns: 12 };
        let delivery = MessageMaker::new(1024, true).delivery(&stamp, Some("group"));
        let message = [&delivery.prefix[..], &delivery.rest[..]].concat();
        assert_eq!(Stamp::of_message(&message).unwrap(), Some(stamp));
        let body = message::scan(&message).unwrap().body;
        assert_eq!(body.len(), 8 + 1024);
    }

    #[test]
    fn other_messages_have_no_stamp() {
        assert_eq!(Stamp::of_message(&[0x00, 0x53, 0x75, 0xa0, 1, 9]).unwrap(), None);
        assert!(Stamp::of_message(&[1, 2, 3]).is_err());
    }
}
