//! Messages to send, and messages that came.

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::{
    codec::encode_value,
    message::{
        self, Header, Properties, decode_body_value, decode_header, decode_map_section, decode_properties,
        encode_header, encode_properties, scan,
    },
    types::{Map, Value},
};

use crate::{Failed, Outcome};

/// A message to be encoded.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// header
    pub header: Option<Header>,
    /// message-annotations
    pub annotations: Map,
    /// properties
    pub properties: Properties,
    /// application-properties
    pub application_properties: Map,
    /// The one data section.
    pub body: Bytes,
}

impl Outgoing {
    /// With a text as its body.
    #[must_use]
    pub fn text(body: impl AsRef<str>) -> Self {
        Self { body: Bytes::copy_from_slice(body.as_ref().as_bytes()), ..Self::default() }
    }

    /// Of a message session.
    #[must_use]
    pub fn of(mut self, message_session: &str) -> Self {
        self.properties.group_id = Some(message_session.into());
        self
    }

    /// The whole message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(header) = &self.header {
            encode_header(&mut out, header);
        }
        if !self.annotations.is_empty() {
            out.put_slice(&[0x00, 0x53, message::section::MESSAGE_ANNOTATIONS]);
            encode_value(&mut out, &Value::Map(self.annotations.clone()));
        }
        encode_properties(&mut out, &self.properties);
        if !self.application_properties.is_empty() {
            out.put_slice(&[0x00, 0x53, message::section::APPLICATION_PROPERTIES]);
            encode_value(&mut out, &Value::Map(self.application_properties.clone()));
        }
        out.put_slice(&[0x00, 0x53, message::section::DATA]);
        encode_value(&mut out, &Value::Binary(self.body.clone()));
        out.freeze()
    }
}

/// A text, encoded; of a message session if one is given.
#[must_use]
pub fn text_message(body: impl AsRef<str>, message_session: Option<&str>) -> Bytes {
    let message = Outgoing::text(body);
    match message_session {
        Some(id) => message.of(id).encode(),
        None => message.encode(),
    }
}

/// Several messages as one batch, to be sent in its own format.
#[must_use]
pub fn batch(messages: &[Bytes]) -> Bytes {
    message::encode_batch(messages)
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Message {
    /// header
    pub header: Header,
    /// delivery-annotations
    pub delivery_annotations: Map,
    /// message-annotations
    pub annotations: Map,
    /// properties
    pub properties: Properties,
    /// application-properties
    pub application_properties: Map,
    /// The first data section, or nothing.
    pub body: Bytes,
    /// The amqp-value body, if it has one.
    pub value: Option<Value>,
}

fn entry<'a>(map: &'a Map, key: &str) -> Option<&'a Value> {
    map.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
}

impl Message {
    /// Takes a message apart.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn parse(bytes: &Bytes) -> Outcome<Self> {
        let sections = scan(bytes)?;
        let map = |range: &Option<std::ops::Range<usize>>| match range {
            Some(range) => decode_map_section(&bytes[range.clone()]),
            None => Ok(Map::new()),
        };
        let value = decode_body_value(bytes, &sections)?;
        let body = if value.is_none() && !sections.body.is_empty() {
            // A data section alone is a batch of one, whose member is the data.
            let alone = bytes
                .slice(sections.body.start..sections.footer.as_ref().map_or(sections.body.end, |f| f.start));
            message::split_batch(&alone).ok().and_then(|data| data.into_iter().next()).unwrap_or_default()
        } else {
            Bytes::new()
        };
        Ok(Self {
            header: match &sections.header {
                Some(range) => decode_header(&bytes[range.clone()])?,
                None => Header::default(),
            },
            delivery_annotations: map(&sections.delivery_annotations)?,
            annotations: map(&sections.message_annotations)?,
            properties: match &sections.properties {
                Some(range) => decode_properties(&bytes[range.clone()])?,
                None => Properties::default(),
            },
            application_properties: map(&sections.application_properties)?,
            body,
            value,
        })
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(no text)")
    }

    /// How often it was delivered in vain before; `None` if the header does not say.
    #[must_use]
    pub fn delivery_count(&self) -> Option<u32> {
        self.header.delivery_count
    }

    /// A message-annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&Value> {
        entry(&self.annotations, key)
    }

    /// A delivery-annotation.
    #[must_use]
    pub fn delivery_annotation(&self, key: &str) -> Option<&Value> {
        entry(&self.delivery_annotations, key)
    }

    /// An application-property.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&Value> {
        entry(&self.application_properties, key)
    }

    /// Its number in the queue.
    ///
    /// # Errors
    /// When it has none.
    pub fn sequence_number(&self) -> Outcome<i64> {
        match self.annotation("x-opt-sequence-number") {
            Some(Value::Long(number)) => Ok(*number),
            other => Err(Failed::new(format!("x-opt-sequence-number is {other:?}"))),
        }
    }
}

/// The lock token of a delivery as `$management` wants it: delivery-tags are GUIDs in .NET byte
/// order.
///
/// # Errors
/// When the tag is no GUID.
pub fn lock_token(tag: &[u8]) -> Outcome<Value> {
    let Ok([a, b, c, d, e, f, g, h, rest @ ..]) = <[u8; 16]>::try_from(tag) else {
        return Err(Failed::new(format!("a delivery-tag of {} bytes", tag.len())));
    };
    let mut uuid = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    uuid[8..].copy_from_slice(&rest);
    Ok(Value::Uuid(uuid))
}
