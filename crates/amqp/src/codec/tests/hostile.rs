//! Input of peers that mean harm. Each is a violation, none a panic, a deep recursion or much
//! memory.

use super::*;
use crate::codec::{MAX_NESTING_LEVELS, check_value, decode_value, frame_size, skip_value};

#[test]
fn size_field_is_checked_before_anything_is_read() {
    assert_eq!(frame_size(&[0, 0, 0], 512), Ok(None));
    assert_eq!(frame_size(&[0, 0, 0, 4], 512), Err(Violation::FrameTooShort));
    assert_eq!(frame_size(&[0, 0, 0, 6], 512), Err(Violation::FrameTooShort));
    assert_eq!(frame_size(&[0, 0, 0, 8], 512), Ok(Some(8)));
    assert_eq!(frame_size(&[0, 0, 2, 0], 512), Ok(Some(512)));
    assert_eq!(frame_size(&[0, 0, 2, 1], 512), Err(Violation::FrameTooLarge));
    assert_eq!(frame_size(&[0xff; 4], u32::MAX), Ok(Some(u32::MAX as usize)));
}

#[test]
fn frame_shorter_than_its_header_is_a_violation() {
    for length in 0..8 {
        let result = decode_frame(vec![0; length].into(), FrameKind::Amqp);
        assert_eq!(result, Err(Violation::FrameTooShort));
    }
}

#[test]
fn data_offset_out_of_bounds_is_a_violation() {
    for data_offset in [0, 1, 4, 255] {
        let mut bytes = frame(0, &hex("00531845")).to_vec();
        bytes[4] = data_offset;
        assert_eq!(decode_frame(bytes.into(), FrameKind::Amqp), Err(Violation::DataOffset), "{data_offset}");
    }
}

#[test]
fn frame_type_must_be_the_expected_one() {
    let body = hex("00531845");
    assert_eq!(decode_frame(frame(1, &body), FrameKind::Amqp), Err(Violation::FrameType));
    assert_eq!(decode_frame(frame(0, &body), FrameKind::Sasl), Err(Violation::FrameType));
    assert_eq!(decode_frame(frame(2, &body), FrameKind::Amqp), Err(Violation::FrameType));
    assert_eq!(decode_frame(frame(0, &[]), FrameKind::Sasl), Err(Violation::FrameType));
}

#[test]
fn unknown_performatives_are_named() {
    for body in ["00531945", "00537045", "00534145", "00a30161 45", "0044 45", "00 40 45"] {
        assert_eq!(decode_body(body), Err(Violation::UnknownPerformative), "{body}");
    }
    let sasl = decode_frame(frame(1, &hex("00531045")), FrameKind::Sasl);
    assert_eq!(sasl, Err(Violation::UnknownPerformative));
}

#[test]
fn body_that_is_no_described_list_is_a_violation() {
    assert_eq!(decode_body("45"), Err(Violation::Decode));
    assert!(decode_body("005314 40").is_err());
    assert!(decode_body("005310 40").is_err());
    assert!(decode_body("005310 c10100").is_err());
    assert!(decode_frame(frame(1, &[]), FrameKind::Sasl).is_err());
}

#[test]
fn missing_mandatory_fields_are_violations() {
    for body in [
        "00531045",
        "00531145",
        "00531245",
        "00531345",
        "00531445",
        "00531545",
        "00531645",
        "005312 c0 05 02 a1016c 43",
    ] {
        assert_eq!(decode_body(body), Err(Violation::InvalidField), "{body}");
    }
    for body in ["00534145", "00534245", "00534345", "00534445"] {
        let result = decode_frame(frame(1, &hex(body)), FrameKind::Sasl);
        assert_eq!(result, Err(Violation::InvalidField), "{body}");
    }
}

#[test]
fn wrong_field_types_are_violations() {
    // A handle as string; a role as uint; a settle mode of 9; a delivery-tag of 33 bytes.
    assert_eq!(decode_body("005316 c0 04 01 a10131"), Err(Violation::InvalidField));
    assert_eq!(decode_body("005315 c0 03 02 43 43"), Err(Violation::InvalidField));
    assert_eq!(decode_body("005314 c0 09 07 43 40 40 40 40 40 5009"), Err(Violation::InvalidField));
    let tag = "00".repeat(33);
    assert_eq!(decode_body(&format!("005314 c0 26 03 43 43 a021{tag}")), Err(Violation::InvalidField));
}

/// So many described values around a null.
fn nested_described(levels: usize) -> Vec<u8> {
    [hex("005301").repeat(levels), vec![0x40]].concat()
}

/// So many described values, each the descriptor of the one around it.
fn nested_descriptors(levels: usize) -> Vec<u8> {
    [vec![0x00; levels], vec![0x40; levels + 1]].concat()
}

/// So many lists around a null.
fn nested_lists(levels: usize) -> Vec<u8> {
    (0..levels).fold(vec![0x40], |inner, _| {
        let mut outer = vec![0xd0];
        outer.extend(u32::try_from(inner.len() + 4).unwrap().to_be_bytes());
        outer.extend([0, 0, 0, 1]);
        outer.extend(inner);
        outer
    })
}

/// So many arrays of one array each, which has no constructor of its own; at least one.
fn nested_arrays(levels: usize) -> Vec<u8> {
    let content = (1..levels).fold(hex("00000006 00000001 50 07").to_vec(), |inner, _| {
        let mut outer = u32::try_from(inner.len() + 5).unwrap().to_be_bytes().to_vec();
        outer.extend([0, 0, 0, 1, 0xf0]);
        outer.extend(inner);
        outer
    });
    [vec![0xf0], content].concat()
}

