//! What a client wants with a link: address, source filters, settle modes and link properties
//! taken together (wire.md 3, 5.1, 6.1, 10).

use std::time::Duration;

use lockstep_amqp::types::{
    Attach, Described, Fields, Role, SenderSettleMode, Source, Symbol, Target, TargetTerminus, Value,
};
use lockstep_model::{
    EntityAddress, Feature, InvalidAddress, MessageSessionId, NodeKind, ReceiveMode, Refusal, SubQueue,
    limits,
};

use crate::{
    jms_selector::JmsSelector,
    message_session_id,
    names::{self, filter, link_property},
};

/// What an attach asks for. Whether the entity exists and the client may use it is not looked at.
#[derive(Clone, PartialEq, Debug)]
pub enum AttachIntent {
    /// To send messages to an entity.
    Send {
        /// The entity; always its main store.
        address: EntityAddress,
    },
    /// To receive messages.
    Receive {
        /// The entity.
        address: EntityAddress,
        /// Peek-lock or receive-and-delete.
        mode: ReceiveMode,
        /// Plain, or which message session.
        kind: ReceiveKind,
        /// How to answer the message-session filter, if there is one.
        filter_echo: Option<MessageSessionFilterEcho>,
    },
    /// To send requests to an entity's `$management` node.
    ManagementRequests {
        /// The entity.
        address: EntityAddress,
    },
    /// To receive the responses of an entity's `$management` node.
    ManagementResponses {
        /// The entity.
        address: EntityAddress,
        /// The target's address, to which requests refer by `reply-to`; if absent, they refer
        /// to the link's name or to nothing.
        reply_to: Option<Box<str>>,
    },
    /// To send tokens to `$cbs`.
    CbsRequests,
    /// To receive the responses of `$cbs`.
    CbsResponses {
        /// As for `ManagementResponses`.
        reply_to: Option<Box<str>>,
    },
}

/// What a receiver wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceiveKind {
    /// Messages.
    Plain,
    /// The lock of one message session.
    MessageSession(MessageSessionId),
    /// The lock of any message session that has messages.
    NextMessageSession {
        /// How long to wait, at most [`limits::ACCEPT_WAIT_MAX`]; `None` if the client gives no
        /// time.
        wait: Option<Duration>,
    },
    /// No lock and no messages: a look at one message session (semantics A-100).
    Browse(MessageSessionId),
}

/// The form in which a message-session filter came, so that it is answered in the same: clients
/// compare it (wire.md 6.2).
#[derive(Clone, PartialEq, Debug)]
pub struct MessageSessionFilterEcho {
    /// The key in the filter map.
    pub key: Symbol,
    /// The descriptor of the value, if it came as a described value.
    pub descriptor: Option<Value>,
    /// What the value says.
    pub language: FilterLanguage,
}

/// How a filter says which message session is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilterLanguage {
    /// By the id, or null.
    Id,
    /// By a JMS selector that names an id; the text as it came.
    SelectorOfOne(Box<str>),
    /// By the JMS selector for the next message session.
    SelectorOfNext,
}

impl MessageSessionFilterEcho {
    /// Whether it is a JMS selector; those mean a message session only where all messages belong
    /// to one.
    #[must_use]
    pub const fn is_selector(&self) -> bool {
        !matches!(self.language, FilterLanguage::Id)
    }

    /// The filter that names the message session granted.
    #[must_use]
    pub fn granted(&self, id: &MessageSessionId) -> (Symbol, Value) {
        let value = match &self.language {
            FilterLanguage::Id => Value::string(id.as_str()),
            FilterLanguage::SelectorOfOne(text) => Value::string(text),
            FilterLanguage::SelectorOfNext => Value::string(&JmsSelector::naming(id.as_str())),
        };
        let value = match &self.descriptor {
            None => value,
            Some(descriptor) => {
                Value::Described(Box::new(Described { descriptor: descriptor.clone(), value }))
            }
        };
        (self.key.clone(), value)
    }
}

