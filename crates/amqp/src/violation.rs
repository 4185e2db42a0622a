//! Every way in which a peer can break the specification, with the section it breaks, what has to
//! end because of it, and the error condition that says so.

use crate::types::Error;

/// What ends because of a violation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// The link (detach).
    Link,
    /// The AMQP session (end).
    AmqpSession,
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
    /// The first eight bytes are no protocol header that can be served (2.2).
    #[error("unsupported protocol header; the supported one was sent back")]
    ProtocolHeader,
    /// A SASL frame that cannot come now (5.3.2).
    #[error("a SASL frame came out of order")]
    SaslOrder,
    /// The first frame after the header is not open (2.4.1).
    #[error("the first frame must be open")]
    OpenExpected,
    /// A second open (2.4.1).
    #[error("open came twice")]
    OpenTwice,
    /// A channel number over the channel-max in force (2.7.1).
    #[error("the channel number is larger than the agreed channel-max")]
    ChannelOverMax,
    /// A frame on a channel without an AMQP session (2.5.1).
    #[error("no session was begun on this channel")]
    ChannelNotBegun,
    /// A begin on a channel that has a session already (2.5.1).
    #[error("a session was begun on this channel already")]
    ChannelInUse,
    /// A begin that answers a begin that was not sent (2.5.1).
    #[error("begin names a remote-channel on which no begin was sent")]
    RemoteChannelUnknown,
    /// More AMQP sessions than the limit.
    #[error("too many sessions on this connection")]
    TooManyAmqpSessions,
    /// More transfers than the incoming-window (2.5.6; judged only with `strict_windows`).
    #[error("transfer beyond the session's incoming-window")]
    WindowViolated,
    /// A handle over the handle-max in force (2.7.2).
    #[error("the handle is larger than the agreed handle-max")]
    HandleOverMax,
    /// An attach with a handle that another link has (2.7.3).
    #[error("the handle is in use by another link")]
    HandleInUse,
    /// A flow, transfer or detach with a handle that no link has (2.6.1).
    #[error("no link is attached with this handle")]
    HandleUnattached,
    /// A transfer on a link whose sender is the other end (2.6.12).
    #[error("transfer on a link on which the peer is the receiver")]
    TransferFromReceiver,
    /// The delivery-id of a delivery that is not settled yet (2.6.12). Others that do not ascend are
    /// taken.
    #[error("the delivery-id is that of another delivery of the session, which is not settled yet")]
    DeliveryIdInUse,
    /// The first transfer of a delivery has no delivery-id (2.7.5).
    #[error("the first transfer of a delivery must have a delivery-id")]
    DeliveryIdMissing,
    /// The first transfer of an unsettled delivery has no delivery-tag (2.7.5).
    #[error("the first transfer of an unsettled delivery must have a delivery-tag")]
    DeliveryTagMissing,
    /// A transfer asks for a rcv-settle-mode that its link excludes (2.7.5).
    #[error("rcv-settle-mode second is not allowed on a link whose rcv-settle-mode is first")]
    ReceiverSettleMode,
    /// A delivery began before the one before it on the link had ended, or a transfer contradicts
    /// the first one of its delivery (2.6.14, 2.7.5).
    #[error("the transfer does not continue the delivery that has begun on the link")]
    DeliveryInterleaved,
    /// Far more deliveries than the link-credit granted (2.6.7).
    #[error("far more deliveries than the link-credit granted")]
    TransferLimit,
    /// More unsettled deliveries on a link than the limit.
    #[error("too many unsettled deliveries on the link")]
    TooManyUnsettled,
    /// More bytes of partial deliveries than the limit.
    #[error("too many bytes of deliveries that are not complete or whose attach is not answered yet")]
    ReassemblyLimit,
    /// More links of an AMQP session than the limit.
    #[error("too many links on this session")]
    TooManyLinks,
    /// More unanswered attaches of a connection than the limit.
    #[error("too many attaches wait for an answer on this connection")]
    TooManyPendingAttaches,
    /// Nothing came for the advertised idle-time-out (2.4.5).
    #[error("nothing was received within the advertised idle-time-out")]
    IdleTimeOut,
    /// Header, SASL and open took too long.
    #[error("the connection was not opened in time")]
    OpenTimeOut,
    /// The peer did not answer close in time (2.4.3).
    #[error("close was not answered in time")]
    CloseTimeOut,
}

