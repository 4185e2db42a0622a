//! Large messages on their way out: their rows are read as the client takes them.

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep_amqp::{DeliveryRef, LinkId, OutgoingDelivery};
use lockstep_broker::core::{BodyRef, Command};
use lockstep_model::{
    BodyId, Refusal, RequestId,
    limits::{BODY_PART_SIZE_BYTES, LARGE_MESSAGE_SIZE_BYTES},
};
use lockstep_protocol::message_mapping;

use super::{BodyWaiter, Connection, LinkBinding, outgoing_deliveries};

/// Large messages of one connection that are sent at a time. Each keeps at most two rows in memory,
/// the one that is sent and the next: 4 MiB together.
const STREAMS_MAX: usize = 2;
/// Rows that one connection has asked for at a time.
const ROWS_ASKED_MAX: usize = 2;
/// Bytes of a row that the engine is given at a time, so that other links have their turns.
const SLICE_BYTES: usize = 256 * 1024;
/// Unframed bytes of a message under which the engine is given the next ones.
const SLICE_BYTES_LOW: usize = 128 * 1024;

/// Who waits for a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowWaiter {
    /// A delivery.
    Link(LinkId),
    /// A peek, for the sections before the body.
    Request(RequestId),
}

/// One row that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    body: BodyId,
    row: u16,
    waiter: RowWaiter,
}

/// The streams of one connection, and the rows that they and others wait for.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Links with a [`Stream`] that has a place.
    links: Vec<LinkId>,
    /// Links whose client has shut the window in the middle of a message: while others wait they
    /// have no place, and no bytes in memory.
    parked: Vec<LinkId>,
    /// Links whose next message is a large one, and that wait for a place in `links`.
    waiting: VecDeque<LinkId>,
    asked: Vec<Wanted>,
    /// Rows that will be asked for when those before them have come.
    queued: VecDeque<Wanted>,
}

/// A large message on its way out.
#[derive(Debug)]
pub(super) struct Stream {
    body: BodyId,
    /// Rows that it has.
    rows: u16,
    /// Rows that were asked for.
    asked: u16,
    /// What is left of the row that is sent. Before the delivery has begun: the first row.
    row: Bytes,
    /// The row behind it, once it is read.
    next: Option<Bytes>,
    /// Rows that came.
    came: u16,
    /// Once it has begun.
    delivery: Option<DeliveryRef>,
    /// Bytes of the row that is sent, those that were sent among them.
    row_bytes: usize,
    /// It lost its place: from where in the row it goes on, which has to be read again.
    resumes_at: Option<usize>,
    /// The engine has all of it.
    is_given: bool,
}

impl Stream {
    fn new(body: BodyId, rows: u16) -> Self {
        Self {
            body,
            rows,
            asked: 1,
            row: Bytes::new(),
            next: None,
            came: 0,
            delivery: None,
            row_bytes: 0,
            resumes_at: None,
            is_given: false,
        }
    }

    /// Lets go of the bytes that the engine does not have.
    fn park(&mut self) {
        if self.is_given {
            return;
        }
        if self.resumes_at.is_none() {
            self.resumes_at = Some(self.row_bytes - self.row.len());
            self.row = Bytes::new();
            self.next = None;
            self.came -= 1;
        }
        // What is still on its way is not waited for.
        self.asked = self.came;
    }

    /// Whether the answer for this row is waited for.
    fn expects(&self, row: u16) -> bool {
        row + 1 == self.asked && self.asked == self.came + 1 && self.next.is_none()
    }

    /// The delivery, once it has begun.
    pub(super) fn delivery(&self) -> Option<DeliveryRef> {
        self.delivery
    }
}

/// Whether a message is sent row by row.
pub(super) fn is_large(body: &BodyRef) -> bool {
    body.bytes.is_none() && body.size_bytes as usize > LARGE_MESSAGE_SIZE_BYTES
}

