//! Random damage to good frames: whatever comes of it, nothing panics.

use super::{
    recorded::{client_frames, kind_of},
    round_trip::performatives,
    *,
};
use crate::codec::{check_value, decode_value, encode_value, skip_value};

const SEED: u64 = 0x5eed_0002;
const FRAMES: usize = 200_000;
const VALUES: usize = 200_000;

fn good_frames() -> Vec<Bytes> {
    let mut frames: Vec<Bytes> = client_frames().map(|(_, bytes)| bytes).collect();
    frames.extend(performatives().iter().map(|performative| frame(0, &encode_body(performative))));
    frames
}

#[test]
fn damaged_frames_are_violations_or_decode_to_something_that_encodes() {
    let frames = good_frames();
    let mut random = XorShift(SEED);
    for _ in 0..FRAMES {
        let mut bytes = frames[random.below(frames.len())].to_vec();
        random.mutate(&mut bytes);
        // Most damage shall get behind the check of the size.
        if bytes.len() >= 8 && random.below(16) != 0 {
            let size = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&size.to_be_bytes());
        }
        let kind = kind_of(&bytes);
        if let Ok(Frame::Amqp { channel, performative, .. }) = decode_frame(bytes.into(), kind) {
            let mut out = BytesMut::new();
            encode_frame(&mut out, channel, &performative);
            let again = decode_frame(out.freeze(), FrameKind::Amqp).map(performative_of);
            assert!(again.is_ok(), "{performative:?}: {again:?}");
        }
    }
}

#[test]
fn guard_and_decoder_agree_on_damaged_values() {
    let frames = good_frames();
    let mut random = XorShift(SEED);
    for _ in 0..VALUES {
        let mut bytes = frames[random.below(frames.len())][8..].to_vec();
        random.mutate(&mut bytes);
        let guarded = check_value(&bytes, 0);
        let mut cursor = Bytes::from(bytes.clone());
        let decoded = decode_value(&mut cursor);
        if let Ok(value) = decoded {
            let end = bytes.len() - cursor.len();
            assert_eq!(guarded, Ok(end), "{bytes:?}");
            assert_eq!(skip_value(&bytes, 0), Ok(end));
            let mut out = BytesMut::new();
            encode_value(&mut out, &value);
            assert_eq!(decode_value(&mut out.freeze()), Ok(value));
        }
    }
}

#[test]
fn noise_is_never_a_panic() {
    let mut random = XorShift(SEED);
    for _ in 0..VALUES {
        let length = random.below(40);
        let noise: Vec<u8> = (0..length).map(|_| random.next().to_be_bytes()[3]).collect();
        let _ = check_value(&noise, 0);
        let _ = skip_value(&noise, random.below(50));
        let _ = decode_value(&mut Bytes::from(noise.clone()));
        let _ = decode_frame(frame(0, &noise), FrameKind::Amqp);
        let _ = decode_frame(frame(1, &noise), FrameKind::Sasl);
    }
}