impl Violation {
    /// What has to end.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::FrameTooShort
            | Self::FrameTooLarge
            | Self::DataOffset
            | Self::FrameType
            | Self::Decode
            | Self::NestingTooDeep
            | Self::UnknownPerformative
            | Self::InvalidField
            | Self::ProtocolHeader
            | Self::SaslOrder
            | Self::OpenExpected
            | Self::OpenTwice
            | Self::ChannelOverMax
            | Self::ChannelNotBegun
            | Self::ChannelInUse
            | Self::RemoteChannelUnknown
            | Self::HandleOverMax
            | Self::IdleTimeOut
            | Self::OpenTimeOut
            | Self::CloseTimeOut => Scope::Connection,
            Self::TooManyAmqpSessions
            | Self::WindowViolated
            | Self::HandleInUse
            | Self::HandleUnattached
            | Self::TransferFromReceiver
            | Self::DeliveryIdInUse => Scope::AmqpSession,
            Self::DeliveryIdMissing
            | Self::DeliveryTagMissing
            | Self::ReceiverSettleMode
            | Self::DeliveryInterleaved
            | Self::TransferLimit
            | Self::TooManyUnsettled
            | Self::ReassemblyLimit
            | Self::TooManyLinks
            | Self::TooManyPendingAttaches => Scope::Link,
        }
    }

    /// The error condition that names it (2.8.15 to 2.8.18).
    #[must_use]
    pub const fn condition(self) -> &'static str {
        match self {
            Self::FrameTooShort
            | Self::FrameTooLarge
            | Self::DataOffset
            | Self::FrameType
            | Self::ProtocolHeader
            | Self::ChannelOverMax
            | Self::HandleOverMax => "amqp:connection:framing-error",
            Self::Decode | Self::NestingTooDeep | Self::UnknownPerformative => "amqp:decode-error",
            Self::InvalidField
            | Self::DeliveryIdInUse
            | Self::DeliveryIdMissing
            | Self::DeliveryTagMissing
            | Self::ReceiverSettleMode
            | Self::DeliveryInterleaved => "amqp:invalid-field",
            Self::SaslOrder | Self::OpenExpected | Self::OpenTwice => "amqp:illegal-state",
            Self::ChannelNotBegun
            | Self::ChannelInUse
            | Self::RemoteChannelUnknown
            | Self::TransferFromReceiver => "amqp:not-allowed",
            Self::WindowViolated => "amqp:session:window-violation",
            Self::HandleInUse => "amqp:session:handle-in-use",
            Self::HandleUnattached => "amqp:session:unattached-handle",
            Self::TransferLimit => "amqp:link:transfer-limit-exceeded",
            Self::TooManyAmqpSessions
            | Self::TooManyUnsettled
            | Self::ReassemblyLimit
            | Self::TooManyLinks
            | Self::TooManyPendingAttaches
            | Self::IdleTimeOut => "amqp:resource-limit-exceeded",
            Self::OpenTimeOut | Self::CloseTimeOut => "amqp:connection:forced",
        }
    }

    /// The error to send: [`Self::condition`] with this mistake's text.
    #[must_use]
    pub fn to_error(self) -> Error {
        Error::new(self.condition(), self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_carries_condition_and_text() {
        let error = Violation::HandleUnattached.to_error();
        assert_eq!(error.condition.as_str(), "amqp:session:unattached-handle");
        assert_eq!(error.description.as_deref(), Some("no link is attached with this handle"));
        assert_eq!(Violation::HandleUnattached.scope(), Scope::AmqpSession);
    }
}
