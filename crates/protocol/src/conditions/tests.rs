use super::*;

const CONTEXT: RefusalContext<'_> = RefusalContext {
    host: "sbtest.servicebus.windows.net",
    path: "amqps://sbtest.servicebus.windows.net/Orders/$DeadLetterQueue",
    message_session: Some("s 1"),
    waited: Some(Duration::from_millis(1_500)),
    tracking_id: "abc_G1",
    now: Timestamp::from_unix_millis(1_893_456_000_000),
};

/// Refusal, status, condition, what the text begins with.
fn table() -> Vec<(Refusal, i32, &'static str, &'static str)> {
    vec![
        (
            Refusal::EntityNotFound,
            404,
            "amqp:not-found",
            "The messaging entity 'sb://sbtest.servicebus.windows.net/Orders/$DeadLetterQueue' could not be found.",
        ),
        (
            Refusal::Unauthorized(Right::Send),
            401,
            "amqp:unauthorized-access",
            "Unauthorized access. 'Send' claim(s) are required to perform this operation",
        ),
        (
            Refusal::Unauthorized(Right::Listen),
            401,
            "amqp:unauthorized-access",
            "Unauthorized access. 'Listen' claim(s) are required to perform this operation",
        ),
        (Refusal::TokenExpired, 401, "amqp:unauthorized-access", "ExpiredToken: The token is expired."),
        (
            Refusal::MessageLockLost,
            410,
            "com.microsoft:message-lock-lost",
            "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue",
        ),
        (
            Refusal::MessageSessionLockLost,
            410,
            "com.microsoft:session-lock-lost",
            "The session lock has expired on the MessageSession. Accept a new MessageSession.",
        ),
        (
            Refusal::MessageSessionCannotBeLocked,
            410,
            "com.microsoft:session-cannot-be-locked",
            "The requested session 's 1' cannot be accepted. It may be locked by another receiver.",
        ),
        (
            Refusal::LinkIdle(Duration::from_secs(600)),
            503,
            "amqp:link:detach-forced",
            "The link to 'Orders/$DeadLetterQueue' is force detached. Code: IdleTimerExpired. Idle timeout: \
             00:10:00.",
        ),
        (
            Refusal::AcceptTimedOut,
            408,
            "com.microsoft:timeout",
            "The operation did not complete within the allotted timeout of 00:00:01.500.",
        ),
        (
            Refusal::MessageSessionIdMissing,
            400,
            "amqp:not-allowed",
            "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have \
             session support enabled can only receive messages that have the SessionId set to a valid value.",
        ),
        (
            Refusal::MessageSessionReceiverRequired,
            400,
            "amqp:not-allowed",
            "It is not possible for an entity that requires sessions to create a non-sessionful message receiver.",
        ),
        (
            Refusal::MessageSessionsNotSupported,
            400,
            "amqp:not-allowed",
            "It is not possible for an entity that does not require sessions",
        ),
        (
            Refusal::MessageSessionOnSubQueue,
            400,
            "amqp:not-allowed",
            "Cannot create a MessageSession for a sub-queue.",
        ),
        (Refusal::SendToSubQueue, 400, "amqp:not-allowed", "Cannot send to 'Orders/$DeadLetterQueue'"),
        (
            Refusal::AlreadyDeadLettered,
            400,
            "amqp:not-allowed",
            "The message already is in a dead-letter queue",
        ),
        (Refusal::NotAllowedInMode, 400, "amqp:not-allowed", "The receive mode"),
        (
            Refusal::IdTooLong { field: "SessionId", chars: 129 },
            400,
            "com.microsoft:argument-error",
            "SessionId has at most 128 characters, this one has 129.",
        ),
        (
            Refusal::InvalidArgument("no tokens were given"),
            400,
            "com.microsoft:argument-error",
            "No tokens were given.",
        ),
        (
            Refusal::TooManyMessages,
            400,
            "com.microsoft:argument-out-of-range",
            "A batch has at most 4500 messages.",
        ),
        (
            Refusal::Malformed("sections are out of order"),
            400,
            "amqp:decode-error",
            "Sections are out of order.",
        ),
        (
            Refusal::TooLarge { limit: SizeLimit::MessageSessionState, max_bytes: 262_144 },
            403,
            "amqp:link:message-size-exceeded",
            "The session state is larger than the limit of 262144 bytes.",
        ),
        (
            Refusal::QuotaExceeded,
            403,
            "amqp:resource-limit-exceeded",
            "The maximum entity size has been reached or exceeded for",
        ),
        (Refusal::UnknownOperation, 501, "amqp:not-implemented", "The operation is not known."),
        (
            Refusal::NotSupported(Feature::Transactions),
            501,
            "amqp:not-implemented",
            "Transactions are not supported by this version of the broker.",
        ),
        (Refusal::ServerBusy, 503, "com.microsoft:server-busy", "The broker is busy."),
        (Refusal::ShuttingDown, 503, "amqp:connection:forced", "The broker is shutting down."),
        (Refusal::Unreadable, 500, "amqp:internal-error", "A stored message cannot be read"),
    ]
}

#[test]
fn every_refusal_has_its_condition_status_and_text() {
    for (refusal, status, condition, begins) in table() {
        assert_eq!(management_status(&refusal), (status, condition), "{refusal:?}");
        let error = error(&refusal, &CONTEXT);
        assert_eq!(error.condition.as_str(), condition, "{refusal:?}");
        let text = error.description.expect("clients run expressions on it");
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(error.info, None);
    }
}

#[test]
fn texts_end_with_tracking_id_tracker_and_time() {
    let text = description(&Refusal::ServerBusy, &CONTEXT);
    assert_eq!(
        text,
        "The broker is busy. Wait before the next attempt. TrackingId:abc_G1, \
         SystemTracker:sbtest.servicebus.windows.net:Orders/$DeadLetterQueue, \
         Timestamp:2030-01-01T00:00:00.000Z"
    );
}

#[test]
fn the_missing_entity_is_named_as_the_client_spelled_it() {
    for (spelled, shown) in [
        ("/Queue 1", "Queue 1"),
        ("sb://other:5671/a/B", "a/B"),
        ("t/Subscriptions/S", "t/Subscriptions/S"),
        ("q/$management", "q/$management"),
    ] {
        let context = RefusalContext { path: spelled, ..CONTEXT };
        let text = description(&Refusal::EntityNotFound, &context);
        let expected =
            format!("The messaging entity 'sb://sbtest.servicebus.windows.net/{shown}' could not be found.");
        assert!(text.starts_with(&expected), "{text}");
    }
}
