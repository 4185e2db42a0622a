//! An AMQP session: its channels, windows, handles and deliveries.
//!
//! ```text
//!              begin received, answered          end received, answered
//!   (server) ------------------------> Mapped --------------------------> gone
//!              begin sent                 |
//!   (client) ----------> BeginSent        | end sent (own wish, or a violation)
//!                            |            v
//!                            +-------> EndSent --- end received ---> gone
//!                begin received
//! ```
//! In `EndSent` all frames but end are ignored (2.5.5), and the links are gone already.

mod dispositions;
mod frames;
mod window;

use std::collections::VecDeque;

use self::{
    dispositions::Runs,
    window::{IncomingWindow, OutgoingWindow},
};
use crate::{
    connection::{
        Connection,
        numbers::{FreeNumbers, NumberTable},
    },
    delivery::UnsettledRing,
    event::{AmqpSessionId, DeliveryRef, LinkId},
    link::outgoing::{QueuedDelivery, Sending},
    types::{Begin, Flow, Performative},
};

/// Transfers that this end may have under way; it is bounded by the peer's window only, so the
/// number says "many".
const OUTGOING_WINDOW: u32 = i32::MAX as u32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AmqpSessionState {
    /// Client role: begin is not answered yet.
    BeginSent,
    /// Both ends have begun.
    Mapped,
    /// This end has ended it; the peer's end is awaited.
    EndSent,
}

/// One AMQP session of a connection.
#[derive(Debug)]
pub(crate) struct AmqpSession {
    pub(crate) state: AmqpSessionState,
    pub(crate) local_channel: u16,
    pub(crate) remote_channel: Option<u16>,
    pub(crate) incoming: IncomingWindow,
    pub(crate) outgoing: OutgoingWindow,
    /// Highest handle that the peer takes.
    pub(crate) remote_handle_max: u32,
    /// Links by the peer's handles.
    pub(crate) handles: NumberTable<LinkId>,
    pub(crate) free_handles: FreeNumbers,
    pub(crate) links: Vec<LinkId>,
    /// Deliveries that the peer sent.
    pub(crate) received: UnsettledRing,
    /// Deliveries that this end sent.
    pub(crate) sent: UnsettledRing,
    pub(crate) next_delivery_id: u32,
    /// Deliveries not begun, in order of their ids.
    pub(crate) queue: VecDeque<QueuedDelivery>,
    /// Deliveries of which some frames are out, at most one of each link; they take turns.
    pub(crate) sending: VecDeque<Sending>,
    /// Whether a delivery under way comes before the next one of `queue`.
    pub(crate) sending_first: bool,
    /// Whether it stands in the connection's list of those that can send.
    pub(crate) ready: bool,
    /// Whether it stands in the connection's list of those with unwritten dispositions.
    pub(crate) dirty: bool,
    runs: Runs,
}

impl AmqpSession {
    pub(crate) fn new(state: AmqpSessionState, local_channel: u16, config: &crate::Config) -> Self {
        Self {
            state,
            local_channel,
            remote_channel: None,
            incoming: IncomingWindow::new(config.incoming_window, 0),
            outgoing: OutgoingWindow::new(config.first_serial),
            remote_handle_max: u32::MAX,
            handles: NumberTable::new(),
            free_handles: FreeNumbers::default(),
            links: Vec::new(),
            received: UnsettledRing::default(),
            sent: UnsettledRing::default(),
            next_delivery_id: config.first_serial,
            queue: VecDeque::new(),
            sending: VecDeque::new(),
            sending_first: false,
            ready: false,
            dirty: false,
            runs: Runs::default(),
        }
    }

    /// This end's begin.
    fn begin(&self, config: &crate::Config) -> Performative {
        Performative::Begin(Box::new(Begin {
            remote_channel: self.remote_channel,
            next_outgoing_id: self.outgoing.next_id(),
            incoming_window: self.incoming.size(),
            outgoing_window: OUTGOING_WINDOW,
            handle_max: config.handle_max,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: None,
        }))
    }

    /// Takes the peer's begin.
    fn mapped(&mut self, remote_channel: u16, begin: &Begin) {
        self.remote_channel = Some(remote_channel);
        self.incoming.set_next_id(begin.next_outgoing_id);
        self.outgoing.update(None, begin.incoming_window);
        self.remote_handle_max = begin.handle_max;
    }

    /// A flow with the AMQP session's half; the whole incoming window is stated.
    pub(crate) fn flow(&mut self) -> Flow {
        self.incoming.stated();
        Flow {
            next_incoming_id: (self.state != AmqpSessionState::BeginSent).then(|| self.incoming.next_id()),
            incoming_window: self.incoming.size(),
            next_outgoing_id: self.outgoing.next_id(),
            outgoing_window: OUTGOING_WINDOW,
            ..Flow::default()
        }
    }

    /// Forgets all handles and deliveries; returns those that waited to be sent, and their bytes.
    pub(crate) fn drop_everything(&mut self) -> (Vec<DeliveryRef>, usize) {
        self.handles = NumberTable::new();
        self.received = UnsettledRing::default();
        self.sent = UnsettledRing::default();
        self.drop_waiting(|_| true)
    }

    /// Drops what waits to be sent on a link; returns it, and its bytes.
    pub(crate) fn drop_outgoing(&mut self, link: LinkId) -> (Vec<DeliveryRef>, usize) {
        self.drop_waiting(|other| other == link)
    }

    fn drop_waiting(&mut self, is_dropped: impl Fn(LinkId) -> bool) -> (Vec<DeliveryRef>, usize) {
        let (mut dropped, mut bytes) = (Vec::new(), 0);
        let mut keep = |delivery: &QueuedDelivery| {
            let keep = !is_dropped(delivery.link);
            if !keep {
                dropped.push(delivery.reference());
                bytes += delivery.bytes();
            }
            keep
        };
        self.sending.retain(|sending| keep(&sending.delivery));
        self.queue.retain(|queued| keep(queued));
        (dropped, bytes)
    }
}

impl Connection {
    pub(crate) fn amqp_session(&mut self, id: AmqpSessionId) -> Option<&mut AmqpSession> {
        self.sessions.get_mut(id.0)
    }
}
