//! Large messages on their way in: their rows are handed to the broker as they fill, and what is not
//! stored yet holds their sender back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use lockstep_amqp::{AmqpSessionId, DeliveryRef, LinkId, Parts, types::DeliveryState};
use lockstep_broker::core::{Command, Enqueue, EnqueueParts, Reply};
use lockstep_model::{EntityId, Feature, Refusal, RequestId, UploadId, limits};
use lockstep_protocol::message_mapping::LargeMessage;
use rustc_hash::FxHashMap;

use super::{Connection, LinkBinding, requests::Pending};

/// Bytes of large messages of one connection that are not durable yet, at which the incoming
/// windows of the AMQP sessions that bring them are held shut.
const UNSTORED_BYTES_HOLD: usize = 4 * 1024 * 1024;
/// Bytes at which they are let go again.
const UNSTORED_BYTES_RELEASE: usize = 2 * 1024 * 1024;
/// Bytes at which the socket is not read, for peers that look at no window.
pub(super) const UNSTORED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same for all connections together. Each may have one row beyond it.
const UNSTORED_BYTES_PROCESS_MAX: usize = 64 * 1024 * 1024;
/// Large messages that may be under way on one connection at a time.
const UPLOADS_MAX: usize = 64;

/// How a sender's link reports large messages. What is taken as a whole has to be sent as a whole,
/// with the message-id that it may be given besides.
pub(super) const PARTS: Parts = Parts {
    over_bytes: limits::LARGE_MESSAGE_SIZE_BYTES - limits::GENERATED_MESSAGE_ID_SIZE_BYTES_MAX,
    part_bytes: limits::BODY_PART_SIZE_BYTES,
};

/// Bytes of large messages that are not durable yet, for all connections of the process.
pub(crate) type UnstoredTotal = Arc<AtomicUsize>;

/// One event about a large message.
pub(super) struct Part {
    pub(super) delivery: DeliveryRef,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) message_format: u32,
    pub(super) settled: bool,
    pub(super) state: Option<DeliveryState>,
    pub(super) payload: Bytes,
}

/// A message of which some parts came.
#[derive(Debug)]
struct Upload {
    id: UploadId,
    entity: EntityId,
    /// Rows that the broker was given.
    rows: u16,
    /// Or why the rest of it is thrown away.
    message: Result<LargeMessage, Refusal>,
}

/// The uploads of one connection.
#[derive(Debug)]
pub(super) struct Uploads {
    by_link: FxHashMap<LinkId, Upload>,
    /// Those whose end is with the broker, by its request, and why it refused one of their rows.
    finishing: FxHashMap<RequestId, (UploadId, Option<Refusal>)>,
    last_id: u64,
    unstored_bytes: usize,
    total: UnstoredTotal,
    /// AMQP sessions whose incoming window is held shut.
    held: Vec<AmqpSessionId>,
}

impl Uploads {
    pub(super) fn new(total: UnstoredTotal) -> Self {
        let (by_link, finishing) = Default::default();
        Self { by_link, finishing, last_id: 0, unstored_bytes: 0, total, held: Vec::new() }
    }

    /// The reply to a send. That of a message one row of which was refused says only that it is
    /// not there: the sender is told why the row was.
    pub(super) fn with_reason(&mut self, request: RequestId, reply: Reply) -> Reply {
        if self.finishing.is_empty() {
            return reply;
        }
        match (self.finishing.remove(&request), reply) {
            (Some((_, Some(reason))), Reply::Refused(_)) => Reply::Refused(reason),
            (_, reply) => reply,
        }
    }

    /// Whether more may be read from the socket. A connection that waits for nothing is always
    /// let go on: nothing would wake it.
    pub(super) fn may_read(&self) -> bool {
        self.unstored_bytes == 0
            || (self.unstored_bytes < UNSTORED_BYTES_MAX
                && self.total.load(Ordering::Relaxed) < UNSTORED_BYTES_PROCESS_MAX)
    }

    /// What arrived of large messages and is not durable, in bytes; some of it waits to fill a row.
    pub(super) fn held_bytes(&self) -> usize {
        let kept = |upload: &Upload| upload.message.as_ref().map_or(0, LargeMessage::kept_bytes);
        self.unstored_bytes + self.by_link.values().map(kept).sum::<usize>()
    }

    fn add(&mut self, bytes: usize) {
        self.unstored_bytes += bytes;
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&mut self, bytes: usize) {
        self.unstored_bytes -= bytes;
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.total.fetch_sub(self.unstored_bytes, Ordering::Relaxed);
    }
}