fn nested(levels: usize) -> [Vec<u8>; 4] {
    [nested_described(levels), nested_descriptors(levels), nested_lists(levels), nested_arrays(levels)]
}

#[test]
fn nesting_is_allowed_up_to_the_limit() {
    for bytes in nested(MAX_NESTING_LEVELS) {
        assert_eq!(check_value(&bytes, 0), Ok(bytes.len()));
        assert!(decode_value(&mut Bytes::from(bytes)).is_ok());
    }
    for bytes in nested(MAX_NESTING_LEVELS + 1) {
        assert_eq!(check_value(&bytes, 0), Err(Violation::NestingTooDeep));
        assert_eq!(decode_value(&mut Bytes::from(bytes)), Err(Violation::NestingTooDeep));
    }
}

/// An empty list may be one byte or have a size; both say the same, so both may stand there.
#[test]
fn what_is_empty_takes_no_level() {
    let within = |empty: &[u8]| [[0x00, 0x40].repeat(MAX_NESTING_LEVELS), empty.to_vec()].concat();
    for empty in ["45", "c00100", "d000000004 00000000", "c10100", "e0020040", "f000000005 00000000 40"] {
        let bytes = within(hex(empty).as_ref());
        assert_eq!(check_value(&bytes, 0), Ok(bytes.len()), "{empty}");
        assert!(decode_value(&mut Bytes::from(bytes)).is_ok(), "{empty}");
    }
    for full in ["c0020140", "e003014142", "004040"] {
        let bytes = within(hex(full).as_ref());
        assert_eq!(check_value(&bytes, 0), Err(Violation::NestingTooDeep), "{full}");
        assert_eq!(decode_value(&mut Bytes::from(bytes)), Err(Violation::NestingTooDeep), "{full}");
    }
}

#[test]
fn thousands_of_levels_neither_overflow_the_stack_nor_get_through() {
    for levels in [3_000, 100_000] {
        for bytes in [nested_described(levels), nested_descriptors(levels)] {
            assert_eq!(check_value(&bytes, 0), Err(Violation::NestingTooDeep));
            assert_eq!(skip_value(&bytes, 0), Ok(bytes.len()));
            assert_eq!(decode_value(&mut Bytes::from(bytes)), Err(Violation::NestingTooDeep));
        }
    }
}

#[test]
fn deep_properties_in_an_attach_are_refused() {
    let mut map = hex("a30161").to_vec();
    map.extend(nested_described(3_000));
    let mut fields = [hex("a1016c 43 41").to_vec(), vec![0x40; 10]].concat();
    fields.push(0xd1);
    fields.extend(u32::try_from(map.len() + 4).unwrap().to_be_bytes());
    fields.extend([0, 0, 0, 2]);
    fields.extend(map);
    let mut body = hex("005312d0").to_vec();
    body.extend(u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
    body.extend([0, 0, 0, 14]);
    body.extend(fields);
    assert_eq!(decode_frame(frame(0, &body), FrameKind::Amqp), Err(Violation::NestingTooDeep));
}

#[test]
fn counts_must_fit_the_bytes_that_are_there() {
    for bomb in [
        // Arrays of 2^32-1 nulls, trues, uint0s, list0s; of ubytes, symbols, uuids.
        "f0 00000005 ffffffff 40",
        "f0 00000005 ffffffff 41",
        "f0 00000005 ffffffff 43",
        "f0 00000005 ffffffff 45",
        "f0 00000006 ffffffff 50 00",
        "f0 00000006 ffffffff a3 00",
        "f0 00000006 0fffffff 98 00",
        "f0 00000005 00001001 40",
        "d0 00000005 ffffffff 40",
        "d1 00000006 fffffffe 40 40",
        "c0 02 ff 40",
        // An odd number in a map, sizes that hold no count, sizes beyond the end.
        "c1 02 01 40",
        "c0 00",
        "d0 00000003 000000",
        "d0 ffffffff 00000000",
        "e0 01 00",
        // More bytes than elements, fewer bytes than elements.
        "c0 03 01 40 40",
        "c0 02 02 40",
        "e0 03 00 50 01",
    ] {
        let bytes = hex(bomb);
        assert!(check_value(&bytes, 0).is_err(), "{bomb}");
        assert!(decode_value(&mut bytes.clone()).is_err(), "{bomb}");
    }
}

#[test]
fn element_may_not_reach_beyond_its_list() {
    // The string says 5 bytes; the list ends behind one, the frame does not.
    let bytes = hex("c0 04 01 a1 05 61 62636465");
    assert!(decode_value(&mut bytes.clone()).is_err());
    assert!(check_value(&bytes, 0).is_err());
    // The same in a transfer, whose list is followed by a payload.
    assert!(decode_body("005314 c0 05 03 43 43 a0 05 6162636465").is_err());
}

#[test]
fn text_that_is_no_utf8_and_unknown_constructors_do_not_decode() {
    for bytes in ["a101ff", "a301ff", "5602", "7300110000", "10", "46", "57", "ff", "e00301 0040"] {
        assert_eq!(decode_value(&mut hex(bytes)), Err(Violation::Decode), "{bytes}");
    }
}

#[test]
fn failed_decoding_does_not_move_the_cursor() {
    let mut bytes = hex("c003024010");
    assert!(decode_value(&mut bytes).is_err());
    assert_eq!(bytes.len(), 5);
}
