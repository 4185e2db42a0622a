//! Every string and code of the Service Bus dialect, and nowhere else (wire.md 2 to 10).

/// The node for tokens.
pub const CBS_NODE: &str = "$cbs";
/// The node for operations, below an entity.
pub const MANAGEMENT_NODE: &str = "$management";

/// SASL mechanisms.
pub mod sasl {
    /// The anonymous mechanism of .NET; means the same as [`ANONYMOUS`].
    pub const MSSBCBS: &str = "MSSBCBS";
    /// Policy name and key.
    pub const PLAIN: &str = "PLAIN";
    /// No credentials; tokens follow on `$cbs`.
    pub const ANONYMOUS: &str = "ANONYMOUS";
    /// By the client certificate of TLS; offered where there is a verified one, after the others.
    pub const EXTERNAL: &str = "EXTERNAL";
    /// The order in which the server offers them: clients that choose by server order take the
    /// first they know.
    pub const OFFERED: [&str; 3] = [MSSBCBS, PLAIN, ANONYMOUS];
}

/// Keys of message-annotations and delivery-annotations.
pub mod annotation {
    /// long, the broker's.
    pub const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
    /// timestamp, the broker's.
    pub const ENQUEUED_TIME: &str = "x-opt-enqueued-time";
    /// timestamp, the broker's.
    pub const LOCKED_UNTIL: &str = "x-opt-locked-until";
    /// uuid, a delivery-annotation, the broker's.
    pub const LOCK_TOKEN: &str = "x-opt-lock-token";
    /// long, the broker's; on forwarded messages only.
    pub const ENQUEUE_SEQUENCE_NUMBER: &str = "x-opt-enqueue-sequence-number";
    /// int, the broker's.
    pub const MESSAGE_STATE: &str = "x-opt-message-state";
    /// string, the sender's.
    pub const PARTITION_KEY: &str = "x-opt-partition-key";
    /// string, the sender's.
    pub const VIA_PARTITION_KEY: &str = "x-opt-via-partition-key";
    /// timestamp, the sender's.
    pub const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";
    /// string.
    pub const DEADLETTER_SOURCE: &str = "x-opt-deadletter-source";
    /// long, a delivery-annotation: bytes of a body left out of a peek.
    pub const OMITTED_MESSAGE_BODY_SIZE: &str = "omitted-message-body-size";
    /// What all annotations with a meaning to the broker begin with.
    pub const PREFIX: &str = "x-opt-";
    /// Among the properties of an abandon: milliseconds until the next delivery, as any integer
    /// type (semantics F-7; an extension).
    pub const REDELIVER_AFTER: &str = "x-opt-redeliver-after";
}

/// Application properties that the broker sets.
pub mod property {
    /// Why a message was dead-lettered.
    pub const DEAD_LETTER_REASON: &str = "DeadLetterReason";
    /// The details of it.
    pub const DEAD_LETTER_ERROR_DESCRIPTION: &str = "DeadLetterErrorDescription";
}

/// Link properties.
pub mod link_property {
    /// uint, milliseconds that a client waits for the next message session.
    pub const TIMEOUT: &str = "com.microsoft:timeout";
    /// boolean: browse a message session without its lock.
    pub const PEEK_MODE: &str = "com.microsoft:peek-mode";
    /// string, a client's own name.
    pub const RECEIVER_NAME: &str = "com.microsoft:receiver-name";
    /// string, a destination behind the target ("send via").
    pub const TRANSFER_DESTINATION_ADDRESS: &str = "com.microsoft:transfer-destination-address";
    /// long, broker to client.
    pub const MAX_MESSAGE_BATCH_SIZE: &str = "com.microsoft:max-message-batch-size";
    /// long (.NET ticks), broker to client.
    pub const LOCKED_UNTIL_UTC: &str = "com.microsoft:locked-until-utc";
}

/// Source filters: names, which are both map keys and symbolic descriptors, and numeric
/// descriptors.
pub mod filter {
    /// Accepts a message session.
    pub const MESSAGE_SESSION: &str = "com.microsoft:session-filter";
    /// Its numeric descriptor.
    pub const MESSAGE_SESSION_CODE: u64 = 0x13_7000_000C;
    /// Shares a message session.
    pub const NON_EXCLUSIVE_MESSAGE_SESSION: &str = "com.microsoft:non-exclusive-session-filter:list";
    /// The same without the type.
    pub const NON_EXCLUSIVE_MESSAGE_SESSION_SHORT: &str = "com.microsoft:non-exclusive-session-filter";
    /// Its numeric descriptor.
    pub const NON_EXCLUSIVE_MESSAGE_SESSION_CODE: u64 = 0x13_7000_000E;
    /// A JMS selector.
    pub const SELECTOR: &str = "apache.org:selector-filter:string";
    /// The key that rhea and qpid-jms give a selector.
    pub const JMS_SELECTOR: &str = "jms-selector";
    /// Its numeric descriptor.
    pub const SELECTOR_CODE: u64 = 0x0000_468C_0000_0004;
    /// What the names of rule filters begin with.
    pub const RULE_FILTERS: [&str; 4] = [
        "com.microsoft:sql-filter",
        "com.microsoft:correlation-filter",
        "com.microsoft:true-filter",
        "com.microsoft:false-filter",
    ];
    /// Numeric descriptors of rule filters: SQL, true, false, correlation.
    pub const RULE_FILTER_CODES: std::ops::RangeInclusive<u64> = 0x13_7000_0006..=0x13_7000_0009;
}

