//! Open, begin, attach, detach, end, close and SASL.

use bytes::Bytes;

use super::{composite, guard::check_value, value::decode_value_at};
use crate::{
    Violation,
    types::{Performative, SaslFrame},
};

/// The performative at `body`, and where it ends.
pub(super) fn decode_performative(
    frame: &Bytes,
    body: usize,
    code: u64,
) -> Result<(Performative, usize), Violation> {
    if !matches!(code, 0x10..=0x12 | 0x16..=0x18) {
        return Err(Violation::UnknownPerformative);
    }
    let end = check_value(frame, body)?;
    let (value, _) = decode_value_at(frame, body)?;
    Ok((composite::performative(code, value)?, end))
}

/// The SASL frame whose body starts at `body`.
pub(super) fn decode_sasl(frame: &Bytes, body: usize, code: u64) -> Result<SaslFrame, Violation> {
    check_value(frame, body)?;
    let (value, _) = decode_value_at(frame, body)?;
    composite::sasl(code, value)
}
