//! Messages: what a sender's bytes say to the broker, and what the broker says around them when
//! it delivers them (wire.md 4.5, 4.6, 5.3).
//!
//! The sender's message is stored as it came, but for a footer that is not as AMQP wants it. The
//! broker's own facts are laid around it at each delivery; body and footer are not touched, decoded
//! or copied any more.

mod footer;
mod incoming;
mod large;
mod outgoing;
mod raw_properties;

pub use incoming::{DuplicateDetection, IncomingContext, incoming, incoming_single};
pub use large::LargeMessage;
pub use outgoing::{
    DeliveryFacts, Outgoing, head, outgoing, outgoing_first_part, outgoing_whole, outgoing_without_body,
};

use lockstep_amqp::message::MessageError;
use lockstep_model::Refusal;

/// Why a sender's bytes are refused.
const fn malformed(error: MessageError) -> Refusal {
    Refusal::Malformed(match error {
        MessageError::Decode => "the message cannot be decoded: a value is cut off or no AMQP value",
        MessageError::UnknownSection => "the message has a section that AMQP does not know",
        MessageError::SectionOrder => {
            "the message's sections are out of order: header, delivery-annotations, message-annotations, \
             properties, application-properties, body, footer"
        }
        MessageError::DuplicateSection => "the message has a section twice that may stand once",
        MessageError::MixedBody => {
            "the message's body is of several kinds: it has data sections, amqp-sequence sections or one \
             amqp-value"
        }
        MessageError::InvalidField => "a section of the message has a field of the wrong type",
        MessageError::NestingTooDeep => "the message's values are nested too deeply",
        MessageError::NotABatch => "the body of a batch consists of data sections, one for each message",
        MessageError::Empty => "the batch holds no message",
    })
}

#[cfg(test)]
mod tests;
