//! Checks the body of a message that comes in pieces.

use super::{
    MessageError, Result,
    scan::{check_order, check_type, section_code},
    section,
};
use crate::codec::{Cursor, Layout, MAX_NESTING_LEVELS, layout, read_descriptor};

/// Bytes of the name of a section, where it is a symbol.
const NAME_BYTES_MAX: usize = 64;

/// Follows the body sections and the footer of a message, and checks of them what
/// [`scan`](fn@super::scan) checks of a whole message: their order, their types, and that they are
/// whole. Keeps a few bytes only, whatever the size of the message.
#[derive(Clone, Debug)]
pub struct BodyScanner {
    /// Code of the section that was met last; 0 before the first one.
    last: u8,
    /// Values of that section still to come: one, and one more for each described value in it.
    owed: usize,
    /// Bytes of a value that are still to be passed over.
    skip: u64,
    /// The beginning of a descriptor or value, as long as it does not say how long it is.
    carry: Vec<u8>,
    position: u64,
    /// Where delivery-annotations stand behind everything else.
    trailer_at: Option<u64>,
}

impl Default for BodyScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl BodyScanner {
    /// Begins before the first body section. What stands before it was checked by
    /// [`scan_head`](super::scan_head).
    #[must_use]
    pub const fn new() -> Self {
        Self { last: 0, owed: 0, skip: 0, carry: Vec::new(), position: 0, trailer_at: None }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// See [`MessageError`]; the first fault that is met.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let count = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= count as u64;
                self.position += count as u64;
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            self.carry.push(first);
            self.position += 1;
            bytes = rest;
            if self.owed == 0 { self.section()? } else { self.value()? }
        }
        Ok(())
    }

    /// Bytes pushed so far that belong to the body; what is not clear yet is not among them.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        let unclear = if self.owed == 0 { self.carry.len() as u64 } else { 0 };
        self.trailer_at.unwrap_or(self.position - unclear)
    }

    /// Whether delivery-annotations were met behind the body.
    #[must_use]
    pub const fn has_trailer(&self) -> bool {
        self.trailer_at.is_some()
    }

    /// The message has ended.
    ///
    /// # Errors
    /// [`MessageError::Decode`] if a section is not whole.
    pub fn finish(&self) -> Result<()> {
        let whole = self.skip == 0 && self.owed == 0 && self.carry.is_empty();
        if whole { Ok(()) } else { Err(MessageError::Decode) }
    }

    /// One more byte of a section's descriptor.
    fn section(&mut self) -> Result<()> {
        let wanted = match *self.carry.as_slice() {
            [0x00] => return Ok(()),
            [0x00, 0x44, ..] => 2,
            [0x00, 0x53, ..] => 3,
            [0x00, 0x80, ..] => 10,
            [0x00, 0xa3 | 0xb3] | [0x00, 0xb3, _] | [0x00, 0xb3, _, _] | [0x00, 0xb3, _, _, _] => {
                return Ok(());
            }
            [0x00, 0xa3, size, ..] => 3 + usize::from(size),
            [0x00, 0xb3, a, b, c, d, ..] => 6 + u32::from_be_bytes([a, b, c, d]) as usize,
            [0x00, ..] => return Err(MessageError::UnknownSection),
            _ => return Err(MessageError::Decode),
        };
        if wanted > NAME_BYTES_MAX {
            return Err(MessageError::UnknownSection);
        }
        if self.carry.len() < wanted {
            return Ok(());
        }
        let code = section_code(read_descriptor(&mut Cursor::new(&self.carry, 0))?)?;
        if self.trailer_at.is_some() {
            return Err(MessageError::SectionOrder);
        }
        if code == section::DELIVERY_ANNOTATIONS && self.last > code {
            // Python puts them behind everything else.
            self.trailer_at = Some(self.position - self.carry.len() as u64);
        } else {
            check_order(self.last.max(section::APPLICATION_PROPERTIES), code)?;
        }
        self.last = code;
        self.owed = 1;
        self.carry.clear();
        Ok(())
    }

    /// One more byte of a value's constructor and size.
    fn value(&mut self) -> Result<()> {
        let Some((&constructor, size)) = self.carry.split_first() else { return Ok(()) };
        if size.is_empty() && self.owed == 1 {
            check_type(self.last, constructor)?;
        }
        let skip = match (layout(constructor), size) {
            (Layout::Invalid, _) if constructor == 0x00 => {
                // Descriptor and value in place of one.
                self.owed += 1;
                self.carry.clear();
                return if self.owed > MAX_NESTING_LEVELS {
                    Err(MessageError::NestingTooDeep)
                } else {
                    Ok(())
                };
            }
            (Layout::Invalid, _) => return Err(MessageError::Decode),
            (Layout::Fixed(bytes), _) => u64::from(bytes),
            (Layout::Size8, &[bytes]) => u64::from(bytes),
            (Layout::Size32, &[a, b, c, d]) => u64::from(u32::from_be_bytes([a, b, c, d])),
            (Layout::Size8 | Layout::Size32, _) => return Ok(()),
        };
        self.skip = skip;
        self.owed -= 1;
        self.carry.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{scan, scan_head};

    /// What the two scanners say of a message whose body is pushed `step` bytes at a time.
    fn in_pieces(message: &[u8], step: usize) -> Result<u64> {
        let head = scan_head(message)?;
        let mut scanner = BodyScanner::new();
        for piece in message[head.body.start..].chunks(step) {
            scanner.push(piece)?;
            assert!(scanner.carry.len() <= NAME_BYTES_MAX);
        }
        scanner.finish()?;
        Ok(head.body.start as u64 + scanner.body_bytes())
    }

    fn agree(message: &[u8]) {
        let whole = scan(message).map(|sections| sections.body.end as u64);
        for step in [1, 2, 3, 7, 1_000] {
            assert_eq!(in_pieces(message, step), whole, "{message:02x?} by {step}");
        }
    }

    const HEADER: &[u8] = &[0x00, 0x53, 0x70, 0x45];
    const TRAILER: &[u8] = &[0x00, 0x53, 0x71, 0xc1, 1, 0];

    #[test]
    fn pieces_are_judged_as_the_whole_is() {
        let bodies: [&[u8]; 16] = [
            &[0x00, 0x53, 0x75, 0xa0, 2, 1, 2],
            &[0x00, 0x53, 0x75, 0xb0, 0, 0, 0, 2, 1, 2, 0x00, 0x53, 0x75, 0xa0, 0],
            &[0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x75, 0xa0, 1, 9],
            &[0x00, 0x53, 0x76, 0x45, 0x00, 0x53, 0x76, 0xc0, 2, 1, 0x40],
            &[0x00, 0x53, 0x77, 0x40],
            &[0x00, 0x53, 0x77, 0xa1, 1, b'a'],
            // A described value: descriptor and value, each perhaps described again.
            &[0x00, 0x53, 0x77, 0x00, 0xa3, 1, b'd', 0x00, 0x53, 1, 0x71, 0, 0, 0, 7],
            &[0x00, 0x53, 0x75, 0xa0, 0, 0x00, 0x53, 0x78, 0xc1, 1, 0],
            // Faults: two kinds, a second amqp-value, a wrong order, a wrong type, no section.
            &[0x00, 0x53, 0x75, 0xa0, 0, 0x00, 0x53, 0x77, 0x40],
            &[0x00, 0x53, 0x77, 0x40, 0x00, 0x53, 0x77, 0x40],
            &[0x00, 0x53, 0x75, 0xa0, 0, 0x00, 0x53, 0x73, 0x45],
            &[0x00, 0x53, 0x75, 0xa1, 0],
            &[0x00, 0x53, 0x79, 0x40],
            &[0x00, 0x53, 0x75, 0xa0, 3, 1],
            &[0x00, 0x53, 0x77, 0x00, 0x53],
            &[0x00, 0x53, 0x75, 0x00, 0x53, 1, 0xa0, 0],
        ];
        for body in bodies {
            agree(body);
            agree(&[HEADER, body].concat());
            agree(&[HEADER, body, TRAILER].concat());
            agree(&[HEADER, body, TRAILER, TRAILER].concat());
        }
        let name = b"amqp:data:binary";
        let named = [&[0x00, 0xa3, name.len() as u8][..], name, &[0xa0, 1, 7]].concat();
        agree(&named);
        agree(&[&[0x00, 0xb3, 0, 0, 0, name.len() as u8][..], name, &[0xa0, 1, 7]].concat());
        agree(&named[..9]);
    }

    #[test]
    fn a_head_that_does_not_end_is_a_fault() {
        let head = [HEADER, &[0x00, 0x53, 0x73, 0xd0, 0, 0, 1, 0, 0, 0, 0, 1, 0x40]].concat();
        assert_eq!(scan_head(&head), Err(MessageError::Decode));
        assert_eq!(scan_head(HEADER).expect("a head").body, 4..4);
    }

    #[test]
    fn nesting_has_a_bound() {
        let mut scanner = BodyScanner::new();
        scanner.push(&[0x00, 0x53, 0x77]).expect("a section");
        assert_eq!(scanner.push(&[0x00; 100]), Err(MessageError::NestingTooDeep));
    }

    #[test]
    fn a_name_without_end_is_not_kept() {
        let mut scanner = BodyScanner::new();
        assert_eq!(scanner.push(&[0x00, 0xb3, 0, 1, 0, 0, 1]), Err(MessageError::UnknownSection));
    }
}