/// Finds out what an attach asks for.
///
/// # Errors
/// `NotSupported` for coordinators, dynamic nodes, transfer destinations, non-exclusive
/// message-session filters and selectors other than those that mean a message session;
/// `InvalidField` for two such filters; `SendToSubQueue`; `EntityNotFound` for an address that
/// no entity can have; `IdTooLong` and `InvalidArgument` with a text that says what to change.
pub fn attach_intent(attach: &Attach) -> Result<AttachIntent, Refusal> {
    match attach.role {
        Role::Sender => match &attach.target {
            Some(TargetTerminus::Target(target)) => client_sender(attach, target),
            Some(TargetTerminus::Coordinator(_)) => Err(Refusal::NotSupported(Feature::Transactions)),
            None => Err(Refusal::InvalidArgument("a sender's attach needs a target with an address")),
        },
        Role::Receiver => match &attach.source {
            Some(source) => client_receiver(attach, source),
            None => Err(Refusal::InvalidArgument("a receiver's attach needs a source with an address")),
        },
    }
}

fn client_sender(attach: &Attach, target: &Target) -> Result<AttachIntent, Refusal> {
    if target.dynamic {
        return Err(Refusal::NotSupported(Feature::DynamicNodes));
    }
    if property(attach, link_property::TRANSFER_DESTINATION_ADDRESS).is_some() {
        return Err(Refusal::NotSupported(Feature::SendVia));
    }
    let no_address =
        "the target needs an address: one sender serves one entity (there is no anonymous relay)";
    let Node::Entity(address) = node(target.address.as_ref(), no_address)? else {
        return Ok(AttachIntent::CbsRequests);
    };
    match (address.node, address.sub_queue) {
        (NodeKind::Management, _) => Ok(AttachIntent::ManagementRequests { address }),
        _ if asks_for_a_topic(&target.capabilities) => Err(Refusal::EntityOfFeature(Feature::Topics)),
        (NodeKind::Messages, SubQueue::Main) => Ok(AttachIntent::Send { address }),
        (NodeKind::Messages, _) => Err(Refusal::SendToSubQueue),
    }
}

fn client_receiver(attach: &Attach, source: &Source) -> Result<AttachIntent, Refusal> {
    if source.dynamic {
        return Err(Refusal::NotSupported(Feature::DynamicNodes));
    }
    let no_address = "the source needs an address: the path of an entity";
    let address = match node(source.address.as_ref(), no_address)? {
        Node::Cbs => return Ok(AttachIntent::CbsResponses { reply_to: reply_to(attach) }),
        Node::Entity(address) if address.node == NodeKind::Management => {
            return Ok(AttachIntent::ManagementResponses { address, reply_to: reply_to(attach) });
        }
        Node::Entity(address) => address,
    };
    // Also of durable subscribers, which ask for more that is not there.
    if asks_for_a_topic(&source.capabilities) {
        return Err(Refusal::EntityOfFeature(Feature::Topics));
    }
    let copies =
        source.distribution_mode.as_ref().is_some_and(|mode| mode.as_str() == names::DISTRIBUTION_MODE_COPY);
    if copies {
        return Err(Refusal::InvalidArgument(
            "distribution-mode copy is not supported: browse with com.microsoft:peek-message on $management",
        ));
    }
    let mode = match attach.snd_settle_mode {
        Some(SenderSettleMode::Settled) => ReceiveMode::ReceiveAndDelete,
        _ => ReceiveMode::PeekLock,
    };
    let filter = message_session_filter(source.filter.as_ref())?;
    let browses = property(attach, link_property::PEEK_MODE) == Some(&Value::Bool(true));
    let (kind, filter_echo) = match filter {
        None if browses => {
            return Err(Refusal::InvalidArgument(
                "com.microsoft:peek-mode needs a filter that names a session",
            ));
        }
        None => (ReceiveKind::Plain, None),
        Some((Some(id), echo)) if browses => (ReceiveKind::Browse(id), Some(echo)),
        Some((None, _)) if browses => {
            return Err(Refusal::InvalidArgument(
                "com.microsoft:peek-mode needs a filter that names a session",
            ));
        }
        Some((Some(id), echo)) => (ReceiveKind::MessageSession(id), Some(echo)),
        Some((None, echo)) => (ReceiveKind::NextMessageSession { wait: wait(attach) }, Some(echo)),
    };
    Ok(AttachIntent::Receive { address, mode, kind, filter_echo })
}

