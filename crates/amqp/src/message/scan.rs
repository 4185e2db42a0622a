//! Where the sections of a message are.

use std::ops::Range;

use super::{MessageError, Result, section};
use crate::codec::{Cursor, read_descriptor};

/// Ranges of whole sections, descriptors included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sections {
    /// header
    pub header: Option<Range<usize>>,
    /// delivery-annotations
    pub delivery_annotations: Option<Range<usize>>,
    /// message-annotations
    pub message_annotations: Option<Range<usize>>,
    /// properties
    pub properties: Option<Range<usize>>,
    /// application-properties
    pub application_properties: Option<Range<usize>>,
    /// Every body section and the footer: from the first of them to the end of the last. May be
    /// empty.
    pub body: Range<usize>,
    /// footer; it is inside `body`
    pub footer: Option<Range<usize>>,
}

/// One section as it stands in the message.
pub(super) struct RawSection<'a> {
    pub(super) code: u8,
    pub(super) range: Range<usize>,
    /// The described value.
    pub(super) value: &'a [u8],
}

/// Reads the section at `at`.
#[inline]
pub(super) fn section_at(message: &[u8], at: usize) -> Result<RawSection<'_>> {
    let (code, mut cursor) = code_at(message, at)?;
    let value = cursor.value()?;
    check_type(code, value.first().copied().unwrap_or(0))?;
    Ok(RawSection { code, range: at..cursor.position(), value })
}

/// Reads the descriptor of the section at `at` and stops before its value.
#[inline]
fn code_at(message: &[u8], at: usize) -> Result<(u8, Cursor<'_>)> {
    if let Some(&[0x00, 0x53, code]) = message.get(at..at + 3) {
        // How every client writes it.
        return Ok((code, Cursor::new(message, at + 3)));
    }
    let mut cursor = Cursor::new(message, at);
    let code = section_code(read_descriptor(&mut cursor)?)?;
    Ok((code, cursor))
}

/// A descriptor as a section's code.
pub(super) fn section_code(descriptor: Option<u64>) -> Result<u8> {
    descriptor.and_then(|code| u8::try_from(code).ok()).ok_or(MessageError::UnknownSection)
}

/// Checks that the value of a section may have this constructor.
#[inline]
pub(super) fn check_type(code: u8, constructor: u8) -> Result<()> {
    let right_type = match code {
        section::HEADER | section::PROPERTIES | section::AMQP_SEQUENCE => {
            matches!(constructor, 0x45 | 0xc0 | 0xd0)
        }
        section::DELIVERY_ANNOTATIONS
        | section::MESSAGE_ANNOTATIONS
        | section::APPLICATION_PROPERTIES
        | section::FOOTER => matches!(constructor, 0xc1 | 0xd1),
        section::DATA => matches!(constructor, 0xa0 | 0xb0),
        section::AMQP_VALUE => true,
        _ => return Err(MessageError::UnknownSection),
    };
    if right_type { Ok(()) } else { Err(MessageError::InvalidField) }
}

/// Finds the sections and checks their order, that none stands twice, and that the body is of
/// one kind: any number of data sections, any number of amqp-sequence sections, or one
/// amqp-value. A message may have no body, or nothing at all. Delivery-annotations may also stand
/// last, where the Python SDK puts them. Values are passed by their size and not looked into.
///
/// # Errors
/// See [`MessageError`]; the first fault that is met.
pub fn scan(message: &[u8]) -> Result<Sections> {
    let mut sections = Sections { body: message.len()..message.len(), ..Sections::default() };
    let mut at = 0;
    // 0 before the first section, which no section's code equals.
    let mut last = 0;
    while at < message.len() {
        let RawSection { code, range, .. } = section_at(message, at)?;
        at = range.end;
        if code == section::DELIVERY_ANNOTATIONS && last > code && at == message.len() {
            // Python puts them behind everything else.
            if sections.delivery_annotations.is_some() {
                return Err(MessageError::DuplicateSection);
            }
            sections.body = sections.body.start.min(range.start)..range.start;
            sections.delivery_annotations = Some(range);
            break;
        }
        check_order(last, code)?;
        last = code;
        match code {
            section::HEADER => sections.header = Some(range),
            section::DELIVERY_ANNOTATIONS => sections.delivery_annotations = Some(range),
            section::MESSAGE_ANNOTATIONS => sections.message_annotations = Some(range),
            section::PROPERTIES => sections.properties = Some(range),
            section::APPLICATION_PROPERTIES => sections.application_properties = Some(range),
            _ => {
                sections.body.start = sections.body.start.min(range.start);
                if code == section::FOOTER {
                    sections.footer = Some(range);
                }
            }
        }
    }
    Ok(sections)
}

/// Where a footer is that has other sections behind it, in a message in which [`scan`] found their
/// order wrong. Whether the message is in order without it there, another scan has to tell.
#[must_use]
pub fn misplaced_footer(message: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    while at < message.len() {
        let RawSection { code, range, .. } = section_at(message, at).ok()?;
        at = range.end;
        if code == section::FOOTER {
            return Some(range).filter(|_| at < message.len());
        }
    }
    None
}

/// Finds the sections before the body in the beginning of a message. `body` goes to the end of
/// `beginning`; body and footer are not looked at ([`BodyScanner`](super::BodyScanner) does that).
///
/// # Errors
/// As [`scan`], for what it looks at; [`MessageError::Decode`] also if the beginning ends within
/// one of those sections.
pub fn scan_head(beginning: &[u8]) -> Result<Sections> {
    let mut sections = Sections { body: beginning.len()..beginning.len(), ..Sections::default() };
    let mut at = 0;
    let mut last = 0;
    while at < beginning.len() {
        if code_at(beginning, at)?.0 >= section::DATA {
            sections.body.start = at;
            break;
        }
        let RawSection { code, range, .. } = section_at(beginning, at)?;
        at = range.end;
        check_order(last, code)?;
        last = code;
        match code {
            section::HEADER => sections.header = Some(range),
            section::DELIVERY_ANNOTATIONS => sections.delivery_annotations = Some(range),
            section::MESSAGE_ANNOTATIONS => sections.message_annotations = Some(range),
            section::PROPERTIES => sections.properties = Some(range),
            _ => sections.application_properties = Some(range),
        }
    }
    Ok(sections)
}

/// Codes of sections ascend in the order that sections have to have.
#[inline]
pub(super) fn check_order(last: u8, code: u8) -> Result<()> {
    const BODY: std::ops::RangeInclusive<u8> = section::DATA..=section::AMQP_VALUE;
    if code == last {
        return match code {
            section::DATA | section::AMQP_SEQUENCE => Ok(()),
            section::AMQP_VALUE => Err(MessageError::MixedBody),
            _ => Err(MessageError::DuplicateSection),
        };
    }
    if BODY.contains(&last) && BODY.contains(&code) {
        return Err(MessageError::MixedBody);
    }
    if code < last { Err(MessageError::SectionOrder) } else { Ok(()) }
}
