//! Every way in which a peer can break the specification, with the section it breaks and what
//! has to end because of it.

/// What ends because of a violation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// The link (detach).
    Link,
    /// The AMQP session (end).
    Session,
    /// The connection (close).
    Connection,
}

/// A peer's mistake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Violation {
    /// Size field under 8 bytes (2.3.1).
    #[error("a frame is at least 8 bytes long")]
    FrameTooShort,
    /// Larger than the max-frame-size in force (2.3.1, 2.7.1).
    #[error("frame larger than the agreed max-frame-size")]
    FrameTooLarge,
    /// Data offset under 2 or behind the frame's end (2.3.1).
    #[error("the frame's data offset is out of bounds")]
    DataOffset,
    /// Frame type neither AMQP nor SASL, or not the one expected now (2.3.1).
    #[error("unexpected frame type")]
    FrameType,
    /// A value that does not decode (1.2 to 1.6).
    #[error("a value cannot be decoded")]
    Decode,
    /// Values nested deeper than the limit.
    #[error("values are nested too deeply")]
    NestingTooDeep,
    /// No known performative (2.7).
    #[error("unknown performative")]
    UnknownPerformative,
    /// A mandatory field is missing or of the wrong type (2.7).
    #[error("a mandatory field is missing or a field has a wrong type")]
    InvalidField,
}
