//! The nesting guard: walks a whole value with every value inside it, without recursion and
//! without allocation, before anything recursive (the serde decoder, drop of nested values) is
//! let near it.

use super::{
    MAX_NESTING_LEVELS, MAX_ZERO_WIDTH_ELEMENTS,
    cursor::{Cursor, Layout, layout},
};
use crate::Violation;

/// An open list, map, array or described value.
#[derive(Clone, Copy)]
struct Level {
    /// Values still to come in it.
    remaining: u32,
    /// Where it ends; `None` for a described value, which has no size of its own.
    end: Option<usize>,
    /// Constructor that an array's elements share; `None` where each has its own.
    element: Option<u8>,
}

const NO_LEVEL: Level = Level { remaining: 0, end: None, element: None };

/// Checks the value at `at`: nesting, sizes against their surroundings, element counts, known
/// constructors. Texts are not checked for UTF-8. Returns where the value ends.
///
/// # Errors
/// [`Violation::NestingTooDeep`] beyond [`MAX_NESTING_LEVELS`] (what is empty takes no level),
/// [`Violation::Decode`] otherwise.
pub fn check_value(bytes: &[u8], at: usize) -> Result<usize, Violation> {
    let mut levels = [NO_LEVEL; MAX_NESTING_LEVELS + 2];
    levels[0].remaining = 1;
    let mut depth = 0;
    let mut cursor = Cursor::new(bytes, at);
    loop {
        // `depth` passes MAX_NESTING_LEVELS at most by one, for what is empty; see the push below.
        let level = &mut levels[depth];
        if level.remaining == 0 {
            if level.end.is_some_and(|end| end != cursor.position()) {
                return Err(Violation::Decode);
            }
            if depth == 0 {
                return Ok(cursor.position());
            }
            depth -= 1;
            continue;
        }
        level.remaining -= 1;
        let constructor = match level.element {
            Some(constructor) => constructor,
            None => cursor.u8()?,
        };
        if let Some(inner) = enter(&mut cursor, constructor)? {
            if depth == MAX_NESTING_LEVELS && inner.remaining > 0 {
                return Err(Violation::NestingTooDeep);
            }
            depth += 1;
            levels[depth] = inner;
        }
    }
}

/// Passes a value behind its constructor, or opens the level that it is.
fn enter(cursor: &mut Cursor<'_>, constructor: u8) -> Result<Option<Level>, Violation> {
    if constructor == 0x00 {
        return Ok(Some(Level { remaining: 2, end: None, element: None }));
    }
    let wide = constructor & 0x10 != 0;
    match constructor {
        0xc0 | 0xc1 | 0xd0 | 0xd1 | 0xe0 | 0xf0 => {
            let size = read_size(cursor, wide)?;
            if size > cursor.remaining() {
                return Err(Violation::Decode);
            }
            let end = cursor.position() + size;
            let count = read_size(cursor, wide)?;
            if cursor.position() > end {
                return Err(Violation::Decode);
            }
            let is_array = constructor & 0xe0 == 0xe0;
            let element = if is_array { Some(cursor.u8()?) } else { None };
            if cursor.position() > end {
                return Err(Violation::Decode);
            }
            check_count(constructor, element, count, end - cursor.position())?;
            let remaining = u32::try_from(count).map_err(|_| Violation::Decode)?;
            Ok(Some(Level { remaining, end: Some(end), element }))
        }
        _ => {
            let size = match layout(constructor) {
                Layout::Fixed(size) => usize::from(size),
                Layout::Size8 => read_size(cursor, false)?,
                Layout::Size32 => read_size(cursor, true)?,
                Layout::Invalid => return Err(Violation::Decode),
            };
            cursor.take(size)?;
            Ok(None)
        }
    }
}

fn read_size(cursor: &mut Cursor<'_>, wide: bool) -> Result<usize, Violation> {
    if wide { cursor.u32().map(|size| size as usize) } else { cursor.u8().map(usize::from) }
}

/// A count must fit the bytes that are there.
fn check_count(compound: u8, element: Option<u8>, count: usize, available: usize) -> Result<(), Violation> {
    if matches!(compound, 0xc1 | 0xd1) && !count.is_multiple_of(2) {
        return Err(Violation::Decode);
    }
    let most = match element {
        // Each value has a constructor of its own, so takes a byte at least.
        None => available,
        Some(constructor) => most_elements(constructor, available)?,
    };
    if count > most { Err(Violation::Decode) } else { Ok(()) }
}

/// Most elements that an array with this constructor can have in `available` bytes. Described
/// elements (constructor 0x00) are not supported; no client sends them.
pub(super) fn most_elements(constructor: u8, available: usize) -> Result<usize, Violation> {
    let least_size = match layout(constructor) {
        Layout::Fixed(size) => usize::from(size),
        Layout::Size8 => 1,
        Layout::Size32 => 4,
        Layout::Invalid => return Err(Violation::Decode),
    };
    Ok(available.checked_div(least_size).unwrap_or(MAX_ZERO_WIDTH_ELEMENTS))
}
