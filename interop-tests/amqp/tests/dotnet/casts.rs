//! What the .NET SDK does with each answer, as assertions: a field of another type than these is
//! an exception there, or is silently taken for missing. Comments name the SDK's source file that
//! reads the field.

use std::collections::HashSet;

use bytes::Bytes;
use lockstep_amqp::types::{
    Attach, DeliveryState, Disposition, Error, Fields, Flow, Map, Outcome as Terminal, Performative, Role,
    SenderSettleMode, TargetTerminus, Transfer, Value,
};
use lockstep_interop_amqp::{MESSAGE_SESSION_FILTER, Message};

use crate::sdk::Mode;

/// `LockedUntilUtc` in AmqpClientConstants.cs.
const LOCKED_UNTIL_UTC: &str = "com.microsoft:locked-until-utc";
/// .NET ticks (100 ns) of the Unix epoch.
const EPOCH_TICKS: i64 = 621_355_968_000_000_000;
/// Bytes of a GUID.
const GUID_BYTES: usize = 16;
/// Constructors of timestamps and longs in an array (AMQP 1.6.17, 1.6.12).
const TIMESTAMPS: u8 = 0x83;
const LONGS: u8 = 0x81;
/// Conditions that become an exception of their own in AmqpExceptionHelper.cs; others become
/// `GeneralError`, which says nothing to a program.
const CONDITIONS: &[&str] = &[
    "amqp:not-allowed",
    "amqp:not-found",
    "amqp:not-implemented",
    "amqp:unauthorized-access",
    "amqp:resource-limit-exceeded",
    "amqp:link:message-size-exceeded",
    "com.microsoft:timeout",
    "com.microsoft:argument-error",
    "com.microsoft:argument-out-of-range",
    "com.microsoft:message-lock-lost",
    "com.microsoft:message-not-found",
    "com.microsoft:server-busy",
    "com.microsoft:session-cannot-be-locked",
    "com.microsoft:session-lock-lost",
];
/// What `AmqpResponseStatusCode` in AmqpResponseStatusCode.cs has of what we send.
const STATUS_CODES: &[i32] = &[200, 202, 204, 400, 401, 403, 404, 408, 409, 410, 413, 500, 501, 503];

/// An answer of `$management`, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    /// statusCode
    pub(crate) status: i32,
    /// errorCondition
    pub(crate) condition: Option<String>,
    /// statusDescription
    pub(crate) description: String,
    /// The body.
    pub(crate) map: Map,
}

impl Answer {
    /// `GetValue` in AmqpResponseMessage.cs: throws if there is none.
    fn value(&self, key: &str) -> &Value {
        let found = self.map.iter().find(|(name, _)| *name == Value::string(key));
        found.map(|(_, value)| value).unwrap_or_else(|| panic!("{key} is not in {self:?}"))
    }

    /// Its body, of a request that was granted.
    pub(crate) fn ok(self) -> Self {
        assert_eq!((self.status, self.condition.as_deref()), (200, None), "{self:?}");
        self
    }

    /// Code and condition of a refusal, and that its text holds `text`.
    pub(crate) fn refused(&self, status: i32, condition: &str, text: &str) {
        assert_eq!((self.status, self.condition.as_deref()), (status, Some(condition)), "{self:?}");
        assert!(CONDITIONS.contains(&condition), "{self:?}");
        assert!(self.description.contains(text), "{text} is not in {self:?}");
    }

    /// `expirations`: `GetValue<DateTime[]>` in AmqpReceiver.cs, which a list is not.
    pub(crate) fn expirations(&self, tokens: usize) -> Vec<i64> {
        let Value::Array(array) = self.value("expirations") else { panic!("no array in {self:?}") };
        assert_eq!((array.constructor, array.elements.len()), (TIMESTAMPS, tokens), "{self:?}");
        array.elements.iter().map(|element| timestamp(Some(element))).collect()
    }

    /// `expiration`: `GetValue<DateTime>` in AmqpReceiver.cs.
    pub(crate) fn expiration(&self) -> i64 {
        timestamp(Some(self.value("expiration")))
    }