/// distribution-mode of a source that browses.
pub const DISTRIBUTION_MODE_COPY: &str = "copy";
/// Capability of a terminus that has to be a topic (AMQP's JMS mapping).
pub const CAPABILITY_TOPIC: &str = "topic";

/// message-format of a batch of messages.
pub const MESSAGE_FORMAT_BATCH: u32 = 0x8001_3700;

/// Error conditions (wire.md 9.1).
pub mod condition {
    /// 404
    pub const NOT_FOUND: &str = "amqp:not-found";
    /// 401
    pub const UNAUTHORIZED_ACCESS: &str = "amqp:unauthorized-access";
    /// 400
    pub const NOT_ALLOWED: &str = "amqp:not-allowed";
    /// 400
    pub const INVALID_FIELD: &str = "amqp:invalid-field";
    /// 501
    pub const NOT_IMPLEMENTED: &str = "amqp:not-implemented";
    /// 403
    pub const RESOURCE_LIMIT_EXCEEDED: &str = "amqp:resource-limit-exceeded";
    /// 403
    pub const MESSAGE_SIZE_EXCEEDED: &str = "amqp:link:message-size-exceeded";
    /// 500
    pub const INTERNAL_ERROR: &str = "amqp:internal-error";
    /// 400
    pub const DECODE_ERROR: &str = "amqp:decode-error";
    /// 503
    pub const LINK_DETACH_FORCED: &str = "amqp:link:detach-forced";
    /// 503
    pub const CONNECTION_FORCED: &str = "amqp:connection:forced";
    /// 408
    pub const TIMEOUT: &str = "com.microsoft:timeout";
    /// 503
    pub const SERVER_BUSY: &str = "com.microsoft:server-busy";
    /// 410
    pub const MESSAGE_LOCK_LOST: &str = "com.microsoft:message-lock-lost";
    /// 410
    pub const MESSAGE_SESSION_LOCK_LOST: &str = "com.microsoft:session-lock-lost";
    /// 410
    pub const MESSAGE_SESSION_CANNOT_BE_LOCKED: &str = "com.microsoft:session-cannot-be-locked";
    /// 204
    pub const MESSAGE_NOT_FOUND: &str = "com.microsoft:message-not-found";
    /// The status of the entity forbids it.
    pub const ENTITY_DISABLED: &str = "com.microsoft:entity-disabled";
    /// An entity of that name is there.
    pub const ENTITY_ALREADY_EXISTS: &str = "com.microsoft:entity-already-exists";
    /// 204
    pub const MESSAGE_SESSION_NOT_FOUND: &str = "com.microsoft:session-not-found";
    /// 400
    pub const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";
    /// 400
    pub const ARGUMENT_OUT_OF_RANGE: &str = "com.microsoft:argument-out-of-range";
    /// What SDKs give when they dead-letter a message.
    pub const DEAD_LETTER: &str = "com.microsoft:dead-letter";
}

/// Requests to `$cbs` (wire.md 2.2, 2.3).
pub mod cbs {
    /// application-property of a request.
    pub const OPERATION: &str = "operation";
    /// The one operation.
    pub const PUT_TOKEN: &str = "put-token";
    /// application-property: type of the token.
    pub const TYPE: &str = "type";
    /// A shared access signature.
    pub const TYPE_SAS: &str = "servicebus.windows.net:sastoken";
    /// An Entra token.
    pub const TYPE_JWT: &str = "jwt";
    /// application-property: audience.
    pub const NAME: &str = "name";
    /// application-property of a response, int.
    pub const STATUS_CODE: &str = "status-code";
    /// application-property of a response, string.
    pub const STATUS_DESCRIPTION: &str = "status-description";
    /// application-property of a response, symbol.
    pub const ERROR_CONDITION: &str = "error-condition";
}

/// Requests to `$management` (wire.md 7).
pub mod management {
    /// application-property: which operation.
    pub const OPERATION: &str = "operation";
    /// application-property: milliseconds.
    pub const SERVER_TIMEOUT: &str = "com.microsoft:server-timeout";
    /// The same, as Go spells it.
    pub const SERVER_TIMEOUT_BARE: &str = "server-timeout";
    /// application-property: link of the client that the request is about.
    pub const ASSOCIATED_LINK_NAME: &str = "associated-link-name";
    /// application-property of a response, int.
    pub const STATUS_CODE: &str = "statusCode";
    /// application-property of a response, string.
    pub const STATUS_DESCRIPTION: &str = "statusDescription";
    /// application-property of a response, symbol.
    pub const ERROR_CONDITION: &str = "errorCondition";