/// Whether the terminus has to be a topic: a queue of that name must not be taken for it.
fn asks_for_a_topic(capabilities: &[Symbol]) -> bool {
    capabilities.iter().any(|capability| capability.as_str() == names::CAPABILITY_TOPIC)
}

enum Node {
    Cbs,
    Entity(EntityAddress),
}

fn node(address: Option<&Value>, no_address: &'static str) -> Result<Node, Refusal> {
    let text = match address {
        None | Some(Value::Null) => return Err(Refusal::InvalidArgument(no_address)),
        Some(address) => address.as_text().ok_or(Refusal::InvalidArgument("an address is a string"))?,
    };
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => text,
    };
    if path.trim_matches('/').eq_ignore_ascii_case(names::CBS_NODE) {
        return Ok(Node::Cbs);
    }
    if path.trim_matches('/').eq_ignore_ascii_case(names::MANAGEMENT_NODE) {
        return Err(Refusal::InvalidArgument(
            "$management is a node of an entity: its address is the entity's, a slash, and $management",
        ));
    }
    match EntityAddress::parse(text) {
        Ok(address) => Ok(Node::Entity(address)),
        Err(InvalidAddress::Empty) => Err(Refusal::InvalidArgument(no_address)),
        // No entity has such a name, so none is found; what may stand in names is no client's
        // concern at this point.
        Err(InvalidAddress::TooLong | InvalidAddress::Character) => Err(Refusal::EntityNotFound),
    }
}

/// The value of a link property, unless it is null.
fn property<'a>(attach: &'a Attach, key: &str) -> Option<&'a Value> {
    attach.properties.as_ref()?.get(key).filter(|value| **value != Value::Null)
}

/// The client's own name for itself on a receiver (`com.microsoft:receiver-name`).
#[must_use]
pub fn receiver_name(attach: &Attach) -> Option<&str> {
    property(attach, link_property::RECEIVER_NAME).and_then(Value::as_text)
}

/// The address as the client spelled it, for texts; empty if there is none.
#[must_use]
pub fn spelled_address(attach: &Attach) -> &str {
    let address = match (attach.role, &attach.target) {
        (Role::Sender, Some(TargetTerminus::Target(target))) => target.address.as_ref(),
        (Role::Sender, _) => None,
        (Role::Receiver, _) => attach.source.as_ref().and_then(|source| source.address.as_ref()),
    };
    address.and_then(Value::as_text).unwrap_or_default()
}

fn reply_to(attach: &Attach) -> Option<Box<str>> {
    match &attach.target {
        Some(TargetTerminus::Target(target)) => target.address.as_ref()?.as_text().map(Into::into),
        _ => None,
    }
}

fn wait(attach: &Attach) -> Option<Duration> {
    let millis = property(attach, link_property::TIMEOUT)?.as_u64()?;
    Some(Duration::from_millis(millis).min(limits::ACCEPT_WAIT_MAX))
}

