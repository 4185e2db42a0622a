//! What an engine writes, read as its peer reads it.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    Connection,
    codec::{Frame, FrameKind, decode_frame, frame_size},
    types::{Attach, Close, Flow, Performative, Role, SaslFrame, Transfer},
};

const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";
const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";

/// A link as the peer knows it by the engine's handle.
#[derive(Debug)]
struct WireLink {
    /// The engine's role.
    role: Role,
    /// Whether a delivery has begun and not ended.
    under_way: bool,
}

#[derive(Default, Debug)]
struct WireSession {
    ended: bool,
    links: HashMap<u32, WireLink>,
    last_delivery_id: Option<u32>,
}

/// The peer's end of the wire: checks each frame for what must hold whatever the peer has sent.
#[derive(Default, Debug)]
pub(super) struct Wire {
    unread: BytesMut,
    sasl: bool,
    sessions: HashMap<u16, WireSession>,
    /// Bytes read so far.
    pub(super) bytes: usize,
    /// Protocol headers read.
    pub(super) headers: u32,
    /// Code of the sasl-outcome.
    pub(super) sasl_outcome: Option<u8>,
    /// Open was read.
    pub(super) opened: bool,
    /// Close was read.
    pub(super) closed: Option<Close>,
    /// Deliveries that began.
    pub(super) deliveries: u64,
}

impl Wire {
    /// Takes at most `count` bytes from the engine.
    pub(super) fn transmit(&mut self, engine: &mut Connection, mut count: usize) {
        while count > 0 {
            let piece = engine.transmit();
            if piece.is_empty() {
                assert_eq!(engine.outbox_bytes(), 0, "nothing to transmit means nothing is left");
                break;
            }
            let taken = piece.len().min(count);
            self.unread.extend_from_slice(&piece[..taken]);
            engine.transmitted(taken);
            self.bytes += taken;
            count -= taken;
        }
        while self.read_one(engine.remote_max_frame_size()) {}
    }

    /// Takes bytes that somebody else transmitted.
    pub(super) fn read(&mut self, bytes: &[u8], frame_size_max: usize) {
        self.unread.extend_from_slice(bytes);
        self.bytes += bytes.len();
        while self.read_one(frame_size_max) {}
    }

    /// Takes everything.
    pub(super) fn transmit_all(&mut self, engine: &mut Connection) {
        self.transmit(engine, usize::MAX);
        assert!(self.unread.is_empty(), "what is written ends with a whole frame: {:?}", self.unread);
    }

    fn read_one(&mut self, frame_size_max: usize) -> bool {
        if self.unread.starts_with(b"AMQP") {
            if self.unread.len() < 8 {
                return false;
            }
            let header = self.unread.split_to(8);
            assert!(header == AMQP || header == SASL, "{header:?}");
            assert!(self.headers < 2 && !self.opened);
            self.headers += 1;
            self.sasl = header == SASL;
            return true;
        }
        let size = frame_size(&self.unread, u32::MAX).expect("a good size field");
        let Some(size) = size.filter(|&size| size <= self.unread.len()) else { return false };
        let frame: Bytes = self.unread.split_to(size).freeze();
        let kind = if self.sasl { FrameKind::Sasl } else { FrameKind::Amqp };
        match decode_frame(frame, kind).expect("a good frame") {
            Frame::Heartbeat => assert!(self.opened && self.closed.is_none()),
            Frame::Sasl(frame) => {
                assert!(self.sasl_outcome.is_none());
                if let SaslFrame::Outcome(outcome) = frame {
                    self.sasl_outcome = Some(outcome.code);
                }
            }
            Frame::Amqp { channel, performative, .. } => {
                let first = matches!(performative, Performative::Open(_));
                assert!(first || size <= frame_size_max, "{size} > {frame_size_max}: {performative:?}");
                self.performative(channel, performative);
            }
        }
        true
    }

    fn performative(&mut self, channel: u16, performative: Performative) {
        assert!(self.closed.is_none(), "nothing follows close: {performative:?}");
        assert_eq!(self.opened, !matches!(performative, Performative::Open(_)), "open first and once");
        match performative {
            Performative::Open(_) => self.opened = true,
            Performative::Close(close) => self.closed = Some(close),
            Performative::Begin(_) => {
                let old = self.sessions.insert(channel, WireSession::default());
                assert!(old.is_none_or(|session| session.ended), "the channel {channel} was free");
            }
            Performative::End(_) => self.session(channel).ended = true,
            Performative::Attach(attach) => self.attach(channel, &attach),
            Performative::Detach(detach) => {
                let link = self.session(channel).links.remove(&detach.handle);
                assert!(link.is_some(), "detach of a link that is attached");
            }
            Performative::Flow(flow) => self.flow(channel, &flow),
            Performative::Transfer(transfer) => self.transfer(channel, &transfer),
            Performative::Disposition(disposition) => {
                self.session(channel);
                let last = disposition.last.unwrap_or(disposition.first);
                assert!(last.wrapping_sub(disposition.first) < 1 << 31);
            }
        }
    }

    fn session(&mut self, channel: u16) -> &mut WireSession {
        let session = self.sessions.get_mut(&channel).expect("a channel that was begun");
        assert!(!session.ended, "nothing follows end");
        session
    }

    fn attach(&mut self, channel: u16, attach: &Attach) {
        let link = WireLink { role: attach.role, under_way: false };
        let old = self.session(channel).links.insert(attach.handle, link);
        assert!(old.is_none(), "the handle {} was free", attach.handle);
        assert!(attach.role == Role::Receiver || attach.initial_delivery_count.is_some());
    }

    fn flow(&mut self, channel: u16, flow: &Flow) {
        let session = self.session(channel);
        if let Some(handle) = flow.handle {
            assert!(session.links.contains_key(&handle), "flow of a link that is attached");
            assert!(flow.delivery_count.is_some() && flow.link_credit.is_some());
        }
    }

    fn transfer(&mut self, channel: u16, transfer: &Transfer) {
        let session = self.session(channel);
        let link = session.links.get_mut(&transfer.handle).expect("transfer on a link that is attached");
        assert_eq!(link.role, Role::Sender);
        let begins = !link.under_way;
        link.under_way = transfer.more && !transfer.aborted;
        if !begins {
            assert!(transfer.delivery_id.is_none());
            return;
        }
        let id = transfer.delivery_id.expect("a first transfer has a delivery-id");
        assert!(transfer.delivery_tag.is_some());
        if let Some(last) = session.last_delivery_id.replace(id) {
            assert!((id.wrapping_sub(last) as i32) > 0, "delivery-ids ascend: {id} after {last}");
        }
        self.deliveries += 1;
    }
}
