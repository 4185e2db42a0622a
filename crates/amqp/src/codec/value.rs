//! Decoding any value by hand, with its exact type.

use std::{collections::HashMap, hash::Hash};

use bytes::{Buf, Bytes};

use super::{MAX_NESTING_LEVELS, cursor::Cursor, guard::most_elements};
use crate::{
    Violation,
    types::{Array, Described, Symbol, Value},
};

/// Takes one value off the front of `cursor`. Binaries share its memory, everything else is
/// copied. Of a key that stands twice in a map the last value counts.
///
/// # Errors
/// [`Violation::NestingTooDeep`] beyond [`MAX_NESTING_LEVELS`] (what is empty takes no level, since
/// an empty list may be written as one byte); [`Violation::Decode`] for an unknown constructor, a
/// size or count that the bytes do not bear out, text that is no UTF-8, an array of described
/// elements. `cursor` does not move then.
pub fn decode_value(cursor: &mut Bytes) -> Result<Value, Violation> {
    let (value, end) = decode_value_at(cursor, 0)?;
    cursor.advance(end);
    Ok(value)
}

/// The value at `at`, and where it ends.
pub(crate) fn decode_value_at(bytes: &Bytes, at: usize) -> Result<(Value, usize), Violation> {
    let mut decoder = Decoder { source: bytes, cursor: Cursor::new(bytes, at) };
    let value = decoder.value(0)?;
    Ok((value, decoder.cursor.position()))
}

struct Decoder<'a> {
    source: &'a Bytes,
    cursor: Cursor<'a>,
}

