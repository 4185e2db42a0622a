//! The nesting guard, the decoder of values, and the skipper agree on where a value ends.

use bytes::{Bytes, BytesMut};
use lockstep_amqp::codec::{Cursor, check_value, decode_value, encode_value, read_descriptor, skip_value};

/// Promise: no panic; what decodes passes the guard and is skipped to the same end; it encodes,
/// and decodes to the same again.
pub(super) fn guard(data: &[u8]) {
    let checked = check_value(data, 0);
    let skipped = skip_value(data, 0);
    let _ = read_descriptor(&mut Cursor::new(data, 0));
    let mut bytes = Bytes::copy_from_slice(data);
    let decoded = decode_value(&mut bytes);
    if let Ok(end) = checked {
        assert!(end <= data.len());
        assert_eq!(skipped, Ok(end), "the skipper stops where the guard does");
    }
    let Ok(value) = decoded else {
        assert_eq!(bytes.len(), data.len(), "what does not decode stays");
        return;
    };
    assert_eq!(checked, Ok(data.len() - bytes.len()), "the guard lets pass what decodes");
    let mut encoded = BytesMut::new();
    encode_value(&mut encoded, &value);
    let mut encoded = encoded.freeze();
    assert_eq!(check_value(&encoded, 0), Ok(encoded.len()));
    assert_eq!(decode_value(&mut encoded), Ok(value));
    assert!(encoded.is_empty());
}
