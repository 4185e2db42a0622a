//! Messages as a sequence of sections (part 3.2). Finding the sections does not decode their
//! values; what is needed of them is read from their ranges.

mod batch;
mod body_scanner;
mod build;
mod header;
mod map_section;
mod properties;
mod scan;
#[cfg(test)]
mod tests;

pub use batch::{BATCH_MESSAGE_FORMAT, encode_batch, split_batch};
pub use body_scanner::BodyScanner;
pub use build::{decode_body_value, encode_value_message};
pub use header::{Header, decode_header, encode_header};
pub use map_section::{MapEntries, decode_map_section, encode_map_section, map_section_entries, text_key};
pub use properties::{Properties, decode_properties, encode_properties, property_field};
pub use scan::{Sections, misplaced_footer, scan, scan_head};

use crate::Violation;

/// Descriptor codes of sections.
pub mod section {
    /// header
    pub const HEADER: u8 = 0x70;
    /// delivery-annotations
    pub const DELIVERY_ANNOTATIONS: u8 = 0x71;
    /// message-annotations
    pub const MESSAGE_ANNOTATIONS: u8 = 0x72;
    /// properties
    pub const PROPERTIES: u8 = 0x73;
    /// application-properties
    pub const APPLICATION_PROPERTIES: u8 = 0x74;
    /// data
    pub const DATA: u8 = 0x75;
    /// amqp-sequence
    pub const AMQP_SEQUENCE: u8 = 0x76;
    /// amqp-value
    pub const AMQP_VALUE: u8 = 0x77;
    /// footer
    pub const FOOTER: u8 = 0x78;
}

/// Positions of fields in the properties section, for [`property_field`] (3.2.4).
pub mod property {
    /// message-id
    pub const MESSAGE_ID: usize = 0;
    /// user-id
    pub const USER_ID: usize = 1;
    /// to
    pub const TO: usize = 2;
    /// subject
    pub const SUBJECT: usize = 3;
    /// reply-to
    pub const REPLY_TO: usize = 4;
    /// correlation-id
    pub const CORRELATION_ID: usize = 5;
    /// content-type
    pub const CONTENT_TYPE: usize = 6;
    /// content-encoding
    pub const CONTENT_ENCODING: usize = 7;
    /// absolute-expiry-time
    pub const ABSOLUTE_EXPIRY_TIME: usize = 8;
    /// creation-time
    pub const CREATION_TIME: usize = 9;
    /// group-id
    pub const GROUP_ID: usize = 10;
    /// group-sequence
    pub const GROUP_SEQUENCE: usize = 11;
    /// reply-to-group-id
    pub const REPLY_TO_GROUP_ID: usize = 12;
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum MessageError {
    /// Bytes that are no described value, an unknown constructor, or a cut-off value.
    #[error("the message cannot be decoded")]
    Decode,
    /// A described value that is none of the sections.
    #[error("the message has an unknown section")]
    UnknownSection,
    /// A section stands behind one that has to come later.
    #[error("the message's sections are out of order")]
    SectionOrder,
    /// A section that may stand once stands twice.
    #[error("the message has a section twice")]
    DuplicateSection,
    /// More than one of data, amqp-sequence and amqp-value, or several amqp-values.
    #[error("the message mixes kinds of body")]
    MixedBody,
    /// A section's value or one of its fields has a wrong type.
    #[error("a section has a field of the wrong type")]
    InvalidField,
    /// Values nested deeper than the limit.
    #[error("the message's values are nested too deeply")]
    NestingTooDeep,
    /// A batch whose body is not data sections.
    #[error("the batch has a body of the wrong kind")]
    NotABatch,
    /// A batch without messages.
    #[error("the batch is empty")]
    Empty,
}

impl From<Violation> for MessageError {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::InvalidField => Self::InvalidField,
            Violation::NestingTooDeep => Self::NestingTooDeep,
            _ => Self::Decode,
        }
    }
}

type Result<T> = std::result::Result<T, MessageError>;