impl Decoder<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Violation> {
        let constructor = self.cursor.u8()?;
        self.content(constructor, depth)
    }

    /// The value behind its constructor. `depth` is the number of open values around it; the
    /// recursion ends at [`MAX_NESTING_LEVELS`].
    fn content(&mut self, constructor: u8, depth: usize) -> Result<Value, Violation> {
        Ok(match constructor {
            0x00 => {
                nested(depth, 2)?;
                let descriptor = self.value(depth + 1)?;
                let value = self.value(depth + 1)?;
                Value::Described(Box::new(Described { descriptor, value }))
            }
            0x45 => Value::List(Vec::new()),
            0xc0 | 0xd0 => {
                let (count, end) = self.compound(constructor == 0xd0)?;
                nested(depth, count)?;
                let mut elements = Vec::with_capacity(count.min(self.cursor.remaining()));
                for _ in 0..count {
                    elements.push(self.value(depth + 1)?);
                }
                self.at_end(end)?;
                Value::List(elements)
            }
            0xc1 | 0xd1 => {
                let (count, end) = self.compound(constructor == 0xd1)?;
                nested(depth, count)?;
                if count % 2 != 0 {
                    return Err(Violation::Decode);
                }
                let mut entries = Vec::with_capacity(count / 2);
                for _ in 0..count / 2 {
                    let key = self.value(depth + 1)?;
                    entries.push((key, self.value(depth + 1)?));
                }
                self.at_end(end)?;
                Value::Map(each_key_once(entries))
            }
            0xe0 | 0xf0 => self.array(constructor == 0xf0, depth)?,
            _ => self.scalar(constructor)?,
        })
    }

    fn array(&mut self, wide: bool, depth: usize) -> Result<Value, Violation> {
        let (count, end) = self.sizes(wide)?;
        nested(depth, count)?;
        let constructor = self.cursor.u8()?;
        let available = end.checked_sub(self.cursor.position()).ok_or(Violation::Decode)?;
        if count > most_elements(constructor, available)? {
            return Err(Violation::Decode);
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(self.content(constructor, depth + 1)?);
        }
        self.at_end(end)?;
        Ok(Value::Array(Box::new(Array { constructor, elements })))
    }

    fn scalar(&mut self, constructor: u8) -> Result<Value, Violation> {
        let cursor = &mut self.cursor;
        Ok(match constructor {
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x43 => Value::Uint(0),
            0x44 => Value::Ulong(0),
            0x50 => Value::Ubyte(cursor.u8()?),
            0x51 => Value::Byte(cursor.u8()?.cast_signed()),
            0x52 => Value::Uint(cursor.u8()?.into()),
            0x53 => Value::Ulong(cursor.u8()?.into()),
            0x54 => Value::Int(cursor.u8()?.cast_signed().into()),
            0x55 => Value::Long(cursor.u8()?.cast_signed().into()),
            0x56 => match cursor.u8()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Violation::Decode),
            },
            0x60 => Value::Ushort(cursor.u16()?),
            0x61 => Value::Short(cursor.u16()?.cast_signed()),
            0x70 => Value::Uint(cursor.u32()?),
            0x71 => Value::Int(cursor.u32()?.cast_signed()),
            0x72 => Value::Float(cursor.u32()?),
            0x73 => Value::Char(char::from_u32(cursor.u32()?).ok_or(Violation::Decode)?),
            0x74 => Value::Decimal32(cursor.array()?),
            0x80 => Value::Ulong(cursor.u64()?),
            0x81 => Value::Long(cursor.u64()?.cast_signed()),
            0x82 => Value::Double(cursor.u64()?),
            0x83 => Value::Timestamp(cursor.u64()?.cast_signed()),
            0x84 => Value::Decimal64(cursor.array()?),
            0x94 => Value::Decimal128(cursor.array()?),
            0x98 => Value::Uuid(cursor.array()?),
            0xa0 => self.binary(false)?,
            0xb0 => self.binary(true)?,
            0xa1 => Value::String(self.text(false)?.into()),
            0xb1 => Value::String(self.text(true)?.into()),
            0xa3 => Value::Symbol(Symbol::new(self.text(false)?)),
            0xb3 => Value::Symbol(Symbol::new(self.text(true)?)),
            _ => return Err(Violation::Decode),
        })
    }

    fn size(&mut self, wide: bool) -> Result<usize, Violation> {
        if wide { self.cursor.u32().map(|size| size as usize) } else { self.cursor.u8().map(usize::from) }
    }

    /// Count of a compound value or array, and where it ends.
    fn sizes(&mut self, wide: bool) -> Result<(usize, usize), Violation> {
        let size = self.size(wide)?;
        if size > self.cursor.remaining() {
            return Err(Violation::Decode);
        }
        let end = self.cursor.position() + size;
        let count = self.size(wide)?;
        Ok((count, end))
    }

    /// As `sizes`; every element takes at least the byte of its constructor.
    fn compound(&mut self, wide: bool) -> Result<(usize, usize), Violation> {
        let (count, end) = self.sizes(wide)?;
        let available = end.checked_sub(self.cursor.position()).ok_or(Violation::Decode)?;
        if count > available { Err(Violation::Decode) } else { Ok((count, end)) }
    }

    fn at_end(&self, end: usize) -> Result<(), Violation> {
        if self.cursor.position() == end { Ok(()) } else { Err(Violation::Decode) }
    }

    fn binary(&mut self, wide: bool) -> Result<Value, Violation> {
        let size = self.size(wide)?;
        let start = self.cursor.position();
        self.cursor.take(size)?;
        Ok(Value::Binary(self.source.slice(start..start + size)))
    }

    fn text(&mut self, wide: bool) -> Result<&str, Violation> {
        let size = self.size(wide)?;
        std::str::from_utf8(self.cursor.take(size)?).map_err(|_| Violation::Decode)
    }
}

/// A map has each key once (1.6.23). Of one that has not, the last value counts, in the place of the
/// first: so does the library that decodes most frames.
pub(super) fn each_key_once<K: Clone + Eq + Hash>(entries: Vec<(K, Value)>) -> Vec<(K, Value)> {
    if entries.len() < 2 {
        return entries;
    }
    let mut places: HashMap<K, usize> = HashMap::with_capacity(entries.len());
    let mut once: Vec<(K, Value)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match places.get(&key).and_then(|&place| once.get_mut(place)) {
            Some(entry) => entry.1 = value,
            None => {
                places.insert(key.clone(), once.len());
                once.push((key, value));
            }
        }
    }
    once
}

/// Whether `count` values may stand in one that has `depth` open values around it.
fn nested(depth: usize, count: usize) -> Result<(), Violation> {
    if depth < MAX_NESTING_LEVELS || count == 0 { Ok(()) } else { Err(Violation::NestingTooDeep) }
}