    /// `session-state`: null or `GetValue<ArraySegment<byte>>` in AmqpReceiver.cs; the key is there.
    pub(crate) fn state(&self) -> Option<Bytes> {
        match self.value("session-state") {
            Value::Null => None,
            Value::Binary(bytes) => Some(bytes.clone()),
            other => panic!("session-state is {other:?}"),
        }
    }

    /// `messages`: `GetListValue<AmqpMap>` in AmqpReceiver.cs, each with an `ArraySegment<byte>`;
    /// a message in it is read as those that were received (AmqpMessageConverter.cs), but locked
    /// by nobody.
    pub(crate) fn peeked(&self) -> Vec<Message> {
        self.entries().into_iter().map(|(message, _)| message).collect()
    }

    /// The same of `receive-by-sequence-number`: each with its `lock-token`, a `Guid`, which is what
    /// it is settled with.
    pub(crate) fn deferred(&self, mode: Mode) -> Vec<(Message, Value)> {
        let entries = self.entries().into_iter().map(|(received, entry)| {
            message(&received, mode);
            assert_eq!(received.annotation("x-opt-message-state"), Some(&Value::Int(1)));
            let token = entry.iter().find(|(key, _)| *key == Value::string("lock-token"));
            let Some((_, token @ Value::Uuid(_))) = token else { panic!("no Guid in {entry:?}") };
            (received, token.clone())
        });
        entries.collect()
    }

    fn entries(&self) -> Vec<(Message, Map)> {
        let Value::List(entries) = self.value("messages") else { panic!("no list in {self:?}") };
        let messages = entries.iter().map(|entry| {
            let Value::Map(entry) = entry else { panic!("no map in {self:?}") };
            let message = entry.iter().find(|(key, _)| *key == Value::string("message"));
            let Some((_, Value::Binary(bytes))) = message else { panic!("no message in {entry:?}") };
            let message = Message::parse(bytes).unwrap_or_else(|failed| panic!("{failed}"));
            annotations(&message);
            if let Some(state) = message.annotation("x-opt-message-state") {
                assert!(matches!(state, Value::Int(0..=2)), "x-opt-message-state is {state:?}");
            }
            (message, entry.clone())
        });
        messages.collect()
    }

    /// `sequence-numbers`: `GetValue<long[]>` in AmqpSender.cs, which a list is not.
    pub(crate) fn sequence_numbers(&self) -> Vec<i64> {
        let Value::Array(array) = self.value("sequence-numbers") else { panic!("no array in {self:?}") };
        assert_eq!(array.constructor, LONGS, "{self:?}");
        let long = |value: &Value| match value {
            Value::Long(number) => *number,
            other => panic!("{other:?} is no long"),
        };
        array.elements.iter().map(long).collect()
    }

    /// `message-count`: `(int)` in AmqpReceiver.cs, of 200; 204 is none.
    pub(crate) fn deleted(&self) -> i32 {
        if self.status == 204 {
            return 0;
        }
        assert_eq!(self.status, 200, "{self:?}");
        match self.value("message-count") {
            Value::Int(count) => *count,
            other => panic!("message-count is {other:?}"),
        }
    }
}

/// `(DateTime)value`.
fn timestamp(value: Option<&Value>) -> i64 {
    let Some(Value::Timestamp(millis)) = value else { panic!("{value:?} is no DateTime") };
    *millis
}

/// What AmqpResponseMessage.cs and AmqpExceptionHelper.cs read: `is int`, `as string`,
/// `(AmqpSymbol)`, and a map as the body where there is one.
pub(crate) fn management(message: &Message) -> Answer {
    let status = match message.property("statusCode") {
        Some(Value::Int(status)) => *status,
        other => panic!("statusCode is {other:?}"),
    };
    assert!(STATUS_CODES.contains(&status), "statusCode {status}");
    let condition = match message.property("errorCondition") {
        None | Some(Value::Null) => None,
        Some(Value::Symbol(condition)) => Some(condition.as_str().to_owned()),
        other => panic!("errorCondition is {other:?}"),
    };
    let Some(Value::String(description)) = message.property("statusDescription") else {
        panic!("statusDescription is {:?}", message.property("statusDescription"))
    };
    let map = match &message.value {
        Some(Value::Map(map)) => map.clone(),
        None | Some(Value::Null) if status != 200 => Map::new(),
        other => panic!("the body is {other:?}"),
    };
    assert!(map.iter().all(|(key, _)| matches!(key, Value::String(_))), "{map:?}");
    Answer { status, condition, description: description.to_string(), map }
}

