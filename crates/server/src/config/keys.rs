//! Every key of `lockstep.toml` and of the emulator's `Config.json`: what the readers accept and
//! what `docs/configuration.md` says is this one table.

use std::fmt::Write as _;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The kind and unit of its value, as it reads after "must be".
    pub(super) kind: &'static str,
    /// What holds without it.
    pub(super) default: &'static str,
    /// What it means, with its bounds.
    pub(super) meaning: &'static str,
}

/// Which file a table belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// `lockstep.toml`.
    Toml,
    /// The emulator's `Config.json`.
    Emulator,
}

impl Format {
    pub(super) fn is_json(self) -> bool {
        self == Self::Emulator
    }
}

/// One table of a file.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) format: Format,
    /// Its path; empty for the top of the file.
    pub(super) path: &'static str,
    /// Whether there may be several.
    pub(super) repeated: bool,
    pub(super) keys: &'static [Key],
}

impl Table {
    /// How messages name the table.
    pub(super) fn title(&self) -> String {
        match (self.format, self.path, self.repeated) {
            (_, "", _) => "the top level of the file".to_owned(),
            (Format::Toml, path, true) => format!("[[{path}]]"),
            (Format::Toml, path, false) => format!("[{path}]"),
            (Format::Emulator, path, _) => path.to_owned(),
        }
    }

