//! Writing values, in their most compact form.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{Array, Fields, Symbol, Value};

/// Largest size or count that an 8-bit form can say.
const SHORT_MAX: usize = u8::MAX as usize;

/// Writes any value with its type. Numbers, texts and compounds take their shortest form. An
/// array takes the constructor that it has, or the wider one of the same type when an element
/// does not fit; an array with an element of another type is no array, and written as a list.
pub fn encode_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => out.put_u8(0x40),
        Value::Bool(flag) => write_bool(out, *flag),
        Value::Ubyte(n) => write_ubyte(out, *n),
        Value::Ushort(n) => write_ushort(out, *n),
        Value::Uint(n) => write_uint(out, *n),
        Value::Ulong(n) => write_ulong(out, *n),
        Value::Byte(n) => out.put_slice(&[0x51, n.cast_unsigned()]),
        Value::Int(n) if i8::try_from(*n).is_ok() => {
            out.put_u8(0x54);
            write_content(out, 0x54, value);
        }
        Value::Long(n) if i8::try_from(*n).is_ok() => {
            out.put_u8(0x55);
            write_content(out, 0x55, value);
        }
        Value::Short(_)
        | Value::Int(_)
        | Value::Long(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Decimal32(_)
        | Value::Decimal64(_)
        | Value::Decimal128(_)
        | Value::Char(_)
        | Value::Timestamp(_)
        | Value::Uuid(_) => {
            let constructor = widest(value);
            out.put_u8(constructor);
            write_content(out, constructor, value);
        }
        Value::Binary(bytes) => write_binary(out, bytes),
        Value::String(text) => write_string(out, text),
        Value::Symbol(symbol) => write_symbol(out, symbol),
        Value::List(elements) => write_list(out, elements.len(), |out| {
            elements.iter().for_each(|element| encode_value(out, element));
        }),
        Value::Map(entries) => write_map(out, |out| {
            for (key, value) in entries {
                encode_value(out, key);
                encode_value(out, value);
            }
            entries.len()
        }),
        Value::Array(array) => write_array(out, array),
        Value::Described(described) => {
            out.put_u8(0x00);
            encode_value(out, &described.descriptor);
            encode_value(out, &described.value);
        }
    }
}

/// The constructor of the value's type that takes every value of the type.
fn widest(value: &Value) -> u8 {
    match value {
        Value::Null => 0x40,
        Value::Bool(_) => 0x56,
        Value::Ubyte(_) => 0x50,
        Value::Ushort(_) => 0x60,
        Value::Uint(_) => 0x70,
        Value::Ulong(_) => 0x80,
        Value::Byte(_) => 0x51,
        Value::Short(_) => 0x61,
        Value::Int(_) => 0x71,
        Value::Long(_) => 0x81,
        Value::Float(_) => 0x72,
        Value::Double(_) => 0x82,
        Value::Decimal32(_) => 0x74,
        Value::Decimal64(_) => 0x84,
        Value::Decimal128(_) => 0x94,
        Value::Char(_) => 0x73,
        Value::Timestamp(_) => 0x83,
        Value::Uuid(_) => 0x98,
        Value::Binary(_) => 0xb0,
        Value::String(_) => 0xb1,
        Value::Symbol(_) => 0xb3,
        Value::List(_) => 0xd0,
        Value::Map(_) => 0xd1,
        Value::Array(_) => 0xf0,
        Value::Described(_) => 0x00,
    }
}

/// The widest constructor of the type that `constructor` belongs to.
fn widened(constructor: u8) -> u8 {
    match constructor {
        0x41 | 0x42 => 0x56,
        0x43 | 0x52 => 0x70,
        0x44 | 0x53 => 0x80,
        0x45 | 0xc0 => 0xd0,
        0x54 => 0x71,
        0x55 => 0x81,
        0xa0 | 0xa1 | 0xa3 | 0xc1 | 0xe0 => constructor + 0x10,
        other => other,
    }
}

/// Whether a scalar or text fits a narrow constructor of its type.
fn fits(constructor: u8, value: &Value) -> bool {
    match value {
        Value::Bool(flag) => constructor == 0x56 || (constructor == 0x41) == *flag,
        Value::Uint(n) => constructor == 0x70 || (constructor == 0x52 && *n <= 0xff) || *n == 0,
        Value::Ulong(n) => constructor == 0x80 || (constructor == 0x53 && *n <= 0xff) || *n == 0,
        Value::Int(n) => constructor == 0x71 || i8::try_from(*n).is_ok(),
        Value::Long(n) => constructor == 0x81 || i8::try_from(*n).is_ok(),
        Value::Binary(bytes) => constructor == 0xb0 || bytes.len() <= SHORT_MAX,
        Value::String(text) => constructor == 0xb1 || text.len() <= SHORT_MAX,
        Value::Symbol(symbol) => constructor == 0xb3 || symbol.as_str().len() <= SHORT_MAX,
        // Compounds inside arrays always take the wide form.
        Value::List(elements) => constructor == 0xd0 || (constructor == 0x45 && elements.is_empty()),
        Value::Map(_) => constructor == 0xd1,
        Value::Array(_) => constructor == 0xf0,
        _ => true,
    }
}

