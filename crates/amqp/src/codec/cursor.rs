//! A bounds-checked reader, and skipping over values without looking into them.

use crate::Violation;

/// What the constructor's byte says about the bytes behind it (1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// That many bytes.
    Fixed(u8),
    /// One byte with a size, then so many bytes.
    Size8,
    /// Four bytes with a size, then so many bytes.
    Size32,
    /// No constructor that the specification defines; the descriptor mark 0x00 is here too.
    Invalid,
}

const LAYOUTS: [Layout; 256] = layouts();

const fn layouts() -> [Layout; 256] {
    let mut table = [Layout::Invalid; 256];
    let codes: [(u8, Layout); 38] = [
        (0x40, Layout::Fixed(0)),
        (0x41, Layout::Fixed(0)),
        (0x42, Layout::Fixed(0)),
        (0x43, Layout::Fixed(0)),
        (0x44, Layout::Fixed(0)),
        (0x45, Layout::Fixed(0)),
        (0x50, Layout::Fixed(1)),
        (0x51, Layout::Fixed(1)),
        (0x52, Layout::Fixed(1)),
        (0x53, Layout::Fixed(1)),
        (0x54, Layout::Fixed(1)),
        (0x55, Layout::Fixed(1)),
        (0x56, Layout::Fixed(1)),
        (0x60, Layout::Fixed(2)),
        (0x61, Layout::Fixed(2)),
        (0x70, Layout::Fixed(4)),
        (0x71, Layout::Fixed(4)),
        (0x72, Layout::Fixed(4)),
        (0x73, Layout::Fixed(4)),
        (0x74, Layout::Fixed(4)),
        (0x80, Layout::Fixed(8)),
        (0x81, Layout::Fixed(8)),
        (0x82, Layout::Fixed(8)),
        (0x83, Layout::Fixed(8)),
        (0x84, Layout::Fixed(8)),
        (0x94, Layout::Fixed(16)),
        (0x98, Layout::Fixed(16)),
        (0xa0, Layout::Size8),
        (0xa1, Layout::Size8),
        (0xa3, Layout::Size8),
        (0xb0, Layout::Size32),
        (0xb1, Layout::Size32),
        (0xb3, Layout::Size32),
        (0xc0, Layout::Size8),
        (0xc1, Layout::Size8),
        (0xd0, Layout::Size32),
        (0xd1, Layout::Size32),
        (0xe0, Layout::Size8),
    ];
    let mut index = 0;
    while index < codes.len() {
        table[codes[index].0 as usize] = codes[index].1;
        index += 1;
    }
    table[0xf0] = Layout::Size32;
    table
}

/// The layout that a constructor's byte announces.
#[inline]
pub(crate) fn layout(constructor: u8) -> Layout {
    // The table has an entry for every byte.
    LAYOUTS[constructor as usize]
}

