//! What the engine says and what it is told, as data.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::types::{
    Attach, DeliveryState, Error, Fields, Open, ReceiverSettleMode, SenderSettleMode, Source, TargetTerminus,
};

/// Names an AMQP session of one connection; never reused within the connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AmqpSessionId(pub u32);

/// Names a link of one connection; never reused within the connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u32);

/// Names one unsettled delivery, incoming or outgoing, of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryRef {
    /// Its link.
    pub link: LinkId,
    /// Its delivery-id on the wire.
    pub id: u32,
}

/// Deliveries that are settled together. Many clients settle one at a time, which takes no memory
/// of its own.
pub type Deliveries = SmallVec<[DeliveryRef; 2]>;

/// sasl-outcome codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SaslCode {
    /// Authenticated.
    Ok = 0,
    /// Credentials are wrong.
    Auth = 1,
    /// System error.
    Sys = 2,
    /// Permanent system error.
    SysPerm = 3,
    /// Transient system error.
    SysTemp = 4,
}

/// Why and how the connection is over.
#[derive(Clone, PartialEq, Debug)]
pub enum CloseReason {
    /// The peer sent close.
    Remote(Option<Error>),
    /// This end closed, and the peer answered or need not.
    Local(Option<Error>),
    /// The transport ended without close.
    Lost,
    /// SASL ended without success.
    SaslFailed,
}

/// How to answer an attach. The engine echoes the link's name and inverts its role.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AttachReply {
    /// Usually the peer's own, echoed.
    pub snd_settle_mode: Option<SenderSettleMode>,
    /// Usually the peer's own, echoed.
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    /// Present on success, for either role.
    pub source: Option<Source>,
    /// Present on success, for either role.
    pub target: Option<TargetTerminus>,
    /// Largest message in bytes that this end takes on the link; also bounds reassembly.
    pub max_message_size: Option<u64>,
    /// Reports large deliveries in parts; `None` keeps each until it is whole.
    pub parts: Option<Parts>,
    /// Deliveries may have the id of one of the link that is not settled yet: each is reported, and
    /// one disposition settles them. Only for links on which an outcome says nothing of a delivery
    /// but that it came.
    pub takes_repeated_ids: bool,
    /// Link properties.
    pub properties: Option<Fields>,
    /// Capabilities.
    pub offered_capabilities: Vec<crate::types::Symbol>,
}

/// How a link reports messages that are too large to be kept in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Deliveries of more payload bytes than this are reported while they arrive. At least
    /// `part_bytes`.
    pub over_bytes: usize,
    /// Payload bytes of each part but the last, which has fewer. Not 0.
    pub part_bytes: usize,
}

/// A message to be sent on a link.
#[derive(Clone, PartialEq, Debug)]
pub struct OutgoingDelivery {
    /// At most 32 bytes.
    pub tag: Bytes,
    /// Usually 0.
    pub message_format: u32,
    /// Whether this end forgets it at once.
    pub settled: bool,
    /// First part of the payload (rewritten sections).
    pub prefix: Bytes,
    /// Second part of the payload (sections that travel verbatim).
    pub rest: Bytes,
}