    /// The path of a table inside this one.
    pub(super) fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

const fn key(name: &'static str, kind: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

const TEXT: &str = "text in quotes";
const BOOL: &str = "true or false";
const COUNT: &str = "a whole number from 0";
const SECONDS: &str = "a number of seconds from 0, such as 60 or 0.5";
const DURATION: &str = "an ISO 8601 duration such as \"PT1M\"";
const TABLES: &str = "a list of tables";
const LATER: &str = "Comes in a later version: anything but the default gives one warning and is left out.";

pub(super) static ROOT: Table = Table {
    format: Format::Toml,
    path: "",
    repeated: false,
    keys: &[
        key(
            "data_dir",
            TEXT,
            "`/var/lib/lockstep` for root, else `$XDG_DATA_HOME/lockstep` or `~/.local/share/lockstep`",
            "The directory that holds everything durable. `--data-dir` wins over it.",
        ),
        key(
            "listen",
            "a list of addresses in quotes, such as [\"127.0.0.1:5672\"]",
            "`127.0.0.1:5672`; with a certificate also port 5671 on all addresses",
            "Addresses to listen on, each for AMQP, AMQP over WebSocket and HTTP, and with a certificate \
             for TLS. Replaces the default; `--listen` replaces this.",
        ),
        key(
            "message_session_on_connection_loss",
            "\"hold\" or \"release\"",
            "`hold`; with `--dev` `release`",
            "What becomes of a message-session lock whose connection breaks without a close: held until \
             it expires, or released at once.",
        ),
        key("log_format", "\"text\" or \"json\"", "`text`", "Form of the log lines on standard error."),
        key("tls", "a table", "no TLS", "The server's certificate."),
        key("limits", "a table", "see there", "Bounds of the process."),
        key("namespace", TABLES, "none", "The namespaces. The first is meant when a client names none."),
    ],
};

pub(super) static TLS: Table = Table {
    format: Format::Toml,
    path: "tls",
    repeated: false,
    keys: &[
        key(
            "certificate_file",
            TEXT,
            "required",
            "PEM file with the server's certificate, then its issuers. `--cert` wins over it.",
        ),
        key(
            "key_file",
            TEXT,
            "required",
            "PEM file with the private key (PKCS#8, PKCS#1 or SEC1). `--key` wins over it.",
        ),
        key(
            "client_ca",
            TEXT,
            "no client certificates",
            "PEM file with the authorities of client certificates. With it clients are asked for a \
             certificate; they may come without one, not with one that does not verify. `--client-ca` wins \
             over it.",
        ),
    ],
};

pub(super) static LIMITS: Table = Table {
    format: Format::Toml,
    path: "limits",
    repeated: false,
    keys: &[
        key(
            "connections_count_max",
            COUNT,
            "`10000`",
            "Open connections, 1 to 1000000; further ones wait to be accepted.",
        ),
        key(
            "idle_timeout_s",
            SECONDS,
            "`240`",
            "Silence after which a connection is given up, 10 to 3600; advertised in `open`.",
        ),
        key(
            "unread_timeout_s",
            SECONDS,
            "`60`",
            "Time after which a connection is given up whose client reads nothing of what is sent to it, 1 \
             to 3600.",
        ),
        key(
            "link_idle_timeout_s",
            SECONDS,
            "never",
            "Time after which a link that is not used is detached with `amqp:link:detach-forced`, 1 to 86400; \
             Service Bus takes 600. A receiver with credit, unsettled deliveries or a message session is in use.",
        ),
        key(
            "connection_without_links_timeout_s",
            SECONDS,
            "never",
            "Time after which a connection that has no link is closed with `amqp:connection:forced`, 1 to \
             86400; Service Bus takes 300.",
        ),
        key(
            "memory_bytes_max",
            COUNT,
            "`1073741824`",
            "Memory that clients may make the broker hold, in bytes, at least 16777216; a quarter is left to \
             the store. When it is used up, new work is refused with `com.microsoft:server-busy`; idle \
             connections come on top.",
        ),
    ],
};

pub(super) static NAMESPACE: Table = Table {
    format: Format::Toml,
    path: "namespace",
    repeated: true,
    keys: &[
        key(
            "name",
            TEXT,
            "required",
            "Its name: letters, digits, `-`, `.` and `_`. The same name in the emulator's file means \
             the same namespace.",
        ),
        key(
            "host_names",
            "a list of host names in quotes",
            "none",
            "Host names by which clients mean this namespace, besides its name and `localhost`.",
        ),
        key("policy", TABLES, "none", "Shared access policies for the whole namespace."),
        key("client_certificate", TABLES, "none", "Rights of client certificates in the whole namespace."),
        key("queue", TABLES, "none", "Queues."),
        key("topic", TABLES, "none", LATER),
    ],
};

const POLICY_KEYS: &[Key] = &[
    key("name", TEXT, "required", "The policy's name (`SharedAccessKeyName`)."),
    key("primary_key", TEXT, "one of the three is required", "The key (`SharedAccessKey`), as it stands."),
    key(
        "primary_key_file",
        TEXT,
        "",
        "File that holds the key; space and line ends around it are removed. Relative to this file.",
    ),
    key("primary_key_env", TEXT, "", "Environment variable that holds the key."),
    key("secondary_key", TEXT, "none", "A second key that is valid as well, for changing keys."),
    key("secondary_key_file", TEXT, "", "File that holds the second key."),
    key("secondary_key_env", TEXT, "", "Environment variable that holds the second key."),
    key(
        "rights",
        "a list of \"Send\", \"Listen\" and \"Manage\"",
        "required",
        "What the policy allows; `Manage` includes the other two.",
    ),
];

pub(super) static NAMESPACE_POLICY: Table =
    Table { format: Format::Toml, path: "namespace.policy", repeated: true, keys: POLICY_KEYS };

pub(super) static QUEUE_POLICY: Table =
    Table { format: Format::Toml, path: "namespace.queue.policy", repeated: true, keys: POLICY_KEYS };

const CLIENT_CERTIFICATE_KEYS: &[Key] = &[
    key(
        "subject",
        TEXT,
        "this or `san` is required",
        "The certificate's subject as RFC 4514 writes it, such as `CN=worker,O=Acme`: all of it, the last \
         part of the certificate first; letter case counts.",
    ),
    key(
        "san",
        TEXT,
        "",
        "A DNS name, e-mail address or URI among the certificate's subject alternative names: with a `:` it is \
         taken for a URI, otherwise with an `@` for an e-mail address, otherwise for a DNS name.",
    ),
    key(
        "rights",
        "a list of \"Send\", \"Listen\" and \"Manage\"",
        "required",
        "What a client with such a certificate may do that authenticates by SASL EXTERNAL; `Manage` \
         includes the other two.",
    ),
];

pub(super) static NAMESPACE_CLIENT_CERTIFICATE: Table = Table {
    format: Format::Toml,
    path: "namespace.client_certificate",
    repeated: true,
    keys: CLIENT_CERTIFICATE_KEYS,
};

pub(super) static QUEUE_CLIENT_CERTIFICATE: Table = Table {
    format: Format::Toml,
    path: "namespace.queue.client_certificate",
    repeated: true,
    keys: CLIENT_CERTIFICATE_KEYS,
};

pub(super) static QUEUE: Table = Table {
    format: Format::Toml,
    path: "namespace.queue",
    repeated: true,
    keys: &[
        key(
            "name",
            TEXT,
            "required",
            "Its name: segments of letters, digits, `.`, `-` and `_`, separated by `/`; at most 260 \
             characters. Letter case does not count.",
        ),
        key(
            "requires_session",
            BOOL,
            "`false`",
            "Whether every message belongs to a message session. Cannot be changed later.",
        ),
        key(
            "lock_duration_s",
            SECONDS,
            "`60`",
            "How long a message lock or message-session lock lasts, 5 to 300.",
        ),
        key(
            "max_delivery_count",
            COUNT,
            "`10`",
            "Failed deliveries after which a message goes to the dead-letter queue, 1 to 2147483647.",
        ),
        key(
            "max_message_size_bytes",
            COUNT,
            "`262144`",
            "Largest encoded message, also of a message-session state, 1024 to 104857600.",
        ),
        key(
            "auto_renew_while_link_open",
            BOOL,
            "`false`",
            "Whether the broker renews the message-session lock of a link, and each message lock that was \
             given to a link, whenever it would expire while that link is attached. For clients that cannot \
             renew.",
        ),
        key("policy", TABLES, "none", "Shared access policies for this queue alone."),
        key("client_certificate", TABLES, "none", "Rights of client certificates on this queue alone."),
        key(
            "max_size_bytes",
            COUNT,
            "`1073741824`",
            "Bytes of messages, dead-lettered ones too, and of message-session states that it may hold, from \
             1048576; a send that begins above it is refused.",
        ),
        key(
            "status",
            TEXT,
            "`\"Active\"`",
            "`\"Active\"`, `\"Disabled\"`, `\"SendDisabled\"` or `\"ReceiveDisabled\"`. Messages are kept.",
        ),
        key(
            "default_message_time_to_live_s",
            SECONDS,
            "for ever",
            "The longest that a message lives, from 1; a message's own value is lowered to it.",
        ),
        key(
            "dead_lettering_on_message_expiration",
            BOOL,
            "`false`",
            "Whether expired messages go to the dead-letter queue instead of being dropped.",
        ),
        key(
            "session_expiration_scope",
            TEXT,
            "`\"session\"`",
            "`\"session\"`: with one message all of its message session expire that are not out on delivery, \
             as the documents of Service Bus say. `\"message\"`: each by itself.",
        ),
        key(
            "requires_duplicate_detection",
            BOOL,
            "`false`",
            "Whether a message with the message-id of an earlier one is accepted and dropped. Cannot be \
             changed later.",
        ),
        key(
            "duplicate_detection_history_time_window_s",
            SECONDS,
            "`600`",
            "For how long message-ids are remembered, 5 to 604800.",
        ),
        key(
            "auto_delete_on_idle_s",
            SECONDS,
            "never",
            "After how long without use the queue is deleted with everything in it, from 300. A queue that \
             the file still names is made anew at the next start.",
        ),
        key(
            "enable_partitioning",
            BOOL,
            "`false`",
            "Keeps the rules about keys of a partitioned entity; there is one partition. Cannot be changed \
             later.",
        ),
        key(
            "session_state_time_to_live_s",
            SECONDS,
            "for ever",
            "How long after it was last set, or its last message came, the state of a message session is \
             removed that is not held and has no messages, from 1.",
        ),
        key(
            "redelivery_delay_s",
            SECONDS,
            "`0`",
            "After how long a message that was abandoned once is delivered again, up to 86400; doubled with \
             each further failed delivery. A receiver may set its own, in milliseconds, by the property \
             `x-opt-redeliver-after` of the abandon. In a message session nothing overtakes the message.",
        ),
        key(
            "redelivery_delay_max_s",
            SECONDS,
            "`0`",
            "The longest of these delays, up to 86400; less than `redelivery_delay_s` keeps them all the same.",
        ),
        key(
            "count_unsettled_on_message_session_close",
            BOOL,
            "`false`",
            "Whether messages that the holder of a message session leaves unsettled when it closes count as \
             failed deliveries.",
        ),
        key("user_metadata", TEXT, "none", "A text of yours, at most 1024 characters."),
        key("forward_to", TEXT, "none", LATER),
        key("forward_dead_lettered_messages_to", TEXT, "none", LATER),
    ],
};

pub(super) static EMULATOR_ROOT: Table = Table {
    format: Format::Emulator,
    path: "",
    repeated: false,
    keys: &[key("UserConfig", "a table", "required", "Everything.")],
};

pub(super) static EMULATOR_USER_CONFIG: Table = Table {
    format: Format::Emulator,
    path: "UserConfig",
    repeated: false,
    keys: &[
        key("Namespaces", TABLES, "none", "Any number of namespaces, with any names."),
        key("Logging", "a table", "none", "Read and not used: the log goes to standard error."),
    ],
};

pub(super) static EMULATOR_LOGGING: Table = Table {
    format: Format::Emulator,
    path: "UserConfig.Logging",
    repeated: false,
    keys: &[key("Type", TEXT, "`Console`", "Anything with `File` gives a warning.")],
};

pub(super) static EMULATOR_NAMESPACE: Table = Table {
    format: Format::Emulator,
    path: "UserConfig.Namespaces",
    repeated: true,
    keys: &[
        key("Name", TEXT, "required", "Its name."),
        key("Queues", TABLES, "none", "Any number of queues."),
        key("Topics", TABLES, "none", LATER),
    ],
};

pub(super) static EMULATOR_TOPIC: Table = Table {
    format: Format::Emulator,
    path: "UserConfig.Namespaces.Topics",
    repeated: true,
    keys: &[
        key("Name", TEXT, "required", "Its name."),
        key("Properties", "a table", "none", LATER),
        key("Subscriptions", TABLES, "none", LATER),
    ],
};

pub(super) static EMULATOR_QUEUE: Table = Table {
    format: Format::Emulator,
    path: "UserConfig.Namespaces.Queues",
    repeated: true,
    keys: &[
        key("Name", TEXT, "required", "Its name."),
        key("Properties", "a table", "none", "Its properties."),
    ],
};

pub(super) static EMULATOR_QUEUE_PROPERTIES: Table = Table {
    format: Format::Emulator,
    path: "UserConfig.Namespaces.Queues.Properties",
    repeated: true,
    keys: &[
        key("RequiresSession", BOOL, "`false`", "As `requires_session`."),
        key("LockDuration", DURATION, "`PT1M`", "As `lock_duration_s`, `PT5S` to `PT5M`."),
        key(
            "MaxDeliveryCount",
            COUNT,
            "`10`; with `--emulator-defaults` `3`",
            "As `max_delivery_count`, 1 to 2147483647.",
        ),
        key(
            "DefaultMessageTimeToLive",
            DURATION,
            "for ever; with `--emulator-defaults` `PT1H`",
            "As `default_message_time_to_live_s`.",
        ),
        key(
            "DeadLetteringOnMessageExpiration",
            BOOL,
            "`false`",
            "As `dead_lettering_on_message_expiration`.",
        ),
        key("RequiresDuplicateDetection", BOOL, "`false`", "As `requires_duplicate_detection`."),
        key(
            "DuplicateDetectionHistoryTimeWindow",
            DURATION,
            "`PT10M`; with `--emulator-defaults` `PT20S`",
            "As `duplicate_detection_history_time_window_s`, `PT5S` to `P7D`.",
        ),
        key("ForwardTo", TEXT, "none", LATER),
        key("ForwardDeadLetteredMessagesTo", TEXT, "none", LATER),
    ],
};

static DOCUMENTED: &[&Table] = &[
    &ROOT,
    &TLS,
    &LIMITS,
    &NAMESPACE,
    &NAMESPACE_POLICY,
    &NAMESPACE_CLIENT_CERTIFICATE,
    &QUEUE,
    &QUEUE_POLICY,
    &QUEUE_CLIENT_CERTIFICATE,
    &EMULATOR_ROOT,
    &EMULATOR_USER_CONFIG,
    &EMULATOR_LOGGING,
    &EMULATOR_NAMESPACE,
    &EMULATOR_QUEUE,
    &EMULATOR_QUEUE_PROPERTIES,
    &EMULATOR_TOPIC,
];

/// The tables of `docs/configuration.md`, in Markdown: made from what the readers accept.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::new();
    let mut format = None;
    for table in DOCUMENTED {
        if format != Some(table.format) {
            format = Some(table.format);
            text.push_str(match table.format {
                Format::Toml => "## `lockstep.toml`\n\n",
                Format::Emulator => "## The emulator's `Config.json`\n\n",
            });
        }
        let title = match table.path {
            "" => "Top level".to_owned(),
            _ => format!("`{}`", table.title()),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "### {title}\n\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        for key in table.keys {
            let default = if key.default.is_empty() { "-" } else { key.default };
            let _ = writeln!(text, "| `{}` | {} | {default} | {} |", key.name, key.kind, key.meaning);
        }
        text.push('\n');
    }
    text
}