fn write_array(out: &mut BytesMut, array: &Array) {
    let wide = widened(array.constructor);
    if array.elements.iter().any(|element| widest(element) != wide || wide == 0x00) {
        write_list(out, array.elements.len(), |out| {
            array.elements.iter().for_each(|element| encode_value(out, element));
        });
        return;
    }
    let all_fit = array.elements.iter().all(|element| fits(array.constructor, element));
    let constructor = if all_fit { array.constructor } else { wide };
    write_compound(out, 0xe0, 0xf0, |out| {
        out.put_u8(constructor);
        array.elements.iter().for_each(|element| write_content(out, constructor, element));
        array.elements.len()
    });
}

/// Writes what stands behind `constructor`, which is one of the value's type and wide enough.
fn write_content(out: &mut BytesMut, constructor: u8, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => {
            if constructor == 0x56 {
                out.put_u8(u8::from(*flag));
            }
        }
        Value::Ubyte(n) => out.put_u8(*n),
        Value::Ushort(n) => out.put_u16(*n),
        Value::Uint(n) => write_integer(out, constructor, &n.to_be_bytes()),
        Value::Ulong(n) => write_integer(out, constructor, &n.to_be_bytes()),
        Value::Byte(n) => out.put_i8(*n),
        Value::Short(n) => out.put_i16(*n),
        Value::Int(n) => write_integer(out, constructor, &n.to_be_bytes()),
        Value::Long(n) => write_integer(out, constructor, &n.to_be_bytes()),
        Value::Float(bits) => out.put_u32(*bits),
        Value::Double(bits) => out.put_u64(*bits),
        Value::Decimal32(bits) => out.put_slice(bits),
        Value::Decimal64(bits) => out.put_slice(bits),
        Value::Decimal128(bits) | Value::Uuid(bits) => out.put_slice(bits),
        Value::Char(c) => out.put_u32(u32::from(*c)),
        Value::Timestamp(millis) => out.put_i64(*millis),
        Value::Binary(bytes) => write_sized(out, constructor, bytes),
        Value::String(text) => write_sized(out, constructor, text.as_bytes()),
        Value::Symbol(symbol) => write_sized(out, constructor, symbol.as_str().as_bytes()),
        Value::List(_) | Value::Map(_) | Value::Array(_) => {
            if constructor == 0x45 {
                return;
            }
            write_wide_content(out, value);
        }
        // Arrays of described elements are written as lists, so none comes here.
        Value::Described(_) => {}
    }
}

/// The last byte of a number for one-byte forms, nothing for zero forms, else all of it. `bytes`
/// are those of an integer, so never empty.
fn write_integer(out: &mut BytesMut, constructor: u8, bytes: &[u8]) {
    match constructor & 0xf0 {
        0x40 => {}
        0x50 => out.put_slice(&bytes[bytes.len() - 1..]),
        _ => out.put_slice(bytes),
    }
}

fn write_sized(out: &mut BytesMut, constructor: u8, bytes: &[u8]) {
    if constructor & 0x10 == 0 {
        out.put_u8(short(bytes.len()));
    } else {
        out.put_u32(long(bytes.len()));
    }
    out.put_slice(bytes);
}

/// Size, count and elements of a compound in its 32-bit form, without its constructor.
fn write_wide_content(out: &mut BytesMut, value: &Value) {
    let start = out.len();
    out.put_u32(0);
    let count = match value {
        Value::List(elements) => {
            out.put_u32(long(elements.len()));
            elements.iter().for_each(|element| encode_value(out, element));
            elements.len()
        }
        Value::Map(entries) => {
            out.put_u32(long(entries.len() * 2));
            for (key, value) in entries {
                encode_value(out, key);
                encode_value(out, value);
            }
            entries.len() * 2
        }
        Value::Array(array) => {
            let constructor = widened(array.constructor);
            out.put_u32(long(array.elements.len()));
            out.put_u8(constructor);
            array.elements.iter().for_each(|element| write_content(out, constructor, element));
            array.elements.len()
        }
        _ => 0,
    };
    // The eight bytes from `start` on were written above.
    let size = out.len() - start - 4;
    out[start..start + 4].copy_from_slice(&long(size).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&long(count).to_be_bytes());
}