/// `(int)` and `(string)` in AmqpCbsLink.cs: code and description.
pub(crate) fn cbs(message: &Message) -> (i32, String) {
    let (Some(Value::Int(status)), Some(Value::String(text))) =
        (message.property("status-code"), message.property("status-description"))
    else {
        panic!("{:?}", message.application_properties)
    };
    (*status, text.to_string())
}

fn property<'a>(properties: Option<&'a Fields>, key: &str) -> Option<&'a Value> {
    properties.and_then(|fields| fields.get(key))
}

/// The broker's answer to a sender: AmqpSender.cs takes `MaxMessageSize.Value` as a `ulong` that is
/// not zero, and `TryGetValue<long>` the batch's; AmqpLink.cs a target.
pub(crate) fn sender_attach(attach: &Attach) -> u64 {
    assert_eq!(attach.role, Role::Receiver);
    assert!(
        matches!(attach.target, Some(TargetTerminus::Target(_))) && attach.source.is_some(),
        "{attach:?}"
    );
    let size = attach.max_message_size.filter(|size| *size > 0);
    if let Some(batch) = property(attach.properties.as_ref(), "com.microsoft:max-message-batch-size") {
        assert!(matches!(batch, Value::Long(1..)), "max-message-batch-size is {batch:?}");
    }
    size.unwrap_or_else(|| panic!("max-message-size is {:?}", attach.max_message_size))
}

/// The broker's answer to a receiver of `asked`: AmqpLink.cs takes `InitialDeliveryCount.Value`,
/// the source and the settle mode; AmqpReceiver.cs looks into the properties, which must be there,
/// for a `long`, and into the filter set for a `string`. Gives the id of the message session.
pub(crate) fn receiver_attach(attach: &Attach, asked: &Attach) -> Option<String> {
    assert_eq!(attach.role, Role::Sender);
    assert!(attach.initial_delivery_count.is_some() && attach.target.is_some(), "{attach:?}");
    assert_eq!(attach.snd_settle_mode, asked.snd_settle_mode, "{attach:?}");
    assert_eq!(attach.rcv_settle_mode, asked.rcv_settle_mode, "{attach:?}");
    let source = attach.source.as_ref().unwrap_or_else(|| panic!("no source in {attach:?}"));
    let asked_source = asked.source.as_ref();
    assert_eq!(source.address.as_ref(), asked_source.and_then(|source| source.address.as_ref()));
    asked_source.and_then(|source| source.filter.as_ref()?.get(MESSAGE_SESSION_FILTER))?;
    let properties = attach.properties.as_ref();
    assert!(properties.is_some(), "the SDK looks into properties that are not there: {attach:?}");
    let Some(Value::Long(ticks)) = property(properties, LOCKED_UNTIL_UTC) else {
        panic!("no long {LOCKED_UNTIL_UTC} in {properties:?}")
    };
    assert!(*ticks > EPOCH_TICKS, "{ticks} are no ticks");
    match source.filter.as_ref().and_then(|filter| filter.get(MESSAGE_SESSION_FILTER)) {
        Some(Value::String(id)) => Some(id.to_string()),
        other => panic!("the accepted message session is {other:?}"),
    }
}

/// The answer to a link of a request pair: RequestResponseAmqpLink.cs waits for both.
pub(crate) fn pair_attach(attach: &Attach) {
    assert_eq!(attach.snd_settle_mode, Some(SenderSettleMode::Settled), "{attach:?}");
    assert!(attach.source.is_some() && attach.target.is_some(), "{attach:?}");
    assert_eq!(attach.initial_delivery_count.is_some(), attach.role == Role::Sender, "{attach:?}");
}