/// What happened on a connection, in order of the peer's frames.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The client chose a SASL mechanism; answer with `sasl_outcome` or `sasl_challenge`.
    SaslInit {
        /// Chosen mechanism.
        mechanism: crate::types::Symbol,
        /// Its first data.
        initial_response: Option<Bytes>,
        /// Host that the client means.
        hostname: Option<Box<str>>,
    },
    /// Answer to a challenge.
    SaslResponse(Bytes),
    /// SASL succeeded or failed (client role).
    SaslOutcome(u8),
    /// The peer's open. Server role: answer with `open` (or `close`).
    Opened(Box<Open>),
    /// The peer began an AMQP session (server role: it is answered already), or answered ours.
    AmqpSessionBegun(AmqpSessionId),
    /// The peer wants a link: answer with `accept` or `refuse`, at any time. Until then its
    /// transfers and flows are kept within bounds. Client role: the peer's answer to ours is
    /// [`Event::AttachAnswered`].
    Attach {
        /// Names the link from now on.
        link: LinkId,
        /// Its AMQP session.
        session: AmqpSessionId,
        /// As it came.
        attach: Box<Attach>,
    },
    /// The peer answered an attach of this end (client role).
    AttachAnswered {
        /// The link.
        link: LinkId,
        /// As it came; a null terminus announces a refusal, a `Detached` follows.
        attach: Box<Attach>,
    },
    /// The peer gave up a link whose attach was not answered yet; it was answered with detach.
    AttachCancelled(LinkId),
    /// A whole message arrived.
    Delivery {
        /// Which; needed for `settle` unless `settled`.
        delivery: DeliveryRef,
        /// As it came.
        tag: Bytes,
        /// 0 unless it came.
        message_format: u32,
        /// Whether the peer forgot it already.
        settled: bool,
        /// State at the sender, a transaction for one.
        state: Option<DeliveryState>,
        /// The message.
        payload: Bytes,
    },
    /// The next part of a delivery that is larger than [`Parts::over_bytes`]. What comes after the
    /// `first` is one of: more parts up to the `last`; `DeliveryAborted`; `DeliveryTooLarge`; the
    /// end of the link.
    DeliveryPart {
        /// Which; needed for `settle` unless `settled`.
        delivery: DeliveryRef,
        /// No part came before.
        first: bool,
        /// The delivery is whole.
        last: bool,
        /// 0 unless it came.
        message_format: u32,
        /// Whether the peer forgot it already; final in the last part.
        settled: bool,
        /// State at the sender, a transaction for one; final in the last part.
        state: Option<DeliveryState>,
        /// Exactly [`Parts::part_bytes`], or less in the last part (perhaps nothing).
        payload: Bytes,
    },
    /// The sender gave up a delivery of which parts were reported: they count for nothing.
    DeliveryAborted(DeliveryRef),
    /// A delivery on this link passed `max_message_size`: it was discarded, with the parts of it
    /// that were reported. The engine has sent nothing yet: reject it (unless `settled`) and detach.
    DeliveryTooLarge {
        /// Which.
        delivery: DeliveryRef,
        /// Whether the peer forgot it already.
        settled: bool,
        /// Whether it had arrived whole (then the link may stay).
        complete: bool,
    },
    /// The peer gave deliveries a state or settled them, in ascending order of their ids. Our
    /// own deliveries if we are their sender, else the peer's.
    Disposed {
        /// Deliveries of one link that were unsettled; never empty.
        deliveries: Deliveries,
        /// The peer forgot them. (The engine then forgets them too.)
        settled: bool,
        /// The state, if one was given.
        state: Option<DeliveryState>,
    },
    /// What may be sent on a link changed: by the peer's flow, or because the AMQP session's window
    /// or the outbox let messages pass again. On a link on which the peer sends: the peer's answer
    /// to `drain`.
    Credit {
        /// The link.
        link: LinkId,
        /// Messages that may be sent now.
        credit: u32,
        /// The peer asks to use it up: answer with `drained` when nothing is available.
        drain: bool,
    },
    /// These deliveries of this end were not on the wire, or not whole, when their link ended.
    /// Reported before that end.
    CutOff {
        /// Which; never empty.
        deliveries: Vec<DeliveryRef>,
    },
    /// The peer detached a link. Answer with `detach` when its work is done; until then its
    /// deliveries can still be settled. Nothing needs to be answered (`answered`) if this end
    /// detached or refused the link first, or ended it for a violation or because another link
    /// took its name.
    Detached {
        /// The link.
        link: LinkId,
        /// Whether it ended for good.
        closed: bool,
        /// Why.
        error: Option<Error>,
        /// Whether nothing needs to be answered.
        answered: bool,
    },
    /// The AMQP session ended with all its links (each reported here only): by the peer (it is
    /// answered), by `end`, or for a violation. It comes when the first end is received or sent.
    AmqpSessionEnded {
        /// Which.
        session: AmqpSessionId,
        /// Its links, pending ones too.
        links: Vec<LinkId>,
        /// Why, if the peer said so or broke a rule.
        error: Option<Error>,
    },
    /// The connection is over; nothing follows. What is left in the outbox must still be
    /// written, then the transport closed.
    Closed(CloseReason),
}