    /// Operation.
    pub const RENEW_LOCK: &str = "com.microsoft:renew-lock";
    /// Operation.
    pub const RENEW_MESSAGE_SESSION_LOCK: &str = "com.microsoft:renew-session-lock";
    /// Operation.
    pub const GET_MESSAGE_SESSION_STATE: &str = "com.microsoft:get-session-state";
    /// Operation.
    pub const SET_MESSAGE_SESSION_STATE: &str = "com.microsoft:set-session-state";
    /// Operation.
    pub const GET_MESSAGE_SESSIONS: &str = "com.microsoft:get-message-sessions";
    /// Operation.
    pub const PEEK_MESSAGE: &str = "com.microsoft:peek-message";
    /// Operation.
    pub const UPDATE_DISPOSITION: &str = "com.microsoft:update-disposition";
    /// Operation.
    pub const SCHEDULE_MESSAGE: &str = "com.microsoft:schedule-message";
    /// Operation.
    pub const CANCEL_SCHEDULED_MESSAGE: &str = "com.microsoft:cancel-scheduled-message";
    /// Operation.
    pub const RECEIVE_BY_SEQUENCE_NUMBER: &str = "com.microsoft:receive-by-sequence-number";
    /// Operation of a later version.
    pub const ADD_RULE: &str = "com.microsoft:add-rule";
    /// Operation of a later version.
    pub const REMOVE_RULE: &str = "com.microsoft:remove-rule";
    /// Operation of a later version.
    pub const ENUMERATE_RULES: &str = "com.microsoft:enumerate-rules";
    /// Operation.
    pub const BATCH_DELETE_MESSAGES: &str = "com.microsoft:batch-delete-messages";

    /// Body key: array of long.
    pub const SEQUENCE_NUMBERS: &str = "sequence-numbers";
    /// Body key: uint.
    pub const RECEIVER_SETTLE_MODE: &str = "receiver-settle-mode";
    /// Body key: timestamp.
    pub const ENQUEUED_TIME_UTC: &str = "enqueued-time-utc";
    /// Body key: uuid.
    pub const LOCK_TOKEN: &str = "lock-token";
    /// Body key: array of uuid.
    pub const LOCK_TOKENS: &str = "lock-tokens";
    /// Body key: array of timestamp.
    pub const EXPIRATIONS: &str = "expirations";
    /// Body key: timestamp.
    pub const EXPIRATION: &str = "expiration";
    /// Body key: string.
    pub const MESSAGE_SESSION_ID: &str = "session-id";
    /// Body key: binary or null.
    pub const MESSAGE_SESSION_STATE: &str = "session-state";
    /// Body key: timestamp.
    pub const LAST_UPDATED_TIME: &str = "last-updated-time";
    /// Body key: int.
    pub const SKIP: &str = "skip";
    /// Body key: int.
    pub const TOP: &str = "top";
    /// Body key: array of string; the odd spelling is the protocol's.
    pub const MESSAGE_SESSIONS_IDS: &str = "sessions-ids";
    /// Body key: long.
    pub const FROM_SEQUENCE_NUMBER: &str = "from-sequence-number";
    /// Body key: int.
    pub const MESSAGE_COUNT: &str = "message-count";
    /// Body key: boolean.
    pub const OMIT_MESSAGE_BODY: &str = "omit-message-body";
    /// Body key: list of map.
    pub const MESSAGES: &str = "messages";
    /// Body key: binary, an encoded message.
    pub const MESSAGE: &str = "message";
    /// Body key: string.
    pub const DISPOSITION_STATUS: &str = "disposition-status";
    /// Body key: string.
    pub const DEADLETTER_REASON: &str = "deadletter-reason";
    /// Body key: string.
    pub const DEADLETTER_DESCRIPTION: &str = "deadletter-description";
    /// Body key: map.
    pub const PROPERTIES_TO_MODIFY: &str = "properties-to-modify";

    /// Disposition: complete.
    pub const DISPOSITION_COMPLETED: &str = "completed";
    /// Disposition: abandon.
    pub const DISPOSITION_ABANDONED: &str = "abandoned";
    /// Disposition: dead-letter.
    pub const DISPOSITION_SUSPENDED: &str = "suspended";
    /// Disposition: defer; the odd spelling is the protocol's.
    pub const DISPOSITION_DEFERED: &str = "defered";
    /// Disposition: defer, as one would spell it.
    pub const DISPOSITION_DEFERRED: &str = "deferred";
}