/// A length that is known to be at most 255.
fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// A length as the 32 bits of the wire. Values of 4 GiB do not fit into any frame, so they do
/// not come here.
fn long(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(crate) fn write_null(out: &mut BytesMut) {
    out.put_u8(0x40);
}

pub(crate) fn write_bool(out: &mut BytesMut, flag: bool) {
    out.put_u8(if flag { 0x41 } else { 0x42 });
}

pub(crate) fn write_ubyte(out: &mut BytesMut, n: u8) {
    out.put_slice(&[0x50, n]);
}

pub(crate) fn write_ushort(out: &mut BytesMut, n: u16) {
    out.put_u8(0x60);
    out.put_u16(n);
}

pub(crate) fn write_uint(out: &mut BytesMut, n: u32) {
    match u8::try_from(n) {
        Ok(0) => out.put_u8(0x43),
        Ok(n) => out.put_slice(&[0x52, n]),
        Err(_) => {
            out.put_u8(0x70);
            out.put_u32(n);
        }
    }
}

pub(crate) fn write_ulong(out: &mut BytesMut, n: u64) {
    match u8::try_from(n) {
        Ok(0) => out.put_u8(0x44),
        Ok(n) => out.put_slice(&[0x53, n]),
        Err(_) => {
            out.put_u8(0x80);
            out.put_u64(n);
        }
    }
}

pub(crate) fn write_timestamp(out: &mut BytesMut, millis: i64) {
    out.put_u8(0x83);
    out.put_i64(millis);
}

fn write_variable(out: &mut BytesMut, constructor: u8, bytes: &[u8]) {
    let constructor = if bytes.len() <= SHORT_MAX { constructor } else { constructor + 0x10 };
    out.put_u8(constructor);
    write_sized(out, constructor, bytes);
}

pub(crate) fn write_binary(out: &mut BytesMut, bytes: &Bytes) {
    write_variable(out, 0xa0, bytes);
}

pub(crate) fn write_string(out: &mut BytesMut, text: &str) {
    write_variable(out, 0xa1, text.as_bytes());
}

pub(crate) fn write_symbol(out: &mut BytesMut, symbol: &Symbol) {
    write_variable(out, 0xa3, symbol.as_str().as_bytes());
}

/// A value, or null.
pub(crate) fn write_optional<T>(out: &mut BytesMut, value: Option<T>, write: impl FnOnce(&mut BytesMut, T)) {
    match value {
        Some(value) => write(out, value),
        None => write_null(out),
    }
}

/// A `multiple` field: an array of symbols (even of one), null when there is none.
pub(crate) fn write_symbols(out: &mut BytesMut, symbols: &[Symbol]) {
    if symbols.is_empty() {
        write_null(out);
    } else {
        write_symbol_array(out, symbols);
    }
}

/// An array of symbols, empty or not.
pub(crate) fn write_symbol_array(out: &mut BytesMut, symbols: &[Symbol]) {
    let short = symbols.iter().all(|symbol| symbol.as_str().len() <= SHORT_MAX);
    let constructor = if short { 0xa3 } else { 0xb3 };
    write_compound(out, 0xe0, 0xf0, |out| {
        out.put_u8(constructor);
        symbols.iter().for_each(|symbol| write_sized(out, constructor, symbol.as_str().as_bytes()));
        symbols.len()
    });
}

/// A map with symbol keys.
pub(crate) fn write_fields(out: &mut BytesMut, fields: &Fields) {
    write_map(out, |out| {
        for (key, value) in &fields.0 {
            write_symbol(out, key);
            encode_value(out, value);
        }
        fields.0.len()
    });
}

/// A list of `count` elements, which `write` writes; list0 when there are none.
pub(crate) fn write_list(out: &mut BytesMut, count: usize, write: impl FnOnce(&mut BytesMut)) {
    if count == 0 {
        out.put_u8(0x45);
        return;
    }
    write_compound(out, 0xc0, 0xd0, |out| {
        write(out);
        count
    });
}

/// `00 53 <code>` and a list.
pub(crate) fn write_described_list(
    out: &mut BytesMut,
    code: u8,
    count: usize,
    write: impl FnOnce(&mut BytesMut),
) {
    out.put_slice(&[0x00, 0x53, code]);
    write_list(out, count, write);
}

/// A map; `write` writes keys and values and returns the number of entries.
pub(crate) fn write_map(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> usize) {
    write_compound(out, 0xc1, 0xd1, |out| write(out) * 2);
}

/// A compound value in its 8-bit form, or in its 32-bit form when that does not hold it. `write`
/// writes what follows size and count, and returns the count.
fn write_compound(
    out: &mut BytesMut,
    short_constructor: u8,
    long_constructor: u8,
    write: impl FnOnce(&mut BytesMut) -> usize,
) {
    let start = out.len();
    out.put_slice(&[short_constructor, 0, 0]);
    let content = out.len();
    let count = write(out);
    // The three bytes from `start` on were written above, six more are added before they are used.
    let length = out.len() - content;
    if length < SHORT_MAX && count <= SHORT_MAX {
        out[start + 1] = short(length + 1);
        out[start + 2] = short(count);
        return;
    }
    // The long header has six bytes more; content that needs it is rare and moved.
    out.put_bytes(0, 6);
    out.copy_within(content..content + length, content + 6);
    out[start] = long_constructor;
    out[start + 1..start + 5].copy_from_slice(&long(length + 4).to_be_bytes());
    out[start + 5..start + 9].copy_from_slice(&long(count).to_be_bytes());
}