impl Connection {
    /// The next message of a link is a large one: begins it, or what comes before that.
    pub(super) fn stream_next(&mut self, link: LinkId) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        let Some(delivery) = receiver.queue.front() else { return };
        let body = &delivery.body;
        if receiver.read_whole == Some(body.id) {
            let body = body.id;
            return self.read_whole(link, body);
        }
        match &mut receiver.stream {
            None if self.streams.links.len() >= STREAMS_MAX => {
                if !self.streams.waiting.contains(&link) {
                    self.streams.waiting.push_back(link);
                }
            }
            None => {
                // At most 4096, because the size is a `u32`.
                let rows = (body.size_bytes as usize / BODY_PART_SIZE_BYTES + 1) as u16;
                let id = body.id;
                receiver.stream = Some(Stream::new(id, rows));
                self.streams.links.push(link);
                self.ask_row(id, 0, RowWaiter::Link(link));
            }
            Some(stream) if stream.delivery.is_none() && stream.came > 0 => self.begin_stream(link),
            Some(_) => {}
        }
    }

    fn begin_stream(&mut self, link: LinkId) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        let (Some(delivery), Some(stream)) = (receiver.queue.front(), &mut receiver.stream) else { return };
        let facts = outgoing_deliveries::facts(delivery, receiver.mode);
        let message = match message_mapping::outgoing_first_part(&stream.row, &facts) {
            Ok(message) => message,
            Err(_) => {
                let body = stream.body;
                receiver.read_whole = Some(body);
                self.end_stream(link);
                return self.read_whole(link, body);
            }
        };
        let mut left = message.rest;
        let rest = left.split_to(left.len().min(SLICE_BYTES));
        let outgoing = OutgoingDelivery {
            prefix: message.prefix,
            rest,
            ..outgoing_deliveries::envelope(delivery, receiver.mode)
        };
        let Ok(sent) = self.engine.send_first_part(link, outgoing) else { return };
        stream.row = left;
        stream.delivery = Some(sent);
        let mut tokens = Vec::new();
        receiver.note_sent(sent.id, &mut tokens);
        if !tokens.is_empty() {
            self.commands.push_back(Command::Sent { link: receiver.outgoing, tokens });
        }
    }

    /// Asks for all of a message whose sections before the body are not in its first row. None is
    /// stored like that any more, but earlier versions did so with messages just over the limit.
    fn read_whole(&mut self, link: LinkId, body: BodyId) {
        let waiter = BodyWaiter::Link(link);
        if !self.body_waiters.get(&body).is_some_and(|waiters| waiters.contains(&waiter)) {
            self.request_body(body, waiter);
        }
    }

    /// Gives the engine what it can take of the messages under way.
    pub(super) fn pump_streams(&mut self) {
        let links = self.streams.links.clone();
        for link in links {
            self.pump_stream(link);
        }
        for link in self.streams.parked.clone() {
            self.resume(link);
        }
    }

    /// A stream whose client takes nothing leaves its place to others, if there are any.
    fn park(&mut self, link: LinkId) {
        if self.streams.waiting.is_empty() && self.streams.parked.is_empty() {
            return;
        }
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        let Some(stream) = &mut receiver.stream else { return };
        stream.park();
        self.streams.links.retain(|other| *other != link);
        self.streams.queued.retain(|wanted| wanted.waiter != RowWaiter::Link(link));
        self.streams.parked.push(link);
        self.wake_waiting();
    }

    /// A parked stream whose client takes more again goes on when there is a place.
    fn resume(&mut self, link: LinkId) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        let Some(stream) = &mut receiver.stream else { return };
        let Some(delivery) = stream.delivery else { return };
        let Some(unframed) = self.engine.unframed_bytes(delivery) else { return self.end_stream(link) };
        let takes_more = self.engine.peer_window(link) > 0 && unframed < SLICE_BYTES_LOW;
        if stream.is_given || !takes_more || self.streams.links.len() >= STREAMS_MAX {
            return;
        }
        let (body, row) = (stream.body, stream.came);
        stream.asked = row + 1;
        self.streams.parked.retain(|other| *other != link);
        self.streams.links.push(link);
        self.ask_row(body, row, RowWaiter::Link(link));
    }

    fn pump_stream(&mut self, link: LinkId) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        let Some(stream) = &mut receiver.stream else { return };
        let Some(delivery) = stream.delivery else {
            // The message may have gone back before it began.
            if receiver.queue.front().is_none_or(|next| next.body.id != stream.body) {
                self.end_stream(link);
            }
            return;
        };
        let mut wanted = None;
        let is_shut = self.engine.peer_window(link) == 0;
        loop {
            let Some(unframed) = self.engine.unframed_bytes(delivery) else { return self.end_stream(link) };
            if stream.row.is_empty()
                && let Some(next) = stream.next.take()
            {
                stream.row_bytes = next.len();
                stream.row = next;
                stream.came += 1;
            }
            // The next row is read while the second half of this one is sent.
            if stream.row.len() <= BODY_PART_SIZE_BYTES / 2
                && stream.next.is_none()
                && stream.asked == stream.came
                && stream.asked < stream.rows
            {
                wanted = Some((stream.body, stream.asked));
                stream.asked += 1;
            }
            let is_last_row = stream.came == stream.rows;
            // What waits for a window in the engine holds up the connection's other links.
            if is_shut || unframed >= SLICE_BYTES_LOW || (stream.row.is_empty() && !is_last_row) {
                break;
            }
            let slice = stream.row.split_to(stream.row.len().min(SLICE_BYTES));
            let last = is_last_row && stream.row.is_empty();
            self.engine.send_part(delivery, slice, last);
            stream.is_given = last;
            if last {
                break;
            }
        }
        if let Some((body, row)) = wanted {
            self.ask_row(body, row, RowWaiter::Link(link));
        }
        if is_shut {
            self.park(link);
        }
    }

    /// A message is out, or will not be sent: another one may begin. The link does not wait for a
    /// place any more either.
    pub(super) fn end_stream(&mut self, link: LinkId) {
        self.streams.waiting.retain(|other| *other != link);
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if receiver.stream.take().is_none() {
            return;
        }
        self.streams.links.retain(|other| *other != link);
        self.streams.parked.retain(|other| *other != link);
        self.streams.queued.retain(|wanted| wanted.waiter != RowWaiter::Link(link));
        self.mark_ready(link);
        self.wake_waiting();
    }

    #[cfg(test)]
    pub(super) fn streams_waiting(&self) -> usize {
        self.streams.waiting.len()
    }

    /// Whoever waits for a place tries again, in order; those that find none wait again. Waking
    /// just one could be in vain: perhaps it has nothing to send any more.
    fn wake_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.streams.waiting) {
            self.mark_ready(waiting);
        }
    }

    /// Asks the broker for a row, now or when those before it have come.
    pub(super) fn ask_row(&mut self, body: BodyId, row: u16, waiter: RowWaiter) {
        self.streams.queued.push_back(Wanted { body, row, waiter });
        self.ask_queued_rows();
    }

    fn ask_queued_rows(&mut self) {
        let Some((_, broker)) = &self.namespace else { return };
        while self.streams.asked.len() < ROWS_ASKED_MAX
            && let Some(wanted) = self.streams.queued.pop_front()
        {
            broker.read_body_part(wanted.body, wanted.row);
            self.streams.asked.push(wanted);
        }
    }

    /// A row was read.
    pub(super) fn row_read(&mut self, body: BodyId, row: u16, bytes: Result<Option<Bytes>, Refusal>) {
        let position = self.streams.asked.iter().position(|asked| (asked.body, asked.row) == (body, row));
        if let Some(position) = position {
            match self.streams.asked.swap_remove(position).waiter {
                RowWaiter::Request(request) => {
                    let head = bytes.map(|row| row.as_ref().map(message_mapping::head).transpose());
                    match head {
                        // As in `read_whole`.
                        Ok(Err(_)) => self.request_body(body, BodyWaiter::Request(request)),
                        Ok(head) => self.body_for_request(request, body, &head),
                        Err(refusal) => self.body_for_request(request, body, &Err(refusal)),
                    }
                }
                RowWaiter::Link(link) => self.row_for_link(link, body, row, bytes),
            }
        }
        self.ask_queued_rows();
    }

    fn row_for_link(&mut self, link: LinkId, body: BodyId, row: u16, bytes: Result<Option<Bytes>, Refusal>) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        let Some(stream) = receiver.stream.as_mut().filter(|stream| stream.body == body) else { return };
        match bytes {
            _ if !stream.expects(row) => {}
            Ok(Some(bytes)) if let Some(at) = stream.resumes_at.take() => {
                stream.row_bytes = bytes.len();
                stream.row = bytes.slice(at.min(bytes.len())..);
                stream.came += 1;
            }
            Ok(Some(bytes)) if row == 0 => {
                stream.row_bytes = bytes.len();
                stream.row = bytes;
                stream.came = 1;
                self.mark_ready(link);
            }
            Ok(Some(bytes)) => stream.next = Some(bytes),
            Ok(None) => {
                // The row vanished because its lock did: somebody else has settled the message.
                tracing::debug!(%body, "a message was settled elsewhere before it was sent");
                match stream.delivery {
                    None => {
                        self.end_stream(link);
                        self.body_for_link(link, body, &Ok(None));
                    }
                    Some(delivery) => {
                        receiver.forget_sent(delivery.id);
                        self.engine.abort_send(delivery);
                        self.end_stream(link);
                    }
                }
            }
            Err(refusal) => self.end_receiver(link, &refusal),
        }
    }
}

/// What the first row of a large message is worth to a peek.
pub(super) fn is_head_only(body: &BodyRef) -> bool {
    let length = body.bytes.as_ref().map_or(0, Bytes::len);
    body.size_bytes as usize > LARGE_MESSAGE_SIZE_BYTES && length < body.size_bytes as usize
}