/// Looks through the filters. Those that would change which messages a receiver gets are refused
/// by name if they are not supported; all others are left out of the answer, which tells the
/// client that they have no effect.
fn message_session_filter(
    filters: Option<&Fields>,
) -> Result<Option<(Option<MessageSessionId>, MessageSessionFilterEcho)>, Refusal> {
    let mut found: Option<(Option<MessageSessionId>, MessageSessionFilterEcho)> = None;
    for (key, value) in filters.iter().flat_map(|filters| &filters.0) {
        let (descriptor, value) = match value {
            Value::Described(described) => (Some(&described.descriptor), &described.value),
            value => (None, value),
        };
        let (id, language) = match filter_kind(key.as_str(), descriptor) {
            FilterKind::MessageSession => (named_id(value)?, FilterLanguage::Id),
            FilterKind::NonExclusive => {
                return Err(Refusal::NotSupported(Feature::NonExclusiveMessageSessions));
            }
            FilterKind::Selector | FilterKind::Rule if *value == Value::Null => continue,
            FilterKind::Selector => selected(value)?,
            FilterKind::Rule => return Err(Refusal::NotSupported(Feature::Selectors)),
            FilterKind::Other => continue,
        };
        let echo = MessageSessionFilterEcho { key: key.clone(), descriptor: descriptor.cloned(), language };
        if found.as_ref().is_some_and(|(_, other)| other.is_selector() || echo.is_selector()) {
            return Err(Refusal::InvalidField(
                "the source holds two filters that each mean a session; keep one of them",
            ));
        }
        found = Some((id, echo));
    }
    Ok(found)
}

/// The id in a message-session filter; `None` is the next one.
fn named_id(value: &Value) -> Result<Option<MessageSessionId>, Refusal> {
    match value {
        Value::Null => Ok(None),
        Value::String(_) | Value::Symbol(_) => {
            message_session_id::from_text(value.as_text().unwrap_or_default()).map(Some)
        }
        _ => Err(Refusal::InvalidArgument("the value of com.microsoft:session-filter is a string or null")),
    }
}

/// The message session that a selector means; `None` is the next one.
fn selected(value: &Value) -> Result<(Option<MessageSessionId>, FilterLanguage), Refusal> {
    let text = value.as_text().ok_or(Refusal::InvalidArgument("the value of a selector is a string"))?;
    match JmsSelector::parse(text) {
        Some(JmsSelector::Is(id)) => {
            Ok((Some(message_session_id::from_text(&id)?), FilterLanguage::SelectorOfOne(text.into())))
        }
        Some(JmsSelector::IsNotNull) => Ok((None, FilterLanguage::SelectorOfNext)),
        None => Err(Refusal::NotSupported(Feature::Selectors)),
    }
}

enum FilterKind {
    MessageSession,
    NonExclusive,
    Selector,
    Rule,
    Other,
}

/// A filter is known by its descriptor, or by its key: keys are free names for a described
/// filter, but most clients send bare values under well-known keys.
fn filter_kind(key: &str, descriptor: Option<&Value>) -> FilterKind {
    let code = descriptor.and_then(Value::as_u64);
    let name = descriptor.and_then(Value::as_text);
    let is = |text: &str| key == text || name == Some(text);
    if is(filter::NON_EXCLUSIVE_MESSAGE_SESSION)
        || is(filter::NON_EXCLUSIVE_MESSAGE_SESSION_SHORT)
        || code == Some(filter::NON_EXCLUSIVE_MESSAGE_SESSION_CODE)
    {
        FilterKind::NonExclusive
    } else if is(filter::MESSAGE_SESSION) || code == Some(filter::MESSAGE_SESSION_CODE) {
        FilterKind::MessageSession
    } else if is(filter::SELECTOR) || is(filter::JMS_SELECTOR) || code == Some(filter::SELECTOR_CODE) {
        FilterKind::Selector
    } else if filter::RULE_FILTERS
        .iter()
        .any(|rule| key.starts_with(rule) || name.is_some_and(|name| name.starts_with(rule)))
        || code.is_some_and(|code| filter::RULE_FILTER_CODES.contains(&code))
    {
        FilterKind::Rule
    } else {
        FilterKind::Other
    }
}

#[cfg(test)]
mod tests;