/// The first frame of a delivery: AmqpLink.cs takes `DeliveryId.Value`; AmqpMessageConverter.cs
/// makes the lock token of a tag of 16 bytes; ReceivingAmqpLink.cs finds a delivery by its tag,
/// which no other unsettled one may have.
pub(crate) fn delivery(transfer: &Transfer, mode: Mode, unsettled: &mut HashSet<Bytes>) -> (u32, Bytes) {
    let (Some(id), Some(tag)) = (transfer.delivery_id, transfer.delivery_tag.clone()) else {
        panic!("{transfer:?}")
    };
    assert_eq!(tag.len(), GUID_BYTES, "{transfer:?}");
    assert_eq!(transfer.message_format, Some(0), "{transfer:?}");
    assert_eq!(transfer.settled, Some(mode == Mode::ReceiveAndDelete), "{transfer:?}");
    assert!(mode == Mode::ReceiveAndDelete || unsettled.insert(tag.clone()), "twice: {tag:?}");
    (id, tag)
}

/// Annotations as AmqpMessageConverter.cs and ServiceBusReceivedMessage.cs cast them, under symbols.
fn annotations(message: &Message) {
    assert!(message.header.delivery_count.is_some(), "{message:?}");
    assert!(message.annotations.iter().all(|(key, _)| matches!(key, Value::Symbol(_))), "{message:?}");
    let number = message.annotation("x-opt-sequence-number");
    assert!(matches!(number, Some(Value::Long(1..))), "x-opt-sequence-number is {number:?}");
    timestamp(message.annotation("x-opt-enqueued-time"));
}

/// A received message.
pub(crate) fn message(message: &Message, mode: Mode) {
    annotations(message);
    match mode {
        Mode::PeekLock => drop(timestamp(message.annotation("x-opt-locked-until"))),
        Mode::ReceiveAndDelete => assert_eq!(message.annotation("x-opt-locked-until"), None),
    }
}

/// The answer to a drain: AmqpLink.cs takes credit 0 for it, `DeliveryCount.Value` as where the
/// link stands, and answers an echo with another flow, which would drain again.
pub(crate) fn drained(flow: &Flow, delivery_count: u32) {
    assert_eq!((flow.link_credit, flow.delivery_count), (Some(0), Some(delivery_count)), "{flow:?}");
    assert!(flow.drain && !flow.echo, "{flow:?}");
}

/// The broker's word on a settlement: ReceivingAmqpLink.cs completes it by a settled disposition;
/// AmqpReceiver.cs takes a rejected with an error for a failure, and a dead-lettering is answered
/// by one without.
pub(crate) fn settled(disposition: &Disposition, asked: &Terminal) -> Result<(), Error> {
    assert!(disposition.settled && disposition.role == Role::Sender, "{disposition:?}");
    let Some(DeliveryState::Outcome(outcome)) = &disposition.state else { panic!("{disposition:?}") };
    match (outcome, asked) {
        (Terminal::Rejected(Some(error)), _) => Err(error.clone()),
        (Terminal::Accepted, Terminal::Accepted)
        | (Terminal::Rejected(None), Terminal::Rejected(_))
        | (Terminal::Modified(_), Terminal::Modified(_)) => Ok(()),
        other => panic!("{other:?}"),
    }
}

/// An error of a detach or a refused settlement: AmqpExceptionHelper.cs knows the condition, and
/// shows the description.
pub(crate) fn error(error: &Error) {
    assert!(CONDITIONS.contains(&error.condition.as_str()), "{error:?}");
    assert!(error.description.as_ref().is_some_and(|text| !text.is_empty()), "{error:?}");
}

/// Open and begin: AmqpConnection.cs refuses an idle time-out below five seconds, or an
/// `open-error`; AmqpSession.cs a begin without the channel that it answers.
pub(crate) fn handshake(performative: &Performative) {
    const LEAST_IDLE_MILLIS: u32 = 5_000;
    match performative {
        Performative::Open(open) => {
            let idle = open.idle_time_out.filter(|millis| *millis > 0);
            assert!(idle.is_none_or(|millis| millis >= LEAST_IDLE_MILLIS), "{open:?}");
            assert_eq!(property(open.properties.as_ref(), "com.microsoft:open-error"), None);
            assert!(!open.container_id.is_empty() && open.max_frame_size >= 65_536, "{open:?}");
        }
        Performative::Begin(begin) => {
            assert!(begin.remote_channel.is_some() && begin.incoming_window > 0, "{begin:?}");
        }
        other => panic!("{other:?}"),
    }
}