impl Connection {
    /// The next part of a large message arrived on a sender's link.
    pub(super) fn message_part(&mut self, part: Part) {
        let link = part.delivery.link;
        let Some(LinkBinding::Sender(sender)) = self.links.get(&link) else { return };
        let (delivery, settled, last) = (part.delivery, part.settled, part.last);
        let transactional = matches!(part.state, Some(DeliveryState::Transactional(_)));
        let mut rows = Vec::new();
        let mut upload = if part.first {
            let entity = sender.entity.id;
            let message = self.begin_upload(part, &mut rows);
            self.uploads.last_id += 1;
            Upload { id: UploadId(self.uploads.last_id), entity, rows: 0, message }
        } else {
            let Some(mut upload) = self.uploads.by_link.remove(&link) else { return };
            let pushed = upload.message.as_mut().map(|message| message.push(part.payload, &mut rows));
            if let Ok(Err(refusal)) = pushed {
                self.refuse_upload(&mut upload, refusal);
            }
            upload
        };
        if transactional && upload.message.is_ok() {
            self.refuse_upload(&mut upload, Refusal::NotSupported(Feature::Transactions));
        }
        if upload.message.is_ok() {
            rows.into_iter().for_each(|row| self.store_row(link, &mut upload, row));
        }
        if last {
            self.finish_upload(delivery, settled, upload);
        } else {
            self.uploads.by_link.insert(link, upload);
        }
        self.hold_back(link);
    }

    fn begin_upload(&mut self, part: Part, rows: &mut Vec<Bytes>) -> Result<LargeMessage, Refusal> {
        if self.uploads.by_link.len() >= UPLOADS_MAX || self.refuses_work() {
            return Err(Refusal::ServerBusy);
        }
        let context = self.incoming_context(part.delivery.link);
        let random = &mut self.random;
        let new_message_id = &mut || random.next_uuid();
        let message = LargeMessage::begin(part.payload, part.message_format, context, new_message_id, rows)?;
        match self.links.get(&part.delivery.link) {
            Some(LinkBinding::Sender(sender))
                if sender.entity.description.requires_session && message.message_session().is_none() =>
            {
                Err(Refusal::MessageSessionIdMissing)
            }
            _ => Ok(message),
        }
    }

    fn store_row(&mut self, link: LinkId, upload: &mut Upload, row: Bytes) {
        let bytes = row.len();
        self.uploads.add(bytes);
        self.command_bytes += bytes;
        let request = self.requests.open(Pending::Part { link, upload: upload.id, bytes });
        self.commands.push_back(Command::StorePart {
            entity: upload.entity,
            upload: upload.id,
            part: upload.rows,
            row,
            connection: self.broker_id(),
            request,
        });
        upload.rows += 1;
    }

    /// The broker has stored a row, or not.
    pub(super) fn part_stored(&mut self, link: LinkId, id: UploadId, bytes: usize, reply: Reply) {
        self.uploads.subtract(bytes);
        if let Reply::Refused(refusal) = reply {
            let upload = self.uploads.by_link.get_mut(&link).filter(|upload| upload.id == id);
            let finishing = self.uploads.finishing.values_mut().find(|(of, _)| *of == id);
            if let Some(upload) = upload {
                if upload.message.is_ok() {
                    // The broker has forgotten it already.
                    upload.message = Err(refusal);
                }
            } else if let Some((_, reason)) = finishing {
                reason.get_or_insert(refusal);
            }
        }
        if self.uploads.unstored_bytes <= UNSTORED_BYTES_RELEASE {
            for session in std::mem::take(&mut self.uploads.held) {
                self.engine.hold_incoming_window(session, false);
            }
        }
    }

    /// Too much is not durable yet: the AMQP session that brings it has to wait.
    fn hold_back(&mut self, link: LinkId) {
        if self.uploads.unstored_bytes >= UNSTORED_BYTES_HOLD
            && let Some(session) = self.engine.amqp_session_of(link)
            && !self.uploads.held.contains(&session)
        {
            self.uploads.held.push(session);
            self.engine.hold_incoming_window(session, true);
        }
    }

    fn finish_upload(&mut self, delivery: DeliveryRef, settled: bool, mut upload: Upload) {
        let finished = match std::mem::replace(&mut upload.message, Err(Refusal::ServerBusy)) {
            Ok(message) => message.finish().inspect_err(|_| self.forget_rows(&upload)),
            Err(refusal) => Err(refusal),
        };
        let message = match finished {
            Ok(message) => message,
            Err(refusal) => return self.refuse_message(delivery, settled, &refusal),
        };
        self.command_bytes += message.encoded.len();
        let request = self.open_send(delivery, settled);
        let (entity, connection) = (upload.entity, self.broker_id());
        self.commands.push_back(if upload.rows == 0 {
            // What made it large was left out.
            Command::Enqueue(Enqueue {
                entity,
                messages: [message].into(),
                connection,
                request: Some(request),
            })
        } else {
            self.uploads.finishing.insert(request, (upload.id, None));
            Command::EnqueueParts(EnqueueParts { entity, upload: upload.id, message, connection, request })
        });
    }

    /// The rest of the message is thrown away as it comes; at its end the sender is told.
    fn refuse_upload(&mut self, upload: &mut Upload, refusal: Refusal) {
        self.forget_rows(upload);
        upload.message = Err(refusal);
    }

    fn forget_rows(&mut self, upload: &Upload) {
        if upload.rows > 0 {
            let connection = self.broker_id();
            self.commands.push_back(Command::DropParts { connection, upload: upload.id });
        }
    }

    /// The message under way on a link will not be completed.
    pub(super) fn drop_upload(&mut self, link: LinkId) {
        if let Some(upload) = self.uploads.by_link.remove(&link)
            && upload.message.is_ok()
        {
            self.forget_rows(&upload);
        }
    }
}