/// Reads from a slice; every read checks that the bytes are there ([`Violation::Decode`]
/// otherwise). All numbers are big-endian (1.6).
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from `at` on; an `at` behind the end reads nothing.
    #[must_use]
    #[inline]
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Where the next byte is read, from the start of the slice.
    #[must_use]
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next byte, which stays.
    #[must_use]
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        // A sum that saturates is beyond the slice, so is refused like any other.
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).ok_or(Violation::Decode)?;
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (head, _) =
            self.bytes.get(self.at..).and_then(<[u8]>::split_first_chunk::<N>).ok_or(Violation::Decode)?;
        self.at += N;
        Ok(*head)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Violation> {
        let byte = *self.bytes.get(self.at).ok_or(Violation::Decode)?;
        self.at += 1;
        Ok(byte)
    }

    /// Two bytes.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    /// A uint in any of its forms (0x43, 0x52, 0x70); `None` for null.
    #[inline]
    pub fn uint(&mut self) -> Result<Option<u32>, Violation> {
        Ok(Some(match self.u8()? {
            0x43 => 0,
            0x52 => self.u8()?.into(),
            0x70 => self.u32()?,
            0x40 => return Ok(None),
            _ => return Err(Violation::InvalidField),
        }))
    }

    /// A ulong in any of its forms (0x44, 0x53, 0x80); `None` for null.
    #[inline]
    pub fn ulong(&mut self) -> Result<Option<u64>, Violation> {
        Ok(Some(match self.u8()? {
            0x44 => 0,
            0x53 => self.u8()?.into(),
            0x80 => self.u64()?,
            0x40 => return Ok(None),
            _ => return Err(Violation::InvalidField),
        }))
    }

    /// A ubyte; `None` for null.
    #[inline]
    pub fn ubyte(&mut self) -> Result<Option<u8>, Violation> {
        match self.u8()? {
            0x50 => self.u8().map(Some),
            0x40 => Ok(None),
            _ => Err(Violation::InvalidField),
        }
    }

    /// A boolean in any of its forms (0x41, 0x42, 0x56); `None` for null.
    #[inline]
    pub fn boolean(&mut self) -> Result<Option<bool>, Violation> {
        Ok(Some(match self.u8()? {
            0x41 => true,
            0x42 => false,
            0x56 => match self.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Violation::Decode),
            },
            0x40 => return Ok(None),
            _ => return Err(Violation::InvalidField),
        }))
    }

    /// A timestamp in milliseconds since the Unix epoch; `None` for null.
    #[inline]
    pub fn timestamp(&mut self) -> Result<Option<i64>, Violation> {
        match self.u8()? {
            0x83 => self.u64().map(|millis| Some(millis.cast_signed())),
            0x40 => Ok(None),
            _ => Err(Violation::InvalidField),
        }
    }

    /// The bytes of a value of one of two constructors, with an 8-bit or 32-bit size; `None` for
    /// null.
    #[inline]
    pub(crate) fn variable(&mut self, short: u8, long: u8) -> Result<Option<&'a [u8]>, Violation> {
        let constructor = self.u8()?;
        let size = if constructor == short {
            usize::from(self.u8()?)
        } else if constructor == long {
            self.u32()? as usize
        } else if constructor == 0x40 {
            return Ok(None);
        } else {
            return Err(Violation::InvalidField);
        };
        self.take(size).map(Some)
    }

    /// The bytes of a binary (0xa0, 0xb0); `None` for null.
    #[inline]
    pub fn binary(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        self.variable(0xa0, 0xb0)
    }

    /// Moves behind the next value without looking into it. Lists, maps and arrays are passed by
    /// their size; what they hold is not checked.
    #[inline]
    pub fn skip(&mut self) -> Result<(), Violation> {
        // A described value is two values behind its mark; counting them needs no recursion.
        let mut pending: usize = 1;
        while pending > 0 {
            let constructor = self.u8()?;
            if constructor == 0x00 {
                pending += 1;
                continue;
            }
            let size = match layout(constructor) {
                Layout::Fixed(size) => usize::from(size),
                Layout::Size8 => usize::from(self.u8()?),
                Layout::Size32 => self.u32()? as usize,
                Layout::Invalid => return Err(Violation::Decode),
            };
            self.take(size)?;
            pending -= 1;
        }
        Ok(())
    }

    /// A slice with the next value, constructor included.
    #[inline]
    pub fn value(&mut self) -> Result<&'a [u8], Violation> {
        let start = self.at;
        self.skip()?;
        self.bytes.get(start..self.at).ok_or(Violation::Decode)
    }

    /// Enters a list (0x45, 0xc0, 0xd0): its fields, with this cursor moved behind it.
    #[inline]
    pub(crate) fn list(&mut self) -> Result<ListReader<'a>, Violation> {
        let (size, count) = match self.u8()? {
            0x45 => return Ok(ListReader { cursor: Cursor::new(&[], 0), remaining: 0 }),
            0xc0 => {
                let size = usize::from(self.u8()?);
                let count = u32::from(self.u8()?);
                (size.checked_sub(1), count)
            }
            0xd0 => {
                let size = self.u32()? as usize;
                let count = self.u32()?;
                (size.checked_sub(4), count)
            }
            _ => return Err(Violation::InvalidField),
        };
        self.compound(size, count)
    }

    /// Enters a map (0xc1, 0xd1): keys and values in turn, with this cursor moved behind it.
    #[inline]
    pub(crate) fn map(&mut self) -> Result<ListReader<'a>, Violation> {
        let (size, count) = match self.u8()? {
            0xc1 => {
                let size = usize::from(self.u8()?);
                let count = u32::from(self.u8()?);
                (size.checked_sub(1), count)
            }
            0xd1 => {
                let size = self.u32()? as usize;
                let count = self.u32()?;
                (size.checked_sub(4), count)
            }
            _ => return Err(Violation::InvalidField),
        };
        if count % 2 != 0 {
            return Err(Violation::Decode);
        }
        self.compound(size, count)
    }

    #[inline]
    fn compound(&mut self, size: Option<usize>, count: u32) -> Result<ListReader<'a>, Violation> {
        let size = size.ok_or(Violation::Decode)?;
        let start = self.at;
        self.take(size)?;
        // Every element has a constructor, so takes at least one byte.
        if count as usize > size {
            return Err(Violation::Decode);
        }
        let inside = self.bytes.get(..self.at).ok_or(Violation::Decode)?;
        Ok(ListReader { cursor: Cursor::new(inside, start), remaining: count })
    }
}

/// Reads a list's fields in order. Behind the last one there are only nulls, as part 1.4 has it
/// for trailing fields that are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListReader<'a> {
    cursor: Cursor<'a>,
    remaining: u32,
}

/// Stands in for fields that were left out.
const NULL: &[u8] = &[0x40];

impl<'a> ListReader<'a> {
    /// How many fields are left.
    pub(crate) fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Whether every byte was read.
    pub(crate) fn at_end(&self) -> bool {
        self.remaining == 0 && self.cursor.remaining() == 0
    }

    /// Reads one field with `read`, which sees a null when the list is over.
    #[inline]
    pub(crate) fn field<T>(
        &mut self,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Violation>,
    ) -> Result<T, Violation> {
        if self.remaining == 0 {
            return read(&mut Cursor::new(NULL, 0));
        }
        self.remaining -= 1;
        read(&mut self.cursor)
    }

    /// The encoded value of the next field; `None` when it is null or left out.
    #[inline]
    pub(crate) fn raw(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        self.field(|cursor| {
            if cursor.peek() == Some(0x40) { cursor.u8().map(|_| None) } else { cursor.value().map(Some) }
        })
    }

    /// Where the next non-null field starts and ends in the slice that the first cursor had.
    #[inline]
    pub(crate) fn range(&mut self) -> Result<Option<std::ops::Range<usize>>, Violation> {
        self.field(|cursor| {
            let start = cursor.position();
            if cursor.peek() == Some(0x40) {
                return cursor.u8().map(|_| None);
            }
            cursor.skip()?;
            Ok(Some(start..cursor.position()))
        })
    }
}

/// Where the value at `at` ends. Iterative; lists, maps and arrays are passed by their size.
///
/// # Errors
/// [`Violation::Decode`] when a constructor is unknown or the bytes end too early.
#[inline]
pub fn skip_value(bytes: &[u8], at: usize) -> Result<usize, Violation> {
    let mut cursor = Cursor::new(bytes, at);
    cursor.skip()?;
    Ok(cursor.position())
}
